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
	defer func() { _ = l.Close() }() // net/http closes it, unless it fails before it serves
	return Serve(ctx, srv, l, grace, routers...)
}

// Serve serves requests from l, with TLS if srv.TLSConfig is set, until ctx ends. Then it
// accepts no new connections and waits up to grace for the requests that have arrived. After
// that, within the same grace, it shuts down the routers, one after the other
// ([helix.Router.Shutdown]): jobs that handlers started with Go end, too. Until then the
// routers are open, so that requests on their way are run and not refused.
//
// Serve returns nil if all requests have been answered and all jobs have ended. Requests
// still running after grace lose their connections, jobs still waiting are withdrawn, and the
// error is context.DeadlineExceeded. A connection that has sent nothing counts as a request for
// its first 5 s, as in [http.Server.Shutdown], so grace should be longer. If serving fails, Serve
// returns that error at once and leaves the routers open.
//
// l is wrapped in a [Listener], unless it is one, and srv.ConnContext and srv.ConnState, which
// may be set, are extended by [ConnContext] and [ConnState]. With TLS nothing can be
// refused early, so a listener with early refusals is an error.
func Serve(ctx context.Context, srv *http.Server, l net.Listener, grace time.Duration, routers ...*helix.Router) error {
	listener, ok := l.(*Listener)
	if !ok {
		listener = NewListener(l)
	}
	if listener.early != nil && srv.TLSConfig != nil {
		return errors.New("helixhttp: requests behind TLS cannot be refused before they are parsed: RefuseEarly is for plain connections")
	}
	own := srv.ConnContext
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		ctx = ConnContext(ctx, c)
		if own != nil {
			ctx = own(ctx, c)
		}
		return ctx
	}
	states := srv.ConnState
	srv.ConnState = func(c net.Conn, s http.ConnState) {
		ConnState(c, s)
		if states != nil {
			states(c, s)
		}
	}
	served := make(chan error, 1)
	go func() {
		if srv.TLSConfig != nil {
			served <- srv.ServeTLS(listener, "", "")
		} else {
			served <- srv.Serve(listener)
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
