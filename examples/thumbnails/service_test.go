package main

import (
	"bytes"
	"context"
	"image/jpeg"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
	"github.com/stretchr/testify/require"
)

func newTestService(t *testing.T) (*helix.Router, http.Handler) {
	t.Helper()
	router, err := helix.New(helix.RouterConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, router.Close()) })
	service, err := newService(router, func(end func()) { t.Cleanup(end) })
	require.NoError(t, err)
	return router, service
}

func TestTheServiceAnswersAsThePlainOneDoes(t *testing.T) {
	router, service := newTestService(t)
	for _, path := range []string{"/", "/thumb/2", "/similar/5", "/owner/3", "/nothing"} {
		want, got := httptest.NewRecorder(), httptest.NewRecorder()
		plainService().ServeHTTP(want, httptest.NewRequest("GET", path, nil))
		service.ServeHTTP(got, httptest.NewRequest("GET", path, nil))
		require.Equal(t, want.Code, got.Code, path)
		require.Equal(t, want.Body.Bytes(), got.Body.Bytes(), path)
	}
	kinds := map[string]bool{}
	for _, k := range router.Stats().Kinds {
		kinds[k.Name] = true
	}
	for _, kind := range []string{"GET /thumb/{image}", "embed", "GET /owner/{image}"} {
		require.True(t, kinds[kind], kind)
	}
	w := httptest.NewRecorder()
	service.ServeHTTP(w, httptest.NewRequest("GET", "/helix/healthz", nil))
	require.Equal(t, 200, w.Code)
}

func TestAThumbnailIsTheImageMadeSmall(t *testing.T) {
	out, err := thumbnail(2)
	require.NoError(t, err)
	small, err := jpeg.Decode(bytes.NewReader(out))
	require.NoError(t, err)
	require.Equal(t, thumbSide, small.Bounds().Dx())
	large, err := jpeg.Decode(bytes.NewReader(stored()[2]))
	require.NoError(t, err)
	sum := func(side int, at func(x, y int) uint32) (total uint64) {
		for y := range side {
			for x := range side {
				total += uint64(at(x, y) >> 8)
			}
		}
		return total / uint64(side*side)
	}
	was := sum(480, func(x, y int) uint32 { r, _, _, _ := large.At(x, y).RGBA(); return r })
	is := sum(thumbSide, func(x, y int) uint32 { r, _, _, _ := small.At(x, y).RGBA(); return r })
	require.InDelta(t, was, is, 3, "as red as before")
}

func TestABatchSaysWhatOneByOneSays(t *testing.T) {
	images := []int{4, 8, 15, 16, 23, 42}
	for i, got := range embedAll(images) {
		w, x := weights(), features(images[i])
		for _, h := range []int{0, 1, hidden - 1} {
			var want float64
			for j := range input {
				want += float64(w[h*input+j]) * float64(x[j])
			}
			require.InDelta(t, want, got[h], 1e-2)
		}
	}
}

// Requests in flight when the service is told to stop are answered; none is lost.
func TestShutdownLosesNoRequest(t *testing.T) {
	router, service := newTestService(t)
	var inside atomic.Int64
	all, proceed := make(chan struct{}), make(chan struct{})
	const requests = 30
	gate := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if inside.Add(1) == requests {
			close(all)
		}
		<-proceed
		service.ServeHTTP(w, r)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- helixhttp.Serve(ctx, &http.Server{Handler: gate}, l, time.Minute, router) }()

	var pending sync.WaitGroup
	var answered, refused atomic.Int64
	for i := range requests {
		path := []string{"/thumb/1", "/similar/2", "/owner/3"}[i%3]
		pending.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			res, err := client.Get("http://" + l.Addr().String() + path)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			_, _ = io.Copy(io.Discard, res.Body)
			switch res.StatusCode {
			case 200:
				answered.Add(1)
			case 503, 504: // on a slow machine budgets pass, which is an answer too
				refused.Add(1)
			default:
				t.Error(res.Status)
			}
		})
	}
	<-all
	stop()
	close(proceed)
	pending.Wait()
	require.NoError(t, <-served)
	require.EqualValues(t, requests, answered.Load()+refused.Load())
	require.NoError(t, router.Close())
	s := router.Stats()
	require.Zero(t, s.InFlight)
	require.EqualValues(t, answered.Load(), s.Completed)
	require.Equal(t, s.Submitted, s.Completed+s.Failed+s.Dropped+s.Withdrawn)
}

func TestCompareCountsEveryRequest(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, compare(t.Context(), &out, 0.3, 100*time.Millisecond))
	require.Regexp(t, `net/http alone +\d+ .*%`, out.String())
	require.Regexp(t, `with the router +\d+ .*%`, out.String())

	tl, err := offer(t.Context(), plainService(), 200, 200*time.Millisecond)
	require.NoError(t, err)
	require.NotZero(t, tl.sent.Load())
	require.Equal(t, tl.sent.Load(), tl.inBudget.Load()+tl.late.Load()+tl.refused.Load()+tl.failed.Load())
}

func TestTheVerdictIsHonest(t *testing.T) {
	kept := func(n int64) *tally {
		t := &tally{}
		t.sent.Store(100)
		t.inBudget.Store(n)
		return t
	}
	require.Contains(t, verdict(kept(10), kept(60)), "With the router 60.0 %")
	require.Contains(t, verdict(kept(60), kept(10)), "it did harm")
	require.Contains(t, verdict(kept(50), kept(50)), "No difference")
}

func TestBadFlags(t *testing.T) {
	require.ErrorContains(t, run(t.Context(), []string{"-compare", "-load", "-1"}), "-load is -1")
	require.ErrorContains(t, run(t.Context(), []string{"-compare", "-load", "NaN"}), "-load is NaN")
	require.Error(t, run(t.Context(), []string{"-addr", "nowhere:none"}))
}
