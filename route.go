package helix

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/estimate"
	"github.com/helixrouter/helix/internal/fair"
	"github.com/helixrouter/helix/internal/num"
	"github.com/helixrouter/helix/internal/slots"
	"github.com/helixrouter/helix/internal/tally"
)

// request is one submission on its way to being admitted or refused. It lives on the
// submitter's stack: a refused job never has a ticket.
type request struct {
	ctx   context.Context // the submitter's; the job's own slot if entered
	outer *slot           // of the job inside which this one is submitted; nil if there is none
	kind  *kind
	cfg   *RouterConfig
	info  JobInfo
	event *Event // nil unless the decision was sampled

	choice   choice
	declined uint16 // lanes that are not to be chosen, by their places
	follow   bool   // the job, from Go, ends with ctx
	entered  bool   // the slot of the job inside which this one is submitted
	trial    bool   // it counts among kind.trials
	// Nanoseconds since the router was made. Before the decision, arrived may also be
	// num.Never, which means that the job arrives now.
	arrived, decided int64
}

// arrival is what request.arrived is to be for a job that arrived then, if that is known.
func (r *Router) arrival(at time.Time) int64 {
	if at.IsZero() {
		return num.Never
	}
	return r.since(at)
}

// since is a time of the user's as the router counts it.
func (r *Router) since(at time.Time) int64 {
	now := time.Now()
	return onClock(at, now, int64(now.Sub(r.epoch)))
}

// onClock is at in nanoseconds since the router was made, which was elapsed before now. A
// time without a monotonic reading, as one that was parsed or sent, is told from now by
// the wall clock: the epoch's reading of it is old, and it may have been set since. It is
// not beyond centuries, so that no difference of two overflows.
func onClock(at, now time.Time, elapsed int64) int64 {
	return elapsed - min(max(int64(now.Sub(at)), -farAway), farAway)
}

// farAway is a century.
const farAway = int64(100 * 365 * 24 * time.Hour)

// decide asks the policy, or returns why the job is refused: it was counted then, and
// has ended.
//
//go:noinline
func (r *Router) decide(q *request) error {
	q.decided = r.now()
	q.arrived = min(q.arrived, q.decided)
	q.outer = jobIn(q.ctx)
	if r.phase.Load() != phaseOpen && !r.opensInside(q.outer) {
		q.kind.counters.Refusals().Refused[r.reasons.Index(reasonClosed)].Add(1)
		return ErrClosed
	}
	if q.ctx.Err() != nil {
		err := withdrawn(q.ctx)
		q.kind.counters.Refusals().Withdrawn.Add(1)
		return err
	}
	q.cfg = r.cfg.Load()
	if !q.info.Async || q.follow {
		q.heedDeadline(r)
	}
	r.tick(q.decided, q.cfg)
	if r.judge(q); q.choice.dropped {
		return r.refuse(q)
	}
	return nil
}

// judge fills in the choice. Its frame is large, and is gone when the job is refused, or runs.
//
//go:noinline
func (r *Router) judge(q *request) {
	var p Pressure
	q.kind.predict(&q.info, q.cfg) // here, not in look: see the stack's depth
	r.pressure(&p, q.decided, q.cfg, q.kind, q.info.Priority)
	r.look(q, &p, true)
	r.foresee(q, &p)
	if policy, ok := q.cfg.Policy.(AdaptivePolicy); ok { // by hand, for the stack's depth
		policy.choose(&q.info, &p, &q.choice)
	} else {
		r.choose(q, &p)
	}
	if q.info.Samples == 0 && q.choice.outside() {
		r.tryOut(q, &p)
	}
	if c := &q.choice; !c.dropped && (q.info.Async || q.outer != nil || c.lane == laneBatch) { // else there is nothing to resolve
		r.resolve(q)
	}
	if q.choice.offer > 0 && q.hopeless() { // or an estimate that is wrong would never heal
		q.kind.prober.Refuse(q.decided)
	}
	if r.watchers.Sample(q.decided, q.choice.dropped) {
		r.show(q, &p)
	}
	if r.logs.Enabled(q.ctx, slog.LevelDebug) {
		r.logDecision(q, &p)
	}
	if p.Offers != nil {
		p.forget()
	}
}

