package httpstats

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// router64 has as many kinds as are told apart by default, each with latencies.
func router64(b *testing.B) *helix.Router {
	r := newRouter(b, helix.RouterConfig{})
	for i := range 64 {
		for cost := 1.0; cost < 1e6; cost *= 30 {
			submit(b, r, helix.Job{Kind: fmt.Sprintf("kind-%02d", i), Cost: cost})
		}
	}
	require.GreaterOrEqual(b, len(r.Stats().Kinds), 64)
	return r
}

// discard is a ResponseWriter that costs nothing.
type discard struct {
	header http.Header
	n      int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { d.n += len(p); return len(p), nil }

func benchmarkGet(b *testing.B, path string) {
	h := newHandler(b, router64(b))
	req := httptest.NewRequest(http.MethodGet, path, nil)
	b.ReportAllocs()
	var w discard
	for b.Loop() {
		w = discard{header: make(http.Header)}
		h.ServeHTTP(&w, req)
	}
	b.ReportMetric(float64(w.n), "bytes/answer")
}

// The target is 1 ms each. Half of what /metrics takes is client_golang's encoder.
func BenchmarkMetrics64Kinds(b *testing.B)  { benchmarkGet(b, "/metrics") }
func BenchmarkAPIStats64Kinds(b *testing.B) { benchmarkGet(b, "/api/stats") }

// BenchmarkTick64Kinds is what the sampler costs once a second.
func BenchmarkTick64Kinds(b *testing.B) {
	r := router64(b)
	h := newHandler(b, r)
	require.NoError(b, h.Close())
	before := readRouter(r, h.started)
	b.ReportAllocs()
	for b.Loop() {
		now := readRouter(r, h.started)
		h.sampler.tick(&before, &now)
	}
}

// BenchmarkSubmitWith32Streams compares Submit while 32 pages are open on a
// real network with Submit while nobody looks; the target is a difference of
// 1 % at most, which only runs long enough to hold several ticks can show.
func BenchmarkSubmitWith32Streams(b *testing.B) {
	for _, streams := range []int{-1, 0, 32} {
		name := fmt.Sprintf("streams=%d", streams)
		if streams < 0 {
			name = "no-handler"
		}
		b.Run(name, func(b *testing.B) {
			r := newRouter(b, helix.RouterConfig{})
			if streams >= 0 {
				h := newHandler(b, r)
				server := httptest.NewServer(h)
				defer server.Close()
				for range streams {
					res, err := http.Get(server.URL + "/api/stream")
					require.NoError(b, err)
					go func() { _, _ = io.Copy(io.Discard, res.Body) }()
					defer res.Body.Close()
				}
			}
			job := helix.Job{Cost: 1, Run: func(context.Context) (any, error) { return nil, nil }}
			ctx := context.Background()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := r.Submit(ctx, job); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
