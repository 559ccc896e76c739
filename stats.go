package helix

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/helixrouter/helix/internal/tally"
)

// Stats is one consistent snapshot of a [Router] since it was made:
//
//	Submitted = Completed + Failed + Dropped + Withdrawn + InFlight
//
// holds in every snapshot, also in each of Kinds. Slices are sorted by name and
// complete: every strategy is there, zero counts too.
type Stats struct {
	Submitted uint64 `json:"submitted"`
	Completed uint64 `json:"completed"` // ran, no error
	Failed    uint64 `json:"failed"`    // ran, returned an error, panicked or called Goexit
	Dropped   uint64 `json:"dropped"`   // refused, at once or when its slot came too late
	Withdrawn uint64 `json:"withdrawn"` // given up by the caller, or by Close, before the start
	InFlight  uint64 `json:"in_flight"` // admitted, not ended

	Promised uint64 `json:"promised"` // ended jobs that were admitted with a budget (withdrawn ones excepted)
	Kept     uint64 `json:"kept"`     // those of them that completed or failed inside it

	RoutedByStrategy  []StrategyCount  `json:"routed_by_strategy"`
	LatencyByStrategy []LatencySummary `json:"latency_by_strategy"`
	DroppedByReason   []ReasonCount    `json:"dropped_by_reason"`
	Kinds             []KindStats      `json:"kinds"`
	LongRuns          []LongRun        `json:"long_runs"` // where Yield or a spare P would help
	Pressure          PressureStats    `json:"pressure"`

	Draining bool          `json:"draining"` // Drain or Close was called
	Uptime   time.Duration `json:"-"`        // since New
}

// StrategyCount is the number of jobs that a decision sent to a strategy.
type StrategyCount struct {
	Strategy string `json:"strategy"`
	Count    uint64 `json:"count"`
}

// LatencySummary describes the latencies of the jobs that a strategy ran, or of those of
// one kind that ran at all, from Job.Arrived or, without it, the routing decision, to
// completion. Percentiles are within 1.1 %. All is 0 while Count is 0.
type LatencySummary struct {
	Strategy string  `json:"strategy,omitempty"` // "" in KindStats
	Count    uint64  `json:"count"`
	AvgMs    float64 `json:"avg_ms"`
	P50Ms    float64 `json:"p50_ms"`
	P95Ms    float64 `json:"p95_ms"`
	P99Ms    float64 `json:"p99_ms"`
}

