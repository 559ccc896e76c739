package helixhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
	"github.com/helixrouter/helix/helixtest"
)

// doorway is a server behind a listener that refuses early what begins with /a, while shut.
type doorway struct {
	addr   string
	router *helixtest.Router
	parsed atomic.Int64 // requests that net/http has parsed
}

func (d *doorway) shut() { d.router.Refuse("a", "shut", 3*time.Second) }

var doorRoutes = map[string]helix.Job{
	"GET /a":            {Kind: "a", Budget: time.Minute},
	"POST /a":           {Kind: "a", Budget: time.Minute},
	"GET /a/{id}/thing": {Kind: "a", Budget: time.Minute},
	"GET /a/own/thing":  {Kind: "own"},
	"/open":             {},
}

var doorPatterns = []string{"GET /a", "POST /a", "GET /a/{id}/thing"}

func newDoorway(t *testing.T, change func(*http.Server)) *doorway {
	t.Helper()
	d := &doorway{router: helixtest.New(t, helix.RouterConfig{})}
	admit := newMiddleware(t, d.router.Router, helixhttp.Config{Routes: doorRoutes})
	mux := http.NewServeMux()
	for pattern := range doorRoutes {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, body)
		})
	}
	wrapped := admit.Wrap(mux)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := helixhttp.NewListener(tcp)
	require.NoError(t, admit.RefuseEarly(l, doorPatterns...))
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.parsed.Add(1)
		wrapped.ServeHTTP(w, r)
	})}
	if change != nil {
		change(srv)
	}
	d.addr = tcp.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- helixhttp.Serve(ctx, srv, l, 10*time.Second) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-served)
	})
	return d
}

// caller is a client's connection.
type caller struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

