package httpstats

import (
	"time"

	"github.com/helixrouter/helix"
)

// point is one step of the history. Counts are of this step; the rest is the
// state at its end.
type point struct {
	ID        uint64  `json:"id"`
	TimeMs    int64   `json:"t_ms"`
	LengthS   number  `json:"dt_s"`
	Submitted uint64  `json:"submitted"`
	Completed uint64  `json:"completed"`
	Failed    uint64  `json:"failed"`
	Dropped   uint64  `json:"dropped"`
	Withdrawn uint64  `json:"withdrawn"`
	Promised  uint64  `json:"promised"`
	Kept      uint64  `json:"kept"`
	P99Ms     *number `json:"p99_ms"` // of all strategies together

	Routed  map[string]uint64        `json:"routed"`
	Latency map[string]*pointLatency `json:"latency"` // nil for a strategy that ended nothing

	CPUBusy    int    `json:"cpu_busy"`
	Slots      int    `json:"slots"`
	Queued     int    `json:"queued"`
	QueueCap   int    `json:"queue_cap"`
	WorkMs     number `json:"work_ms"`
	WaitMs     number `json:"wait_ms"`
	Demand     number `json:"demand"`
	Capacity   number `json:"capacity"`
	Spawned    int    `json:"spawned"`
	SpawnLimit int    `json:"spawn_limit"`
	BatchFill  int    `json:"batch_fill"` // of the fullest batch that is forming
	BatchMax   int    `json:"batch_max"`
	BatchKind  string `json:"batch_kind"` // its kind, "" if none is forming
}

type pointLatency struct {
	Count uint64 `json:"n"`
	P50Ms number `json:"p50_ms"`
	P95Ms number `json:"p95_ms"`
	P99Ms number `json:"p99_ms"`
}

// reading is one reading of the router; a point is the difference of two.
type reading struct {
	at        time.Time
	stats     helix.Stats
	latencies map[string]helix.Snapshot // by strategy
	kinds     map[string]helix.Snapshot // by kind
}

func readRouter(r *helix.Router, at time.Time) reading {
	now := reading{at: at, stats: r.Stats(), latencies: make(map[string]helix.Snapshot), kinds: make(map[string]helix.Snapshot)}
	for _, l := range now.stats.LatencyByStrategy {
		now.latencies[l.Strategy] = r.Latency(l.Strategy)
	}
	for i := range now.stats.Kinds {
		name := now.stats.Kinds[i].Name
		now.kinds[name] = r.KindLatency(name)
	}
	return now
}

// since returns the point of the step from before to now.
func (now *reading) since(before *reading, id uint64) point {
	s, b := &now.stats, &before.stats
	p := point{
		ID:        id,
		TimeMs:    now.at.UnixMilli(),
		LengthS:   number(now.at.Sub(before.at).Seconds()),
		Submitted: gained(s.Submitted, b.Submitted),
		Completed: gained(s.Completed, b.Completed),
		Failed:    gained(s.Failed, b.Failed),
		Dropped:   gained(s.Dropped, b.Dropped),
		Withdrawn: gained(s.Withdrawn, b.Withdrawn),
		Promised:  gained(s.Promised, b.Promised),
		Kept:      gained(s.Kept, b.Kept),
		Routed:    make(map[string]uint64, len(s.RoutedByStrategy)),
		Latency:   make(map[string]*pointLatency, len(now.latencies)),

		CPUBusy: s.Pressure.CPUBusy, Slots: s.Pressure.Slots,
		Queued: s.Pressure.Queued, QueueCap: s.Pressure.QueueCap,
		WorkMs: number(s.Pressure.WorkMs), WaitMs: number(s.Pressure.WaitMs),
		Demand: number(s.Pressure.Demand), Capacity: number(s.Pressure.Capacity),
		Spawned: s.Pressure.Spawned, SpawnLimit: s.Pressure.SpawnLimit,
	}
	for _, routed := range s.RoutedByStrategy {
		p.Routed[routed.Strategy] = routed.Count
	}
	for _, routed := range b.RoutedByStrategy {
		p.Routed[routed.Strategy] = gained(p.Routed[routed.Strategy], routed.Count)
	}
	now.latenciesSince(before, &p)
	for i := range s.Kinds {
		k := &s.Kinds[i]
		if k.Batch != nil && k.Batch.Forming > p.BatchFill {
			p.BatchFill, p.BatchMax, p.BatchKind = k.Batch.Forming, k.Batch.MaxSize, k.Name
		}
	}
	return p
}

func (now *reading) latenciesSince(before *reading, p *point) {
	var all helix.Snapshot
	for strategy, snapshot := range now.latencies {
		step := snapshot.Sub(before.latencies[strategy])
		p.Latency[strategy] = nil
		if step.Count() == 0 {
			continue
		}
		all = all.Merge(step)
		l := summary(step)
		p.Latency[strategy] = &l
	}
	if all.Count() > 0 {
		p.P99Ms = known(milliseconds(all.Quantile(0.99)), true)
	}
}

func summary(s helix.Snapshot) pointLatency {
	return pointLatency{
		Count: s.Count(),
		P50Ms: milliseconds(s.Quantile(0.50)),
		P95Ms: milliseconds(s.Quantile(0.95)),
		P99Ms: milliseconds(s.Quantile(0.99)),
	}
}

// gained returns now - before, or 0 if a counter has decreased.
func gained(now, before uint64) uint64 {
	if now < before {
		return 0
	}
	return now - before
}
