package helixhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
	"github.com/stretchr/testify/require"
)

// telling answers every request with its path and body, and sends when it arrived.
func telling(arrivals chan<- time.Time) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := helixhttp.Arrived(r)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(err)
		}
		arrivals <- at
		_, _ = fmt.Fprintf(w, "%s %d %s", r.URL.Path, len(body), r.Proto)
	})
}

// between requires that at is no earlier than from and no later than now. The kernel's clock
// and Go's may part by a little while the machine's is being adjusted.
func between(t *testing.T, from, at time.Time) {
	t.Helper()
	require.False(t, at.IsZero())
	require.LessOrEqual(t, from.Sub(at), time.Millisecond)
	require.LessOrEqual(t, time.Until(at), time.Millisecond)
}

func answer(t *testing.T, from *bufio.Reader) string {
	t.Helper()
	res, err := http.ReadResponse(from, nil)
	require.NoError(t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(body)
}

func TestArrivalsOfAKeptConnection(t *testing.T) {
	arrivals := make(chan time.Time, 2)
	addr := serve(t, telling(arrivals))
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	in := bufio.NewReader(c)
	send := func(text string) (sent time.Time) {
		sent = time.Now()
		_, err := io.WriteString(c, text)
		require.NoError(t, err)
		return sent
	}

	for i := range 3 { // one after the other
		sent := send(fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: h\r\n\r\n", i))
		require.Equal(t, fmt.Sprintf("/%d 0 HTTP/1.1", i), answer(t, in))
		between(t, sent, <-arrivals)
	}

	sent := send("GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n") // both at once
	require.Equal(t, "/a 0 HTTP/1.1", answer(t, in))
	require.Equal(t, "/b 0 HTTP/1.1", answer(t, in))
	between(t, sent, <-arrivals)
	between(t, sent, <-arrivals)

	body := strings.Repeat("x", 100_000) // far more than is read with the head
	sent = send("POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n" + body)
	require.Equal(t, "/body 100000 HTTP/1.1", answer(t, in))
	between(t, sent, <-arrivals)

	send("GET /slow HTTP/1.1\r\n")
	send("Host: ")
	sent = send("h\r\n\r\n") // only now is there a request
	require.Equal(t, "/slow 0 HTTP/1.1", answer(t, in))
	between(t, sent, <-arrivals)
}

func TestAnArrivalIsNotThatOfALaterRequest(t *testing.T) {
	entered, proceed := make(chan time.Time), make(chan struct{})
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered <- helixhttp.Arrived(r)
		<-proceed
		entered <- helixhttp.Arrived(r)
	}))
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")
	require.NoError(t, err)
	first := <-entered
	second := time.Now()
	_, err = io.WriteString(c, "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n") // net/http reads one byte of it meanwhile
	require.NoError(t, err)
	proceed <- struct{}{}
	require.Equal(t, first, <-entered)
	between(t, second, <-entered)
	proceed <- struct{}{}
	<-entered
}

func TestArrivalsBehindTLS(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP2=%v", http2), func(t *testing.T) {
			arrivals := make(chan time.Time, 1)
			srv := httptest.NewUnstartedServer(telling(arrivals))
			srv.Listener = helixhttp.NewListener(srv.Listener)
			srv.Config.ConnContext = helixhttp.ConnContext
			srv.EnableHTTP2 = http2
			srv.StartTLS()
			defer srv.Close()
			for range 3 {
				sent := time.Now()
				res, err := srv.Client().Post(srv.URL+"/x", "text/plain", strings.NewReader("hello"))
				require.NoError(t, err)
				body, err := io.ReadAll(res.Body)
				require.NoError(t, err)
				require.NoError(t, res.Body.Close())
				require.Equal(t, "/x 5 "+res.Proto, string(body))
				require.Equal(t, http2, res.ProtoMajor == 2)
				between(t, sent, <-arrivals)
			}
		})
	}
}

func TestUnixSocketsArriveWhenRead(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Skip("no unix sockets here: ", err)
	}
	arrivals := make(chan time.Time, 1)
	srv := &http.Server{Handler: telling(arrivals), ConnContext: helixhttp.ConnContext}
	go func() { _ = srv.Serve(helixhttp.NewListener(l)) }()
	defer srv.Close()
	c, err := net.Dial("unix", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	sent := time.Now()
	_, err = io.WriteString(c, "GET /u HTTP/1.0\r\n\r\n")
	require.NoError(t, err)
	require.Equal(t, "/u 0 HTTP/1.0", answer(t, bufio.NewReader(c)))
	between(t, sent, <-arrivals)
}

func TestWithoutAListenerThereIsNoArrival(t *testing.T) {
	require.True(t, helixhttp.Arrived(httptest.NewRequest("GET", "/", nil)).IsZero())
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	require.Equal(t, t.Context(), helixhttp.ConnContext(t.Context(), tls.Client(a, &tls.Config{})))
}

