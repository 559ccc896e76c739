package helixhttp_test

import (
	"bufio"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
	"github.com/stretchr/testify/require"
)

// A budget ends when the answer is written, which may be some time after the handler returned.
func TestABudgetCoversTheAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		answer  time.Duration // from the end of the handler until the answer is written
		streams bool          // the answer is written while the handler runs
		refused bool
	}{
		"in time":         {answer: 2 * time.Millisecond},
		"late":            {answer: 5 * time.Millisecond, refused: true},
		"far too late":    {answer: time.Second, refused: true},
		"already written": {answer: 5 * time.Millisecond, streams: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			const run, budget = 16 * time.Millisecond, 20 * time.Millisecond
			admit := newMiddleware(t, newRouter(t, helix.RouterConfig{}), helixhttp.Config{Default: helix.Job{Budget: budget}})
			wrapped := admit.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(run)
				if c.streams {
					w.Header().Set("Content-Length", "0")
					require.NoError(t, http.NewResponseController(w).Flush())
				}
			}))
			srv := &http.Server{ConnContext: helixhttp.ConnContext, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				wrapped.ServeHTTP(w, r)
				time.Sleep(c.answer)
			})}
			inner := pipeListener{make(chan net.Conn), make(chan struct{})}
			served := make(chan error, 1)
			go func() { served <- srv.Serve(helixhttp.NewListener(inner)) }()
			client, server := net.Pipe()
			inner.conns <- server
			in, statuses := bufio.NewReader(client), map[int]int{}
			for i := range 100 {
				if status := ask(t, client, in); i >= 50 { // it has learned
					statuses[status]++
				}
				time.Sleep(time.Minute) // between requests there is no answer
			}
			if c.refused {
				require.Greater(t, statuses[503], 30, "all but probes, %s: %v", name, statuses)
			} else {
				require.Equal(t, map[int]int{200: 50}, statuses, name)
			}
			require.NoError(t, srv.Close())
			require.ErrorIs(t, <-served, http.ErrServerClosed)
		})
	}
}
