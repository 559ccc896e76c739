package helix

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/slots"
)

// Ticket is one job's passage through the router, as a [Strategy] sees it.
//
// Ownership: the submitter fills a ticket and gives it away with
// Strategy.Offer. From then on whoever wins the one compare-and-swap on state
// (queued to running, or queued to withdrawn) owns it and must end it once.
// After Run or Refuse has returned a strategy must not touch the ticket:
// tickets of the built-in strategies are used again.
//
// Its fields are grouped by the goroutine that needs them: what the leader of a batch reads and
// writes of each member comes first, on as few lines of the cache as can be.
type Ticket struct {
	state       atomic.Int32
	members     int32  // jobs in the same call
	shard       uint8  // which of the sharded counters this ticket writes
	nextAction  action // what the submitter is to do once Offer has returned; set by Offer
	wakeAction  action // what the submitter does after it is woken; written before the send on wake
	fate        fate
	custody     custody
	onSubmitter bool // ran on the submitter's goroutine, so there is none to wake
	sampled     bool // its run time is to be learned
	trial       bool // runs outside the slots on the word of its hint; see kind.trials

	kind *kind
	work work
	// wake rouses a waiting submitter, once wakeAction says what to do. One value is sent to it
	// for each ticket whose nextAction was actionWait or actionAway and that was not withdrawn. Submit only.
	wake chan struct{}
	// spawned runs the job that the ticket has then on a goroutine of its own. It is made once,
	// or each such job would be an allocation. Submit only.
	spawned func()
	// ctx is the submitter's for Submit and the router's for Go. It is kept
	// because the job may start on another goroutine than the one that has it.
	ctx context.Context

	// Nanoseconds since the router was made.
	arrived, decided, started, ended int64

	err   error
	batch *batch // guarded by batcher.mu
	watch *watch

	job    jobFacts
	choice choice
	cfg    *RouterConfig // in force when the job was decided on
	slot   *slot         // made once needed: for a job inside another that is when it is admitted
	place  slots.Node    // in the pool's queue; guarded by pool.mu
}

// custody says whether strategies from outside know the ticket: such a one is never used
// again.
type custody uint8

const (
	custodyOwn   custody = iota // none does
	custodyGiven                // it was offered to one
	custodyBack                 // that one has declined it
)

// jobFacts holds the JobInfo fields that cannot be derived from the ticket; see JobInfo for
// their meaning.
type jobFacts struct {
	cost                      float64
	predicted, work, budget   time.Duration
	samples                   uint32 // as many as fit
	scaling                   float32
	low, likely, high, spread float32 // ns: close enough, and half the room
	priority                  Priority
	batchable, waits, async   bool
	elsewhere                 bool   // its strategy takes no CPU of this machine
	nested                    bool   // its submitter waits for it inside another job
	among                     uint16 // see limit.Call; only if it waits
}

// watch holds what only tickets with a hook or a watcher need.
type watch struct {
	event *Event          // nil unless the decision was sampled
	span  context.Context // what Hooks.Start returned, for Hooks.Done; nil: the job's own

	declined uint16 // lanes whose strategies gave the ticket back
	where    string // by whom the job is done, if not here
}

// work is the typed shell around a ticket: it knows what to run.
type work interface {
	run(ctx context.Context) error // runs the job and keeps its value
	finished()                     // Go only: ends the ctx and completes the future
}

// The states of a ticket.
const (
	stateQueued int32 = iota
	stateRunning
	stateWithdrawn
)

// action is what a submitter does next about its ticket. What runs on its goroutine
// does so only once the decision and Offer have returned: a submitting goroutine is
// often new, and growing its stack costs more than a decision.
type action int8

const (
	actionWait   action = iota // be told by wake
	actionAway                 // likewise, and nobody else may end the job: it is on a goroutine of its own
	actionDone                 // the ticket has ended
	actionInline               // run the job in place
	actionRun                  // a slot is yours: run the job in it
	actionLead                 // a slot is yours: run your batch in it
	actionSettle               // your batch has run: do the accounting
	actionAgain                // your strategy declined: decide once more
)

// fate is how a job's code came back.
type fate int8

const (
	fateNotRun fate = iota
	fateReturned
	fatePanicked
	fateExited // runtime.Goexit
)

