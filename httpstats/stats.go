package httpstats

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/helixrouter/helix"
)

// document is the answer of api/stats: [helix.Stats] under its JSON names, and the service.
type document struct {
	Name    string  `json:"name"`
	Version string  `json:"version"`
	Policy  string  `json:"policy"`
	UptimeS float64 `json:"uptime_s"`
	NowMs   int64   `json:"now_ms"`
	Started int64   `json:"started_ms"` // as in hello
	helix.Stats
	Latency []latency `json:"latency_by_strategy"` // replaces that of Stats, which has no null
	// By kind, for kinds with jobs in the last kindWindow.
	KindLatency map[string]pointLatency `json:"kind_latency_10s"`
	Fleets      []fleet                 `json:"fleets"` // strategies that send jobs to workers
}

// latency is a [helix.LatencySummary] with null figures while there are no jobs.
type latency struct {
	Strategy string   `json:"strategy"`
	Count    uint64   `json:"count"`
	AvgMs    *float64 `json:"avg_ms"`
	P50Ms    *float64 `json:"p50_ms"`
	P95Ms    *float64 `json:"p95_ms"`
	P99Ms    *float64 `json:"p99_ms"`
}

func (h *Handler) statsDocument(now time.Time, s helix.Stats) document {
	d := document{
		Name:    h.options.name,
		Version: h.version,
		Policy:  policyName(h.router.Config().Policy),
		UptimeS: s.Uptime.Seconds(),
		NowMs:   now.UnixMilli(),
		Started: h.started.UnixMilli(),
		Stats:   s,
		Latency: make([]latency, len(s.LatencyByStrategy)),
		Fleets:  newFleets(readFleets(h.router), now),
	}
	if d.Kinds == nil {
		d.Kinds = []helix.KindStats{} // a list in JSON too
	}
	for i := range s.LatencyByStrategy {
		l := &s.LatencyByStrategy[i]
		d.Latency[i] = latency{Strategy: l.Strategy, Count: l.Count}
		if l.Count > 0 {
			d.Latency[i].AvgMs, d.Latency[i].P50Ms = &l.AvgMs, &l.P50Ms
			d.Latency[i].P95Ms, d.Latency[i].P99Ms = &l.P95Ms, &l.P99Ms
		}
	}
	return d
}

func (h *Handler) serveStats(w http.ResponseWriter, _ *http.Request) {
	d := h.statsDocument(time.Now(), h.router.Stats())
	d.KindLatency = h.sampler.kindLatency()
	writeJSON(w, http.StatusOK, d)
}

// policyName is the name that the configuration's JSON form gives a policy.
func policyName(p helix.Policy) string {
	if s, ok := p.(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprintf("%T", p)
}

// number is a float in JSON with four significant digits, more than the histograms have; NaN is
// null.
type number float64

// MarshalJSON implements [json.Marshaler].
func (n number) MarshalJSON() ([]byte, error) {
	if f := float64(n); !math.IsNaN(f) && !math.IsInf(f, 0) {
		return strconv.AppendFloat(nil, f, 'g', 4, 64), nil
	}
	return []byte("null"), nil
}

// milliseconds returns d for a key that ends in _ms.
func milliseconds(d time.Duration) number { return number(float64(d) / float64(time.Millisecond)) }

// known returns what a pointer field shows: the number, or null.
func known(n number, is bool) *number {
	if !is {
		return nil
	}
	return &n
}
