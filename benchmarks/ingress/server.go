package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/zeromicro/go-zero/core/load"
	"github.com/zeromicro/go-zero/core/logx"
	"golang.org/x/sync/semaphore"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
)

// contenders are the ways to serve that are compared.
var contenders = []string{"refuse-all", "net/http", "semaphore", "failsafe-go", "go-zero", "helix", "helix-yield"}

// serve is the server process: it tells its address, and ends when its input does.
func serve(what string) error {
	name, mix, _ := strings.Cut(what, " ")
	pin(0)
	logx.Disable()
	logx.DisableStat()
	h, err := handler(name, mixes[mix])
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: h}
	served := l
	if strings.HasPrefix(name, "helix") {
		served, srv.ConnContext = helixhttp.NewListener(l), helixhttp.ConnContext
	}
	go func() { _ = srv.Serve(served) }()
	fmt.Println(l.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// handler serves the classes in the way of that name.
func handler(name string, classes []class) (http.Handler, error) {
	mux := http.NewServeMux()
	perMicro := calibrate()
	routes := map[string]helix.Job{}
	budgets := map[string]time.Duration{}
	for _, c := range classes {
		routes[c.path], budgets[c.path] = helix.Job{Budget: c.budget}, c.budget
		micros := int(c.work.Microseconds())
		mux.HandleFunc(c.path, func(w http.ResponseWriter, r *http.Request) {
			x := uint64(len(r.URL.Path))
			for left := micros; left > 0; left -= 100 {
				x = spin(x, perMicro*min(left, 100))
				if name == "helix-yield" && left > 100 {
					helix.Yield(r.Context())
				}
			}
			_, _ = w.Write([]byte{'0' + byte(x%10)})
		})
	}
	switch name {
	case "refuse-all":
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }), nil
	case "net/http":
		return mux, nil
	case "semaphore":
		sem := semaphore.NewWeighted(1)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), budgets[r.URL.Path])
			defer cancel()
			if sem.Acquire(ctx, 1) != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			defer sem.Release(1)
			mux.ServeHTTP(w, r)
		}), nil
	case "failsafe-go":
		limiter := adaptivelimiter.NewBuilder[*http.Response]().WithQueueing(2, 3).Build()
		return failsafehttp.NewHandler(mux, limiter), nil
	case "go-zero":
		shedder := load.NewAdaptiveShedder(load.WithCpuThreshold(900))
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			promise, err := shedder.Allow()
			if err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			defer promise.Pass()
			mux.ServeHTTP(w, r)
		}), nil
	}
	router, err := helix.New(helix.RouterConfig{CPUParallelism: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	admit, err := helixhttp.New(router, helixhttp.Config{Routes: routes})
	if err != nil {
		return nil, err
	}
	return admit.Wrap(mux), nil
}

// spin does n iterations of work that cannot be shortened.
//
//go:noinline
func spin(x uint64, n int) uint64 {
	for range n {
		x = (x ^ x>>32) * 0xd6e8feb86659fd93
	}
	return x
}

// calibrate returns the iterations that take a microsecond: of some tries the fastest, which
// nothing else disturbed.
func calibrate() int {
	const n = 2_000_000
	best := time.Duration(1 << 62)
	for i := range 15 {
		start := time.Now()
		if spin(uint64(i)+1, n) == 0 {
			continue // never, but the compiler cannot know
		}
		best = min(best, time.Since(start))
	}
	return max(int(n/best.Microseconds()), 1)
}
