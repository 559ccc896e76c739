package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
	"github.com/helixrouter/helix/httpstats"
	"github.com/helixrouter/helix/remote"
	"github.com/helixrouter/helix/remote/natsremote"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// serve is the service: a NATS server, a router that has workers, its page and a load,
// until ctx is done.
func serve(ctx context.Context, o options, out io.Writer) error {
	broker, err := startBroker(o.nats)
	if err != nil {
		return err
	}
	defer broker.WaitForShutdown()
	defer broker.Shutdown()

	nc, err := nats.Connect(broker.ClientURL(), natsremote.Options()...)
	if err != nil {
		return err
	}
	defer nc.Close()
	client, err := natsremote.NewClient(nc, natsremote.ClientConfig{})
	if err != nil {
		return err
	}
	router, task, err := local(o, client)
	if err != nil {
		return err
	}
	defer router.Close()
	l := &load{task: task, points: o.points}

	page, err := httpstats.New(router, httpstats.WithName("fleet"), httpstats.WithBurst(func(context.Context) error {
		l.jobs.Go(func() { // three times as much for ten seconds
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			l.send(ctx, 2*o.rate)
		})
		return nil
	}))
	if err != nil {
		return err
	}
	defer page.Close()
	listener, err := net.Listen("tcp", o.addr)
	if err != nil {
		return err
	}
	web := &http.Server{Handler: page, ReadHeaderTimeout: 10 * time.Second}
	web.RegisterOnShutdown(func() { _ = page.Close() })
	served := make(chan error, 1)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		served <- helixhttp.Serve(ctx, web, listener, 5*time.Second)
		stop()
	}()
	fmt.Fprintf(out, "fleet: page http://%s/, NATS %s\n", listener.Addr(), broker.Addr())

	l.jobs.Go(func() { l.send(ctx, o.rate) })
	report(ctx, out, router, client)
	l.jobs.Wait()
	fmt.Fprintln(out, "fleet:", l)
	return <-served
}

// startBroker starts a NATS server on that host and port.
func startBroker(addr string) (*server.Server, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("-nats is %q: %w", addr, err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("-nats is %q: %w", addr, err)
	}
	if n == 0 {
		n = server.RANDOM_PORT
	}
	s, err := server.NewServer(&server.Options{Host: host, Port: n, NoSigs: true})
	if err != nil {
		return nil, err
	}
	go s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return nil, fmt.Errorf("the NATS server does not start on %s: is the port in use? Choose another one with -nats", addr)
	}
	return s, nil
}

// report prints once a second where jobs were done, until ctx is done.
func report(ctx context.Context, out io.Writer, router *helix.Router, client *remote.Client) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	before := map[string]uint64{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var line []string
		add := func(name string, count uint64) {
			line = append(line, fmt.Sprintf("%s %d", name, count-min(before[name], count)))
			before[name] = count
		}
		s, r := client.Stats(), router.Stats()
		here := uint64(0)
		for _, l := range r.LatencyByStrategy {
			if l.Strategy != client.Name() {
				here += l.Count
			}
		}
		add("here", here)
		for _, w := range s.Workers {
			add(w.Worker, w.Answered)
		}
		add("refused", r.Dropped)
		add("lost", s.Total.Lost)
		fmt.Fprintln(out, strings.Join(line, ", "))
	}
}

// work is a worker, until ctx is done. It may have a load of its own.
func work(ctx context.Context, o options, out io.Writer) error {
	nc, err := nats.Connect("nats://"+o.nats, append(natsremote.Options(), nats.Name(o.name))...)
	if err != nil {
		return fmt.Errorf("connecting to the service's NATS server at %s: %w", o.nats, err)
	}
	defer nc.Close()
	router, task, err := local(o)
	if err != nil {
		return err
	}
	defer router.Close()
	own := &load{task: task, points: o.points}
	own.jobs.Go(func() { own.send(ctx, o.rate) })
	fmt.Fprintf(out, "fleet: %s serves; Ctrl-C finishes what it has\n", o.name)
	err = natsremote.Serve(ctx, nc, router, natsremote.WorkerConfig{ID: o.name})
	own.jobs.Wait()
	s := router.Stats()
	fmt.Fprintf(out, "fleet: %s did %d jobs and refused %d\n", o.name, s.Completed, s.Dropped)
	return err
}
