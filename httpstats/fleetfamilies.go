package httpstats

import (
	dto "github.com/prometheus/client_model/go"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/remote"
)

// fleetFamilies are the metrics of strategies that send jobs to workers.
var fleetFamilies = []family{
	counter("helix_remote_attempts_total", "Jobs sent to workers, by outcome: answered (it ran there), refused, undelivered, unsent, or lost.",
		perFleet(func(f *fleetStats, m *series, strategy *dto.LabelPair) { m.addAttempts(&f.Total, strategy) }), "outcome", "strategy"),
	gauge("helix_remote_jobs_in_flight", "Jobs at workers, or on their way.",
		perFleet(func(f *fleetStats, m *series, strategy *dto.LabelPair) { m.add(float64(f.Total.Flying), strategy) }), "strategy"),
	counter("helix_remote_probes_total", "Requests to workers for their load.",
		perFleet(func(f *fleetStats, m *series, strategy *dto.LabelPair) { m.addCount(f.Total.Probed, strategy) }), "strategy"),
	gauge("helix_remote_workers", "Workers that may be sent jobs.",
		perFleet(func(f *fleetStats, m *series, strategy *dto.LabelPair) { m.add(float64(f.serving()), strategy) }), "strategy"),
	histogramOf("helix_remote_round_trip_seconds", "Round trip of jobs that ran at a worker: the time to the answer, without their wait and run there.",
		func(f *fleetStats) helix.Snapshot { return f.RTT }),
	histogramOf("helix_remote_job_duration_seconds", "Time from sending a job to a worker to its answer, of jobs that ran.",
		func(f *fleetStats) helix.Snapshot { return f.Took }),
	counter("helix_remote_predicted_seconds_total", "Sum of the predictions of helix_remote_job_duration_seconds.",
		perFleet(func(f *fleetStats, m *series, strategy *dto.LabelPair) { m.add(f.Predicted.Seconds(), strategy) }), "strategy"),
	counter("helix_remote_misprediction_seconds_total", "Sum of the absolute errors of those predictions.",
		perFleet(func(f *fleetStats, m *series, strategy *dto.LabelPair) { m.add(f.Off.Seconds(), strategy) }), "strategy"),

	counter("helix_remote_worker_attempts_total", "Jobs sent to a worker, by outcome; for the first 64 workers by name.",
		perWorker(func(w *remote.WorkerStats, m *series, labels ...*dto.LabelPair) { m.addAttempts(w, labels...) }), "outcome", "strategy", "worker"),
	gauge("helix_remote_worker_jobs_in_flight", "Jobs at a worker, or on their way.",
		perWorker(func(w *remote.WorkerStats, m *series, labels ...*dto.LabelPair) { m.add(float64(w.Flying), labels...) }), "strategy", "worker"),
	gauge("helix_remote_worker_up", "1 if a worker may be sent jobs; 0 if it is leaving or has been silent.",
		perWorker(func(w *remote.WorkerStats, m *series, labels ...*dto.LabelPair) {
			up := 0.0
			if w.Alive {
				up = 1
			}
			m.add(up, labels...)
		}), "strategy", "worker"),
	gauge("helix_remote_worker_round_trip_seconds", "Round trip to a worker (moving mean).",
		perWorker(func(w *remote.WorkerStats, m *series, labels ...*dto.LabelPair) { m.add(w.RTT.Seconds(), labels...) }), "strategy", "worker"),
	gauge("helix_remote_worker_slots", "Slots of a worker, by its last report.",
		perWorker(loadOf(func(l *remote.Load) int { return l.Slots })), "strategy", "worker"),
	gauge("helix_remote_worker_slots_busy", "Slots of a worker that are in use, by its last report.",
		perWorker(loadOf(func(l *remote.Load) int { return l.Busy })), "strategy", "worker"),
	gauge("helix_remote_worker_queue_jobs", "Jobs that wait for a slot of a worker, by its last report.",
		perWorker(loadOf(func(l *remote.Load) int { return l.Queued })), "strategy", "worker"),
}

func perFleet(read func(*fleetStats, *series, *dto.LabelPair)) func(*source, *series) {
	return func(s *source, m *series) {
		for i := range s.fleets {
			read(&s.fleets[i], m, pair("strategy", s.fleets[i].strategy))
		}
	}
}

func perWorker(read func(*remote.WorkerStats, *series, ...*dto.LabelPair)) func(*source, *series) {
	return perFleet(func(f *fleetStats, m *series, strategy *dto.LabelPair) {
		seen := make(map[string]bool, maxWorkers)
		for i, w := range f.shown() {
			worker := pair("worker", w.Worker)
			if seen[worker.GetValue()] { // names that became equal when they were shortened for a label
				continue
			}
			seen[worker.GetValue()] = true
			read(&f.Workers[i], m, strategy, worker)
		}
	})
}

func loadOf(value func(*remote.Load) int) func(*remote.WorkerStats, *series, ...*dto.LabelPair) {
	return func(w *remote.WorkerStats, m *series, labels ...*dto.LabelPair) {
		load, _ := latestLoad(w)
		m.add(float64(value(&load)), labels...)
	}
}

func histogramOf(name, help string, read func(*fleetStats) helix.Snapshot) family {
	return describe(name, dto.MetricType_HISTOGRAM, help, []string{"strategy"},
		perFleet(func(f *fleetStats, m *series, strategy *dto.LabelPair) {
			m.addHistogram(read(f), strategy)
		}))
}

// addAttempts adds the attempts by outcome.
func (s *series) addAttempts(w *remote.WorkerStats, labels ...*dto.LabelPair) {
	for _, o := range [...]struct {
		outcome string
		count   uint64
	}{{"answered", w.Answered}, {"lost", w.Lost}, {"refused", w.Refused}, {"undelivered", w.Undelivered}, {"unsent", w.Unsent}} {
		s.addCount(o.count, append([]*dto.LabelPair{pair("outcome", o.outcome)}, labels...)...)
	}
}
