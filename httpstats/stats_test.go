package httpstats

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// TestStatsKeepTheirKeys reads the answer as a client does that knows the keys.
func TestStatsKeepTheirKeys(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	h := newHandler(t, r, WithName("checkout"))
	submit(t, r, helix.Job{Cost: 1})
	submit(t, r, helix.Job{Cost: 1, Run: func(context.Context) (any, error) { return nil, errJob }})

	w := ask(h, http.MethodGet, "/api/stats", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	var seed struct {
		Completed int `json:"completed"`
		Dropped   int `json:"dropped"`
		Routed    []struct {
			Strategy string `json:"strategy"`
			Count    int    `json:"count"`
		} `json:"routed_by_strategy"`
		Latency []struct {
			Strategy string   `json:"strategy"`
			Count    int      `json:"count"`
			AvgMs    *float64 `json:"avg_ms"`
			P95Ms    *float64 `json:"p95_ms"`
		} `json:"latency_by_strategy"`
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &seed))
	require.Equal(t, 1, seed.Completed)
	require.Equal(t, 0, seed.Dropped)
	var names []string
	for _, routed := range seed.Routed {
		names = append(names, routed.Strategy)
		if routed.Strategy == helix.Inline {
			require.Equal(t, 2, routed.Count)
		}
	}
	require.Equal(t, []string{"batch", "cpu_pool", "drop", "inline", "spawn"}, names)
	for _, l := range seed.Latency {
		if l.Strategy == helix.Inline {
			require.Equal(t, 2, l.Count)
			require.NotNil(t, l.AvgMs)
			require.Positive(t, *l.P95Ms)
			continue
		}
		require.Zero(t, l.Count)
		require.Nil(t, l.AvgMs, "an empty quantile must be null, not 0")
		require.Nil(t, l.P95Ms)
	}

	more := decode[map[string]any](t, w.Body.String())
	require.Equal(t, "checkout", more["name"])
	require.Equal(t, "(devel)", more["version"])
	require.Equal(t, policyName(r.Config().Policy), more["policy"])
	require.InDelta(t, float64(time.Now().UnixMilli()), more["now_ms"], 60e3)
	require.Positive(t, more["uptime_s"])
	require.Equal(t, float64(h.hello().StartedMs), more["started_ms"])
	require.Equal(t, 1.0, more["failed"])
}

func TestStatsOfAnIdleRouterHaveListsNotNull(t *testing.T) {
	w := ask(newHandler(t, newRouter(t, helix.RouterConfig{})), http.MethodGet, "/api/stats", "")
	got := decode[map[string]any](t, w.Body.String())
	for _, key := range []string{"kinds", "routed_by_strategy", "latency_by_strategy", "dropped_by_reason"} {
		require.IsType(t, []any{}, got[key], key)
	}
}

// hostileKinds are names that break out of whatever does not quote them.
var hostileKinds = []string{
	`<script>alert(1)</script>`,
	"two\nlines",
	`quote" and \ backslash`,
	"invalid \xff\xfe utf-8",
	"data: x\n\nevent: tick",
	"\u202Eright to left",
	strings.Repeat("long ", 100),
	"\x00",
}

func TestHostileKindsStayText(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	h := newHandler(t, r)
	for _, kind := range hostileKinds {
		submit(t, r, helix.Job{Kind: kind, Cost: 1})
	}
	w := ask(h, http.MethodGet, "/api/stats", "")
	require.NotContains(t, w.Body.String(), "<script", "JSON must stay harmless where something sniffs HTML")
	got := decode[document](t, w.Body.String())
	require.Len(t, got.Kinds, len(hostileKinds))
	var names []string
	for _, k := range got.Kinds {
		names = append(names, k.Name)
	}
	require.Contains(t, names, hostileKinds[0])

	text := ask(h, http.MethodGet, "/metrics", "").Body.String()
	for line := range strings.Lines(text) {
		require.Regexp(t, `^(# (HELP|TYPE) helix_|helix_)`, line, "a name must not start a line of its own")
	}
	require.Contains(t, text, `kind="quote\" and \\ backslash",outcome="completed"} 1`)
}

func TestNumbersInJSON(t *testing.T) {
	for in, want := range map[number]string{
		0: "0", 1: "1", 0.123456: "0.1235", 123456: "1.235e+05", 1e-9: "1e-09",
		number(inf()): "null", number(-inf()): "null", number(inf() - inf()): "null",
	} {
		text, err := json.Marshal(in)
		require.NoError(t, err)
		require.Equal(t, want, string(text))
		require.True(t, json.Valid(text))
	}
}

func inf() float64 { huge := 1e308; return huge * 10 }
