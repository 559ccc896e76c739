// Thumbnails is a small real service behind a router: it scales images, finds similar ones
// by a model whose batches pay, and asks a slow database. Its live page is at /helix/.
//
//	go run ./examples/thumbnails            # serves http://127.0.0.1:8080
//	go run ./examples/thumbnails -compare   # the same load with and without the router
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "thumbnails:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("thumbnails", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:8080", "where to serve")
	compareLoad := flags.Bool("compare", false, "put the service under load with and without the router, and exit")
	load := flags.Float64("load", 2, "with -compare: offered load, as a multiple of the machine's capacity")
	lasts := flags.Duration("for", 5*time.Second, "with -compare: how long each run lasts")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *compareLoad {
		if !(*load > 0 && *load <= 20) || *lasts <= 0 {
			return fmt.Errorf("-load is %v and -for %v: must be from 0 to 20, and more than 0", *load, *lasts)
		}
		return compare(ctx, os.Stdout, *load, *lasts)
	}
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		return err
	}
	defer router.Close()
	server := &http.Server{Addr: *addr, ReadHeaderTimeout: 10 * time.Second}
	if server.Handler, err = newService(router, server.RegisterOnShutdown); err != nil {
		return err
	}
	fmt.Printf("thumbnails: http://%s/ (Ctrl-C finishes what has arrived)\n", *addr)
	return helixhttp.ListenAndServe(ctx, server, 10*time.Second, router)
}
