package helixhttp_test

import (
	"bufio"
	"io"
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

// What is written to a hijacked connection after its handler has returned is no answer.
func TestAHijackedConnectionHasNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		admit := newMiddleware(t, newRouter(t, helix.RouterConfig{}), helixhttp.Config{
			Routes: map[string]helix.Job{"/a": {Budget: 20 * time.Millisecond}},
		})
		mux := http.NewServeMux()
		mux.HandleFunc("/a", func(http.ResponseWriter, *http.Request) { time.Sleep(16 * time.Millisecond) })
		mux.HandleFunc("/hijack", func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			require.NoError(t, err)
			go func() {
				time.Sleep(time.Second)
				_, err := c.Write([]byte("later"))
				require.NoError(t, err)
				require.NoError(t, c.Close())
			}()
		})
		inner := pipeListener{make(chan net.Conn), make(chan struct{})}
		srv := &http.Server{ConnContext: helixhttp.ConnContext, Handler: admit.Wrap(mux)}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(helixhttp.NewListener(inner)) }()
		kept, server := net.Pipe()
		inner.conns <- server
		in := bufio.NewReader(kept)
		for range 50 {
			hijacked, server := net.Pipe()
			inner.conns <- server
			_, err := io.WriteString(hijacked, "GET /hijack HTTP/1.1\r\nHost: h\r\n\r\n")
			require.NoError(t, err)
			text, err := io.ReadAll(hijacked)
			require.NoError(t, err)
			require.Equal(t, "later", string(text))
			require.Equal(t, http.StatusOK, ask(t, kept, in))
		}
		require.NoError(t, srv.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
}
