// Fleet is a service that has its jobs done by workers when it cannot keep up with them
// itself: a NATS server, a router and its live page in one process, and workers in others.
//
//	go run .                     # in one terminal; the page is at http://127.0.0.1:8080/
//	go run . -worker             # in a second one, and a third
//
// The service alone keeps up with its load. Press "send a burst" on the page, or start it
// with a higher -rate: jobs go over to the workers. Give one worker work of its own
// (-worker -rate 80): the others get them. End one with Ctrl-C: nothing is lost. Kill one
// (kill -9): what it had is lost, and nothing else; with -again not even that, since its
// jobs may be done twice.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options are what both sides are told.
type options struct {
	nats   string        // host and port of the server
	addr   string        // of the page
	name   string        // of the worker
	worker bool          // be one
	rate   float64       // jobs a second that this process submits
	points int           // of a job
	budget time.Duration // of a job
	slots  int
	again  bool // a lost job is done again
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("fleet", flag.ContinueOnError)
	flags.BoolVar(&o.worker, "worker", false, "be a worker instead of the service")
	flags.StringVar(&o.nats, "nats", "127.0.0.1:4222", "where the service's NATS server is")
	flags.StringVar(&o.addr, "addr", "127.0.0.1:8080", "where the service's page is")
	flags.StringVar(&o.name, "name", fmt.Sprint("worker-", os.Getpid()), "the worker's name, different for every start of it")
	flags.Float64Var(&o.rate, "rate", -1, "jobs a second that this process submits (default 40, and none in a worker)")
	flags.IntVar(&o.points, "points", 20_000, "points that a job tries: some 10 ms")
	flags.DurationVar(&o.budget, "budget", 200*time.Millisecond, "time that a job may take")
	flags.IntVar(&o.slots, "slots", 1, "jobs that this process runs at the same time")
	flags.BoolVar(&o.again, "again", false, "jobs that are lost may be done again")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.points < 1 || o.slots < 1 || o.budget <= 0 || o.rate > 100_000 || o.rate != o.rate {
		return errors.New("-points, -slots and -budget must be more than 0, -rate at most 100000")
	}
	if o.worker {
		return work(ctx, o, out)
	}
	if o.rate < 0 {
		o.rate = 40
	}
	return serve(ctx, o, out)
}
