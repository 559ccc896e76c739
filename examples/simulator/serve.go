package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/helixrouter/helix/httpstats"
)

// listen opens the address.
func listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err == nil {
		return l, nil
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		err = errors.New("another program uses that port")
	}
	return nil, fmt.Errorf("cannot serve on %s: %w: choose another address with -addr, like -addr 127.0.0.1:0 for any free port, or -addr off", addr, err)
}

// burstJobs is how many jobs the page's button sends.
const burstJobs = 300

// server serves the page, JSON and metrics.
type server struct {
	http  *http.Server
	stats *httpstats.Handler
	url   string
	ended chan error // Serve's error, once
}

// startServer serves the service's statistics on l until stop. ctx is the ctx
// of the jobs of the page's bursts.
func startServer(ctx context.Context, l net.Listener, s *service, seed uint64) (*server, error) {
	var bursts atomic.Uint64
	h, err := httpstats.New(s.router, httpstats.WithName("simulator"),
		httpstats.WithBurst(func(context.Context) error {
			s.send(ctx, arrivals{seed: seed + bursts.Add(1), jobs: burstJobs}.all(), time.Now(), nil)
			return context.Cause(ctx)
		}))
	if err != nil {
		return nil, err
	}
	srv := &server{
		http:  &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute},
		stats: h,
		url:   "http://" + reachable(l.Addr()),
		ended: make(chan error, 1),
	}
	srv.http.RegisterOnShutdown(func() { _ = h.Close() }) // else open pages hold Shutdown up
	go func() { srv.ended <- srv.http.Serve(l) }()
	return srv, nil
}

// reachable is an address to put in a link: a server on all interfaces is
// reached on this one.
func reachable(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return a.String()
	}
	return fmt.Sprintf("127.0.0.1:%d", tcp.Port)
}

// printLinks tells where to look.
func (s *server) printLinks(w io.Writer) {
	fmt.Fprintf(w, "  page     %s/\n  JSON     %s/api/stats\n  metrics  %s/metrics\n", s.url, s.url, s.url)
}

// stop lets open requests end until ctx is done, then cuts them off.
func (s *server) stop(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	if serveErr := <-s.ended; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return errors.Join(err, s.stats.Close())
}
