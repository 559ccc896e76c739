package helixhttp

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// ListenAndServe listens on srv.Addr and serves there until ctx ends. See [Serve].
func ListenAndServe(ctx context.Context, srv *http.Server, grace time.Duration) error {
	addr := srv.Addr
	if addr == "" {
		addr = ":http"
		if srv.TLSConfig != nil {
			addr = ":https"
		}
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return Serve(ctx, srv, l, grace)
}

// Serve serves requests from l, with TLS if srv.TLSConfig is set, until ctx ends. It takes
// no new connections then, waits up to grace for the requests that have arrived, and
// returns nil if all have been answered. Those still running after that lose their
// connections, and the error is context.DeadlineExceeded. Close the router afterwards: while
// it is open, requests on their way are run and not refused.
//
// l is wrapped in a [Listener], and srv.ConnContext, which may be set, is extended by
// [ConnContext].
func Serve(ctx context.Context, srv *http.Server, l net.Listener, grace time.Duration) error {
	own := srv.ConnContext
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		ctx = ConnContext(ctx, c)
		if own != nil {
			ctx = own(ctx, c)
		}
		return ctx
	}
	served := make(chan error, 1)
	go func() {
		if srv.TLSConfig != nil {
			served <- srv.ServeTLS(NewListener(l), "", "")
		} else {
			served <- srv.Serve(NewListener(l))
		}
	}()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := srv.Shutdown(limit)
	if err != nil {
		err = errors.Join(err, srv.Close())
	}
	<-served // http.ErrServerClosed
	return err
}