// heedDeadline makes the deadline of the submitter's ctx the job's, if it is the earlier one.
func (q *request) heedDeadline(r *Router) {
	at, ok := q.ctx.Deadline()
	if !ok {
		return
	}
	if left := max(r.since(at)-q.arrived, 1); q.info.Budget == 0 || left < int64(q.info.Budget) {
		q.info.Budget, q.choice.bound = time.Duration(left), true
	}
}

// look fills in when the job, whose run time has been predicted, must end, and what else of
// the router's state concerns this job alone. If probe, it may be made one,
// and takes a turn that is due.
func (r *Router) look(q *request, p *Pressure, probe bool) {
	q.info.meet(q.arrived, q.decided)
	if q.outer != nil {
		r.lookInside(q.outer, q, p)
	}
	if q.info.Waits {
		q.kind.downstream.Load().lookDown(&q.info, p)
	}
	if p.Limited && q.info.Budget > 0 && p.contended() {
		if ahead := q.info.ahead(p); p.Turn > ahead && p.Turn <= ahead+ahead/4 {
			p.Recalled = q.kind.account.Turns.Ready(q.decided, probe)
		}
	}
	if q.hopeless() {
		p.Probe = q.info.Slack > 0 && r.probe(q, probe)
	}
	if q.info.Budget == 0 || q.info.least() <= q.info.Budget {
		q.kind.account.NoteBudget(q.info.Budget)
	}
	if len(r.forecasters) > 0 {
		r.forecasters.ask(q, p, probe)
	}
}

// lookInside has a job see the slot that its caller holds as free, if it is for that job.
//
//go:noinline
func (r *Router) lookInside(outer *slot, q *request, p *Pressure) {
	if !q.info.Async && r.pool.seat(outer) != nil {
		p.CPUBusy = max(min(p.CPUBusy, p.Slots)-1, 0)
		p.Queued, p.Wait = 0, 0
	}
}

// lateByOthers is by how much a job may be late because Go did not let it run.
const lateByOthers = 20 * time.Millisecond

// refuse ends a job that was not admitted.
func (r *Router) refuse(q *request) error {
	away := q.kind.counters.Refusals()
	// What could never have been done takes nobody's share. What came a little late may have
	// been kept waiting by this process: that it was wanted must count, or those who kept
	// it waiting are given its share.
	if !q.hopeless() || q.info.least() <= q.info.Budget && q.info.Slack > -lateByOthers {
		away.Shed.Add(int64(q.info.Work))
	}
	switch q.choice.reason {
	case reasonBudget:
		q.kind.prober.Refuse(q.decided)
	case reasonDownstream:
		q.kind.downstream.Load().limit.Refused()
	}
	reason := r.reasons.Index(q.choice.reason)
	away.Refused[reason].Add(1)
	return r.turnDown(q, reason)
}

// turnDown is the error for a refused job, which was counted. Watchers learn of it.
func (r *Router) turnDown(q *request, reason int) error {
	err := r.dropError(q, reason)
	if q.event != nil {
		r.tellRefused(q, err)
	}
	return err
}

// tellRefused passes a refusal on to watchers.
//
//go:noinline
func (r *Router) tellRefused(q *request, err error) {
	q.event.Outcome = Outcome{Status: Dropped, Err: err, Latency: time.Duration(q.decided - q.arrived)}
	r.watchers.Send(q.event, &q.event.Seq)
}

// newTicket makes t a ticket of that kind, to be used once or many times.
func (r *Router) newTicket(t *Ticket, k *kind) {
	t.kind = k
	t.shard = r.shardHere()
}

// shardHere is the number of the shard that tickets of all kinds write that are made
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