// call makes a connection of which the first request has been answered.
func (d *doorway) call(t *testing.T) *caller {
	t.Helper()
	c, err := net.Dial("tcp", d.addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	caller := &caller{c, t, bufio.NewReader(c)}
	caller.send("GET /open HTTP/1.1\r\nHost: h\r\n\r\n")
	_, text := caller.answer()
	require.Equal(t, "GET /open ", text)
	d.parsed.Store(0)
	return caller
}

func (c *caller) send(text string) {
	c.t.Helper()
	_, err := io.WriteString(c, text)
	require.NoError(c.t, err)
}

func (c *caller) answer() (*http.Response, string) {
	c.t.Helper()
	res, err := http.ReadResponse(c.in, nil)
	require.NoError(c.t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(c.t, err)
	return res, string(body)
}

// A server that answered and one that waits for the next request cannot be told apart from outside.
// So tests send again until what they want to see was refused early.
func (c *caller) untilEarly(d *doorway, text string) (*http.Response, string) {
	c.t.Helper()
	for range 1000 {
		before := d.parsed.Load()
		c.send(text)
		if res, body := c.answer(); d.parsed.Load() == before {
			return res, body
		}
	}
	c.t.Fatal("nothing is refused early")
	return nil, ""
}

func TestAnEarlyRefusalIsLikeAnyOther(t *testing.T) {
	d := newDoorway(t, nil)
	c := d.call(t)
	c.send("GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
	_, text := c.answer()
	require.Equal(t, "GET /a ", text, "what is not refused is run")
	d.shut()
	before := d.router.Stats()

	early, earlyText := c.untilEarly(d, "GET /a?x=y HTTP/1.1\r\nHost: h\r\n\r\n")
	c.send("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n") // never refused early
	late, err := http.ReadResponse(c.in, &http.Request{Method: "HEAD"})
	require.NoError(t, err)
	require.Equal(t, late.Status, early.Status)
	require.Equal(t, late.ContentLength, early.ContentLength)
	require.Contains(t, earlyText, "shut")
	for _, res := range []*http.Response{early, late} {
		after := res.Header.Get("Retry-After")
		require.NotEmpty(t, after)
		require.Regexp(t, `^arrival;dur=[0-9.]+, queue;dur=0;desc="drop: shut"$`, res.Header.Get("Server-Timing"))
		at, err := http.ParseTime(res.Header.Get("Date"))
		require.NoError(t, err)
		require.Less(t, time.Since(at).Abs(), time.Minute)
		for _, name := range []string{"Retry-After", "Server-Timing", "Date"} {
			res.Header.Del(name)
		}
	}
	require.Equal(t, late.Header, early.Header)

	s := d.router.Stats()
	require.Equal(t, s.Submitted-before.Submitted, s.Dropped-before.Dropped)
	require.GreaterOrEqual(t, s.Dropped, uint64(2))
	require.Contains(t, fmt.Sprint(s.DroppedByReason), "shut")

	d.router.Free("a")
	c.send("GET /a HTTP/1.1\r\nHost: h\r\n\r\n") // the connection is as it was
	_, text = c.answer()
	require.Equal(t, "GET /a ", text)
}

func TestEachRequestIsCountedOnce(t *testing.T) {
	d := newDoorway(t, nil)
	c := d.call(t)
	d.shut()
	before := d.router.Stats()
	const n = 200
	for range n {
		c.send("GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
		res, _ := c.answer()
		require.Equal(t, 503, res.StatusCode)
	}
	s := d.router.Stats()
	require.EqualValues(t, n, s.Submitted-before.Submitted)
	require.EqualValues(t, n, s.Dropped-before.Dropped)
	require.Less(t, d.parsed.Load(), int64(n))
}

func TestPipelinedAnswersKeepTheirOrder(t *testing.T) {
	d := newDoorway(t, nil)
	c := d.call(t)
	d.shut()
	const shut, open = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n", "GET /open HTTP/1.1\r\nHost: h\r\n\r\n"
	for range 20 {
		c.send(shut + shut + open + shut + open)
		for _, want := range []int{503, 503, 200, 503, 200} {
			res, _ := c.answer()
			require.Equal(t, want, res.StatusCode)
		}
	}
	require.Less(t, d.parsed.Load(), int64(100))
}

func TestBodiesOfRefusedRequestsAreThrownAway(t *testing.T) {
	d := newDoorway(t, nil)
	c := d.call(t)
	d.shut()
	for _, length := range []int{0, 5, 100_000} {
		body := strings.Repeat("GET /open HTTP/1.1\r\nHost: h\r\n\r\n", length/31+1)[:length]
		c.untilEarly(d, fmt.Sprintf("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", length, body))
		c.send("GET /open HTTP/1.1\r\nHost: h\r\n\r\n")
		_, text := c.answer()
		require.Equal(t, "GET /open ", text)
	}
	d.parsed.Store(0)
	c.send("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n") // too long to throw away
	res, _ := c.answer()
	require.Equal(t, 503, res.StatusCode)
	require.EqualValues(t, 1, d.parsed.Load())
}

func TestPatternsAreChosenAsAMuxDoes(t *testing.T) {
	d := newDoorway(t, nil)
	c := d.call(t)
	d.shut()
	c.untilEarly(d, "GET /a/7/thing HTTP/1.1\r\nHost: h\r\n\r\n")
	for _, path := range []string{"/a/own/thing", "/a/own", "/a/", "/nowhere"} {
		d.parsed.Store(0)
		for range 5 {
			c.send("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")
			c.answer()
		}
		require.EqualValues(t, 5, d.parsed.Load(), path)
	}
}

func TestWhatIsUnusualIsLeftToTheServer(t *testing.T) {
	for _, text := range []string{
		"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"GET /a HTTP/1.1\nHost: h\n\n",
		"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
	} {
		d := newDoorway(t, nil)
		c := d.call(t)
		d.shut()
		for range 3 {
			c.send(text)
			res, _ := c.answer()
			require.Equal(t, 503, res.StatusCode)
			if res.Close {
				_, err := c.in.ReadByte()
				require.ErrorIs(t, err, io.EOF)
				c = d.call(t)
				d.parsed.Add(1)
				continue
			}
		}
		require.NotZero(t, d.parsed.Load(), text)
	}
}

// What a hijacker reads is no request, whatever it looks like.
func TestHijackedConnectionsAreLeftAlone(t *testing.T) {
	d := newDoorway(t, func(srv *http.Server) {
		next := srv.Handler
		srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/hijack" {
				next.ServeHTTP(w, r)
				return
			}
			conn, in, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "go on\n")
			_, _ = io.Copy(conn, in) // an echo
		})
	})
	c := d.call(t)
	d.shut()
	c.send("GET /hijack HTTP/1.1\r\nHost: h\r\n\r\n")
	line, err := c.in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "go on\n", line)
	const text = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
	for range 3 {
		c.send(text)
		back := make([]byte, len(text))
		_, err = io.ReadFull(c.in, back)
		require.NoError(t, err)
		require.Equal(t, text, string(back))
	}
}

