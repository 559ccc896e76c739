package helix

import (
	"context"
	"log/slog"
	"time"

	"github.com/helixrouter/helix/internal/num"
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

// arrival returns request.arrived for a job that arrived then; a zero time is not known.
func (r *Router) arrival(at time.Time) int64 {
	if at.IsZero() {
		return num.Never
	}
	return r.since(at)
}

// since returns a time that the user gave in nanoseconds since the router was made, not beyond
// a century, so that no difference of two overflows. A time without a monotonic reading, as
// one that was parsed or sent, is told from now by the wall clock: the epoch's reading of
// it is old, and it may have been set since.
func (r *Router) since(at time.Time) int64 {
	from := r.epoch
	var elapsed time.Duration
	if at == at.Round(0) { // without a monotonic reading
		from = time.Now()
		elapsed = from.Sub(r.epoch)
	}
	return int64(elapsed + min(max(at.Sub(from), -farAway), farAway))
}

// farAway is a century.
const farAway = 100 * 365 * 24 * time.Hour

// decide has the policy choose a strategy, or returns why the job is refused: then it has been
// counted and has ended.
//
//go:noinline
func (r *Router) decide(q *request) error {
	q.decided = r.now()
	q.arrived = min(q.arrived, q.decided)
	q.outer = jobIn(q.ctx)
	if !r.open() && !r.opensInside(q.outer) {
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
		if at, ok := q.ctx.Deadline(); ok {
			q.heed(r, at)
		}
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
	q.kind.predict(&q.info, q.cfg) // here, not in fillForJob: see the stack's depth
	r.pressure(&p, q.decided, q.cfg, q.kind, q.info.Priority)
	r.fillForJob(q, &p, true)
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
	if q.choice.offer > 0 && q.hopeless() { // or an estimate that is wrong would never be corrected
		q.kind.prober.Refuse(q.decided)
	}
	if r.watchers.Sample(q.decided, q.choice.dropped) {
		r.fillEvent(q, &p)
	}
	if r.logs.Enabled(q.ctx, slog.LevelDebug) {
		r.logDecision(q, &p)
	}
	if p.Offers != nil {
		p.forget()
	}
}

// heed makes the deadline of the submitter's ctx the job's, if it is the earlier one.
//
//go:noinline
func (q *request) heed(r *Router, at time.Time) {
	if left := max(r.since(at)-q.arrived, 1); q.info.Budget == 0 || left < int64(q.info.Budget) {
		q.info.Budget, q.choice.bound = time.Duration(left), true
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
// no other run has entered that. Of siblings that can be batched one does, and the others
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

// outside reports whether the job is to run outside the slots.
func (c *choice) outside() bool {
	return !c.dropped && (c.lane == laneInline || c.lane == laneSpawn)
}

// tryOut notes that a job is to run outside the slots on the word of its hint alone. Of
// several that were decided on at the same time AdaptivePolicy lets one do so.
//
//go:noinline
func (r *Router) tryOut(q *request, p *Pressure) {
	if q.info.Waits {
		return
	}
	_, one := q.cfg.Policy.(AdaptivePolicy)
	if q.trial = q.kind.trials.Add(1) == 1 || !one; q.trial {
		return
	}
	q.kind.trials.Add(-1)
	p.Trial, q.choice = true, choice{bound: q.choice.bound}
	r.choose(q, p)
}
