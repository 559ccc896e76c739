package httpstats

import (
	"math"
	"runtime"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/helixrouter/helix"
)

// family is one metric name, with its help text and the function that reads it.
type family struct {
	name, help string
	kind       dto.MetricType
	labels     []string // sorted
	read       func(from *source, to *series)
	desc       *prometheus.Desc
}

func describe(name string, kind dto.MetricType, help string, labels []string, read func(*source, *series)) family {
	return family{name, help, kind, labels, read, prometheus.NewDesc(name, help, labels, nil)}
}

func counter(name, help string, read func(*source, *series), labels ...string) family {
	return describe(name, dto.MetricType_COUNTER, help, labels, read)
}

func gauge(name, help string, read func(*source, *series), labels ...string) family {
	return describe(name, dto.MetricType_GAUGE, help, labels, read)
}

// untyped is for the three short aliases: by Prometheus' conventions a counter's name ends in
// _total, and OpenMetrics would rename one that does not.
func untyped(name, help string, read func(*source, *series), labels ...string) family {
	return describe(name, dto.MetricType_UNTYPED, help, labels, read)
}

// families is all that is exported. It is never written to.
var families = append(routerFamilies, fleetFamilies...)

// routerFamilies are the metrics of a router and its kinds.
var routerFamilies = []family{
	untyped("helix_completed", "Jobs that ran and returned no error; alias of helix_jobs_completed_total.",
		func(s *source, m *series) { m.addCount(s.Completed) }),
	untyped("helix_dropped", "Jobs that were refused; alias of helix_jobs_dropped_total.",
		func(s *source, m *series) { m.addCount(s.Dropped) }),
	untyped("helix_routed", "Jobs by the strategy they were sent to; alias of helix_jobs_routed_total.",
		readRouted, "strategy"),

	counter("helix_jobs_submitted_total", "Jobs submitted: the sum of those completed, failed, dropped, withdrawn and in flight.",
		func(s *source, m *series) { m.addCount(s.Submitted) }),
	counter("helix_jobs_completed_total", "Jobs that ran and returned no error.",
		func(s *source, m *series) { m.addCount(s.Completed) }),
	counter("helix_jobs_failed_total", "Jobs that ran and returned an error or panicked.",
		func(s *source, m *series) { m.addCount(s.Failed) }),
	counter("helix_jobs_dropped_total", "Jobs that were refused, by reason.",
		readDropped, "reason"),
	counter("helix_jobs_withdrawn_total", "Jobs whose ctx ended before they started.",
		func(s *source, m *series) { m.addCount(s.Withdrawn) }),
	counter("helix_jobs_routed_total", "Jobs by the strategy they were sent to.",
		readRouted, "strategy"),
	counter("helix_promises_made_total", "Jobs that were admitted with a latency budget and have ended.",
		func(s *source, m *series) { m.addCount(s.Promised) }),
	counter("helix_promises_kept_total", "Jobs that were admitted with a latency budget and ended inside it.",
		func(s *source, m *series) { m.addCount(s.Kept) }),
	describe("helix_job_duration_seconds", dto.MetricType_HISTOGRAM,
		"Time from the arrival of a job to its end, by the strategy that ran it.", []string{"strategy"}, readDurations),

	gauge("helix_jobs_in_flight", "Jobs admitted and not ended.",
		func(s *source, m *series) { m.addCount(s.InFlight) }),
	gauge("helix_cpu_slots", "Slots for jobs of the strategies cpu_pool and batch.",
		func(s *source, m *series) { m.add(float64(s.Pressure.Slots)) }),
	gauge("helix_cpu_slots_busy", "Slots in use.",
		func(s *source, m *series) { m.add(float64(s.Pressure.CPUBusy)) }),
	gauge("helix_queue_jobs", "Jobs waiting for a slot.",
		func(s *source, m *series) { m.add(float64(s.Pressure.Queued)) }),
	gauge("helix_queue_limit_jobs", "Limit on jobs waiting for a slot.",
		func(s *source, m *series) { m.add(float64(s.Pressure.QueueCap)) }),
	gauge("helix_spawned_jobs", "Jobs on goroutines of their own.",
		func(s *source, m *series) { m.add(float64(s.Pressure.Spawned)) }),
	gauge("helix_spawned_limit_jobs", "Limit on jobs on goroutines of their own.",
		func(s *source, m *series) { m.add(float64(s.Pressure.SpawnLimit)) }),
	gauge("helix_pressure_work_seconds", "Predicted CPU time of the jobs that hold a slot or wait for one.",
		func(s *source, m *series) { m.add(s.Pressure.WorkMs / 1e3) }),
	gauge("helix_pressure_wait_seconds", "Predicted wait for a slot.",
		func(s *source, m *series) { m.add(s.Pressure.WaitMs / 1e3) }),
	gauge("helix_pressure_demand_cores", "Offered CPU load in cores (moving average), including refused work.",
		func(s *source, m *series) { m.add(s.Pressure.Demand) }),
	gauge("helix_pressure_capacity_cores", "Measured CPU in cores that jobs get while they demand more.",
		func(s *source, m *series) { m.add(s.Pressure.Capacity) }),
	gauge("helix_library_build_info", "Always 1; the version of the library and of Go are in the labels.",
		func(_ *source, m *series) {
			m.add(1, pair("goversion", runtime.Version()), pair("version", moduleVersion()))
		}, "goversion", "version"),
	gauge("helix_uptime_seconds", "Time since the router was made.",
		func(s *source, m *series) { m.add(s.Uptime.Seconds()) }),

	counter("helix_kind_jobs_total", "Jobs of a kind that have ended, by outcome.",
		readOutcomes, "kind", "outcome"),
	counter("helix_kind_promises_made_total", "Jobs of a kind that were admitted with a latency budget and have ended.",
		func(s *source, m *series) {
			m.perKind(s, func(k *helix.KindStats) float64 { return float64(k.Promised) })
		}, "kind"),
	counter("helix_kind_promises_kept_total", "Jobs of a kind that were admitted with a latency budget and ended inside it.",
		func(s *source, m *series) { m.perKind(s, func(k *helix.KindStats) float64 { return float64(k.Kept) }) }, "kind"),
	counter("helix_kind_jobs_late_total", "Jobs of a kind that missed their latency budget: too late when they arrived, or admitted and not finished inside it.",
		func(s *source, m *series) { m.perKind(s, func(k *helix.KindStats) float64 { return float64(k.Late) }) }, "kind"),
	counter("helix_kind_batch_calls_total", "Calls of a kind's batch function.",
		func(s *source, m *series) {
			m.perBatch(s, func(b *helix.BatchStats) float64 { return float64(b.Calls) })
		}, "kind"),
	counter("helix_kind_batch_jobs_total", "Jobs of a kind that ran in calls of its batch function.",
		func(s *source, m *series) {
			m.perBatch(s, func(b *helix.BatchStats) float64 { return float64(b.Items) })
		}, "kind"),
	counter("helix_kind_batch_full_calls_total", "Calls of a kind's batch function with a full batch.",
		func(s *source, m *series) {
			m.perBatch(s, func(b *helix.BatchStats) float64 { return float64(b.Full) })
		}, "kind"),
	gauge("helix_kind_batch_limit_jobs", "Limit on the jobs in a batch of a kind.",
		func(s *source, m *series) {
			m.perBatch(s, func(b *helix.BatchStats) float64 { return float64(b.MaxSize) })
		}, "kind"),
	counter("helix_kind_run_samples_total", "Runs of a kind that its run-time model was trained with.",
		func(s *source, m *series) {
			m.perKind(s, func(k *helix.KindStats) float64 { return float64(k.Samples) })
		}, "kind"),
	describe("helix_kind_job_duration_seconds", dto.MetricType_HISTOGRAM,
		"Time from the arrival of a job of a kind to its end, whatever strategy ran it.", []string{"kind"}, readKindDurations),
	gauge("helix_kind_jobs_in_flight", "Jobs of a kind admitted and not ended.",
		func(s *source, m *series) {
			m.perKind(s, func(k *helix.KindStats) float64 { return float64(k.InFlight) })
		}, "kind"),
	gauge("helix_kind_run_seconds", "Learned mean run time of a kind.",
		func(s *source, m *series) { m.perKind(s, func(k *helix.KindStats) float64 { return k.RunMs / 1e3 }) }, "kind"),
	gauge("helix_kind_run_spread_seconds", "Learned mean deviation of a kind's run time.",
		func(s *source, m *series) { m.perKind(s, func(k *helix.KindStats) float64 { return k.SpreadMs / 1e3 }) }, "kind"),
	gauge("helix_kind_budget_seconds", "Latency budget of a kind's latest job; no series if that has no budget.",
		func(s *source, m *series) {
			for i := range s.Kinds {
				if budget := s.Kinds[i].BudgetMs; budget > 0 {
					m.add(budget/1e3, s.kind(i)...)
				}
			}
		}, "kind"),
	gauge("helix_kind_endangering_run_seconds", "Mean run time of the kind in the label by; its long runs make the jobs of the kind in the label kind late.",
		func(s *source, m *series) {
			for _, l := range s.LongRuns {
				m.add(l.RunMs/1e3, pair("by", l.Kind), pair("kind", l.Endangers))
			}
		}, "by", "kind"),
	gauge("helix_kind_demand_cores", "Offered CPU load of a kind in cores (moving average), including refused work.",
		func(s *source, m *series) { m.perKind(s, func(k *helix.KindStats) float64 { return k.Demand }) }, "kind"),
	gauge("helix_kind_share_cores", "Current fair share of a kind in cores.",
		func(s *source, m *series) { m.perKind(s, func(k *helix.KindStats) float64 { return k.Share }) }, "kind"),

	gauge("helix_kind_downstream_calls", "Calls in flight to the downstream of a kind that waits, from all kinds that share it, without those lost.",
		readDownstream(func(d *helix.DownstreamStats) float64 { return float64(d.InFlight) }), "kind"),
	gauge("helix_kind_downstream_lost_calls", "Calls in flight to the downstream of a kind that waits that stay there while later ones end; they count in neither helix_kind_downstream_calls nor its limit.",
		readDownstream(func(d *helix.DownstreamStats) float64 { return float64(d.Lost) }), "kind"),
	gauge("helix_kind_downstream_limit_calls", "Learned limit on calls in flight to the downstream of a kind that waits; +Inf while it is not the bottleneck.",
		readDownstream(limitOf), "kind"),
	gauge("helix_kind_downstream_base_seconds", "Learned latency of a call to the downstream of a kind that waits, with few others in flight.",
		readDownstream(func(d *helix.DownstreamStats) float64 { return d.BaseMs / 1e3 }), "kind"),
	gauge("helix_kind_downstream_latency_seconds", "Latency of calls to the downstream of a kind that waits (moving mean).",
		readDownstream(func(d *helix.DownstreamStats) float64 { return d.MeanMs / 1e3 }), "kind"),
	gauge("helix_kind_downstream_calls_per_second", "Successful calls per second to the downstream of a kind that waits (moving mean).",
		readDownstream(func(d *helix.DownstreamStats) float64 { return d.Rate }), "kind"),
	gauge("helix_kind_turn_seconds", "Length of a kind's virtual queue: its admitted work that is not done, divided by its guaranteed rate.",
		func(s *source, m *series) { m.perKind(s, func(k *helix.KindStats) float64 { return k.TurnMs / 1e3 }) }, "kind"),
	gauge("helix_kind_limited", "1 while demand exceeds capacity and the kind demands more than its share; else 0.",
		func(s *source, m *series) {
			m.perKind(s, func(k *helix.KindStats) float64 {
				if k.Limited {
					return 1
				}
				return 0
			})
		}, "kind"),
}

