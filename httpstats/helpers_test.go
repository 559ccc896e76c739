package httpstats

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// newRouter makes a router that is closed at the end of the test.
func newRouter(t testing.TB, cfg helix.RouterConfig) *helix.Router {
	if cfg.Policy == nil {
		cfg.Policy = helix.ThresholdPolicy{} // does not learn, so the same jobs take the same route
	}
	t.Helper()
	r, err := helix.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func newHandler(t testing.TB, r *helix.Router, opts ...Option) *Handler {
	t.Helper()
	h, err := New(r, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h
}

// submit runs one empty job.
func submit(t testing.TB, r *helix.Router, job helix.Job) {
	t.Helper()
	if job.Run == nil {
		job.Run = func(context.Context) (any, error) { return nil, nil }
	}
	if _, err := r.Submit(context.Background(), job); err != nil && !errors.Is(err, helix.ErrNotRun) {
		require.ErrorIs(t, err, errJob)
	}
}

var errJob = errors.New("the job failed")

// ask sends one request straight to a handler.
func ask(h http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

func decode[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal([]byte(text), &v), text)
	return v
}

// pipeServer is an http.Server without a network, so that it can run inside a
// synctest bubble: net.Pipe blocks on channels and keeps deadlines by the
// bubble's clock. It has no buffers either, so a client that does not read
// stalls the server at once.
type pipeServer struct {
	server *http.Server
	client *http.Client
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeServer(t *testing.T, h http.Handler) *pipeServer {
	p := &pipeServer{
		server: &http.Server{Handler: h},
		conns:  make(chan net.Conn),
		closed: make(chan struct{}),
	}
	p.client = &http.Client{Transport: &http.Transport{DialContext: p.dial}}
	served := make(chan error, 1)
	go func() { served <- p.server.Serve(p) }()
	t.Cleanup(func() {
		require.NoError(t, p.server.Close())
		p.client.CloseIdleConnections()
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
	return p
}

func (p *pipeServer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipeServer) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeServer) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipeServer) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// sse is one event as a browser would see it.
type sse struct{ id, event, data string }

type reader struct {
	t    *testing.T
	body io.ReadCloser
	scan *bufio.Reader
}

// open starts a stream and returns its events.
func (p *pipeServer) open(t *testing.T, lastID string) *reader {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://helix/api/stream", nil)
	require.NoError(t, err)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	res, err := p.client.Do(req)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	return &reader{t: t, body: res.Body, scan: bufio.NewReader(res.Body)}
}

// next returns the next event, or io.EOF at the stream's proper end.
func (r *reader) next() (sse, error) {
	var e sse
	for {
		line, err := r.scan.ReadString('\n')
		if err != nil {
			return e, err
		}
		line = strings.TrimSuffix(line, "\n")
		key, value, _ := strings.Cut(line, ": ")
		switch key {
		case "id":
			e.id = value
		case "event":
			e.event = value
		case "data":
			e.data += value
		case "":
			if e.event != "" {
				return e, nil
			}
		}
	}
}

// until skips to the next event of that name.
func (r *reader) until(event string) sse {
	r.t.Helper()
	for {
		e, err := r.next()
		require.NoError(r.t, err)
		if e.event == event {
			return e
		}
	}
}

func (r *reader) close() { _ = r.body.Close() }

func newScan(r io.Reader) *bufio.Reader { return bufio.NewReader(r) }

func jsonUnmarshal(text string, v any) error { return json.Unmarshal([]byte(text), v) }

// open is the number of streams.
func (s *sampler) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}
