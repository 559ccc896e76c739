package helix

import (
	"context"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Ticket is one job's passage through the router, as a [Strategy] sees it.
//
// Ownership: the submitter fills a ticket and gives it away with
// Strategy.Offer. From then on whoever wins the one compare-and-swap on state
// (queued to running, or queued to withdrawn) owns it and must end it once.
// After Run or Refuse has returned a strategy must not touch the ticket:
// tickets of the built-in strategies are used again.
type Ticket struct {
	router *Router
	cfg    *RouterConfig // in force when the job was decided on
	kind   *kind
	lane   *lane
	work   work
	// ctx is the submitter's for Submit and the router's for Go. It is kept
	// because the job may start on another goroutine than the one that has it.
	ctx    context.Context
	cancel context.CancelFunc // of ctx; Go only
	span   context.Context    // what Hooks.Start returned, for Hooks.Done
	// wake tells a waiting submitter what to do. One value is sent to it for
	// each ticket whose next was stepWait and that was not withdrawn. Submit only.
	wake chan step
	next step // what the submitter is to do once Offer has returned; set by Offer

	state   atomic.Int32
	shard   uint32 // which of the sharded counters this ticket writes
	custom  bool   // offered to a strategy from outside: never used again
	home    bool   // ran on its submitter's goroutine, which needs no waking
	sampled bool   // its run time is to be learned
	probe   bool   // admitted to heal a wrong estimate: runs even if that seems vain
	fate    fate

	info     JobInfo
	decision Decision
	slot     *slot  // that it runs in; nil if in none
	event    *Event // nil unless the decision was sampled
	charge   int64  // CPU ns charged to the ledger at admission

	// Nanoseconds since the router was made.
	arrived, decided, started, ended int64

	err     error
	members int // jobs in the same call

	place waiter // in the pool's queue; guarded by pool.mu
	batch *batch // guarded by batcher.mu
}

// work is the typed shell around a ticket: it knows what to run.
type work interface {
	run(ctx context.Context) error // runs the job and keeps its value
	finished()                     // Go only: completes the future
}

// The states of a ticket.
const (
	stateQueued int32 = iota
	stateRunning
	stateWithdrawn
)

// step is what a submitter does next about its ticket. What runs on its goroutine
// does so only once the decision and Offer have returned: a submitting goroutine is
// often new, and growing its stack costs more than a decision.
type step int8

const (
	stepWait   step = iota // be told by wake
	stepDone               // the ticket has ended
	stepInline             // run the job in place
	stepRun                // a slot is yours: run the job in it
	stepLead               // a slot is yours: run your batch in it
)

// fate is how a job's code came back.
type fate int8

const (
	fateNotRun fate = iota
	fateReturned
	fatePanicked
	fateExited // runtime.Goexit
)

// Info returns what the router knows of the job.
func (t *Ticket) Info() JobInfo { return t.info }

// Decision returns the decision that led to the strategy.
func (t *Ticket) Decision() Decision { return t.decision }

// Context is done when the job is no longer wanted: a ticket that is still
// queued then is withdrawn by its submitter, and Run does nothing.
func (t *Ticket) Context() context.Context { return t.ctx }

// Run runs the job on the calling goroutine and reports true, or false if the
// job had been withdrawn. Panics of the job do not reach the caller.
// runtime.Goexit in the job ends the calling goroutine.
func (t *Ticket) Run() bool {
	if !t.claim() {
		return false
	}
	defer t.deliver() // also after runtime.Goexit
	t.exec(t.ctx, t.router.now())
	return true
}

// Refuse ends a queued job without running it; its submitter gets a
// [DropError] with that reason, which must be constant text. It reports false
// if the job had been withdrawn.
func (t *Ticket) Refuse(reason string) bool {
	if !t.claim() {
		return false
	}
	t.refuseLate(reason)
	t.deliver()
	return true
}

// claim makes the caller the owner of a queued ticket.
func (t *Ticket) claim() bool { return t.state.CompareAndSwap(stateQueued, stateRunning) }

// withdraw ends a queued ticket with err unless somebody has claimed it.
func (t *Ticket) withdraw(err error) bool {
	if !t.state.CompareAndSwap(stateQueued, stateWithdrawn) {
		return false
	}
	if t.lane.index == laneBatch && !t.custom {
		t.kind.batcher.Load().leave(t)
	} else {
		t.router.pool.remove(&t.place, workLoad(t.charge))
	}
	t.endWithdrawn(err)
	return true
}

// exec runs the job on this goroutine and settles it. The caller owns the
// ticket, and delivers it, in a defer because the job may call runtime.Goexit,
// unless it is on the submitter's own goroutine.
func (t *Ticket) exec(ctx context.Context, started int64) {
	t.started = started
	t.members = 1
	t.kind.demand.start(started)
	t.fate = fateExited // unless it turns out otherwise
	defer func() {
		if t.fate == fateExited {
			t.fate, t.err = rescue(recover())
		}
		t.ended = t.router.now()
		t.kind.learn(t)
		t.settle()
	}()
	if t.cfg.Hooks.Start != nil {
		ctx = t.startHook(ctx)
	}
	t.err = t.work.run(ctx)
	t.fate = fateReturned
}

// startHook calls Hooks.Start and returns the ctx to go on with. Its frame is
// large, and must be gone when the job runs.
//
//go:noinline
func (t *Ticket) startHook(ctx context.Context) context.Context {
	if t.span = t.cfg.Hooks.Start(ctx, t.info, t.decision); t.span != nil {
		return t.span
	}
	return ctx
}

// rescue tells a panic with value v from a runtime.Goexit (v is nil).
func rescue(v any) (fate, error) {
	if v == nil {
		return fateExited, ErrGoexit
	}
	return fatePanicked, &PanicError{Value: v, Stack: debug.Stack()}
}

// settle does all the accounting of a job that ran: ended, fate and err are
// set. The caller owns the ticket.
func (t *Ticket) settle() {
	status := Completed
	if t.err != nil {
		status = Failed
	}
	latency := time.Duration(t.ended - t.arrived)
	t.kind.cell(t.shard).end(status, t.info.Budget, latency)
	t.lane.latency.recordAt(t.shard, latency)
	if t.event != nil || t.cfg.Hooks.Done != nil {
		t.tell(status)
	}
	if t.fate != fateReturned {
		t.reportFate()
	}
	t.router.nudge()
}

// reportFate logs what nobody may get to know otherwise.
//
//go:noinline
func (t *Ticket) reportFate() {
	switch {
	case t.fate == fateExited:
		t.router.logPanic(t, "helix: job called runtime.Goexit", nil, nil)
	case t.fate == fatePanicked && t.info.Async:
		p := t.err.(*PanicError)
		t.router.logPanic(t, "helix: panic in a job from Go", p.Value, p.Stack)
	}
}

// refuseLate ends an admitted ticket that will not be run after all. The
// caller owns the ticket.
func (t *Ticket) refuseLate(reason string) {
	t.fate = fateNotRun
	t.ended = t.router.now()
	t.reimburse()
	t.decision.drop(reason)
	t.err = &DropError{Decision: t.decision}
	t.kind.cell(t.shard).dropLate(t.router.reasons.index(reason), t.info.Budget)
	if t.event != nil {
		t.tell(Dropped)
	}
	t.router.nudge()
}

// endWithdrawn ends a ticket that its submitter, or Close, gave up.
func (t *Ticket) endWithdrawn(err error) {
	t.fate = fateNotRun
	t.ended = t.router.now()
	t.reimburse()
	t.err = err
	t.kind.cell(t.shard).withdrawn.Add(1)
	if t.event != nil {
		t.tell(Withdrawn)
	}
	t.router.nudge()
}

// deliver lets the submitter know that the ticket has ended. The ticket must
// not be touched afterwards.
func (t *Ticket) deliver() {
	switch {
	case t.info.Async:
		t.cancel()
		t.work.finished()
	case !t.home:
		t.wake <- stepDone
	}
}

// proceed does what its submitter must, and returns when the ticket has ended. The
// ticket was accepted by a strategy.
func (t *Ticket) proceed() {
	next := t.next
	if next == stepWait {
		next = t.await()
	}
	switch next {
	case stepInline:
		t.home = true
		t.exec(t.ctx, t.decided)
	case stepRun:
		t.home = true
		t.router.pool.serve(t)
	case stepLead:
		t.batch.lead(t)
	}
}

// await blocks until the ticket has ended, or its submitter is to run it.
//
//go:noinline
func (t *Ticket) await() step {
	done := t.ctx.Done()
	if done == nil {
		return <-t.wake // without a select, which costs more than all else here
	}
	select {
	case next := <-t.wake:
		return next
	case <-done:
		if t.withdraw(withdrawn(t.ctx)) {
			return stepDone
		}
		return <-t.wake // somebody has claimed it: wait for the end
	}
}

// launch runs f(t) on a new goroutine that Close waits for.
func (t *Ticket) launch(f func(*Ticket)) {
	r, c := t.router, t.kind.cell(t.shard)
	c.goroutines.Add(1)
	go func() {
		defer func() {
			c.goroutines.Add(-1)
			r.nudge()
		}()
		f(t)
	}()
}

// worked is how long the job ran, less what it spent giving way to others.
func (t *Ticket) worked() time.Duration {
	run := t.ended - t.started
	if t.slot != nil {
		run -= t.slot.away.Load()
	}
	return time.Duration(run)
}

// outcome describes the ended ticket.
func (t *Ticket) outcome(status Status) Outcome {
	o := Outcome{Status: status, Err: t.err, Latency: time.Duration(t.ended - t.arrived)}
	if t.fate != fateNotRun {
		o.Wait, o.Run, o.Members = time.Duration(t.started-t.decided), time.Duration(t.ended-t.started), t.members
		o.InBudget = t.info.Budget > 0 && o.Latency <= t.info.Budget
	} else {
		o.Wait = time.Duration(t.ended - t.decided)
	}
	return o
}

// tell passes the outcome to the hook and to watchers. It is rare and takes a
// large frame, which the stacks of others must not pay for.
//
//go:noinline
func (t *Ticket) tell(status Status) {
	o := t.outcome(status)
	if t.event != nil {
		t.event.Outcome = o
		t.router.watchers.send(t.event)
		t.event = nil
	}
	if done := t.cfg.Hooks.Done; done != nil && t.fate != fateNotRun {
		defer func() {
			if v := recover(); v != nil {
				t.router.logPanic(t, "helix: panic in Hooks.Done", v, debug.Stack())
			}
		}()
		ctx := t.ctx
		if t.span != nil {
			ctx = t.span
		}
		done(ctx, t.info, o)
	}
}

// reset makes the ticket ready for its next job; wake and shard stay.
func (t *Ticket) reset() {
	*t = Ticket{router: t.router, wake: t.wake, shard: t.shard}
}