// readDownstream reads one value of the downstream of each kind that waits.
func readDownstream(value func(*helix.DownstreamStats) float64) func(*source, *series) {
	return func(s *source, m *series) {
		for i := range s.Kinds {
			if d := s.Kinds[i].Downstream; d != nil {
				m.add(value(d), s.kind(i)...)
			}
		}
	}
}

// limitOf is the most calls that may be in flight.
func limitOf(d *helix.DownstreamStats) float64 {
	if d.Limit == 0 {
		return math.Inf(1)
	}
	return float64(d.Limit)
}

func readRouted(s *source, m *series) {
	for _, routed := range s.RoutedByStrategy {
		m.addCount(routed.Count, pair("strategy", routed.Strategy))
	}
}

// readDropped adds up the reasons that are the same once they fit a label.
func readDropped(s *source, m *series) {
	var order []string
	counts := make(map[string]uint64, len(s.DroppedByReason))
	for _, dropped := range s.DroppedByReason {
		reason := labelValue(dropped.Reason)
		if _, seen := counts[reason]; !seen {
			order = append(order, reason)
		}
		counts[reason] += dropped.Count
	}
	slices.Sort(order)
	for _, reason := range order {
		m.addCount(counts[reason], pair("reason", reason))
	}
}

func readOutcomes(s *source, m *series) {
	completed, failed := pair("outcome", string(helix.Completed)), pair("outcome", string(helix.Failed))
	dropped, withdrawn := pair("outcome", string(helix.Dropped)), pair("outcome", string(helix.Withdrawn))
	for i := range s.Kinds {
		k, kind := &s.Kinds[i], s.kinds[i]
		m.addCount(k.Completed, kind, completed)
		m.addCount(k.Dropped, kind, dropped)
		m.addCount(k.Failed, kind, failed)
		m.addCount(k.Withdrawn, kind, withdrawn)
	}
}
