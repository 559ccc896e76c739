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
	"golang.org/x/sync/semaphore"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
)

// contenders are the ways to serve that are compared.
var contenders = []string{"refuse-all", "refuse-all-helix", "refuse-all-early", "net/http", "semaphore", "failsafe-go", "go-zero",
	"helix", "helix-early", "helix-yield", "helix-yield-early"}

// yields and early say what a contender's name stands for.
func yields(name string) bool { return strings.HasPrefix(name, "helix-yield") }

func early(name string) bool { return strings.HasSuffix(name, "-early") }

// serve is the server process: it tells its address, and ends when its input does.
func serve(what string) error {
	name, mix, _ := strings.Cut(what, " ")
	pin(0)
	h, admit, err := handler(name, mixes[mix])
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: h}
	served := l
	if admit != nil {
		own := helixhttp.NewListener(l)
		served, srv.ConnContext = own, helixhttp.ConnContext
		if early(name) {
			srv.ConnState = helixhttp.ConnState
			if err := admit.RefuseEarly(own, paths(mixes[mix])...); err != nil {
				return err
			}
		}
	}
	go func() { _ = srv.Serve(served) }()
	fmt.Println(l.Addr())
	before := cpuTime()
	_, err = io.Copy(io.Discard, os.Stdin)
	fmt.Println(int64(cpuTime() - before))
	return err
}

// paths are the patterns of the classes.
func paths(classes []class) (of []string) {
	for _, c := range classes {
		of = append(of, "GET "+c.path)
	}
	return of
}

// refusing is a policy that refuses all.
type refusing struct{}

func (refusing) Choose(helix.JobInfo, helix.Pressure) helix.Decision {
	return helix.Decision{Strategy: helix.Drop, Reason: "all are refused"}
}

// handler serves the classes in the way of that name, with a middleware if it is helix's.
func handler(name string, classes []class) (http.Handler, *helixhttp.Middleware, error) {
	mux := http.NewServeMux()
	perMicro := calibrate()
	routes := map[string]helix.Job{}
	budgets := map[string]time.Duration{}
	for _, c := range classes {
		routes["GET "+c.path], budgets[c.path] = helix.Job{Budget: c.budget}, c.budget
		micros := int(c.work.Microseconds())
		mux.HandleFunc("GET "+c.path, func(w http.ResponseWriter, r *http.Request) {
			x := uint64(len(r.URL.Path))
			for left := micros; left > 0; left -= 100 {
				x = spin(x, perMicro*min(left, 100))
				if yields(name) && left > 100 {
					helix.Yield(r.Context())
				}
			}
			_, _ = w.Write([]byte{'0' + byte(x%10)})
		})
	}
	switch name {
	case "refuse-all":
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }), nil, nil
	case "net/http":
		return mux, nil, nil
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
		}), nil, nil
	case "failsafe-go":
		limiter := adaptivelimiter.NewBuilder[*http.Response]().WithQueueing(2, 3).Build()
		return failsafehttp.NewHandler(mux, limiter), nil, nil
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
		}), nil, nil
	}
	cfg := helix.RouterConfig{CPUParallelism: 1, Logger: slog.New(slog.DiscardHandler)}
	if strings.HasPrefix(name, "refuse-all") {
		cfg.Policy = refusing{}
	}
	router, err := helix.New(cfg)
	if err != nil {
		return nil, nil, err
	}
	admit, err := helixhttp.New(router, helixhttp.Config{Routes: routes})
	if err != nil {
		return nil, nil, err
	}
	return admit.Wrap(mux), admit, nil
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