// connect returns both ends of a connection through the listener.
func connect(t *testing.T) (client *net.TCPConn, server net.Conn) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := helixhttp.NewListener(inner)
	t.Cleanup(func() { _ = l.Close() })
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	s, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return c.(*net.TCPConn), s
}

func TestAConnectionFailsAsTCPDoes(t *testing.T) {
	client, server := connect(t)
	n, err := server.Read(nil)
	require.NoError(t, err)
	require.Zero(t, n)

	require.NoError(t, server.SetReadDeadline(time.Now().Add(-1)))
	_, err = server.Read(make([]byte, 8))
	var op *net.OpError
	require.ErrorAs(t, err, &op)
	require.Equal(t, "read", op.Op)
	require.True(t, op.Timeout())
	require.NoError(t, server.SetReadDeadline(time.Time{}))

	_, err = client.Write([]byte("hello"))
	require.NoError(t, err)
	b := make([]byte, 3)
	_, err = io.ReadFull(server, b)
	require.NoError(t, err)
	require.Equal(t, "hel", string(b))
	rest := make([]byte, 8)
	n, err = server.Read(rest)
	require.NoError(t, err)
	require.Equal(t, "lo", string(rest[:n]))

	require.NoError(t, client.CloseWrite())
	_, err = server.Read(b)
	require.Equal(t, io.EOF, err)
	_, err = server.Write([]byte("bye"))
	require.NoError(t, err)
	require.NoError(t, server.(interface{ CloseWrite() error }).CloseWrite())
	all, err := io.ReadAll(client)
	require.NoError(t, err)
	require.Equal(t, "bye", string(all))

	require.NoError(t, server.Close())
	_, err = server.Read(b)
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestCloseEndsARead(t *testing.T) {
	_, server := connect(t)
	failed := make(chan error)
	go func() {
		_, err := server.Read(make([]byte, 8))
		failed <- err
	}()
	require.NoError(t, server.Close())
	require.ErrorIs(t, <-failed, net.ErrClosed)
}

func TestAResetIsAnErrorOfTheRead(t *testing.T) {
	client, server := connect(t)
	require.NoError(t, client.SetLinger(0))
	require.NoError(t, client.Close())
	_, err := server.Read(make([]byte, 8))
	require.Error(t, err)
	require.NotErrorIs(t, err, io.EOF)
}

func TestStreamsAndHijackedConnections(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	m := newMiddleware(t, r, helixhttp.Config{})
	mux := http.NewServeMux()
	more := make(chan struct{})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "one")
		require.NoError(t, http.NewResponseController(w).Flush())
		<-more // only once the client has read that
		_, _ = io.WriteString(w, "two")
	})
	mux.HandleFunc("/hijack", func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		line, err := rw.ReadString('\n')
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(c, "raw "+line)
	})
	for _, http2 := range []bool{false, true} {
		srv := httptest.NewUnstartedServer(m.Wrap(mux))
		srv.Listener = helixhttp.NewListener(srv.Listener)
		srv.Config.ConnContext = helixhttp.ConnContext
		srv.EnableHTTP2 = http2
		srv.StartTLS()
		res, err := srv.Client().Get(srv.URL + "/stream")
		require.NoError(t, err)
		one := make([]byte, 3)
		_, err = io.ReadFull(res.Body, one)
		require.NoError(t, err)
		require.Equal(t, "one", string(one))
		more <- struct{}{}
		two, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, "two", string(two))
		require.NoError(t, res.Body.Close())
		srv.Close()
	}

	addr := serve(t, m.Wrap(mux))
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET /hijack HTTP/1.1\r\nHost: h\r\n\r\nhello\n")
	require.NoError(t, err)
	all, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "raw hello\n", string(all))
	require.NoError(t, r.Drain(t.Context())) // the handler may still be on its way out
	require.EqualValues(t, 3, r.Stats().Completed)
}

func TestServeFinishesWhatHasArrived(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	inHandler, proceed := make(chan struct{}), make(chan struct{})
	h := newMiddleware(t, r, helixhttp.Config{}).Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.False(t, helixhttp.Arrived(r).IsZero())
		close(inHandler)
		<-proceed
		_, _ = io.WriteString(w, "done")
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	type key struct{}
	srv := &http.Server{Handler: h, ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, key{}, 1)
	}}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- helixhttp.Serve(ctx, srv, l, time.Minute) }()
	got := make(chan string, 1)
	go func() {
		res, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			got <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		got <- string(body)
	}()
	<-inHandler
	stop()
	for { // until it takes no more connections
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			break
		}
		_ = c.Close()
	}
	select {
	case err := <-served:
		t.Fatal("Serve returned with a request in flight: ", err)
	default:
	}
	close(proceed)
	require.Equal(t, "done", <-got)
	require.NoError(t, <-served)
}