// fill makes t, whose work and kind are filled in, the ticket of a job that was not refused.
//
//go:noinline
func (t *Ticket) fill(q *request) {
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

// opensInside reports that the router, which is not open, takes jobs inside outer: while it
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
	c, taken := t.kind.counters.Shard(t.shard), r.take(t)
	switch {
	case taken:
		c.Taken[t.choice.lane].Add(1)
	case t.custody != custodyBack: // one that was declined counts already
		c.Submitted.Add(1)
	}
	if charge := t.charge(); charge != 0 {
		c.Admitted.Add(charge)
		t.kind.account.Owe(t.decided, charge)
	}
	t.sampled = t.job.samples < estimate.EarlyRuns || t.kind.runs.Sample(t.decided)
	if r.phase.Load() != phaseOpen && !r.opensInside(outer) && !(t.custody == custodyBack && r.phase.Load() == phaseDraining) {
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
	if err == nil || t.fate == fatePanicked {
		return err
	}
	return r.refuseOffered(t, err)
}

// take reports that a strategy of the router's own has room for the ticket at once, and that
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
		return r.pool.takeFree(slots.Work(t.charge()), t.long())
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

// refuseOffered ends a job that its strategy did not take.
//
//go:noinline
func (r *Router) refuseOffered(t *Ticket, err error) error {
	if errors.Is(err, ErrDecline) {
		return r.again(t)
	}
	reason := refusalReason(err)
	if r.phase.Load() == phaseClosed {
		reason = reasonClosed // whatever a strategy says that has been closed
	}
	t.reimburse()
	t.kind.counters.Shard(t.shard).Bounced[r.reasons.Index(reason)].Add(1)
	r.nudge()
	t.ended = t.decided
	if t.choice.excess == 0 {
		t.choice.excess = t.choice.wait // that its strategy is full passes as it does
	}
	t.dropChoice(reason)
	q := request{kind: t.kind, info: t.Info(), choice: t.choice, arrived: t.arrived, decided: t.decided}
	if t.watch != nil {
		if q.event = t.watch.event; q.event != nil {
			q.event.refuse(t.Decision())
		}
	}
	return r.turnDown(&q, r.reasons.Index(reason))
}

// show makes the event of a decision, with what it shows before the job has ended.
//
//go:noinline
func (r *Router) show(q *request, p *Pressure) {
	q.event = &Event{}
	q.event.Time, q.event.Info, q.event.Pressure = r.epoch.Add(time.Duration(q.decided)), q.info, *p
	if p.Offers != nil { // the decision's own go back to a pool
		offers := *p.Offers
		q.event.Pressure.Offers = &offers
	}
	q.event.Decision = r.decision(&q.choice)
}

// decision is a choice in full.
func (r *Router) decision(c *choice) Decision {
	if c.lane == laneNone {
		return c.decision("")
	}
	return c.decision(r.lanes[c.lane].name)
}

// tick keeps demand and shares up to date.
func (r *Router) tick(now int64, cfg *RouterConfig) {
	if r.ledger.Due(now) {
		r.divide(now, cfg)
	}
}

// divide has the machine divided anew.
//
//go:noinline
func (r *Router) divide(now int64, cfg *RouterConfig) {
	r.ledger.Tick(now, func() fair.Machine { return r.machine(now, cfg) })
	r.follow(int(r.procs.Load()))
}

// machine is the state of the machine and of all kinds, as the ledger wants it.
func (r *Router) machine(now int64, cfg *RouterConfig) fair.Machine {
	r.procs.Store(int64(runtime.GOMAXPROCS(0)))
	kinds, p := *r.kinds.Load(), r.pool
	m := fair.Machine{
		Cores: cfg.CPUParallelism, UnderWay: p.underWay.Time(now), Waiting: time.Duration(p.backlog.All()),
		Saturated: !p.sawIdle.Swap(false) && p.queued.Load() > 0,
		Kinds:     make([]fair.Kind, 0, len(kinds)),
	}
	for _, k := range kinds {
		offered, worked := k.counters.Work()
		m.Kinds = append(m.Kinds, fair.Kind{
			Account: &k.account, Weight: k.weight.Load(), Offered: offered, Worked: worked,
			Typical: k.typical(cfg), Queued: k.queued.Load(),
		})
	}
	return m
}

// foresee fills in the soonest that a slot comes to a job with a budget, if all are taken.
func (r *Router) foresee(q *request, p *Pressure) {
	if q.info.Budget > 0 && p.CPUBusy >= p.Slots {
		r.foreseeWait(q, p)
	}
}

// foreseeWait is foresee when all slots are taken. While the job waits, those of much tighter
// budgets that come later overtake it. Like runTable.soonest it takes its frame from the
// stack's reserve.
//
//go:nosplit
func (r *Router) foreseeWait(q *request, p *Pressure) {
	jobs, work := r.pool.backlog.Before(int64(q.info.Slack))
	wait := r.pool.runs.Soonest(q.decided, p.Slots, jobs, work)
	p.Soonest = time.Duration(float64(wait) / (1 - q.kind.account.Overtaken()))
}

// pressure fills in the router's state at a decision about a job of that kind.
func (r *Router) pressure(p *Pressure, now int64, cfg *RouterConfig, k *kind, priority Priority) {
	p.Now = time.Duration(now)
	load := slots.Load(r.pool.load.Load())
	p.CPUBusy, p.Slots = int(load.Busy()), cfg.CPUParallelism
	p.Spare = max(int(r.procs.Load())-p.Slots, 0)
	p.Queued, p.QueueCap = int(r.pool.queued.Load()), cfg.CPUQueueCap
	p.Work = load.Work()
	p.Demand, p.Share = r.ledger.Demand(), k.account.Share()
	p.Trial = k.trials.Load() > 0
	p.Spawned, p.SpawnLimit = int(r.spawn.running.Load()), cfg.SpawnLimit
	if r.replaced && r.lanes[laneSpawn].custom {
		p.Spawned = r.lanes[laneSpawn].strategy.Load().Running
	}
	p.InlineThreshold, p.SpawnThreshold = cfg.InlineThreshold, cfg.SpawnThreshold
	p.BusyThreshold, p.UnitTime = cfg.BackpressureBusyThreshold, cfg.UnitTime
	p.Wait = k.waits.Predict(r.pool.ahead())
	p.Turn = k.account.Turn(now)
	if p.Room = p.QueueCap - p.Queued; p.Room <= 0 && r.pool.mayDisplace(k, priority, p.QueueCap) {
		p.Room = 1
	}
	p.Part, p.Hidden = 1, r.ledger.Hidden.Stands()
	if p.Limited = k.account.Limited(); p.Limited {
		p.Part = tierPart[priority-Low]
		p.Tightest = k.account.Tightest()
	}
	if b := k.batcher.Load(); b != nil {
		p.BatchFill = int(b.fill.Load())
		p.BatchMaxSize, _ = b.limits(cfg)
		p.BatchGain = k.calls.Gain(p.BatchMaxSize)
	}
}

// resolve turns what the policy chose into what can be done.
func (r *Router) resolve(q *request) {
	c := &q.choice
	if c.dropped || r.lanes[c.lane].custom {
		return
	}
	if c.lane == laneBatch && !q.info.Batchable {
		c.reroute(divertUnbatchable, laneCPUPool, reasonLarge)
	}
	if c.lane == laneInline && q.info.Async {
		c.reroute(divertAsync, laneSpawn, notAsync)
	}
	if q.outer != nil && !q.info.Async {
		r.resolveNested(q)
	}
}

// resolveNested lets a job that would need a slot have the one that its caller holds, if
// nobody else has entered that. Of siblings that can be batched one does, and the others
// form a batch meanwhile; but where others are known to come all do.
//
//go:noinline
func (r *Router) resolveNested(q *request) {
	c, why := &q.choice, divertNestedPool
	if c.lane == laneBatch {
		why = divertNestedBatch
		if b := q.kind.batcher.Load(); q.info.Waits || b.fill.Load() > 0 || b.latest.Load() > 1 {
			return
		}
	}
	if (c.lane != laneCPUPool && c.lane != laneBatch) || r.lanes[c.lane].custom {
		return
	}
	if host := r.pool.seat(q.outer); host != nil && host.enter() {
		own := newNested(q.outer, host)
		own.Context = q.ctx
		q.ctx, q.entered = own, true
		c.reroute(why, laneInline, reasonNested)
		c.wait = 0
	}
}

// offer gives the ticket to its strategy.
func (r *Router) offer(t *Ticket) (err error) {
	l := t.lane()
	if l.custom {
		return r.offerOutside(t, l)
	}
	routed := &t.kind.counters.Shard(t.shard).Routed[l.index]
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
	routed := &t.kind.counters.Shard(t.shard).Routed[l.index]
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
				t.fate, t.err = rescue(v)
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

// Explain tells what would happen to the job now. It runs nothing and counts
// nothing; Run may be nil. A job of a registered kind is taken for one of its
// Task, whose values stand in for fields that are zero. An invalid job is a
// Drop with the error as its reason.
func (r *Router) Explain(job Job) Decision {
	var q request
	var p Pressure
	return r.consider(&q, &p, job)
}

// consider is Explain; it leaves what it was decided by in q and p.
func (r *Router) consider(q *request, p *Pressure, job Job) Decision {
	if err := job.Validate(); err != nil {
		return Decision{Strategy: Drop, Reason: err.Error()}
	}
	if r.phase.Load() != phaseOpen {
		return Decision{Strategy: Drop, Reason: reasonClosed}
	}
	name := cleanKind(job.Kind)
	k := (*r.kinds.Load())[name]
	if k == nil && r.kindsFull() {
		name = kindOther
		k = (*r.kinds.Load())[name]
	}
	if k == nil {
		k = &kind{router: r, name: name} // nothing learned
	}
	*q = request{ctx: context.Background(), kind: k, cfg: r.cfg.Load(), info: job.info(name)}
	if of := k.template.Load(); of != nil {
		q.info.Batchable, q.info.Portable, q.info.Idempotent = of.Batchable, of.Portable, of.Idempotent
		q.info.Waits = q.info.Waits || of.Waits
		setDefault(&q.info.Scaling, of.Scaling)
		setDefault(&q.info.Budget, of.Budget)
		setDefault(&q.info.Priority, of.Priority)
	}
	q.decided = r.now()
	q.arrived = min(r.arrival(job.Arrived), q.decided)
	q.kind.predict(&q.info, q.cfg)
	r.pressure(p, q.decided, q.cfg, q.kind, q.info.Priority)
	r.look(q, p, false)
	r.foresee(q, p)
	r.choose(q, p)
	r.resolve(q)
	return r.decision(&q.choice)
}

// dropError returns the error for a refused job, the same for jobs alike
// that are refused within a millisecond, so that refusing a flood allocates
// nothing.
func (r *Router) dropError(q *request, reason int) error {
	last := &q.kind.dropErrors[reason]
	e := last.Load()
	if e != nil && q.decided-e.at < int64(time.Millisecond) && e.priority == q.info.Priority &&
		near(e.budget, q.info.Budget, 0) && near(e.Decision.Run, q.choice.run, 0) &&
		near(e.Decision.Slack, q.choice.slack, time.Millisecond) &&
		(reason < tally.Reasons-1 || e.Decision.Reason == q.choice.reason) {
		if q.choice.excess > 0 {
			e.shared.Add(1)
		}
		return e
	}
	jobs := int64(1)
	if e != nil {
		jobs += e.shared.Load() // as many as before are likely to share this one
	}
	return r.newDropError(q, last, q.retryAfter(jobs))
}

// near reports that a differs from b by no more than an eighth, and some room.
func near(a, b, room time.Duration) bool { return a == b || abs(a-b) <= room+abs(b)/8 }

func abs(d time.Duration) time.Duration { return max(d, -d) }

// newDropError writes the decision in place: its caller may be at the end of a new stack.
//
//go:noinline
func (r *Router) newDropError(q *request, last *atomic.Pointer[DropError], retry time.Duration) *DropError {
	e := new(DropError)
	name := ""
	if q.choice.lane != laneNone {
		name = r.lanes[q.choice.lane].name
	}
	q.choice.expandInto(&e.Decision, name)
	e.RetryAfter, e.closed = retry, q.choice.reason == reasonClosed
	e.at, e.budget, e.priority = q.decided, q.info.Budget, q.info.Priority
	last.Store(e)
	return e
}

// withdrawn is the error for a job whose ctx was done before it started.
func withdrawn(ctx context.Context) error {
	return &withdrawnError{ctx.Err(), context.Cause(ctx)}
}

// logDecision writes the one Debug line that a decision gets.
//
//go:noinline
func (r *Router) logDecision(q *request, p *Pressure) {
	logged := false
	defer func() {
		if !logged && q.entered { // the handler panics
			own := q.ctx.(*slot)
			own.host().exit(own.long)
		}
		if !logged && q.trial {
			q.kind.trials.Add(-1)
		}
	}()
	d := r.decision(&q.choice)
	q.cfg.Logger.LogAttrs(q.ctx, slog.LevelDebug, "helix: decision",
		slog.String("kind", q.info.Kind),
		slog.Float64("cost", q.info.Cost),
		slog.Float64("scaling", q.info.Scaling),
		slog.Duration("budget", q.info.Budget),
		slog.String("strategy", d.Strategy),
		slog.String("reason", d.Reason),
		slog.Int("cpu_busy", p.CPUBusy))
	logged = true
}

// logPanic reports a panic that reaches no submitter. One in the logger's handler is lost:
// there is no one left to report it to.
func (r *Router) logPanic(k *kind, cfg *RouterConfig, what string, v any, stack []byte) {
	defer func() { _ = recover() }()
	cfg.Logger.LogAttrs(context.Background(), slog.LevelError, what,
		slog.String("kind", k.name), slog.Any("panic", v), slog.String("stack", string(stack)))
}
