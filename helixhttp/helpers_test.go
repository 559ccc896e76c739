package helixhttp_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
	"github.com/stretchr/testify/require"
)

// deciding is a policy that always decides the same, and keeps the job it last saw.
type deciding struct {
	helix.Decision
	last *helix.JobInfo
}

func (d deciding) Choose(j helix.JobInfo, _ helix.Pressure) helix.Decision {
	if d.last != nil {
		*d.last = j
	}
	return d.Decision
}

func newRouter(t testing.TB, cfg helix.RouterConfig) *helix.Router {
	t.Helper()
	r, err := helix.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, r.Close())
		s := r.Stats()
		require.Equal(t, s.Submitted, s.Completed+s.Failed+s.Dropped+s.Withdrawn, "nothing is lost")
		require.Zero(t, s.InFlight)
	})
	return r
}

func newMiddleware(t testing.TB, r *helix.Router, cfg helixhttp.Config) *helixhttp.Middleware {
	t.Helper()
	m, err := helixhttp.New(r, cfg)
	require.NoError(t, err)
	return m
}

// serve has h serve a listener of the package's, and returns its address.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := &http.Server{Handler: h, ConnContext: helixhttp.ConnContext, ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(helixhttp.NewListener(l)) }()
	t.Cleanup(func() { require.NoError(t, srv.Close()) })
	return l.Addr().String()
}

func get(h http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// ask sends a GET of /a over a connection, and returns the status of the answer, read to its end.
func ask(t testing.TB, c net.Conn, in *bufio.Reader) int {
	t.Helper()
	_, err := io.WriteString(c, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
	require.NoError(t, err)
	res, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	return res.StatusCode
}

func answering(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}
