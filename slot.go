package helix

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"
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
)

// slot is the ctx of a job that holds a slot: its own ctx plus the mark by
// which Yield and nested Submits find the slot. It is allocated for each run
// and never reused, because user code may keep a ctx.
type slot struct {
	context.Context
	pool     *pool
	due      int64
	long     bool
	left     atomic.Bool  // set once the slot was given back
	yielding atomic.Bool  // one Yield at a time
	away     atomic.Int64 // ns spent in Yield, which are not the job's own
	kind     *kind
	place    int   // in pool.runs
	until    int64 // when it is predicted to end, but for what it is away
	timed    bool  // its time so far is known to pool.underWay
	watch    stopwatch
}

// slotKey finds the slot of a certain pool in a ctx, anySlot the nearest.
type (
	slotKey struct{ pool *pool }
	anySlot struct{}
)

// Value implements context.Context.
func (s *slot) Value(key any) any {
	if key == (slotKey{s.pool}) || key == (anySlot{}) {
		return s
	}
	return s.Context.Value(key)
}

// holdsSlot reports that ctx belongs to a job that holds a slot of p, so that
// waiting for another might wait forever.
func (p *pool) holdsSlot(ctx context.Context) bool {
	s, ok := ctx.Value(slotKey{p}).(*slot)
	return ok && !s.left.Load()
}

// serve runs the job in the slot it has, gives the slot back and delivers.
func (p *pool) serve(t *Ticket) {
	p.runClaimed(t)
	p.finish(t)
}

// runClaimed runs the job in the slot it has, or refuses it if that is no
// longer of use. Ticket.started 0 means now. finish must follow; should the job
// or a hook call runtime.Goexit, nothing can, and it is called here.
func (p *pool) runClaimed(t *Ticket) {
	t.slot = &slot{place: noPlace, Context: t.ctx, pool: p, due: t.due(), long: t.long(), kind: t.kind}
	crowded := t.job.predicted >= yieldFrom && (t.long() || p.busy() >= p.slots.Load())
	if t.started == 0 || crowded {
		if t.started = t.router().now(); crowded {
			t.started = giveWay(t.router(), t.job.predicted, t.started)
		}
		if t.endIfPointless(t.started) {
			return
		}
		if t.place.ahead > 0 {
			t.kind.waits.observe(time.Duration(t.place.ahead), time.Duration(t.started-t.decided))
		}
	}
	returned := false
	defer func() {
		if !returned {
			p.finish(t)
		}
	}()
	t.slot.until = saturate(t.started, int64(t.job.predicted))
	t.slot.place = p.runs.begin(t.started, int64(t.job.predicted), t.kind.yields.Load())
	if t.slot.timed = t.long() || t.job.samples == 0; t.slot.timed {
		p.underWay.begin(&t.slot.watch, t.started)
	}
	t.kind.exec(t.slot, t, t.started)
	returned = true
}

// finish gives the slot of a ticket back that has ended, and delivers the ticket.
// Others may be woken here, which takes much stack: runClaimed has returned.
func (p *pool) finish(t *Ticket) {
	t.slot.left.Store(true)
	p.runs.end(t.slot.place)
	if t.slot.timed {
		p.underWay.end(&t.slot.watch)
	}
	router := t.router()
	p.release(workLoad(t.charge()), t.slot.long)
	router.nudge()
	t.deliver()
}

// giveWay lets whatever else is runnable run before a run of that length, and
// returns the time. Short runs do so only when all slots are taken: while one is free
// so is a P, to which others go by themselves, and giving way would only wake it,
// which costs some µs. Go takes a goroutine that gave way once from its global queue
// not only when a P has nothing else to do, but also at every 61st turn, when any
// number of new goroutines may be waiting on that P; and while a long run is on it,
// nobody takes them away as long as the other Ps are busy too. So long runs give
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
	case t.job.budget > 0 && !t.choice.probe && now+int64(t.job.predicted) > t.deadline():
		t.refuseLate(reasonNoTime)
	default:
		return false
	}
	return true
}
