package helix

import (
	"context"
	"log/slog"
	"math"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// newTicket makes t a ticket of this router, to be used once or many times.
func (r *Router) newTicket(t *Ticket) {
	t.router = r
	t.shard = r.shardHere()
}

// shardHere is the number of the shard that tickets of all kinds write that are made
// on this P. Tickets are used again where they were made, for the most part: were each
// given the next number, half of those of many kinds would share a shard with another
// core's.
func (r *Router) shardHere() uint32 {
	shard, _ := r.shardOf.Get().(*uint32)
	if shard == nil {
		shard = new(uint32)
		*shard = r.shard.Add(1)
	}
	r.shardOf.Put(shard)
	return *shard
}

// submit takes a ticket with work, kind and info filled in through its whole
// life, and returns the job's error or why it did not run; t.fate tells.
func (r *Router) submit(ctx context.Context, t *Ticket, arrived time.Time) error {
	if t.wake == nil {
		t.wake = make(chan step, 1)
	}
	t.ctx = ctx
	if err := r.route(t, arrived); err != nil {
		return err
	}
	t.proceed()
	return t.err
}

// start is submit for Go: it returns once the ticket has been accepted.
func (r *Router) start(ctx context.Context, t *Ticket, arrived time.Time) error {
	t.info.Async = true
	if ctx.Err() == nil {
		t.ctx, t.cancel = context.WithCancel(goContext{r.ctx, ctx})
	} else {
		t.ctx, t.cancel = ctx, func() {} // route will say so
	}
	err := r.route(t, arrived)
	if err != nil {
		t.cancel()
		t.fate.pass(err)
	}
	return err
}

// goContext is the ctx of a job from Go: cancelled with the router, with the
// values of the submitter's ctx, except that it holds no slot.
type goContext struct {
	context.Context
	values context.Context
}

func (c goContext) Value(key any) any {
	switch key.(type) {
	case slotKey, anySlot:
		return nil
	}
	// The router's own ctx has no values but the one by which package context
	// finds it, which must win for children to be cancelled without a goroutine.
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// route decides on a ticket and offers it to the strategy chosen. An error is a
// refusal: the ticket has ended and was counted.
func (r *Router) route(t *Ticket, arrived time.Time) error {
	if err := r.decide(t, arrived); err != nil {
		return err
	}
	err := r.offer(t)
	if err == nil || t.fate == fatePanicked {
		return err
	}
	c := t.kind.cell(t.shard)
	c.routed[t.lane.index].Add(^uint64(0)) // not admitted after all
	t.reimburse()
	r.nudge()
	t.decision.drop(refusalReason(err))
	return r.refuse(t, c, t.decision.Wait)
}

// decide asks the policy and admits the ticket, or returns why not.
//
//go:noinline
func (r *Router) decide(t *Ticket, arrived time.Time) error {
	now := r.now()
	c := t.kind.cell(t.shard)
	if r.phase.Load() != phaseOpen {
		c.refused[r.reasons.index(reasonClosed)].Add(1)
		return ErrClosed
	}
	if t.ctx.Err() != nil {
		c.unrouted.Add(1)
		return withdrawn(t.ctx)
	}
	t.cfg = r.cfg.Load()
	t.decided, t.arrived = now, now
	if !arrived.IsZero() {
		t.arrived = min(now, int64(arrived.Sub(r.epoch)))
	}
	r.describe(t, now)
	t.kind.demand.patient(t.info.Budget)
	r.tick(now, t.cfg)

	var p Pressure
	r.pressure(&p, now, t.cfg, t.kind, t.info.Priority)
	choose(t.cfg.Policy, &t.info, &p, &t.decision)
	t.lane = r.resolve(&t.decision, t)
	if r.watchers.any.Load() {
		r.sample(t, &p)
	}
	if t.cfg.Logger.Enabled(t.ctx, slog.LevelDebug) {
		r.logDecision(t, &p)
	}
	if t.lane == nil {
		c.shed.Add(int64(t.info.Work))
		return r.refuse(t, c, p.Wait)
	}

	// Counted before the strategy has it, because it may end at any moment
	// after that. Then the phase is looked at again: either this sees that the
	// router closes, or waitIdle sees the job.
	c.routed[t.lane.index].Add(1)
	if t.charge = int64(t.info.Work); t.lane.index == laneInline {
		t.charge = 0 // pays when it has ended, which is at once
	} else {
		c.admitted.Add(t.charge)
		t.kind.demand.spend(t.charge, t.info.Priority)
	}
	t.sampled = t.kind.model.sample(now)
	if t.probe = p.Probe; t.probe {
		t.kind.demand.probed.Store(now)
	}
	if r.phase.Load() != phaseOpen {
		t.endWithdrawn(ErrClosed)
		return ErrClosed
	}
	return nil
}

// sample begins an event if this decision is one to be shown.
//
//go:noinline
func (r *Router) sample(t *Ticket, p *Pressure) {
	if e := r.watchers.sample(t.decided, t.lane == nil); e != nil {
		e.Time, e.Info, e.Pressure, e.Decision = r.epoch.Add(time.Duration(t.decided)), t.info, *p, t.decision
		t.event = e
	}
}

// tick keeps demand and shares up to date.
func (r *Router) tick(now int64, cfg *RouterConfig) {
	if r.ledger.due(now) {
		r.ledger.tick(now, float64(cfg.CPUParallelism), r.pool, *r.kinds.Load())
	}
}

// describe fills in what is known of the job beyond its own fields.
func (r *Router) describe(t *Ticket, now int64) {
	i := &t.info
	t.kind.predict(i, t.cfg)
	if i.Budget > 0 {
		i.Deadline = math.MaxInt64
		if int64(i.Budget) < math.MaxInt64-max(t.arrived, 0) {
			i.Deadline = time.Duration(t.arrived) + i.Budget
		}
		i.Slack = i.Deadline - time.Duration(now)
	}
}

// pressure fills in the router's state at a decision about a job of that kind.
func (r *Router) pressure(p *Pressure, now int64, cfg *RouterConfig, k *kind, priority Priority) {
	p.Now = time.Duration(now)
	load := poolLoad(r.pool.load.Load())
	p.CPUBusy, p.Slots = int(load.busy()), cfg.CPUParallelism
	p.Spare = max(int(r.ledger.procs.Load())-p.Slots, 0)
	p.Queued, p.QueueCap = int(r.pool.queued.Load()), cfg.CPUQueueCap
	p.Work = load.work()
	p.Demand, p.Share = r.ledger.total.Load(), k.demand.share.Load()
	p.Probe = k.demand.probe(now)
	p.Spawned, p.SpawnLimit = r.lanes[laneSpawn].strategy.Load().Running, cfg.SpawnLimit
	p.InlineThreshold, p.SpawnThreshold = cfg.InlineThreshold, cfg.SpawnThreshold
	p.BusyThreshold, p.UnitTime = cfg.BackpressureBusyThreshold, cfg.UnitTime
	p.Wait = k.waits.predict(r.pool.ahead())
	p.Limited, p.ShareLeft = k.demand.left(now, priority)
	if b := k.batcher.Load(); b != nil {
		p.BatchFill = int(b.fill.Load())
		p.BatchMaxSize, _ = b.limits(cfg)
		p.BatchGain = k.calls.gain(p.BatchMaxSize)
	}
}

// resolve turns what the policy said into what can be done. It returns nil for
// a drop.
func (r *Router) resolve(d *Decision, t *Ticket) *lane {
	if d.Strategy == Drop {
		return nil
	}
	l := r.lane(d.Strategy)
	if l == nil {
		d.drop(reasonNoStrategy)
		return nil
	}
	if l.custom {
		return l
	}
	if l.name == Batch && !t.info.Batchable {
		l = r.divert(d, CPUPool, reasonLarge, notBatch)
	}
	if l.name == Inline && t.info.Async {
		l = r.divert(d, Spawn, notAsync, notAsync)
	}
	if (l.name == CPUPool || l.name == Batch) && !l.custom && r.pool.holdsSlot(t.ctx) {
		l = r.divert(d, Inline, reasonNested, reasonNested)
		d.Wait = 0
	}
	return l
}

// divert sends a job to another strategy than the policy chose.
func (r *Router) divert(d *Decision, strategy, reason, whyNot string) *lane {
	d.reject(d.Strategy, whyNot)
	d.Strategy, d.Reason = strategy, reason
	return r.lane(strategy)
}

// offer gives the ticket to its strategy. A panic in a strategy from outside
// ends the ticket, if it is not on its way, and is raised at the submitter.
func (r *Router) offer(t *Ticket) (err error) {
	if !t.lane.custom {
		return t.lane.strategy.Offer(t)
	}
	t.custom = true
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if !t.claim() {
			r.logPanic(t, "helix: panic in Strategy.Offer", v, debug.Stack())
			return
		}
		t.refuseLate(reasonRefused)
		t.home, t.fate = true, fatePanicked
		t.err = &PanicError{Value: v, Stack: debug.Stack()}
		err = t.err
	}()
	if err = t.lane.strategy.Offer(t); err != nil && !t.claim() {
		return nil // it was accepted, whatever the strategy says
	}
	return err
}

// refuse ends a ticket that was not admitted.
func (r *Router) refuse(t *Ticket, c *cell, wait time.Duration) error {
	reason := r.reasons.index(t.decision.Reason)
	c.refused[reason].Add(1)
	retry := wait
	if t.info.Budget > 0 {
		retry = max(0, wait+t.info.Predicted-t.info.Slack)
	}
	err := t.kind.dropError(t, reason, retry)
	if t.event != nil {
		t.ended, t.err = t.decided, err
		t.tell(Dropped)
	}
	return err
}

// Explain tells what would happen to the job now. It runs nothing and counts
// nothing; Run may be nil. A job of a registered kind is taken for one of its
// Task, whose values stand in for fields that are zero. An invalid job is a
// Drop with the error as its reason.
func (r *Router) Explain(job Job) Decision {
	if err := job.validate(); err != nil {
		return Decision{Strategy: Drop, Reason: err.Error()}
	}
	if r.phase.Load() != phaseOpen {
		return Decision{Strategy: Drop, Reason: reasonClosed}
	}
	name := cleanKind(job.Kind)
	k := (*r.kinds.Load())[name]
	if k == nil {
		k = &kind{name: name} // nothing learned
	}
	t := &Ticket{router: r, cfg: r.cfg.Load(), kind: k, ctx: context.Background(), info: job.info(name)}
	if of := k.template.Load(); of != nil {
		t.info.Batchable = of.Batchable
		t.info.Waits = t.info.Waits || of.Waits
		def(&t.info.Scaling, of.Scaling)
		def(&t.info.Budget, of.Budget)
		def(&t.info.Priority, of.Priority)
	}
	now := r.now()
	t.arrived = now
	if !job.Arrived.IsZero() {
		t.arrived = min(now, int64(job.Arrived.Sub(r.epoch)))
	}
	r.describe(t, now)
	var p Pressure
	r.pressure(&p, now, t.cfg, k, t.info.Priority)
	choose(t.cfg.Policy, &t.info, &p, &t.decision)
	r.resolve(&t.decision, t)
	return t.decision
}

// dropError returns the error for a refused ticket, the same for jobs alike
// that are refused within a millisecond, so that refusing a flood allocates
// nothing.
func (k *kind) dropError(t *Ticket, reason int, retry time.Duration) error {
	last := &k.dropErrors[reason]
	if e := last.Load(); e != nil && t.decided-e.at < int64(time.Millisecond) &&
		e.cost == t.info.Cost && e.budget == t.info.Budget && e.priority == t.info.Priority &&
		e.Decision.Reason == t.decision.Reason {
		return e
	}
	return k.newDropError(t, last, retry)
}

//go:noinline
func (k *kind) newDropError(t *Ticket, last *atomic.Pointer[DropError], retry time.Duration) *DropError {
	e := &DropError{Decision: t.decision, RetryAfter: retry,
		at: t.decided, cost: t.info.Cost, budget: t.info.Budget, priority: t.info.Priority}
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
func (r *Router) logDecision(t *Ticket, p *Pressure) {
	t.cfg.Logger.LogAttrs(t.ctx, slog.LevelDebug, "helix: decision",
		slog.String("kind", t.info.Kind),
		slog.Float64("cost", t.info.Cost),
		slog.Float64("scaling", t.info.Scaling),
		slog.Duration("budget", t.info.Budget),
		slog.String("strategy", t.decision.Strategy),
		slog.String("reason", t.decision.Reason),
		slog.Int("cpu_busy", p.CPUBusy))
}

// logPanic reports a panic that reaches no submitter.
func (r *Router) logPanic(t *Ticket, what string, v any, stack []byte) {
	t.cfg.Logger.LogAttrs(context.Background(), slog.LevelError, what,
		slog.String("kind", t.info.Kind), slog.Any("panic", v), slog.String("stack", string(stack)))
}
