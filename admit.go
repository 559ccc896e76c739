package helix

import (
	"errors"
	"runtime/debug"

	"github.com/helixrouter/helix/internal/estimate"
	"github.com/helixrouter/helix/internal/slots"
)

// newTicket makes t a ticket of that kind, to be used once or many times.
func (r *Router) newTicket(t *Ticket, k *kind) {
	t.kind = k
	t.shard = r.shardHere()
}

// shardHere returns the number of the shard that tickets of all kinds write that are made
// on this P. Tickets are used again where they were made, for the most part: were each
// given the next number, half of those of many kinds would share a shard with another
// core's.
func (r *Router) shardHere() uint8 {
	shard, _ := r.shardOf.Get().(*uint8)
	if shard == nil {
		shard = new(uint8)
		*shard = uint8(r.shard.Add(1))
	}
	r.shardOf.Put(shard)
	return *shard
}

// initFrom makes t, whose work and kind are filled in, the ticket of a job that was not refused.
//
//go:noinline
func (t *Ticket) initFrom(q *request) {
	t.ctx, t.cfg = q.ctx, q.cfg
	// One by one, and in place: a copy of what has just been written is waited for.
	t.job.fill(&q.info)
	t.choice = q.choice
	if q.choice.lane > laneBatch {
		t.job.elsewhere = t.lane().elsewhere
	}
	t.arrived, t.decided, t.trial = q.arrived, q.decided, q.trial
	if q.event != nil {
		t.watch = &watch{event: q.event}
	}
	if q.outer != nil && !q.info.Async {
		t.fillNested(q)
	}
}

// opensInside reports whether the router, which is not open, takes jobs inside outer: while it
// drains, those inside jobs it has.
//
//go:noinline
func (r *Router) opensInside(outer *slot) bool {
	return r.phase.Load() == phaseDraining && outer.inside(r)
}

// admit counts a job and offers it to its strategy. If that does not take it, the job is
// refused after all: the ticket has ended. outer is the job inside which it was submitted.
func (r *Router) admit(t *Ticket, outer *slot) error {
	// Counted before the strategy has it, because it may end at any moment
	// after that. Then the phase is looked at again: either this sees that the
	// router closes, or waitIdle sees the job.
	c, taken := t.counters(), r.take(t)
	switch {
	case taken:
		c.Taken[t.choice.lane].Add(1)
	case t.custody != custodyBack: // one that was declined counts already
		c.Submitted.Add(1)
	}
	if charge := t.charge(); charge != 0 {
		// A short run that has a slot counts as demand when it ends, as one in place does.
		if t.place.Brief = taken && t.choice.lane == laneCPUPool && t.job.predicted < yieldFrom; !t.place.Brief {
			c.Admitted.Add(charge)
		}
		t.kind.account.Owe(t.decided, charge)
	}
	t.sampled = t.job.samples < estimate.EarlyRuns || t.kind.runs.Sample(t.decided)
	if !r.open() && !r.opensInside(outer) && !(t.custody == custodyBack && r.phase.Load() == phaseDraining) {
		if taken {
			r.putBack(t)
		}
		t.endWithdrawn(ErrClosed)
		return ErrClosed
	}
	if taken {
		r.begin(t)
		return nil
	}
	err := r.offer(t)
	if err == nil || t.exit == exitPanicked {
		return err
	}
	return r.refuseOffered(t, err)
}

// take reports whether a strategy of the router's own has room for the ticket at once, and that
// the ticket has it now. Then begin or putBack must follow; else the ticket is to be offered.
func (r *Router) take(t *Ticket) bool {
	if r.replaced || t.custody != custodyOwn {
		return false
	}
	switch t.choice.lane {
	case laneInline:
		return true
	case laneSpawn:
		return !t.gated() && r.spawn.take(t)
	case laneCPUPool:
		return r.pool.tryAcquireFree(slots.Work(t.charge()), t.long())
	}
	return false
}

// begin has a ticket run that has been taken.
func (r *Router) begin(t *Ticket) {
	switch t.choice.lane {
	case laneInline:
		t.nextAction = actionInline
	case laneSpawn:
		if t.job.async {
			t.claim() // Future.Cancel may soon want to withdraw it
		}
		t.nextAction = actionAway
		r.spawn.start(t)
	default:
		t.started = t.decided
		r.pool.begin(t)
	}
}

// putBack undoes take.
//
//go:noinline
func (r *Router) putBack(t *Ticket) {
	switch t.choice.lane {
	case laneSpawn:
		r.spawn.running.Add(-1)
	case laneCPUPool:
		r.pool.release(slots.Work(t.charge()), t.long())
	}
}

// offer gives the ticket to its strategy.
func (r *Router) offer(t *Ticket) (err error) {
	l := t.lane()
	if l.custom {
		return r.offerOutside(t, l)
	}
	routed := &t.counters().Routed[l.index]
	if err = l.strategy.Offer(t); err == nil {
		routed.Add(1) // not before, or it would fall if the job is not taken
	}
	return err
}

// offerOutside is offer for a strategy from outside. A panic there, or runtime.Goexit, ends
// the ticket, if it is not on its way, and carries on in the submitter.
//
//go:noinline
func (r *Router) offerOutside(t *Ticket, l *lane) (err error) {
	routed := &t.counters().Routed[l.index]
	t.custody = custodyGiven
	returned, accepted := false, true
	defer func() {
		if accepted {
			routed.Add(1)
		}
		v := recover()
		switch {
		case returned:
		case !t.claim(): // the job may have run in Offer, and have called runtime.Goexit
			if v != nil {
				r.logPanic(t.kind, t.cfg, "helix: panic in Strategy.Offer", v, debug.Stack())
			}
		default:
			t.refuseLate(reasonRefused)
			if t.onSubmitter = true; v != nil {
				t.exit, t.err = rescue(v)
				err = t.err
			}
		}
	}()
	err = l.strategy.Offer(t)
	returned = true
	switch {
	case err != nil && t.claim():
	case errors.Is(err, ErrDecline) && t.ended == 0: // it had claimed it, and gives it back
	default:
		return nil // it was accepted, whatever the strategy says
	}
	accepted = false
	return err
}