func TestServeGivesUpAfterItsGrace(t *testing.T) {
	inHandler, proceed := make(chan struct{}), make(chan struct{})
	defer close(proceed)
	srv := &http.Server{Addr: "127.0.0.1:0", Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(inHandler)
		<-proceed
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- helixhttp.Serve(ctx, srv, l, time.Millisecond) }()
	failed := make(chan error, 1)
	go func() {
		_, err := http.Get("http://" + l.Addr().String())
		failed <- err
	}()
	<-inHandler
	stop()
	require.ErrorIs(t, <-served, context.DeadlineExceeded)
	require.Error(t, <-failed, "its connection is closed")
}

// Jobs that a handler has started with Go end before Serve returns, or are cancelled when
// the grace is over; then the router is closed either way.
func TestServeShutsTheRouterDown(t *testing.T) {
	for _, c := range []struct {
		name  string
		grace time.Duration
	}{{"in time", time.Minute}, {"grace is over", time.Millisecond}} {
		t.Run(c.name, func(t *testing.T) {
			router := newRouter(t, helix.RouterConfig{CPUParallelism: 2}) // one for the job that stays
			running, proceed, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				_, err := router.Go(context.Background(), helix.Job{Run: func(ctx context.Context) (any, error) {
					close(running)
					select {
					case <-proceed:
					case <-ctx.Done():
					}
					ended <- context.Cause(ctx)
					return nil, nil
				}})
				require.NoError(t, err)
			})}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			ctx, stop := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- helixhttp.Serve(ctx, srv, l, c.grace, router) }()
			res, err := http.Get("http://" + l.Addr().String())
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			http.DefaultClient.CloseIdleConnections()
			<-running
			stop()
			if c.grace == time.Minute {
				for { // until the router refuses jobs
					if _, err := router.Submit(t.Context(), helix.Job{Run: func(context.Context) (any, error) { return nil, nil }}); err != nil {
						require.ErrorIs(t, err, helix.ErrClosed)
						break
					}
				}
				select {
				case err := <-served:
					t.Fatal("Serve returned with a job running: ", err)
				default:
				}
				close(proceed)
				require.NoError(t, <-served)
				require.NoError(t, <-ended)
				require.EqualValues(t, 0, router.Stats().InFlight)
				return
			}
			require.ErrorIs(t, <-served, context.DeadlineExceeded)
			require.ErrorIs(t, <-ended, helix.ErrClosed)
		})
	}
}

func TestListenAndServeFailsWhereItCannotListen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	err = helixhttp.ListenAndServe(t.Context(), &http.Server{Addr: l.Addr().String()}, time.Second)
	var op *net.OpError
	require.ErrorAs(t, err, &op)
	require.Equal(t, "listen", op.Op)

	ctx, stop := context.WithCancel(t.Context())
	stop()
	err = helixhttp.ListenAndServe(ctx, &http.Server{Addr: "127.0.0.1:0"}, time.Second)
	require.True(t, err == nil || errors.Is(err, context.Canceled))
}

// A server that could not serve leaves its address to the next.
func TestListenAndServeClosesWhatItCannotServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	srv := &http.Server{Addr: l.Addr().String(), TLSConfig: &tls.Config{}} // without a certificate
	require.Error(t, helixhttp.ListenAndServe(t.Context(), srv, time.Second))
	l, err = net.Listen("tcp", srv.Addr)
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

// exchange sends the input, in pieces that end at the cuts, and returns all that comes back.
func exchange(t *testing.T, addr string, input []byte, cuts ...int) []byte {
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	go func() {
		from := 0
		for _, cut := range append(cuts, len(input)) {
			if cut = min(cut, len(input)); cut > from {
				_, _ = c.Write(input[from:cut]) // the server may have given up
				from = cut
			}
		}
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	all, _ := io.ReadAll(c) // an answer may be cut off by a reset; the prefix counts
	return all
}

// A server behind the listener must answer whatever bytes come exactly as it does without.
func FuzzAListenerChangesNothing(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET /3 HTTP/1.0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\r\n\r\n", "GET / HTTP/1.1\r\n", "\x16\x03\x01\x02\x00\x01",
	} {
		f.Add([]byte(seed), uint16(7), uint16(60))
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil
		body, err := io.ReadAll(r.Body)
		_, _ = fmt.Fprintln(w, r.Method, r.URL, r.Proto, len(body), err != nil)
	})
	behind := serve(f, h)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(f, err)
	plain := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = plain.Serve(l) }()
	f.Cleanup(func() { _ = plain.Close() })
	f.Fuzz(func(t *testing.T, input []byte, first, second uint16) {
		input = input[:min(len(input), 1<<14)]
		cuts := []int{int(first), int(second)}
		want := exchange(t, l.Addr().String(), input, cuts...)
		got := exchange(t, behind, input, cuts...)
		if len(want) != len(got) { // a reset cuts off answers, sooner or later
			shorter := min(len(want), len(got))
			want, got = want[:shorter], got[:shorter]
		}
		require.True(t, bytes.Equal(want, got), "%q: got %q, want %q", input, got, want)
	})
}
