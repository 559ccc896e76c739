package helixhttp

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/helixrouter/helix"
)

// ListenAndServe listens on srv.Addr and serves there until ctx ends. See [Serve].
func ListenAndServe(ctx context.Context, srv *http.Server, grace time.Duration, routers ...*helix.Router) error {
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
	return Serve(ctx, srv, l, grace, routers...)
}

// Serve serves requests from l, with TLS if srv.TLSConfig is set, until ctx ends. It takes
// no new connections then and waits up to grace for the requests that have arrived. Then,
// within the same grace, it shuts down the routers, one after the other
// ([helix.Router.Shutdown]): jobs that handlers started with Go end too. Until then they are
// open, so that requests on their way are run and not refused.
//
// Serve returns nil if all requests have been answered and all jobs have ended. Requests
// still running after grace lose their connections, jobs still waiting are withdrawn, and the
// error is context.DeadlineExceeded. If serving fails, Serve returns that error at once and
// leaves the routers open.
//
// l is wrapped in a [Listener], and srv.ConnContext, which may be set, is extended by
// [ConnContext].
func Serve(ctx context.Context, srv *http.Server, l net.Listener, grace time.Duration, routers ...*helix.Router) error {
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
	for _, r := range routers {
		err = errors.Join(err, r.Shutdown(limit))
	}
	return err
}
