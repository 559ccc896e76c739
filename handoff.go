package helix

import "github.com/helixrouter/helix/internal/slots"

// # The life of a ticket
//
// A ticket stands for one admitted job. It has three states and ends once:
//
//	          claim                      execute, settle:   completed or failed
//	queued ─────────▶ running ─────────▶ refuseLate:        dropped
//	   │                                 endWithdrawn:      withdrawn (its ctx was done)
//	   │ giveUp
//	   └────────────▶ withdrawn ───────▶ endWithdrawn:      withdrawn
//
// Owner. One compare-and-swap on the state makes the caller the owner: claim for the
// goroutine that will run the job or refuse it, giveUp for one that withdraws it. All others
// must leave the ticket alone. The owner ends it, once, and then calls notifySubmitter, after which
// the ticket may be in use for another job. Where no other goroutine knows the ticket, as
// when a submitter gets a free slot, no claim is needed.
//
// Where it waits, the releaser that takes it out, and how it leaves otherwise:
//
//	waits in                 taken out by                 leaves by
//	the pool's queue         pool.dispatch                pool.dequeueWithdrawn
//	a forming or full batch  batch.seal, by the leader    batcher.removeWithdrawn
//	a gate                   gate.leave                   gate.remove
//	a gathering              batcher.take                 batcher.ungather
//	a strategy from outside  its Run, Refuse or Decline   its next Run, which reports false
//
// A queue may hold on to no ticket that could be in use again. So the releaser claims it
// under the lock of the queue, while taking it out, and the goroutine that withdraws a ticket
// passes through that lock (leaveQueue) before it ends it. Tickets that strategies from
// outside have seen are never used again (custody).
//
// Wake-ups. A submitter in Submit parks in await until wakeFor sends it its next action, and
// does that itself: run the job in the slot (actionRun), lead its batch (actionLead), do its
// member's accounting (actionSettle), have it decided again (actionAgain), or return
// (actionDone). For a job from Go the releaser launches a goroutine instead, and notifySubmitter
// completes the Future. Each parked submitter is woken once for each time that its ticket
// was queued; if its ctx ends, it withdraws the ticket, or, too late, waits for the end.
//
// Locks, in the order in which they may be taken; user code runs under none of them:
//
//	batch.sealing, batcher.mu, gate.mu, pool.mu, nest.mu, then what internal packages have
//
// batch.sealing is also taken under batcher.mu, by the leader when it seals the batch: no
// other goroutine can have it then.
//
// What each event adds to the accounts, and what takes it off again, is a table in
// docs/architecture.md. The rule for the work in the pool: the goroutine that ends the ticket
// takes it off, whether or not the ticket is still in the queue.
//
// TestPassages walks the table: each place, and each way to leave it.

// The states of a ticket.
const (
	stateQueued    int32 = iota // it waits, or is on its way to a strategy
	stateRunning                // it has an owner, that runs it or refuses it
	stateWithdrawn              // it has an owner, that gave it up
)

// custody says whether strategies from outside know the ticket: such a one is never used
// again.
type custody uint8

const (
	custodyOwn   custody = iota // none does
	custodyGiven                // it was offered to one
	custodyBack                 // that one has declined it
)

// action is what a submitter does next about its ticket. What runs on its goroutine
// does so only once the decision and Offer have returned: a submitting goroutine is
// often new, and growing its stack costs more than a decision.
type action int8

const (
	actionWait   action = iota // wait to be woken
	actionAway                 // likewise; the job is on a goroutine of its own, which alone ends it
	actionDone                 // the ticket has ended
	actionInline               // run the job in place
	actionRun                  // a slot is yours: run the job in it
	actionLead                 // a slot is yours: run your batch in it
	actionSettle               // your batch has run: do the accounting
	actionAgain                // your strategy declined: decide once more
)

// claim makes the caller the owner of a queued ticket, to run it or to refuse it.
func (t *Ticket) claim() bool { return t.state.CompareAndSwap(stateQueued, stateRunning) }

// giveUp makes the caller the owner of a queued ticket that will not run.
func (t *Ticket) giveUp() bool { return t.state.CompareAndSwap(stateQueued, stateWithdrawn) }

// withdraw ends a queued ticket with err unless it has been claimed.
func (t *Ticket) withdraw(err error) bool {
	if !t.giveUp() {
		return false
	}
	t.leaveQueue()
	t.endWithdrawn(err)
	return true
}

// leaveQueue takes a ticket that was given up out of where it waits, and what it added
// to the pool's work off.
func (t *Ticket) leaveQueue() {
	switch {
	case t.custody == custodyGiven: // its strategy finds out when it calls Run
	case t.choice.lane == laneSpawn:
		t.gate().remove(t)
	case t.choice.lane == laneBatch && t.job.waits:
		t.batcher().ungather(t)
	case t.choice.lane == laneBatch:
		t.batcher().removeWithdrawn(t)
	default:
		t.pool().dequeueWithdrawn(&t.place, slots.Work(t.charge()))
	}
}

// notifySubmitter lets the submitter know that the ticket has ended. The ticket must
// not be touched afterwards.
func (t *Ticket) notifySubmitter() {
	switch {
	case t.job.async:
		t.work.finished()
	case !t.onSubmitter:
		t.wakeFor(actionDone)
	}
}

// finished is for tickets of Submit, whose submitter waits.
func (*Ticket) finished() {}

// wakeFor wakes the submitter, which waits, for that action.
func (t *Ticket) wakeFor(next action) {
	t.wakeAction = next
	t.wake <- struct{}{}
}

// finishSubmit does what its submitter must, and returns the job's error when the ticket has
// ended. The ticket was accepted by a strategy.
func (t *Ticket) finishSubmit() error {
	next := t.nextAction
	if next <= actionAway {
		next = t.await()
	}
	switch next {
	case actionInline:
		t.onSubmitter = true
		started := t.decided
		if t.sampled { // what the decision took is not to be learned
			started = t.router().now()
		}
		t.kind.execute(t, started)
	case actionRun:
		t.onSubmitter = true
		t.pool().serve(t)
	case actionLead:
		t.batch.lead(t)
	case actionSettle:
		t.settleMember()
	case actionAgain:
		if err := t.router().again(t); err != nil {
			return err
		}
		return t.finishSubmit()
	}
	return t.err
}

// await blocks until the ticket has ended, or its submitter is to run it.
//
//go:noinline
func (t *Ticket) await() action {
	if t.job.nested {
		t.slot.lendOuter()
	}
	// Without a select where there can be, which costs more than all else here.
	if t.nextAction == actionAway {
		<-t.wake
		return t.wakeAction
	}
	done := t.ctx.Done()
	if done == nil {
		<-t.wake
		return t.wakeAction
	}
	select {
	case <-t.wake:
	case <-done:
		if t.withdraw(withdrawn(t.ctx)) {
			return actionDone
		}
		<-t.wake // it has been claimed: wait for the end
	}
	return t.wakeAction
}

// launch runs f(t) on a new goroutine that Close waits for.
func (t *Ticket) launch(f func(*Ticket)) {
	r, c := t.router(), t.counters()
	c.Goroutines.Add(1)
	go func() {
		defer func() {
			c.Goroutines.Add(-1)
			r.signalIdle()
		}()
		f(t)
	}()
}
