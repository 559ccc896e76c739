package e2e

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/httpstats"
	"github.com/helixrouter/helix/remote"
)

// restarting is a service that is followed by another one at the same address.
type restarting struct {
	now atomic.Pointer[httpstats.Handler]
}

// ServeHTTP implements [http.Handler].
func (s *restarting) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.now.Load().ServeHTTP(w, r) }

// follow ends the present service, which ends its streams.
func (s *restarting) follow(t *testing.T, next *httpstats.Handler) {
	t.Helper()
	require.NoError(t, s.now.Swap(next).Close())
}

// TestAServiceThatRestartsAtOnce is followed by one that was made just after it.
func TestAServiceThatRestartsAtOnce(t *testing.T) {
	p := newPage(t, 1280, 1000)
	r := newRouter(t, helix.RouterConfig{})
	var service restarting
	service.now.Store(newHandler(t, r))
	submit(t, r, 20, helix.Job{Kind: "before"})
	made := time.Now()
	await(t, "another millisecond", func() error {
		if time.Since(made) < 2*time.Millisecond {
			return errors.New("too early")
		}
		return nil
	})
	next := newRouter(t, helix.RouterConfig{})
	follower := newHandler(t, next)
	submit(t, next, 3, helix.Job{Kind: "after"})

	p.open(serve(t, &service) + "/")
	p.until("document.querySelectorAll('#feed tr[data-kind=before]').length === 20")
	service.follow(t, follower)
	p.until("document.querySelectorAll('#feed tr[data-kind=after]').length === 3")
	require.Empty(t, p.texts("#feed tr[data-kind=before]"))
	p.until(jobs + " === 3")
}

// TestAHiddenStrategyStaysHidden has a service that comes back with one more strategy.
func TestAHiddenStrategyStaysHidden(t *testing.T) {
	p := newPage(t, 1280, 1000)
	var service restarting
	r := newRouter(t, helix.RouterConfig{})
	service.now.Store(newHandler(t, r))
	submit(t, r, 1, helix.Job{}) // without any, there are no charts
	p.open(serve(t, &service) + "/")
	p.until(jobs + " === 1")
	p.click("#legend [data-name=drop]")
	f := &farm{}
	f.workers.Store(&[]remote.WorkerStats{})
	next := newRouter(t, helix.RouterConfig{Strategies: []helix.Strategy{f}})
	service.follow(t, newHandler(t, next))
	p.until("document.querySelector('#legend [data-name=remote]')")
	require.Equal(t, "false", eval[string](p, "document.querySelector('#legend [data-name=drop]').ariaPressed"))
}