// router is the one that the ticket belongs to.
func (t *Ticket) router() *Router { return t.kind.router }

// lane is that of the strategy it was offered to.
func (t *Ticket) lane() *lane { return t.kind.router.lanes[t.choice.lane] }

// charge is the CPU ns charged to the ledger at admission. What runs in place pays when
// it has ended, which is at once.
func (t *Ticket) charge() int64 {
	if t.choice.lane == laneInline || t.job.elsewhere {
		return 0
	}
	return int64(t.job.work)
}

// expires reports that its submitter is to be told when its budget ends while it waits.
func (t *Ticket) expires() bool { return t.job.budget > 0 && !t.choice.bound }

// deadline is when its budget ends. It must have one.
func (t *Ticket) deadline() int64 { return deadline(t.arrived, t.job.budget) }

// deadline is arrived + budget, or as late as can be where that overflows.
func deadline(arrived int64, budget time.Duration) int64 {
	if int64(budget) < math.MaxInt64-max(arrived, 0) {
		return arrived + int64(budget)
	}
	return math.MaxInt64
}

// Info returns what the router knows of the job.
func (t *Ticket) Info() JobInfo {
	b := &t.job
	j := JobInfo{
		Kind: t.kind.name, Cost: b.cost, Scaling: float64(b.scaling),
		Predicted: b.predicted, Low: min(time.Duration(b.low), b.predicted), Likely: time.Duration(b.likely), High: max(time.Duration(b.high), b.predicted),
		Work: b.work, Spread: time.Duration(b.spread), Samples: uint64(b.samples),
		Budget: b.budget, Priority: b.priority, Batchable: b.batchable, Waits: b.waits, Async: b.async,
	}
	if of := t.kind.template.Load(); of != nil {
		_, own := t.work.(portable)
		j.Portable, j.Idempotent = of.Portable && own, of.Idempotent
	}
	j.meet(t.arrived, t.decided)
	return j
}

// fill makes f the facts of a job of which j is known.
func (f *jobFacts) fill(j *JobInfo) {
	f.cost, f.scaling = j.Cost, float32(j.Scaling)
	f.predicted, f.work = j.Predicted, j.Work
	f.samples = uint32(min(j.Samples, math.MaxUint32))
	f.low, f.likely, f.high, f.spread = float32(j.Low), float32(j.Likely), float32(j.High), float32(j.Spread)
	f.budget, f.priority = j.Budget, j.Priority
	f.batchable, f.waits, f.async = j.Batchable, j.Waits, j.Async
	f.elsewhere, f.nested, f.among = false, false, 0
}

// meet fills in by when a job that arrived then, and is decided on at time now, must end.
func (j *JobInfo) meet(arrived, now int64) {
	if j.Budget > 0 {
		j.Deadline = time.Duration(deadline(arrived, j.Budget))
		j.Slack = j.Deadline - time.Duration(now)
	}
}

// Decision returns the decision that led to the strategy.
func (t *Ticket) Decision() Decision { return t.choice.decision(t.lane().name) }

// Context is done when the job is no longer wanted: a ticket that is still
// queued then is withdrawn by its submitter, and Run does nothing. After Claim it has the
// values of what Hooks.Start returned.
func (t *Ticket) Context() context.Context {
	if t.watch != nil && t.watch.span != nil {
		return t.watch.span
	}
	return t.ctx
}

// Run runs the job on the calling goroutine and reports true, or false if the
// job had been withdrawn. Panics of the job do not reach the caller.
// runtime.Goexit in the job ends the calling goroutine.
func (t *Ticket) Run() bool {
	if !t.claim() {
		return false
	}
	defer t.deliver() // also after runtime.Goexit
	t.kind.exec(t, t.router().now())
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
		t.kind.gate.Load().remove(t)
	case t.choice.lane == laneBatch && t.job.waits:
		t.kind.batcher.Load().ungather(t)
	case t.choice.lane == laneBatch:
		t.kind.batcher.Load().leave(t)
	default:
		t.router().pool.remove(&t.place, slots.Work(t.charge()))
	}
}

