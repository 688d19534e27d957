package meter

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/commonwatt/commonwatt/meter/def"
	"github.com/commonwatt/commonwatt/meter/mqtt"
)

const (
	// maxHeard bounds the devices that are followed on a broker, for each of the definitions.
	maxHeard = 200
	// usualBroker is a topic that every definition takes, to read an address without one.
	usualBroker = "any"
)

// detectBroker listens on the topics of all definitions and lists what sends counters.
func detectBroker(ctx context.Context, c DetectConfig, all []Definition, name string) ([]Match, error) {
	all = slices.DeleteFunc(slices.Clone(all), func(d Definition) bool { return !publishes(d) })
	broker := strings.TrimSuffix(c.Address, "/")
	_, a, err := parseAddress(broker+"/"+usualBroker, all[0])
	if err != nil || strings.Contains(strings.TrimPrefix(broker, name+"://"), "/") {
		return nil, &ConfigError{Field: "address", Got: withoutUser(c.Address), Want: fmt.Sprintf("a broker without a topic, such as %s://192.168.1.10:1883", name)}
	}
	var secure *tls.Config
	if name == "mqtts" {
		if secure, err = c.TLS.clientConfig(); err != nil {
			return nil, err
		}
	}
	c.Progress(fmt.Sprintf("listening for %v", c.Listen))
	sub := mqtt.Open(mqtt.Config{ //nolint:contextcheck // it lives until Close below
		Address: a.host, Topics: filters(all), ClientID: c.ClientID, Username: c.Username, Password: c.Password, TLS: secure,
		MaxPayload: def.MaxPayload, Now: c.Now, Log: c.Log,
	})
	ctx, cancel := context.WithTimeout(ctx, c.Listen)
	defer cancel()
	heard := ears{broker: broker, all: all, devices: map[earKey]*ear{}, topics: map[string]bool{}}
	for waiting := true; waiting; {
		select {
		case m := <-sub.Messages():
			heard.take(m)
		case <-ctx.Done():
			waiting = false
		}
	}
	connected, reason := sub.Connected(), sub.Err()
	if err := sub.Close(); err != nil {
		return nil, err
	}
	matches := heard.matches()
	switch {
	case len(matches) > 0:
		return matches, nil
	case !connected:
		return nil, fmt.Errorf("broker %s cannot be reached: %w", a.host, reason)
	case len(heard.topics) > 0:
		return nil, fmt.Errorf("%w: %d topics of known forms within %v, but no counter on them", ErrNotDetected, len(heard.topics), c.Listen)
	}
	return nil, fmt.Errorf("%w: nothing on the topics of any definition within %v", ErrNotDetected, c.Listen)
}

// filters are the topics of the definitions with wildcards: a device's name has one or two levels.
func filters(all []Definition) []string {
	var topics []string
	for _, d := range all {
		topics = append(topics, d.TopicFilters()...)
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// ears sorts the messages on a broker by device.
type ears struct {
	broker  string
	all     []Definition
	devices map[earKey]*ear
	topics  map[string]bool
}

type earKey struct {
	definition int
	device     string
	form       string // the topics, where devices may use one of several forms
}

// ear follows one device as one definition understands it.
type ear struct {
	topics   def.Topics
	listener *listener
	sample   *Sample
	on       []string
}

func (e *ears) take(m mqtt.Message) {
	for i, d := range e.all {
		topics, err := d.ResolveTopic(m.Topic)
		if err != nil || topics.ByTopic[m.Topic] == "" {
			continue
		}
		if len(e.topics) < maxHeard {
			e.topics[m.Topic] = true
		}
		key := earKey{i, topics.Device, strings.Join(slices.Sorted(maps.Keys(topics.ByTopic)), " ")}
		one := e.devices[key]
		if one == nil {
			if len(e.devices) >= maxHeard*len(e.all) {
				continue
			}
			one = &ear{topics: topics, listener: newListener(d, topics)}
			e.devices[key] = one
		}
		sample, ok, err := one.listener.hear(m)
		if err != nil || !ok || (sample.ImportWh == nil && sample.ExportWh == nil) {
			continue
		}
		one.sample = &sample
		if !slices.Contains(one.on, m.Topic) && len(one.on) < 8 {
			one.on = append(one.on, m.Topic)
		}
	}
}

func (e *ears) matches() []Match {
	var all []Match
	for key, one := range e.devices {
		if one.sample == nil {
			continue
		}
		m := Match{
			Definition: e.all[key.definition], Address: e.broker + "/" + key.device, Identity: one.sample.Identity, Score: scoreSpeaks,
			Sample: one.sample, Evidence: []string{"sends " + strings.Join(one.on, ", "), counters(*one.sample)},
		}
		if one.sample.Signed != nil {
			m.Score = scoreProven
			m.Evidence = append(m.Evidence, "signs its readings, and the signature holds")
		}
		if one.sample.Quality&Retained != 0 {
			m.Evidence = append(m.Evidence, "only what the broker had kept was heard")
		}
		// A device that is known by a topic of another form is read by that topic.
		if usual, err := m.Definition.ResolveTopic(key.device); err == nil && usual.ByTopic[one.on[0]] == "" {
			m.Address = e.broker + "/" + one.on[0]
		}
		all = append(all, m)
	}
	return all
}
