package api

import (
	"html"
	"html/template"
	"strconv"
	"strings"
)

// canvas writes one SVG picture. Shapes carry a class, for the page's colours
// in light and dark, and the plain colour as an attribute, so that a picture
// also stands on its own in a mail or on paper. There are no style attributes:
// the page's content security policy forbids them.
//
// Horizontal positions are shares of the width, in hundredths of a per cent, so
// that a picture stretches from a phone to a desk while its text keeps its size.
type canvas struct{ b strings.Builder }

// fullWidth is 100 % in the canvas' horizontal unit.
const fullWidth = 10_000

// percent writes a horizontal position as an SVG length.
func percent(x int64) string {
	s := strconv.FormatInt(x/100, 10)
	if x%100 != 0 {
		s += "." + strings.TrimRight(strconv.FormatInt(100+x%100, 10)[1:], "0")
	}
	return s + "%"
}

func num(v int64) string { return strconv.FormatInt(v, 10) }

// open starts an element; attributes are name, value, name, value.
func (c *canvas) open(name string, attributes ...string) {
	c.tag(name, attributes)
	c.b.WriteByte('>')
}

func (c *canvas) close(name string) {
	c.b.WriteString("</" + name + ">")
}

// leaf writes an element without content.
func (c *canvas) leaf(name string, attributes ...string) {
	c.tag(name, attributes)
	c.b.WriteString("/>")
}

// text writes an element with text in it.
func (c *canvas) text(name, content string, attributes ...string) {
	c.open(name, attributes...)
	c.b.WriteString(html.EscapeString(content))
	c.close(name)
}

func (c *canvas) tag(name string, attributes []string) {
	c.b.WriteString("<" + name)
	for i := 0; i+1 < len(attributes); i += 2 {
		c.b.WriteString(" " + attributes[i] + `="` + html.EscapeString(attributes[i+1]) + `"`)
	}
}

// picture opens the svg element with its title and its description, which
// together say in words what the picture shows.
func (c *canvas) picture(id string, height int64, title, description string) {
	c.open("svg", "xmlns", "http://www.w3.org/2000/svg", "class", "picture", "width", "100%", "height", num(height),
		"role", "img", "aria-labelledby", id+"-title "+id+"-desc")
	c.text("title", title, "id", id+"-title")
	c.text("desc", description, "id", id+"-desc")
}

// stretched opens an inner drawing, fullWidth units wide, for shapes that may
// be squeezed sideways; it must hold no text.
func (c *canvas) stretched(height int64) {
	c.open("svg", "viewBox", "0 0 "+num(fullWidth)+" "+num(height), "preserveAspectRatio", "none",
		"width", "100%", "height", num(height), "aria-hidden", "true")
}

func (c *canvas) done() template.HTML {
	c.close("svg")
	// Every name is a constant of this package, every value went through EscapeString.
	return template.HTML(c.b.String()) //nolint:gosec // see above
}