// exec runs the job on this goroutine and settles it. The caller owns the
// ticket, and delivers it, in a defer because the job may call runtime.Goexit,
// unless it is on the submitter's own goroutine. It is a method of the job's kind for
// the sake of Router.insideJob.
func (k *kind) exec(t *Ticket, started int64) {
	t.started = started
	t.members = 1
	k.prober.Start(t.choice.probe)
	t.fate = fateExited // unless it turns out otherwise
	ctx := t.mark()
	defer func() {
		if t.fate == fateExited {
			t.fate, t.err = rescue(recover())
		}
		if t.slot != nil {
			t.slot.finish()
		}
		t.ended = t.router().now()
		k.learn(t)
		t.settle()
	}()
	if t.cfg.Hooks.Start != nil {
		ctx = t.startHook(ctx)
	}
	t.err = t.work.run(ctx)
	t.fate = fateReturned
	runtime.KeepAlive(k) // so that the text of the stack shows it
}

// mark is the ctx that the job is given. By its mark work inside the job is known, which
// costs an allocation: without a slot a job has one only if there has been work inside jobs
// of the kind, or this one is learned from, and so would show whether there is.
func (t *Ticket) mark() context.Context {
	if t.slot == nil {
		if !t.sampled && !t.kind.nests.Load() && t.router().phase.Load() == phaseOpen {
			return t.ctx
		}
		t.slot = newMark(t)
	}
	return t.slot
}

// startHook calls Hooks.Start and returns the ctx to go on with. Its frame is
// large, and must be gone when the job runs.
//
//go:noinline
func (t *Ticket) startHook(ctx context.Context) context.Context {
	span := t.cfg.Hooks.Start(ctx, t.Info(), t.Decision())
	if span == nil || span == ctx {
		return ctx
	}
	if t.watch == nil {
		t.watch = &watch{}
	}
	t.watch.span = span
	return span
}

// rescue tells a panic with value v from a runtime.Goexit (v is nil).
func rescue(v any) (fate, error) {
	if v == nil {
		return fateExited, ErrGoexit
	}
	if p, ok := v.(*PanicError); ok { // of a job that this one submitted: it tells the origin
		return fatePanicked, p
	}
	return fatePanicked, &PanicError{Value: v, Stack: debug.Stack()}
}

// deliver lets the submitter know that the ticket has ended. The ticket must
// not be touched afterwards.
func (t *Ticket) deliver() {
	switch {
	case t.job.async:
		t.work.finished()
	case !t.onSubmitter:
		t.rouse(actionDone)
	}
}

// finished is for tickets of Submit, whose submitter waits.
func (*Ticket) finished() {}

// rouse wakes the submitter, which waits, for that step.
func (t *Ticket) rouse(next action) {
	t.wakeAction = next
	t.wake <- struct{}{}
}

// proceed does what its submitter must, and returns the job's error when the ticket has
// ended. The ticket was accepted by a strategy.
func (t *Ticket) proceed() error {
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
		t.kind.exec(t, started)
	case actionRun:
		t.onSubmitter = true
		t.router().pool.serve(t)
	case actionLead:
		t.batch.lead(t)
	case actionSettle:
		t.settleMember()
	case actionAgain:
		if err := t.router().again(t); err != nil {
			return err
		}
		return t.proceed()
	}
	return t.err
}

// self is the ticket, for types that embed it.
func (t *Ticket) self() *Ticket { return t }

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
	r, c := t.router(), t.kind.counters.Shard(t.shard)
	c.Goroutines.Add(1)
	go func() {
		defer func() {
			c.Goroutines.Add(-1)
			r.nudge()
		}()
		f(t)
	}()
}

// reset makes the ticket, whose job has ended, ready for its next: kind, work, wake, spawned and
// shard stay, and what fill writes is left to it.
func (t *Ticket) reset() {
	if t.state.Load() != stateQueued {
		t.state.Store(stateQueued)
	}
	t.members, t.started, t.ended = 0, 0, 0
	t.nextAction, t.wakeAction, t.fate, t.onSubmitter, t.sampled = actionWait, actionWait, fateNotRun, false, false
	t.ctx, t.err, t.batch, t.watch, t.slot = nil, nil, nil, nil, nil
	if t.choice.lane != laneInline {
		t.place = slots.Node{}
	}
}
