package httpstats

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

func TestKindLatenciesAreOfTheLastTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		takes := func(kind string, d time.Duration) {
			submit(t, r, helix.Job{Kind: kind, Arrived: time.Now().Add(-d)})
		}
		takes("old", time.Hour) // before anybody looked
		before := readRouter(r, time.Now())
		windows := kindLatencies{}
		step := func() map[string]pointLatency {
			time.Sleep(time.Second)
			now := readRouter(r, time.Now())
			lately := windows.observe(&before, &now, time.Second)
			before = now
			return lately
		}
		require.Empty(t, step())
		for range 99 {
			takes("new", 10*time.Millisecond)
		}
		takes("new", time.Second)
		takes("old", 20*time.Millisecond)
		lately := step()
		require.Len(t, lately, 2)
		require.EqualValues(t, 100, lately["new"].Count)
		require.InEpsilon(t, 10, float64(lately["new"].P99Ms), 0.011)
		require.EqualValues(t, 1, lately["old"].Count)
		require.InEpsilon(t, 20, float64(lately["old"].P50Ms), 0.011)
		for range 9 {
			require.Len(t, step(), 2)
		}
		require.Empty(t, step())
	})
}

func TestKindLatencyIsInTheDocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		h := newHandler(t, r)
		submit(t, r, helix.Job{Kind: "k", Arrived: time.Now().Add(-time.Second)})
		time.Sleep(1500 * time.Millisecond)
		got := decode[document](t, ask(h, http.MethodGet, "/api/stats", "").Body.String())
		require.EqualValues(t, 1, got.KindLatency["k"].Count)
		require.InEpsilon(t, 1000, float64(got.KindLatency["k"].P99Ms), 0.011)
		require.EqualValues(t, 1, got.Kinds[0].Latency.Count, "since the router was made")
		require.InEpsilon(t, 1000, got.Kinds[0].Latency.P50Ms, 0.011)
	})
}
