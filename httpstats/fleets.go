package httpstats

import (
	"math"
	"time"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/remote"
)

// Fleet is implemented by a strategy in RouterConfig.Strategies that sends jobs to workers, as
// [remote.Client] does. The page, api/stats and the metrics show its statistics. Stats is
// called once a second and for each scrape.
type Fleet interface {
	helix.Strategy
	Stats() remote.Stats
}

// maxWorkers bounds the workers of a fleet that are shown and have series of their own: the
// first by name. Totals include all.
const maxWorkers = 64

// fleetStats has the statistics of a fleet.
type fleetStats struct {
	strategy string
	remote.Stats
}

// readFleets returns the statistics of all fleets of a router.
func readFleets(r *helix.Router) (fleets []fleetStats) {
	for _, s := range r.Config().Strategies {
		if f, ok := s.(Fleet); ok {
			fleets = append(fleets, fleetStats{s.Name(), f.Stats()})
		}
	}
	return fleets
}

// shown returns the workers that are shown.
func (f *fleetStats) shown() []remote.WorkerStats { return f.Workers[:min(len(f.Workers), maxWorkers)] }

// serving returns the number of workers that may be sent jobs.
func (f *fleetStats) serving() (n int) {
	for i := range f.Workers {
		if f.Workers[i].Alive {
			n++
		}
	}
	return n
}

// fleet is a fleet in JSON.
type fleet struct {
	Strategy string `json:"strategy"`
	attempts
	Probed  uint64 `json:"probed"`  // how often workers were asked for their load
	Known   int    `json:"known"`   // workers
	Serving int    `json:"serving"` // those of them that may be sent jobs

	// Of jobs that ran, since the client was made; null as long as there are none.
	RoundTripP50Ms *number `json:"round_trip_p50_ms"` // time to the answer, without wait and run
	RoundTripP99Ms *number `json:"round_trip_p99_ms"`
	TookMs         *number `json:"took_ms"`      // mean, from sending to the answer
	PredictedMs    *number `json:"predicted_ms"` // mean of its prediction
	OffMs          *number `json:"off_ms"`       // mean absolute error of the prediction

	Workers []worker `json:"workers"` // the first 64 by name
}

// attempts counts jobs by their outcome at workers. A job that was refused or lost may have
// been sent to another worker, and counts there too.
type attempts struct {
	Sent        uint64 `json:"sent"` // the sum of all below
	Answered    uint64 `json:"answered"`
	Refused     uint64 `json:"refused"`
	Undelivered uint64 `json:"undelivered"`
	Unsent      uint64 `json:"unsent"`
	Lost        uint64 `json:"lost"`
	InFlight    int    `json:"in_flight"`
}

func newAttempts(w *remote.WorkerStats) attempts {
	return attempts{w.Sent, w.Answered, w.Refused, w.Undelivered, w.Unsent, w.Lost, w.Flying}
}

// worker has the state of one worker. Its load is that of its last report.
type worker struct {
	Worker string `json:"worker"`
	State  string `json:"state"` // "serving", "silent" (owes an answer), "leaving" or "gone"
	attempts
	RoundTripMs number `json:"round_trip_ms"` // mean lately
	HeardMs     number `json:"heard_ms"`      // since its last message
	Slots       int    `json:"slots"`
	Busy        int    `json:"busy"`
	Queued      int    `json:"queued"`
	WaitMs      number `json:"wait_ms"` // for a slot there, of the kind for which that is longest
	Refuses     bool   `json:"refuses"` // takes no job of some kind now
}

func newFleets(from []fleetStats, now time.Time) []fleet {
	list := make([]fleet, 0, len(from))
	for i := range from {
		f := &from[i]
		ran := f.Took.Count()
		per := func(sum time.Duration) *number {
			return known(milliseconds(sum)/number(max(ran, 1)), ran > 0)
		}
		out := fleet{
			Strategy: f.strategy, attempts: newAttempts(&f.Total), Probed: f.Total.Probed,
			Known: len(f.Workers), Serving: f.serving(),
			RoundTripP50Ms: known(milliseconds(f.RTT.Quantile(0.50)), ran > 0),
			RoundTripP99Ms: known(milliseconds(f.RTT.Quantile(0.99)), ran > 0),
			TookMs:         known(milliseconds(f.Took.Mean()), ran > 0),
			PredictedMs:    per(f.Predicted), OffMs: per(f.Off),
			Workers: []worker{},
		}
		for j := range f.shown() {
			out.Workers = append(out.Workers, newWorker(&f.Workers[j], now))
		}
		list = append(list, out)
	}
	return list
}

func newWorker(w *remote.WorkerStats, now time.Time) worker {
	out := worker{
		Worker: labelValue(w.Worker), attempts: newAttempts(w),
		RoundTripMs: milliseconds(w.RTT), HeardMs: milliseconds(max(now.Sub(w.Heard), 0)),
	}
	load, leaves := latestLoad(w)
	out.Slots, out.Busy, out.Queued = load.Slots, load.Busy, load.Queued
	for _, k := range w.Kinds {
		out.WaitMs = max(out.WaitMs, milliseconds(k.Load.Wait))
		out.Refuses = out.Refuses || k.Load.Refuses
	}
	switch {
	case leaves:
		out.State = "leaving"
	case !w.Alive:
		out.State = "gone"
	case w.Silent > 0:
		out.State = "silent"
	default:
		out.State = "serving"
	}
	return out
}

// latestLoad returns the load of a worker's last report for any kind, and whether it is
// leaving.
func latestLoad(w *remote.WorkerStats) (load remote.Load, leaves bool) {
	latest := time.Duration(math.MaxInt64)
	for _, k := range w.Kinds {
		leaves = leaves || k.Load.Leaves
		if k.Age < latest {
			load, latest = k.Load, k.Age
		}
	}
	return load, leaves
}
