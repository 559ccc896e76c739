package httpstats

import (
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

func TestExplain(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{Policy: helix.ThresholdPolicy{}})
	h := newHandler(t, r)
	explain := func(query string) explanation {
		w := ask(h, http.MethodGet, "/api/explain?"+query, "")
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		return decode[explanation](t, w.Body.String())
	}
	small := explain("kind=resize&cost=5000&scaling=0.2&budget=80ms&priority=high")
	require.Equal(t, helix.Inline, small.Strategy)
	require.Equal(t, "cost within inline_threshold", small.Reason)
	require.InDelta(t, 80, float64(*small.SlackMs), 1)
	require.InDelta(t, 0.005, float64(*small.PredictedRunMs), 1e-9)
	require.Len(t, small.Rejected, 3)

	require.Equal(t, helix.Spawn, explain("cost=50000").Strategy)
	require.Nil(t, small.InFlight)
	waits := explain("waits=true")
	require.Equal(t, helix.Spawn, waits.Strategy)
	require.Zero(t, *waits.InFlight)
	require.Nil(t, waits.Limit)
	vain := explain("waits=true&cost=1e12&budget=1ms") // of a kind that is not known
	require.Equal(t, "budget cannot be met", vain.Reason)
	unknown := explain("kind=never+seen&cost=&budget=&scaling=&priority=&waits=") // an empty form
	require.Equal(t, helix.CPUPool, unknown.Strategy)
	require.Nil(t, unknown.PredictedRunMs)
	require.Nil(t, unknown.SlackMs)
	require.Equal(t, helix.Drop, explain("cost=90000000&budget=10").Strategy) // 90 ms into 10

	s := r.Stats()
	require.Zero(t, s.Submitted)
	require.Empty(t, s.Kinds, "asking must not make a kind")
}

// terse is a policy that leaves all figures of its decisions empty.
type terse struct{}

func (terse) Choose(helix.JobInfo, helix.Pressure) helix.Decision {
	return helix.Decision{Strategy: helix.Inline, Reason: "because"}
}

// TestExplainACustomPolicy asks for figures that the router knows and the policy does not repeat.
func TestExplainACustomPolicy(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{Policy: terse{}})
	h := newHandler(t, r)
	w := ask(h, http.MethodGet, "/api/explain?cost=5000000&budget=80ms", "")
	e := decode[explanation](t, w.Body.String())
	require.NotNil(t, e.PredictedMs, w.Body.String())
	require.InDelta(t, 5, float64(*e.PredictedRunMs), 1e-9)
	require.InDelta(t, 5, float64(*e.PredictedMs), 1e-9)
	require.InDelta(t, 80, float64(*e.SlackMs), 1)
}

// TestPredictionsDoNotOverflow has a policy that predicts a wait without end.
func TestPredictionsDoNotOverflow(t *testing.T) {
	wait, run, both := predicted(&helix.JobInfo{}, &helix.Decision{Wait: math.MaxInt64, Run: time.Second})
	require.Positive(t, *wait)
	require.InDelta(t, 1000, float64(*run), 1e-9)
	require.Positive(t, *both)
}

func TestExplainRefusesAbsurdValues(t *testing.T) {
	h := newHandler(t, newRouter(t, helix.RouterConfig{}))
	for query, field := range map[string]string{
		"cost=NaN": "cost", "cost=Inf": "cost", "cost=-Inf": "cost", "cost=-1": "cost", "cost=1e999": "cost",
		"cost=abc": "cost", "cost=%00": "cost", "cost=1,5": "cost", "cost=<script>": "cost",
		"scaling=1.1": "scaling", "scaling=-0.1": "scaling", "scaling=nan": "scaling",
		"budget=-1ms": "budget", "budget=-5": "budget", "budget=NaN": "budget", "budget=1e300": "budget",
		"budget=99999999999999999999h": "budget", "budget=9223372036855": "budget", "budget=9223372036854.8": "budget", "budget=soon": "budget",
		"priority=HIGH": "priority", "priority=2": "priority",
		"waits=perhaps":                     "waits",
		"kind=" + strings.Repeat("x", 257):  "kind",
		"cost=" + strings.Repeat("1", 1000): "cost",
		"color=red":                         "color",
		"cost=1&cost=2":                     "cost",
	} {
		w := ask(h, http.MethodGet, "/api/explain?"+query, "")
		require.Equal(t, http.StatusBadRequest, w.Code, query)
		bad := decode[failure](t, w.Body.String())
		require.Equal(t, field, bad.Field, query)
		require.Contains(t, bad.Error, field, query)
		require.NotNil(t, bad.Value, query)
		require.Less(t, w.Body.Len(), 1000, query)
	}
	for _, query := range []string{"cost=%zz", "a;b", strings.Repeat("a", 5000)} {
		w := ask(h, http.MethodGet, "/api/explain?"+query, "")
		require.Equal(t, http.StatusBadRequest, w.Code, query)
		require.NotEmpty(t, decode[failure](t, w.Body.String()).Error)
	}
}

func TestParseBudget(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "80ms": 80 * time.Millisecond, "80": 80 * time.Millisecond, "0.5": 500 * time.Microsecond,
		"1h2m": 62 * time.Minute, "1e3": time.Second,
	} {
		got, ok := parseBudget(text)
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
	}
}

// FuzzExplainQuery sends arbitrary queries: what is not refused is a job that
// the router accepts.
func FuzzExplainQuery(f *testing.F) {
	for _, query := range []string{
		"", "kind=a&cost=1&scaling=.5&budget=80ms&priority=low&waits=1", "budget=1e18", "cost=0x1p1023",
		"budget=-0", "cost=-0", "kind=%ff", "kind=a&kind=b", "cost=1_0", "budget=9223372036854", "%",
	} {
		f.Add(query)
	}
	r := newRouter(f, helix.RouterConfig{})
	h := newHandler(f, r)
	f.Fuzz(func(t *testing.T, query string) {
		req := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/api/explain", RawQuery: query}}
		job, bad := parseExplain(req)
		w := httptest.NewRecorder()
		h.serveExplain(w, req)
		if bad != nil {
			require.Equal(t, http.StatusBadRequest, w.Code)
			require.NotEmpty(t, decode[failure](t, w.Body.String()).Error)
			return
		}
		require.Equal(t, http.StatusOK, w.Code)
		require.NotEmpty(t, decode[explanation](t, w.Body.String()).Strategy)
		require.True(t, job.Cost >= 0 && job.Cost <= math.MaxFloat64)
		require.True(t, job.Scaling >= 0 && job.Scaling <= 1)
		require.GreaterOrEqual(t, job.Budget, time.Duration(0))
	})
}
