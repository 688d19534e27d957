package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/commonwatt/commonwatt/firmware-sim/config"
	"github.com/commonwatt/commonwatt/firmware-sim/control"
	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/fault"
	"github.com/commonwatt/commonwatt/firmware-sim/scenario"
	"github.com/commonwatt/commonwatt/firmware-sim/street"
	"github.com/commonwatt/commonwatt/meter/def"
)

// files are what the command line names.
type files struct{ config, scenario string }

// kinds are the devices that firmware-sim can be. Where room meter has a
// definition of the same name, who signs has to be the same in both: a device
// that differs is a mistake in the program.
func kinds() (config.Kinds, error) {
	definitions, err := def.Load("")
	if err != nil {
		return nil, fmt.Errorf("loading the device definitions: %w", err)
	}
	known := config.Kinds{}
	for _, id := range device.Kinds() {
		kind, _ := device.Lookup(id)
		known[id] = config.Kind{
			Modbus: kind.Protocol == device.Modbus, MQTT: kind.Protocol == device.MQTT, P1: kind.Protocol == device.P1,
			HTTP: kind.Protocol == device.HTTP || kind.Pages, Signs: kind.Signs, Versions: kind.Versions, Obeys: kind.Obeys(),
		}
	}
	for _, d := range definitions {
		if k, ok := known[d.ID]; ok && k.Signs != (d.SignedBy == def.SignedByDevice) {
			return nil, fmt.Errorf("definition %s is signed by the %s: firmware-sim's device differs (signs: %t)", d.ID, d.SignedBy, k.Signs)
		}
	}
	return known, nil
}

// read reads what the command line names. The scenario is nil if there is none.
func (f files) read() (*config.Config, *scenario.Scenario, error) {
	known, err := kinds()
	if err != nil {
		return nil, nil, err
	}
	var s *scenario.Scenario
	if f.scenario != "" {
		if s, err = scenario.Read(f.scenario, known); err != nil {
			return nil, nil, err
		}
	}
	if f.config == "" {
		cfg, err := s.Config(known)
		return cfg, s, err
	}
	cfg, err := config.ReadFile(f.config, known)
	return cfg, s, err
}

// serve runs a street until the context ends.
func serve(ctx context.Context, f files, stdout io.Writer, log *slog.Logger) error {
	cfg, s, err := f.read()
	if err != nil {
		return err
	}
	homes, err := street.New(cfg, time.Now)
	if err != nil {
		return err
	}
	defer homes.Close() //nolint:errcheck // every command is on the disk already
	book, err := faults(cfg, s, homes)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := homes.Prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to end before it had begun
		}
		return err
	}
	log.InfoContext(ctx, "street prepared", "homes", len(cfg.Homes), "community_time", homes.Now(), "took", time.Since(begin))
	return runServers(ctx, cfg, homes, book, stdout, log)
}

// faults makes the street's book, with the rules of a scenario if there is one.
func faults(cfg *config.Config, s *scenario.Scenario, homes *street.Street) (*fault.Book, error) {
	options := fault.Options{Refresh: cfg.Refresh, Seed: cfg.Seed, OwnBroker: cfg.MQTT != nil && cfg.MQTT.Own()}
	if s != nil {
		options.Seed ^= s.Seed
	}
	book := fault.NewBook(homes.Struck(), options)
	homes.Faults = book
	if s == nil {
		return book, nil
	}
	return book, s.Load(book, cfg)
}

// runServers opens and runs all servers. The devices on MQTT end first, so that
// they can still say goodbye to a broker of our own.
func runServers(ctx context.Context, cfg *config.Config, homes *street.Street, book *fault.Book, stdout io.Writer, log *slog.Logger) error {
	s, err := openServers(ctx, cfg, homes, log)
	if err != nil {
		return err
	}
	defer s.close()

	ctx, stopAll := context.WithCancel(ctx)
	defer stopAll()
	brokerCtx, stopBroker := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBroker()
	brokerDone := make(chan error, 1)
	if s.broker != nil {
		go func() {
			brokerDone <- s.broker.Serve(brokerCtx)
			stopAll() // without it the others would go on and publish to nobody
		}()
	} else {
		brokerDone <- nil
	}

	group, groupCtx := errgroup.WithContext(ctx)
	keeper := &keeper{street: homes, book: book, broker: s.broker, log: log}
	homes.OnRefresh = keeper.look
	for _, run := range s.runners(homes) {
		group.Go(func() error { return run(groupCtx) })
	}
	api := &control.API{
		Street: homes, Faults: book, Addresses: s.addresses, Log: log,
		Nudge: func(ctx context.Context) {
			keeper.look(ctx)
			s.look(ctx)
		},
	}
	group.Go(func() error { return api.Serve(groupCtx, s.control) })
	keeper.look(ctx)
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