// ReasonCount is the number of jobs dropped for a reason.
type ReasonCount struct {
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

// KindStats is what is known of one kind of job.
type KindStats struct {
	Name string `json:"name"`

	Submitted uint64 `json:"submitted"`
	Completed uint64 `json:"completed"`
	Failed    uint64 `json:"failed"`
	Dropped   uint64 `json:"dropped"`
	Withdrawn uint64 `json:"withdrawn"`
	InFlight  uint64 `json:"in_flight"`
	Promised  uint64 `json:"promised"`
	Kept      uint64 `json:"kept"`

	RoutedByStrategy []StrategyCount `json:"routed_by_strategy"`
	Latency          LatencySummary  `json:"latency"`

	BudgetMs float64 `json:"budget_ms"` // of the latest job; 0 = none
	Late     uint64  `json:"late"`      // missed their budget: late on arrival, refused as the wait for a slot was too long, or admitted and not finished in time
	Yields   bool    `json:"yields"`    // some job has called Yield

	Samples   uint64  `json:"samples"`     // runs learned from; calls, with a batch function
	RunMs     float64 `json:"run_ms"`      // mean run time alone, as learned lately
	SpreadMs  float64 `json:"spread_ms"`   // its mean deviation
	NsPerUnit float64 `json:"ns_per_unit"` // run time per unit of Job.Cost; 0 = costs not known

	Weight float64 `json:"weight"` // under overload, relative to other kinds
	Demand float64 `json:"demand"` // CPU seconds a second offered lately, refused work included
	Share  float64 `json:"share"`  // CPU seconds a second that are its fair share now

	Limited bool    `json:"limited"` // more is asked for than there is, and by this kind more than its share
	TurnMs  float64 `json:"turn_ms"` // how long its guaranteed rate takes for what was admitted of it

	Batch      *BatchStats      `json:"batch,omitempty"`      // nil without a batch function
	Queued     int              `json:"queued"`               // jobs that wait because of Kind.MaxConcurrent
	Downstream *DownstreamStats `json:"downstream,omitempty"` // nil as long as no job of the kind that Waits was seen
}

// BatchStats describes a kind's batches.
type BatchStats struct {
	Forming      int     `json:"forming"`        // jobs in the batch that is forming
	MaxSize      int     `json:"max_size"`       // the most a batch gets
	Calls        uint64  `json:"calls"`          // calls of the batch function
	Items        uint64  `json:"items"`          // jobs in them
	Full         uint64  `json:"full"`           // calls made with MaxSize items
	OldestWaitMs float64 `json:"oldest_wait_ms"` // longest any item waited for its batch to start
}

// PressureStats is the load at the moment of the snapshot.
type PressureStats struct {
	CPUBusy    int     `json:"cpu_busy"` // slots in use
	Slots      int     `json:"slots"`
	Queued     int     `json:"queued"` // jobs waiting for a slot, forming batches included
	QueueCap   int     `json:"queue_cap"`
	WorkMs     float64 `json:"work_ms"`  // predicted CPU time of the jobs that hold a slot or wait for one, to within 1 µs each
	WaitMs     float64 `json:"wait_ms"`  // predicted wait for a slot
	Demand     float64 `json:"demand"`   // CPU seconds a second offered lately, refused work included
	Capacity   float64 `json:"capacity"` // CPU seconds a second that jobs get when they want more, as measured
	Spawned    int     `json:"spawned"`
	SpawnLimit int     `json:"spawn_limit"`
}

// Stats returns a snapshot. It takes some microseconds for each kind, holds no
// lock while it counts and never stops a job.
func (r *Router) Stats() Stats {
	now, cfg := r.now(), r.cfg.Load()
	r.tick(now, cfg) // demand fades while no job is submitted
	cfg = r.cfg.Load()
	var s Stats
	s.Uptime, s.Kinds, s.DroppedByReason = time.Duration(now), []KindStats{}, []ReasonCount{}
	s.Draining = !r.open()
	var routed [tally.Lanes]uint64
	var dropped [tally.Reasons]uint64
	refused := uint64(0)
	for _, k := range *r.kinds.Load() {
		n := k.counters.Sum()
		ks := r.kindStats(k, &n, now, cfg)
		s.Kinds = append(s.Kinds, ks)
		s.Submitted += ks.Submitted
		s.Completed += ks.Completed
		s.Failed += ks.Failed
		s.Dropped += ks.Dropped
		s.Withdrawn += ks.Withdrawn
		s.InFlight += ks.InFlight
		s.Promised += ks.Promised
		s.Kept += ks.Kept
		for i := range routed {
			routed[i] += n.Routed[i]
		}
		for i := range dropped {
			dropped[i] += n.Dropped[i]
		}
		refused += n.Refused
	}
	slices.SortFunc(s.Kinds, func(a, b KindStats) int { return cmp.Compare(a.Name, b.Name) })
	s.LongRuns = longRuns(s.Kinds)

	s.RoutedByStrategy = r.strategyCounts(&routed, refused)
	for i, reason := range r.reasons.Names() {
		if dropped[i] > 0 {
			s.DroppedByReason = append(s.DroppedByReason, ReasonCount{reason, dropped[i]})
		}
	}
	slices.SortFunc(s.DroppedByReason, func(a, b ReasonCount) int { return cmp.Compare(a.Reason, b.Reason) })
	for _, c := range s.RoutedByStrategy {
		s.LatencyByStrategy = append(s.LatencyByStrategy, summarise(c.Strategy, r.Latency(c.Strategy)))
	}

	var p Pressure
	r.pressure(&p, now, cfg, &kind{router: r}, Normal)
	s.Pressure = PressureStats{
		CPUBusy: p.CPUBusy, Slots: p.Slots, Queued: p.Queued, QueueCap: p.QueueCap,
		WorkMs: milliseconds(p.Work), WaitMs: milliseconds(p.Wait),
		Demand: rounded(p.Demand), Capacity: rounded(min(r.ledger.Capacity(), float64(p.Slots))), // at first it knows no bound
		Spawned: p.Spawned, SpawnLimit: p.SpawnLimit,
	}
	return s
}

// rounded returns a number of cores rounded to the millionth: a mean that fades never gets to 0, but
// what is left of it says nothing.
func rounded(cores float64) float64 { return math.Round(cores*1e6) / 1e6 }

// Latency returns the latencies of the jobs that a strategy ran since the
// router was made; the difference of two snapshots is that of the time between.
// It is empty for Drop and for strategies that do not exist.
func (r *Router) Latency(strategy string) Snapshot {
	l := r.lane(strategy)
	if l == nil {
		return Snapshot{}
	}
	var all placeCounts
	var sum uint64
	for _, k := range *r.kinds.Load() {
		sum = addSums(sum, k.countLatencies(&all, l.index))
	}
	return all.snapshot(sum)
}

// KindLatency returns the latencies of the jobs of a kind that ran, whatever strategy ran
// them, since the router was made; the difference of two snapshots is that of the time
// between. It is empty for names that are not in Stats.
func (r *Router) KindLatency(name string) Snapshot {
	if k := (*r.kinds.Load())[name]; k != nil {
		return k.latency()
	}
	return Snapshot{}
}

// latency returns the latencies of the kind's jobs that ran, whatever strategy ran them.
func (k *kind) latency() Snapshot {
	var all placeCounts
	var sum uint64
	for i := range k.latencies {
		sum = addSums(sum, k.countLatencies(&all, i))
	}
	return all.snapshot(sum)
}

// countLatencies adds those of the jobs that a strategy ran, and returns their sum. That of
// jobs that worked all the time is kept with their work.
func (k *kind) countLatencies(all *placeCounts, lane int) (sum uint64) {
	return addSums(all.count(&k.latencies[lane]), k.counters.AllWork(lane))
}

// summarise describes latencies.
func summarise(strategy string, l Snapshot) LatencySummary {
	return LatencySummary{
		Strategy: strategy, Count: l.Count(), AvgMs: milliseconds(l.Mean()),
		P50Ms: milliseconds(l.Quantile(.5)), P95Ms: milliseconds(l.Quantile(.95)), P99Ms: milliseconds(l.Quantile(.99)),
	}
}

// strategyCounts lists all strategies, sorted by name.
func (r *Router) strategyCounts(routed *[tally.Lanes]uint64, refused uint64) []StrategyCount {
	counts := make([]StrategyCount, 0, len(r.lanes)+1)
	for _, l := range r.lanes {
		counts = append(counts, StrategyCount{l.name, routed[l.index]})
	}
	counts = append(counts, StrategyCount{Drop, refused})
	slices.SortFunc(counts, func(a, b StrategyCount) int { return cmp.Compare(a.Strategy, b.Strategy) })
	return counts
}

// kindStats describes one kind; n is the sum of its counters.
func (r *Router) kindStats(k *kind, n *tally.Sums, now int64, cfg *RouterConfig) KindStats {
	s := KindStats{
		Name: k.name, Completed: n.Completed, Failed: n.Failed, Withdrawn: n.Withdrawn,
		InFlight: n.InFlight(), Promised: n.Promised, Kept: n.Kept,
		RoutedByStrategy: r.strategyCounts(&n.Routed, n.Refused),
		Latency:          summarise("", k.latency()),
		Weight:           k.weight.Load(), Demand: rounded(k.account.Asked()), Share: rounded(k.account.Share()),
		Limited: k.account.Limited(), TurnMs: milliseconds(k.account.Turn(now)),
	}
	for _, dropped := range n.Dropped {
		s.Dropped += dropped
	}
	s.BudgetMs, s.Yields = milliseconds(k.account.Budget()), k.yields.Load()
	s.Late = n.Promised - n.Kept
	for i, reason := range r.reasons.Names() {
		if reason == reasonLate || reason == reasonWait {
			s.Late += n.Dropped[i]
		}
	}
	s.Submitted = n.Submitted
	run, spread := k.runs.Mean()
	s.Samples, s.NsPerUnit = k.runs.Samples(), k.runs.PerUnit()
	if samples := k.calls.Samples(); samples > 0 {
		run, spread = k.calls.Usual()
		s.Samples, s.NsPerUnit = samples, k.calls.Slope()
	}
	s.RunMs, s.SpreadMs = run/float64(time.Millisecond), spread/float64(time.Millisecond)
	if g := k.gate.Load(); g != nil {
		s.Queued = g.length()
	}
	if d := k.downstream.Load(); d.known() || k.waiting() {
		s.Downstream = d.stats()
	}
	if b := k.batcher.Load(); b != nil {
		size, _ := b.limits(cfg)
		calls := uint64(b.calls.Load())
		s.Batch = &BatchStats{
			Forming: int(b.fill.Load()), MaxSize: size,
			Full: uint64(b.fullCalls.Load()), Calls: calls, Items: calls + uint64(b.joined.Load()),
			OldestWaitMs: milliseconds(time.Duration(b.oldest.Load())),
		}
	}
	return s
}
