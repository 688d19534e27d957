package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/commonwatt/commonwatt/firmware-sim/broker"
	"github.com/commonwatt/commonwatt/firmware-sim/config"
	"github.com/commonwatt/commonwatt/firmware-sim/control"
	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/listen"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
	"github.com/commonwatt/commonwatt/firmware-sim/street"
	"github.com/commonwatt/commonwatt/meter/def"
)

// ready is the line on stdout.
type ready struct {
	Ready   bool   `json:"ready"`
	Modbus  string `json:"modbus,omitempty"`
	MQTT    string `json:"mqtt,omitempty"`
	Control string `json:"control"`
}

// kinds joins the device definitions of room meter with the devices that
// firmware-sim can be: a configuration may name what is in both. Who signs is
// the definition's word; a device that cannot is a mistake in the program.
func kinds() (config.Kinds, error) {
	definitions, err := def.Load("")
	if err != nil {
		return nil, fmt.Errorf("loading the device definitions: %w", err)
	}
	known := config.Kinds{}
	byID := map[string]def.Definition{}
	for _, d := range definitions {
		byID[d.ID] = d
	}
	for _, id := range device.Kinds() {
		kind, _ := device.Lookup(id)
		k := config.Kind{Modbus: kind.Protocol == device.Modbus, Signs: kind.Signs, Obeys: kind.Obeys()}
		d, ok := byID[id]
		if !ok && !k.Obeys { // an inverter may be here before a definition says how it is led
			continue
		}
		if ok && (k.Modbus != (d.Protocol != def.ProtocolMQTT) || k.Signs != (d.SignedBy == def.SignedByDevice)) {
			return nil, fmt.Errorf("definition %s: protocol %s, signed by %s: firmware-sim's device differs (%s, signs: %t)",
				d.ID, d.Protocol, d.SignedBy, kind.Protocol, kind.Signs)
		}
		known[id] = k
	}
	return known, nil
}

// serve runs a street until the context ends.
func serve(ctx context.Context, file string, stdout io.Writer, log *slog.Logger) error {
	known, err := kinds()
	if err != nil {
		return err
	}
	cfg, err := config.ReadFile(file, known)
	if err != nil {
		return err
	}
	homes, err := street.New(cfg, time.Now)
	if err != nil {
		return err
	}
	defer homes.Close() //nolint:errcheck // every command is on the disk already
	begin := time.Now()
	if err := homes.Prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to end before it had begun
		}
		return err
	}
	log.InfoContext(ctx, "street prepared", "homes", len(cfg.Homes), "community_time", homes.Now(), "took", time.Since(begin))
	return runServers(ctx, cfg, homes, stdout, log)
}

// servers are what listens. They are opened one after the other, before
// anything is said on stdout.
type servers struct {
	modbus, mqtt, control net.Listener
	ready                 ready
}

func openServers(ctx context.Context, cfg *config.Config) (s servers, err error) {
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if cfg.Modbus != nil {
		if s.modbus, err = listen.TCP(ctx, "modbus.listen", cfg.Modbus.Listen); err != nil {
			return s, err
		}
		s.ready.Modbus = s.modbus.Addr().String()
	}
	if cfg.MQTT != nil && cfg.MQTT.Listen != "" {
		if s.mqtt, err = listen.TCP(ctx, "mqtt.listen", cfg.MQTT.Listen); err != nil {
			return s, err
		}
		s.ready.MQTT = s.mqtt.Addr().String()
	} else if cfg.MQTT != nil {
		s.ready.MQTT = strings.TrimSuffix(strings.TrimPrefix(cfg.MQTT.Broker, "mqtt://"), "/")
	}
	if s.control, err = listen.TCP(ctx, "control.listen", cfg.Control.Listen); err != nil {
		return s, err
	}
	s.ready.Control, s.ready.Ready = s.control.Addr().String(), true
	return s, nil
}

func (s *servers) close() {
	for _, l := range []net.Listener{s.modbus, s.mqtt, s.control} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// runServers opens and runs all servers. The devices on MQTT end first, so that
// they can still say goodbye to a broker of our own.
func runServers(ctx context.Context, cfg *config.Config, homes *street.Street, stdout io.Writer, log *slog.Logger) error {
	s, err := openServers(ctx, cfg)
	if err != nil {
		return err
	}
	defer s.close()

	ctx, stopAll := context.WithCancel(ctx)
	defer stopAll()
	brokerCtx, stopBroker := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBroker()
	brokerDone := make(chan error, 1)
	if s.mqtt != nil {
		server, err := broker.NewServer(s.mqtt, quiet(log))
		if err != nil {
			return err
		}
		go func() {
			brokerDone <- server.Serve(brokerCtx)
			stopAll() // without it the others would go on and publish to nobody
		}()
	} else {
		brokerDone <- nil
	}

	group, groupCtx := errgroup.WithContext(ctx)
	if s.modbus != nil {
		server := modbus.New(homes.Bus(), modbus.Options{Log: log})
		group.Go(func() error { return server.Serve(groupCtx, s.modbus) })
	}
	api := &control.API{Street: homes, Modbus: s.ready.Modbus, MQTT: s.ready.MQTT, Log: log}
	group.Go(func() error { return api.Serve(groupCtx, s.control) })
	for _, client := range clients(homes, s.ready.MQTT, log) {
		homes.Push(client)
		group.Go(func() error { return client.Run(groupCtx) })
	}
	group.Go(func() error { return homes.Run(groupCtx) })
	if err := json.NewEncoder(stdout).Encode(s.ready); err != nil {
		log.ErrorContext(ctx, "saying that we are ready", "err", err)
	}
	err = group.Wait()
	stopBroker()
	if brokerErr := <-brokerDone; err == nil {
		err = brokerErr
	}
	log.InfoContext(ctx, "ended")
	return err
}

// clients are the connections of all devices on MQTT.
func clients(homes *street.Street, address string, log *slog.Logger) []*broker.Client {
	var all []*broker.Client
	for _, h := range homes.Houses() {
		for _, m := range h.Meters {
			if publisher, ok := m.Device.(device.Publisher); ok {
				all = append(all, broker.NewClient(broker.ClientOptions{
					Broker: address, ID: "firmware-sim-" + m.Topic, Device: publisher, Meter: m, Log: log,
				}))
			}
		}
	}
	return all
}

// quiet lets only errors of the embedded broker pass: it warns of every client
// that goes without a word, which is what devices do.
func quiet(log *slog.Logger) *slog.Logger { return slog.New(quietHandler{log.Handler()}) }

type quietHandler struct{ slog.Handler }

func (h quietHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError && h.Handler.Enabled(ctx, level)
}

func (h quietHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quietHandler{h.Handler.WithAttrs(attrs)}
}

func (h quietHandler) WithGroup(name string) slog.Handler {
	return quietHandler{h.Handler.WithGroup(name)}
}
