package helix

import (
	"context"
	"runtime"
)

// Yield gives way: first to whatever else is runnable, then, if a job waits for a CPU
// slot whose deadline is before the latest time at which this one could have started, it hands its slot
// over and queues for one again. Long jobs call it about every 100 µs of work, with the ctx they
// were given: a tight budget beside long jobs can only be kept if they do.
//
// Outside a job that holds a slot it does nothing. It costs about 200 ns while
// no job waits. It does not return early when ctx is done.
func Yield(ctx context.Context) {
	job := jobIn(ctx)
	s := job
	for s != nil && s.state.Load() == slotNone {
		s = s.outer() // a job without a slot may run inside one that has one
	}
	if s == nil {
		return
	}
	if !job.kind.yields.Load() { // the word is shared: write it once
		job.kind.yields.Store(true)
	}
	n := job.nested()
	if n.yielders.Add(1) > 1 {
		n.parallel.Store(true)
	}
	r := job.kind.router
	start := r.now()
	runtime.Gosched()
	// While one of several goroutines gives way the others may work.
	if !n.parallel.Load() {
		away := r.now() - start
		n.away.Add(away)
		if job.timed {
			r.pool.underWay.Lose(&n.watch, away)
		}
	}
	n.yielders.Add(-1)
	s.handOver(job)
}
