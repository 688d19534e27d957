package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"

	"github.com/commonwatt/commonwatt/firmware-sim/broker"
	"github.com/commonwatt/commonwatt/firmware-sim/config"
	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/fault"
	"github.com/commonwatt/commonwatt/firmware-sim/listen"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
	"github.com/commonwatt/commonwatt/firmware-sim/p1"
	"github.com/commonwatt/commonwatt/firmware-sim/page"
	"github.com/commonwatt/commonwatt/firmware-sim/street"
	"github.com/commonwatt/commonwatt/firmware-sim/wire"
)

// ready is the line on stdout.
type ready struct {
	Ready      bool              `json:"ready"`
	Modbus     string            `json:"modbus,omitempty"`
	ModbusTLS  string            `json:"modbus_tls,omitempty"`
	RTU        string            `json:"rtu,omitempty"` // path of the pseudo-terminal
	RTUOverTCP string            `json:"rtu_tcp,omitempty"`
	MQTT       string            `json:"mqtt,omitempty"`
	MQTTS      string            `json:"mqtts,omitempty"`
	P1         map[string]string `json:"p1,omitempty"` // HOME/ROLE → path of the pseudo-terminal
	Control    string            `json:"control"`
}

// servers are what listens. They are opened one after the other, before
// anything is said on stdout.
type servers struct {
	log     *slog.Logger
	closers []io.Closer
	modbus  []modbusDoor
	broker  *broker.Server // nil: none of our own
	inside  string         // where devices reach the broker
	login   broker.Login
	ports   map[fault.Key]*p1.Server
	pages   map[fault.Key]*page.Server
	clients []*broker.Client
	control net.Listener
	ready   ready
}

// modbusDoor is one way to the Modbus devices.
type modbusDoor struct {
	transport wire.Transport
	listener  net.Listener // nil: a line
	line      *listen.PTY
	address   string // for a reader
}

