package helix

import (
	"runtime/debug"
	"time"

	"github.com/helixrouter/helix/internal/tally"
)

// settle does all the accounting of a job that ran: ended, exit and err are
// set. The caller owns the ticket. worked says that the job worked from its arrival to its end,
// and that this was counted: see kind.learn.
func (t *Ticket) settle(worked bool) {
	status := Completed
	if t.err != nil {
		status = Failed
	}
	latency := time.Duration(t.ended - t.arrived)
	counted := t.kind.latencies[t.choice.lane].countAt(uint32(t.shard), latency)
	if !worked {
		counted.add(uint64(max(latency, 0)))
	}
	t.counters().End(status == Failed, t.job.budget, latency) // last: Close may return now
	t.router().signalIdle()
	if t.exit != exitReturned {
		t.logAbnormalExit()
	}
	if t.watch != nil || t.cfg.Hooks.Done != nil {
		t.publishOutcome(status)
	}
}

// logAbnormalExit logs panics and Goexits that no caller is guaranteed to see.
//
//go:noinline
func (t *Ticket) logAbnormalExit() {
	switch {
	case t.exit == exitGoexit:
		t.router().logPanic(t.kind, t.cfg, "helix: job called runtime.Goexit", nil, nil)
	case t.exit == exitPanicked && t.job.async:
		p := t.err.(*PanicError)
		if p.abort() != nil {
			return
		}
		t.router().logPanic(t.kind, t.cfg, "helix: panic in a job from Go", p.Value, p.Stack)
	}
}

// refuseLate ends an admitted ticket that will not be run after all. The
// caller owns the ticket.
func (t *Ticket) refuseLate(reason string) {
	t.exit = exitNotRun
	t.ended = t.router().now()
	t.reimburse()
	admission, waited := t.Decision(), time.Duration(t.ended-t.decided)
	t.dropChoice(reason)
	t.err = &DropError{Decision: t.Decision(), Admission: &admission, Waited: waited, RetryAfter: t.retryAfter(),
		closed: t.router().closed()}
	t.counters().DropLate(t.router().reasons.Index(reason), t.job.budget)
	if t.watch != nil {
		t.publishOutcome(Dropped)
	}
	t.router().signalIdle()
}

// retryAfter returns in how long a job that was refused after it was admitted is best submitted
// again: when what waits now has been worked off.
func (t *Ticket) retryAfter() time.Duration {
	if t.job.budget > 0 && t.job.predicted > t.job.budget {
		return 0
	}
	pool := t.pool()
	return time.Duration(pool.backlog.All()/pool.slots.Load()) + t.job.predicted
}

// dropChoice makes the choice of an ended ticket a refusal, with the numbers of now: those
// it was admitted by have been proved wrong.
func (t *Ticket) dropChoice(reason string) {
	t.choice.drop(reason)
	t.choice.wait = 0
	if t.job.budget > 0 {
		t.choice.slack = time.Duration(t.deadline() - t.ended)
	}
}

// endWithdrawn ends a ticket that its submitter, or Close, gave up.
func (t *Ticket) endWithdrawn(err error) {
	t.exit = exitNotRun
	t.ended = t.router().now()
	t.reimburse()
	t.err = err
	t.counters().Withdrawn.Add(1)
	if t.watch != nil {
		t.publishOutcome(Withdrawn)
	}
	t.router().signalIdle()
}

// worked returns how long the job ran, less what was not its own: time in nested jobs, blocked, or
// giving way to others.
func (t *Ticket) worked() time.Duration {
	run := t.ended - t.started
	if t.slot != nil {
		run = max(run-t.slot.absent(t.ended), 0)
	}
	return time.Duration(run)
}

// outcome describes the ended ticket.
func (t *Ticket) outcome(status Status) Outcome {
	o := Outcome{Status: status, Err: t.err, Latency: time.Duration(t.ended - t.arrived)}
	if t.exit != exitNotRun {
		o.Wait, o.Run, o.Members = time.Duration(t.started-t.decided), time.Duration(t.ended-t.started), int(t.members)
		o.InBudget = t.job.budget > 0 && o.Latency <= t.job.budget
	} else {
		o.Wait = time.Duration(t.ended - t.decided)
	}
	if t.watch != nil {
		o.Where = t.watch.where
	}
	return o
}

// publishOutcome passes the outcome to the hook and to watchers. It is rare and takes a
// large frame, which the stacks of others must not pay for.
//
//go:noinline
func (t *Ticket) publishOutcome(status Status) {
	o := t.outcome(status)
	ctx := t.ctx
	if t.watch != nil {
		if e := t.watch.event; e != nil {
			if e.Outcome = o; status == Dropped {
				e.refuse(t.Decision())
			}
			t.router().watchers.Send(e, &e.Seq)
		}
		if t.watch.span != nil {
			ctx = t.watch.span
		}
		t.watch = nil
	}
	if done := t.cfg.Hooks.Done; done != nil && t.exit != exitNotRun {
		returned := false
		defer func() {
			switch v := recover(); {
			case returned:
			case v != nil:
				t.router().logPanic(t.kind, t.cfg, "helix: panic in Hooks.Done", v, debug.Stack())
			default: // nothing can stop it, and it is the same in all lanes
				t.exit = exitGoexit
				t.router().logPanic(t.kind, t.cfg, "helix: Hooks.Done called runtime.Goexit", nil, nil)
			}
		}()
		done(ctx, t.Info(), o)
		returned = true
	}
}

// pay replaces the predicted work that the ticket was charged by what it took, which may be
// all its latency.
func (t *Ticket) pay(work int64, all bool) {
	t.kind.correct(t, work-t.charge())
	c := t.counters()
	if all {
		c.AllWork[t.choice.lane].Add(work)
	} else {
		c.Served.Add(work)
	}
	t.discharge(c)
}

// discharge takes what the ticket was charged out of Shard.Admitted, if it is there.
func (t *Ticket) discharge(c *tally.Shard) {
	if t.charge() != 0 && !t.place.Brief {
		c.Admitted.Add(-t.charge())
	}
}

// correct puts right what was charged for t. What runs in place was not charged before,
// and is charged only if others had to wait for it.
func (k *kind) correct(t *Ticket, work int64) {
	switch {
	case t.choice.lane != laneInline && t.charge() == 0: // of a kind not learned yet: it was not charged
	case t.choice.lane != laneInline:
		k.account.Correct(work)
	case t.choice.contended && work > 0:
		k.account.Owe(t.ended, work)
	}
}

// reimburse gives back what a ticket was charged that has not run.
func (t *Ticket) reimburse() {
	if t.trial {
		t.endTrial()
	}
	t.kind.correct(t, -t.charge())
	c := t.counters()
	c.Shed.Add(t.charge())
	t.discharge(c)
}
