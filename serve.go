package helix

import (
	"runtime"
	"time"

	"github.com/helixrouter/helix/internal/estimate"
	"github.com/helixrouter/helix/internal/num"
	"github.com/helixrouter/helix/internal/slots"
)

const (
	// yieldFrom is the predicted run time from which a job gives way before it
	// starts. Go does not preempt for 10 ms, so short work that is runnable on the
	// same P would otherwise wait for all of the run.
	yieldFrom = 20 * time.Microsecond
	// A run gives way once more for every yieldEach of its length, at most yieldMost
	// times, until that takes less than yieldQuiet.
	yieldEach  = 250 * time.Microsecond
	yieldMost  = 16
	yieldQuiet = 2 * time.Microsecond
	// startMargin is the room a job must have left when its slot comes, besides
	// twice its predicted run time: on a full machine nothing runs as fast as
	// alone.
	startMargin = 500 * time.Microsecond
	// 1/returnPart of its budget, at most startMargin, is left for Submit to return.
	returnPart = 64
)

// serve runs the job in the slot it has, gives the slot back and notifies the submitter.
func (p *pool) serve(t *Ticket) {
	p.runClaimed(t)
	p.finish(t)
}

// runClaimed runs a claimed ticket in its slot, or drops it if it can no longer meet its
// deadline. Ticket.started 0 means now. finish must follow; should the job
// or a hook call runtime.Goexit, nothing can, and it is called here.
func (p *pool) runClaimed(t *Ticket) {
	if t.slot == nil {
		t.slot = newHeld(t)
	} else {
		t.slot.hold(t.long())
	}
	crowded := t.job.predicted >= yieldFrom && (t.long() || p.busy() >= p.slots.Load())
	if t.started == 0 || crowded {
		if t.started = t.router().now(); crowded {
			t.started = giveWay(t.router(), t.job.predicted, t.started)
		}
		if t.endIfPointless(t.started) {
			return
		}
		if t.place.Ahead > 0 {
			t.kind.waits.Observe(time.Duration(t.place.Ahead), time.Duration(t.started-t.decided))
		}
	}
	returned := false
	defer func() {
		if !returned {
			p.finish(t)
		}
	}()
	t.slot.begin(t.started, int64(t.job.predicted), t.more(t.job.predicted), t.long() || t.job.samples == 0)
	t.kind.execute(t, t.started)
	returned = true
}

// finish gives the slot of a ticket that has ended back, and notifies its submitter.
// Others may be woken here, which takes much stack: runClaimed has returned.
func (p *pool) finish(t *Ticket) {
	t.slot.untime()
	router := t.router()
	t.slot.end(slots.Work(t.charge()))
	router.signalIdle()
	t.notifySubmitter()
}

// giveWay lets whatever else is runnable run before a run of that length, and
// returns the time. Short runs do so only when all slots are taken: while one is free
// so is a P, to which others go by themselves, and giving way would only wake it,
// which costs some µs. Go takes a goroutine that gave way once from its global queue
// not only when a P has nothing else to do, but also at every 61st turn, when any
// number of new goroutines may be waiting on that P; and while a long run is on it,
// no P steals them as long as all are busy. So long runs give
// way until it takes no time.
func giveWay(r *Router, run time.Duration, now int64) int64 {
	for turns := min(int(run/yieldEach)+1, yieldMost); turns > 0; turns-- {
		before := now
		runtime.Gosched()
		if now = r.now(); now-before < int64(yieldQuiet) {
			break
		}
	}
	return now
}

// endIfPointless ends a claimed ticket whose slot came after its ctx was done
// or too late to meet its budget.
func (t *Ticket) endIfPointless(now int64) bool {
	switch {
	case t.ctx.Err() != nil:
		t.endWithdrawn(withdrawn(t.ctx))
	case t.job.budget > 0 && !t.choice.probe && now+t.needs() > t.deadline():
		t.refuseLate(reasonNoTime)
	default:
		return false
	}
	return true
}

// needs returns the time that a job must have left when its slot comes: less while no other
// job waits. While others do, they are woken and run before Submit returns.
func (t *Ticket) needs() int64 {
	if t.pool().firstDue.Load() == num.Never {
		return int64(t.job.low)
	}
	return int64(t.job.likely) + int64(timeToReturn(t.job.budget))
}

// more returns by how many ns more than predicted a run is nearly sure not to take, if it varies as those
// of the job do: nine in ten take no more.
func (t *Ticket) more(predicted time.Duration) int64 {
	mean, high := float64(t.job.predicted), float64(t.job.high)
	if mean <= 0 || high <= mean {
		return 0
	}
	return int64(estimate.Bounded(float64(predicted) * (high/mean - 1)))
}

// timeToReturn is what is left of a budget for Submit to return.
func timeToReturn(budget time.Duration) time.Duration { return min(budget/returnPart, startMargin) }
