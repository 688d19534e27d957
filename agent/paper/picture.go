package paper

import (
	"fmt"
	"io"
	"strings"

	"rsc.io/qr"
)

// quiet is the white margin of a picture, in modules, that cameras want.
const quiet = 4

// PNG writes a text as a QR picture; each module is 8 pixels wide. Capitals make it smaller.
func PNG(w io.Writer, text string) error {
	code, err := qr.Encode(strings.ToUpper(text), qr.M)
	if err != nil {
		return fmt.Errorf("making the picture: %w", err)
	}
	_, err = w.Write(code.PNG())
	return err
}

// Terminal writes a text as a QR picture of characters, two modules above each other in
// one. Colours are set both, so that it can be scanned on a dark screen too; plain leaves
// them out, for a screen that is white on black.
func Terminal(w io.Writer, text string, plain bool) error {
	code, err := qr.Encode(strings.ToUpper(text), qr.L)
	if err != nil {
		return fmt.Errorf("making the picture: %w", err)
	}
	white := func(x, y int) bool { return x < 0 || y < 0 || x >= code.Size || y >= code.Size || !code.Black(x, y) }
	var b strings.Builder
	for y := -quiet; y < code.Size+quiet; y += 2 {
		if !plain {
			b.WriteString("\x1b[97;40m")
		}
		for x := -quiet; x < code.Size+quiet; x++ {
			switch above, below := white(x, y), white(x, y+1); {
			case above && below:
				b.WriteRune('█')
			case above:
				b.WriteRune('▀')
			case below:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		if !plain {
			b.WriteString("\x1b[0m")
		}
		b.WriteByte('\n')
	}
	_, err = io.WriteString(w, b.String())
	return err
}
