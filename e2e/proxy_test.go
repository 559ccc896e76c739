package e2e

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// watched stands in front of a handler and counts what goes through. It can
// hold back ticks, so that a test sees what a page shows without them.
type watched struct {
	http.Handler
	streams atomic.Int64 // open now
	opened  atomic.Int64 // ever opened
	ticks   atomic.Int64 // passed on, to any stream
	hold    atomic.Bool  // pass no ticks on

	mu      sync.Mutex // guards answers
	answers map[string][]int
}

// ServeHTTP implements [http.Handler].
func (v *watched) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	seen := &watchedWriter{ResponseWriter: w, by: v, code: http.StatusOK}
	if strings.HasSuffix(r.URL.Path, "/api/stream") {
		seen.stream = true
		v.opened.Add(1)
		v.streams.Add(1)
		defer v.streams.Add(-1)
	}
	request := r.Method + " " + r.URL.Path
	defer func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.answers == nil {
			v.answers = make(map[string][]int)
		}
		v.answers[request] = append(v.answers[request], seen.code)
	}()
	v.Handler.ServeHTTP(seen, r)
}

// answered returns the codes that a request was answered with, by method and
// path, in order.
func (v *watched) answered(request string) []int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]int(nil), v.answers[request]...)
}

type watchedWriter struct {
	http.ResponseWriter
	by     *watched
	code   int
	stream bool
	rest   []byte // of a stream: the beginning of an event
}

// Unwrap is for [http.ResponseController].
func (w *watchedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (w *watchedWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// Write implements [io.Writer].
func (w *watchedWriter) Write(b []byte) (int, error) {
	if !w.stream || w.code != http.StatusOK {
		return w.ResponseWriter.Write(b)
	}
	w.rest = append(w.rest, b...)
	for {
		i := bytes.Index(w.rest, []byte("\n\n"))
		if i < 0 {
			return len(b), nil
		}
		e := w.rest[:i+2]
		w.rest = w.rest[i+2:]
		if bytes.Contains(e, []byte("event: tick\n")) {
			if w.by.hold.Load() {
				continue
			}
			w.by.ticks.Add(1)
		}
		if _, err := w.ResponseWriter.Write(e); err != nil {
			return 0, err
		}
	}
}

// startProxy serves target below prefix, as a reverse proxy does that strips
// it. It returns what it sees and the page's URL.
func startProxy(t *testing.T, target, prefix string) (*watched, string) {
	t.Helper()
	to, err := url.Parse(target)
	require.NoError(t, err)
	through := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ErrorLog:     log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	v := &watched{Handler: http.StripPrefix(strings.TrimSuffix(prefix, "/"), through)}
	return v, serve(t, v) + prefix
}