func openServers(ctx context.Context, cfg *config.Config, homes *street.Street, log *slog.Logger) (s *servers, err error) {
	s = &servers{log: log, ports: map[fault.Key]*p1.Server{}, pages: map[fault.Key]*page.Server{}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := s.openModbus(ctx, cfg); err != nil {
		return s, err
	}
	if cfg.MQTT != nil {
		if err := s.openMQTT(ctx, cfg.MQTT); err != nil {
			return s, err
		}
	}
	for _, h := range homes.Houses() {
		for _, m := range h.Meters {
			if err := s.openDevice(ctx, m); err != nil {
				return s, err
			}
		}
	}
	if s.control, err = listen.TCP(ctx, "control.listen", cfg.Control.Listen); err != nil {
		return s, err
	}
	s.closers = append(s.closers, s.control)
	s.ready.Control, s.ready.Ready = s.control.Addr().String(), true
	return s, nil
}

func (s *servers) close() {
	for _, c := range s.closers {
		_ = c.Close()
	}
}

func (s *servers) openModbus(ctx context.Context, cfg *config.Config) error {
	door := func(t wire.Transport, scheme string, l net.Listener, err error) (string, error) {
		if err != nil {
			return "", err
		}
		s.closers = append(s.closers, l)
		s.modbus = append(s.modbus, modbusDoor{transport: t, listener: l, address: scheme + l.Addr().String()})
		return l.Addr().String(), nil
	}
	var err error
	if c := cfg.Modbus; c != nil {
		l, failed := listen.TCP(ctx, "modbus.listen", c.Listen)
		if s.ready.Modbus, err = door(wire.TCP, "tcp://", l, failed); err != nil {
			return err
		}
	}
	if c := cfg.ModbusTLS; c != nil {
		l, failed := listen.TLS(ctx, "modbus_tls", c.Listen, c.Cert, c.Key, c.ClientCA)
		if s.ready.ModbusTLS, err = door(wire.TLS, "tcp+tls://", l, failed); err != nil {
			return err
		}
	}
	if c := cfg.RTUOverTCP; c != nil {
		l, failed := listen.TCP(ctx, "rtu_tcp.listen", c.Listen)
		if s.ready.RTUOverTCP, err = door(wire.RTUOverTCP, "rtu+tcp://", l, failed); err != nil {
			return err
		}
	}
	if c := cfg.RTU; c != nil {
		line, err := listen.OpenPTY("rtu.link", c.Link)
		if err != nil {
			return err
		}
		s.closers = append(s.closers, line)
		s.modbus = append(s.modbus, modbusDoor{transport: wire.RTU, line: line, address: "rtu://" + line.Path})
		s.ready.RTU = line.Path
	}
	return nil
}

// openMQTT opens the listeners of a broker of our own. If none of them is plain,
// the devices have one of their own on the loopback address.
func (s *servers) openMQTT(ctx context.Context, c *config.MQTT) error {
	if c.PasswordFile != "" {
		password, err := config.Read(c.PasswordFile)
		if err != nil {
			return fmt.Errorf("mqtt.password_file: %w", err)
		}
		s.login = broker.Login{User: c.User, Password: string(bytes.TrimSpace(password))}
	}
	if !c.Own() {
		s.inside = strings.TrimSuffix(strings.TrimPrefix(c.Broker, "mqtt://"), "/")
		s.ready.MQTT = s.inside
		return nil
	}
	plain := c.Listen
	if plain == "" {
		plain = "127.0.0.1:0"
	}
	var listening []net.Listener
	var open []broker.Open
	first, err := listen.TCP(ctx, "mqtt.listen", plain)
	if err != nil {
		return err
	}
	s.closers, listening = append(s.closers, first), append(listening, first)
	s.inside = first.Addr().String()
	open = append(open, func(ctx context.Context) (net.Listener, error) { return listen.TCP(ctx, "mqtt.listen", s.inside) })
	if c.Listen != "" {
		s.ready.MQTT = s.inside
	}
	if t := c.TLS; t != nil {
		l, err := listen.TLS(ctx, "mqtt.tls", t.Listen, t.Cert, t.Key, t.ClientCA)
		if err != nil {
			return err
		}
		s.closers, listening = append(s.closers, l), append(listening, l)
		s.ready.MQTTS = l.Addr().String()
		open = append(open, func(ctx context.Context) (net.Listener, error) {
			return listen.TLS(ctx, "mqtt.tls", s.ready.MQTTS, t.Cert, t.Key, t.ClientCA)
		})
	}
	s.broker, err = broker.NewServer(listening, open, s.login, quiet(s.log))
	return err
}

// openDevice opens what a device has for itself.
func (s *servers) openDevice(ctx context.Context, m *street.Meter) error {
	name := "listen of " + m.Key().Home + " " + m.Role
	switch m.Kind.Protocol {
	case device.P1:
		port := &p1.Server{Meter: m, Log: s.log}
		if m.Config.Listen != "" {
			l, err := listen.TCP(ctx, name, m.Config.Listen)
			if err != nil {
				return err
			}
			s.closers = append(s.closers, l)
			port.Listener = l
		}
		if m.Config.Link != "" {
			line, err := listen.OpenPTY("link of "+m.Key().Home+" "+m.Role, m.Config.Link)
			if err != nil {
				return err
			}
			s.closers = append(s.closers, line)
			port.Line = line
			if s.ready.P1 == nil {
				s.ready.P1 = map[string]string{}
			}
			s.ready.P1[m.Key().Home+"/"+m.Role] = line.Path
		}
		s.ports[m.Key()] = port
	case device.MQTT, device.HTTP:
		if m.Config.Listen == "" {
			return nil
		}
		l, err := listen.TCP(ctx, name, m.Config.Listen)
		if err != nil {
			return err
		}
		s.closers = append(s.closers, l)
		s.pages[m.Key()] = &page.Server{Listener: l, Meter: m, Log: s.log}
	case device.Modbus:
	}
	return nil
}

// addresses are those by which a reader reaches a meter.
func (s *servers) addresses(m *street.Meter) []string {
	list := []string{}
	if m.Kind.Protocol == device.Modbus {
		for _, door := range s.modbus {
			list = append(list, door.address)
		}
	}
	if m.Config.Topic != "" && s.ready.MQTT != "" {
		list = append(list, "mqtt://"+s.ready.MQTT+"/"+m.Config.Topic)
	}
	if m.Config.Topic != "" && s.ready.MQTTS != "" {
		list = append(list, "mqtts://"+s.ready.MQTTS+"/"+m.Config.Topic)
	}
	if port, ok := s.ports[m.Key()]; ok {
		if port.Listener != nil {
			list = append(list, "p1+tcp://"+port.Listener.Addr().String())
		}
		if path := s.ready.P1[m.Key().Home+"/"+m.Role]; path != "" {
			list = append(list, "p1://"+path)
		}
	}
	if p, ok := s.pages[m.Key()]; ok {
		list = append(list, "http://"+p.Listener.Addr().String())
	}
	return list
}

// runners are what runs until the context ends; what pushes is made known to the
// street, in the order of the configuration.
func (s *servers) runners(homes *street.Street) (list []func(context.Context) error) {
	units := homes.Bus()
	for _, door := range s.modbus {
		server := modbus.New(units, modbus.Options{Transport: door.transport, Log: s.log})
		if door.listener != nil {
			list = append(list, func(ctx context.Context) error { return server.Serve(ctx, door.listener) })
		} else {
			list = append(list, func(ctx context.Context) error { return server.ServeLine(ctx, door.line) })
		}
	}
	for _, h := range homes.Houses() {
		for _, m := range h.Meters {
			if publisher, ok := m.Device.(device.Publisher); ok && m.Config.Topic != "" {
				client := broker.NewClient(broker.ClientOptions{
					Broker: s.inside, Login: s.login, ID: "firmware-sim-" + m.Config.Topic, Device: publisher, Meter: m, Log: s.log,
				})
				s.clients = append(s.clients, client)
				homes.Push(client)
				list = append(list, client.Run)
			}
			if port, ok := s.ports[m.Key()]; ok {
				homes.Push(port)
				list = append(list, port.Serve)
			}
			if p, ok := s.pages[m.Key()]; ok {
				list = append(list, p.Serve)
			}
		}
	}
	return list
}

// look has devices notice that their power went or came.
func (s *servers) look(ctx context.Context) {
	for _, c := range s.clients {
		if err := c.Look(ctx); err != nil && !errors.Is(err, context.Canceled) {
			s.log.DebugContext(ctx, "mqtt device is away", "client", c.ID, "err", err)
		}
	}
}