func TestOtherProtocolsOverTheListener(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		router := helixtest.New(t, helix.RouterConfig{})
		admit := newMiddleware(t, router.Router, helixhttp.Config{Routes: doorRoutes})
		srv := httptest.NewUnstartedServer(admit.Wrap(answering("ok")))
		l := helixhttp.NewListener(srv.Listener)
		require.NoError(t, admit.RefuseEarly(l, doorPatterns...))
		srv.Listener, srv.EnableHTTP2 = l, http2
		srv.Config.ConnContext, srv.Config.ConnState = helixhttp.ConnContext, helixhttp.ConnState
		srv.StartTLS()
		for range 5 {
			res, err := srv.Client().Get(srv.URL + "/a")
			require.NoError(t, err)
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			require.Equal(t, "ok", string(body))
			require.Equal(t, http2, res.ProtoMajor == 2)
		}
		srv.Close()
	}
}

// pipeListener has connections within the process, for bubbles.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l pipeListener) Close() error   { close(l.closed); return nil }
func (l pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// A connection that is refused again and again is not idle, and one that is idle is closed.
func TestAnEarlyRefusalEndsIdleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		router := helixtest.New(t, helix.RouterConfig{})
		admit := newMiddleware(t, router.Router, helixhttp.Config{Routes: doorRoutes})
		inner := pipeListener{make(chan net.Conn), make(chan struct{})}
		l := helixhttp.NewListener(inner)
		require.NoError(t, admit.RefuseEarly(l, doorPatterns...))
		parsed := 0
		wrapped := admit.Wrap(answering("ok"))
		srv := &http.Server{IdleTimeout: 10 * time.Second, ConnState: helixhttp.ConnState, ConnContext: helixhttp.ConnContext,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { parsed++; wrapped.ServeHTTP(w, r) })}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()
		client, server := net.Pipe()
		inner.conns <- server
		in := bufio.NewReader(client)
		require.Equal(t, 200, ask(t, client, in))
		router.Refuse("a", "shut", time.Second)
		for range 5 {
			synctest.Wait() // until it waits for the next
			time.Sleep(9 * time.Second)
			require.Equal(t, 503, ask(t, client, in))
		}
		require.Equal(t, 1, parsed)
		start := time.Now()
		_, err := in.ReadByte()
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, 10*time.Second, time.Since(start))
		require.NoError(t, srv.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
}

// lockedBuffer is a bytes.Buffer for many goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(text)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestMistakesOfEarlyRefusalsAreTold(t *testing.T) {
	var log lockedBuffer
	router := helixtest.New(t, helix.RouterConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	routes := map[string]helix.Job{"GET /a": {}, "GET example.com/b": {}}
	admit := newMiddleware(t, router.Router, helixhttp.Config{Routes: routes})
	field := (*helix.FieldError)(nil)
	for _, pattern := range []string{"GET /typo", "/a", "GET example.com/b"} {
		require.True(t, errors.As(admit.RefuseEarly(helixhttp.NewListener(nil), pattern), &field), pattern)
		require.Equal(t, "patterns", field.Field)
	}
	for name, cfg := range map[string]helixhttp.Config{
		"Config.Job":     {Job: func(*http.Request, *helix.Job) {}},
		"Config.Trust":   {Trust: func(*http.Request) bool { return true }},
		"Config.Refused": {Refused: func(http.ResponseWriter, *http.Request, int, error) {}},
	} {
		cfg.Routes = routes
		err := newMiddleware(t, router.Router, cfg).RefuseEarly(helixhttp.NewListener(nil), "GET /a")
		require.True(t, errors.As(err, &field))
		require.Equal(t, name, field.Field)
	}

	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := helixhttp.NewListener(tcp)
	require.NoError(t, admit.RefuseEarly(l, "GET /a"))
	err = helixhttp.Serve(t.Context(), &http.Server{TLSConfig: &tls.Config{}}, l, time.Second)
	require.ErrorContains(t, err, "TLS")

	mux := http.NewServeMux()
	mux.Handle("GET /a", answering("ok"))
	srv := &http.Server{Handler: admit.Wrap(mux), ReadHeaderTimeout: time.Minute} // and no ConnState
	go func() { _ = srv.Serve(l) }()
	c, err := net.Dial("tcp", tcp.Addr().String())
	require.NoError(t, err)
	call := &caller{c, t, bufio.NewReader(c)}
	router.Refuse("GET /a", "shut", time.Second)
	for range 5 {
		call.send("GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
		res, _ := call.answer()
		require.Equal(t, 503, res.StatusCode)
	}
	require.NoError(t, c.Close())
	require.NoError(t, srv.Close())
	require.Equal(t, 1, strings.Count(log.String(), "RefuseEarly"), log.String())
}
