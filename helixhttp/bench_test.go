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

// BenchmarkServer is one request and answer on each of some kept connections: of a plain
// server, of one behind the listener, and with the middleware besides.
func BenchmarkServer(b *testing.B) {
	router := newRouter(b, helix.RouterConfig{})
	ok := answering("ok")
	admit := newMiddleware(b, router, helixhttp.Config{Default: helix.Job{Budget: time.Second}}).Wrap(ok)
	for _, c := range []struct {
		name   string
		behind bool
		h      http.Handler
	}{{"plain", false, ok}, {"listener", true, ok}, {"both", true, admit}} {
		b.Run(c.name, func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(b, err)
			addr := l.Addr().String()
			srv := &http.Server{Handler: c.h}
			if c.behind {
				l, srv.ConnContext = helixhttp.NewListener(l), helixhttp.ConnContext
			}
			go func() { _ = srv.Serve(l) }()
			defer srv.Close()
			b.SetParallelism(4)
			b.RunParallel(func(pb *testing.PB) {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					panic(err)
				}
				defer c.Close()
				in := bufio.NewReader(c)
				for pb.Next() {
					if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
						panic(err)
					}
					res, err := http.ReadResponse(in, nil)
					if err != nil {
						panic(err)
					}
					_, _ = io.Copy(io.Discard, res.Body)
				}
			})
		})
	}
}

// BenchmarkRefusal is what it costs to refuse a request, besides net/http.
func BenchmarkRefusal(b *testing.B) {
	router := newRouter(b, helix.RouterConfig{Policy: deciding{Decision: helix.Decision{Strategy: helix.Drop, Excess: time.Second}}})
	h := newMiddleware(b, router, helixhttp.Config{}).Wrap(answering("ok"))
	r := httptest.NewRequest("GET", "/", nil)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}
