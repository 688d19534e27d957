package meter

import (
	"fmt"

	"github.com/commonwatt/commonwatt/meter/def"
	"github.com/commonwatt/commonwatt/meter/p1"
)

// runTelegram reads the newest telegram of a vector.
func runTelegram(d Definition, v def.Vector) (Sample, error) {
	t := telegrams{def: d, decoder: d.NewTelegramDecoder()}
	telegram, raw, err := p1.Last([]byte(v.Telegram))
	if err != nil {
		return Sample{}, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	return t.take(telegram, raw, vectorTime), nil
}

// runAnswers reads the answers of a vector, as many rounds of them as there are.
func runAnswers(d Definition, v def.Vector) (Sample, error) {
	decoder := d.NewAnswerDecoder()
	names := map[string]string{}
	for _, m := range d.HTTP.Messages {
		names[m.Path] = m.Name
	}
	answers := map[string][]byte{}
	known := false
	var sample Sample
	for i, m := range v.Messages {
		name, ours := names[m.Path]
		if !ours || m.Topic != "" {
			return Sample{}, fmt.Errorf("messages[%d]: path %q is not one of the definition", i, m.Path)
		}
		answers[name] = []byte(m.Payload)
		if len(answers) < len(names) {
			continue
		}
		var err error
		if sample, err = answered(d, decoder, known, answers, vectorTime); err != nil {
			return Sample{}, err
		}
		known = true
		clear(answers)
	}
	if !known {
		return Sample{}, ErrNoMessage
	}
	return sample, nil
}
