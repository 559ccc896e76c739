// Simulator sends a seeded workload through a router and shows, live and in a
// summary, how it decides.
//
//	go run ./examples/simulator                        200 mixed jobs at once
//	go run ./examples/simulator -load 2 -duration 30s  twice what this machine can do
//	go run ./examples/simulator -trace FILE -speed 60  a CSV file of real arrivals
//
// It is also an example of a service that uses the library: service.go
// registers the kinds of work and submits requests, kernels.go has work that
// batches and gives way, serve.go shows it all on a port and shuts down in
// order.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/helixrouter/helix"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // the accounts do not add up, or the address cannot be used
	exitUsage  = 2 // a flag or the trace cannot be used
)

// shutdownTimeout is how long open requests and running jobs may take to end.
const shutdownTimeout = 5 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program: it returns the exit code, once all jobs have ended and
// nothing is left running. ctx being done is Ctrl-C.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseFlags(args, stdout)
	if err == nil {
		err = simulate(ctx, o, stdout, stderr)
	}
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	fmt.Fprintf(stderr, "simulator: %v\n", err)
	if errors.As(err, &usageError{}) {
		return exitUsage
	}
	return exitFailed
}

// simulate does what the options say.
func simulate(ctx context.Context, o *options, stdout, stderr io.Writer) (err error) {
	plan := &plan{}
	if o.trace != "" { // first of all: it may be unusable
		jobs, err := loadTrace(o.trace, o.traceSpec)
		if err != nil {
			return usageError{err}
		}
		plan.jobs = slices.Values(jobs)
	}
	if o.compare {
		return compare(ctx, o, plan, stdout, stderr)
	}
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelDebug
	}
	o.router.Logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	router, err := helix.New(o.router)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, router.Close()) }()
	svc, err := newService(router, o.arrivals.seed)
	if err != nil {
		return err
	}
	if err := plan.prepare(ctx, o, svc); err != nil {
		return err
	}
	var l net.Listener
	if o.addr != "" { // before any job runs, since it may be in use; but first what is wrong with the flags
		if l, err = listen(o.addr); err != nil {
			return err
		}
		defer l.Close() // if the server has not done it
	}
	plan.print(stdout, o)

	var srv *server
	if l != nil {
		if srv, err = startServer(ctx, l, svc, o.arrivals.seed); err != nil {
			return err
		}
		srv.printLinks(stdout)
	}

	plan.run(ctx, svc, stdout)
	if srv != nil && !o.exit && ctx.Err() == nil {
		fmt.Fprintf(stdout, "\nServing %s/ until Ctrl-C\n", srv.url)
		select {
		case <-ctx.Done():
		case err = <-srv.ended:
			srv.ended <- err // for stop
		}
	}
	return errors.Join(err, shutdown(svc, srv))
}

// shutdown stops what sends jobs, waits for those that are left, and checks the
// accounts.
func shutdown(svc *service, srv *server) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	var err error
	if srv != nil {
		err = srv.stop(ctx)
	}
	if drained := svc.router.Drain(ctx); drained != nil {
		// What runs gets its callers' ctx, so it ends early only if that is done.
		return errors.Join(err, fmt.Errorf("jobs still run after %v: %w", shutdownTimeout, drained))
	}
	return errors.Join(err, svc.check(svc.router.Stats()))
}
