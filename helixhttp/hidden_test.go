package helixhttp_test

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
)

// Middleware around this one may wait, as for a session store. No queue stands in front of the
// router then, and all is admitted that is within the capacity: 16 clients ask for three
// quarters of it.
func TestSlowMiddlewareOutsideIsNoQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, rounds, every = 16, 50, 84 * time.Millisecond
		router := newRouter(t, helix.RouterConfig{CPUParallelism: 1})
		admit := newMiddleware(t, router, helixhttp.Config{Default: helix.Job{Budget: 100 * time.Millisecond}})
		wrapped := admit.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(4 * time.Millisecond) }))
		srv := &http.Server{ConnContext: helixhttp.ConnContext, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(50 * time.Millisecond)
			wrapped.ServeHTTP(w, r)
		})}
		inner := pipeListener{make(chan net.Conn), make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(helixhttp.NewListener(inner)) }()
		var refused atomic.Int64
		var wait sync.WaitGroup
		for i := range clients {
			wait.Go(func() {
				client, server := net.Pipe()
				inner.conns <- server
				time.Sleep(every * time.Duration(i) / clients)
				in := bufio.NewReader(client)
				for range rounds {
					if ask(t, client, in) != http.StatusOK {
						refused.Add(1)
					}
					time.Sleep(30 * time.Millisecond)
				}
			})
		}
		wait.Wait()
		require.Zero(t, refused.Load())
		require.NoError(t, srv.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
}
