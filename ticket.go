package helix

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/slots"
	"github.com/helixrouter/helix/internal/tally"
)

// Ticket is one job's passage through the router, as a [Strategy] sees it.
//
// Ownership: the submitter fills a ticket and gives it away with
// Strategy.Offer. From then on the goroutine that wins the one compare-and-swap on state
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
	exit        exit
	custody     custody
	onSubmitter bool // ran on the submitter's goroutine, so there is none to wake
	sampled     bool // its run time is to be learned
	trial       bool // runs outside the slots on the word of its hint; see kind.trials

	kind *kind
	work work
	// wake wakes a parked submitter, once wakeAction says what to do. One value is sent to it
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
	place  slots.Node    // in the pool's queue; guarded by pool.mu, but for Gated and Brief
}

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
	where    string // where the job is done, if not here
}

// work is the typed shell around a ticket: it knows what to run.
type work interface {
	run(ctx context.Context) error // runs the job and keeps its value
	finished()                     // Go only: ends the ctx and completes the future
}

// exit is how a job's code came back.
type exit int8

const (
	exitNotRun exit = iota
	exitReturned
	exitPanicked
	exitGoexit // runtime.Goexit
)

// router returns the router of the ticket.
func (t *Ticket) router() *Router { return t.kind.router }

// pool returns the pool of the router.
func (t *Ticket) pool() *pool { return t.kind.router.pool }

// counters returns the shard of the kind's counters that the ticket writes to.
func (t *Ticket) counters() *tally.Shard { return t.kind.counters.Shard(t.shard) }

// gate returns the gate of the kind; nil if there is none.
func (t *Ticket) gate() *gate { return t.kind.gate.Load() }

// batcher returns the batcher of the kind; nil if there is none.
func (t *Ticket) batcher() *batcher { return t.kind.batcher.Load() }

// lane returns the lane of the strategy that it was offered to.
func (t *Ticket) lane() *lane { return t.kind.router.lanes[t.choice.lane] }

// charge returns the CPU ns charged to the ledger at admission. What runs in place pays when
// it has ended, which is at once.
func (t *Ticket) charge() int64 {
	if t.choice.lane == laneInline || t.job.elsewhere {
		return 0
	}
	return int64(t.job.work)
}

// expires reports whether its submitter is to be told when its budget ends while it waits.
func (t *Ticket) expires() bool { return t.job.budget > 0 && !t.choice.bound }

// deadline returns when its budget ends. It must have one.
func (t *Ticket) deadline() int64 { return deadline(t.arrived, t.job.budget) }

// deadline is arrived + budget, or as late as can be where that overflows.
func deadline(arrived int64, budget time.Duration) int64 {
	if int64(budget) < math.MaxInt64-max(arrived, 0) {
		return arrived + int64(budget)
	}
	return math.MaxInt64
}

// Left returns what is left of the job's budget, negative when it is over; false without one.
func (t *Ticket) Left() (time.Duration, bool) {
	if t.job.budget == 0 {
		return 0, false
	}
	return time.Duration(t.deadline() - t.router().now()), true
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
	j.setDeadline(t.arrived, t.decided)
	return j
}

// fill makes f the facts of the job that j describes.
func (f *jobFacts) fill(j *JobInfo) {
	f.cost, f.scaling = j.Cost, float32(j.Scaling)
	f.predicted, f.work = j.Predicted, j.Work
	f.samples = uint32(min(j.Samples, math.MaxUint32))
	f.low, f.likely, f.high, f.spread = float32(j.Low), float32(j.Likely), float32(j.High), float32(j.Spread)
	f.budget, f.priority = j.Budget, j.Priority
	f.batchable, f.waits, f.async = j.Batchable, j.Waits, j.Async
	f.elsewhere, f.nested, f.among = false, false, 0
}

// setDeadline fills in by when a job that arrived then, and is decided on at time now, must end.
func (j *JobInfo) setDeadline(arrived, now int64) {
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
	defer t.notifySubmitter() // also after runtime.Goexit
	t.kind.execute(t, t.router().now())
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
	t.notifySubmitter()
	return true
}

// self returns the ticket, for types that embed it.
func (t *Ticket) self() *Ticket { return t }

// reset makes the ticket, whose job has ended, ready for its next: kind, work, wake, spawned and
// shard stay, and what fill writes is left to it.
func (t *Ticket) reset() {
	if t.state.Load() != stateQueued {
		t.state.Store(stateQueued)
	}
	t.members, t.started, t.ended = 0, 0, 0
	t.nextAction, t.wakeAction, t.exit, t.onSubmitter, t.sampled = actionWait, actionWait, exitNotRun, false, false
	t.ctx, t.err, t.batch, t.watch, t.slot = nil, nil, nil, nil, nil
	if t.choice.lane != laneInline {
		t.place = slots.Node{}
	}
}
