package helix

import (
	"context"
	"log/slog"
	"time"
)

// Explain tells what would happen to the job now. It runs nothing and counts
// nothing; Run may be nil. A job of a registered kind is taken for one of its
// Task, whose values stand in for fields that are zero. An invalid job is a
// Drop with the error as its reason.
func (r *Router) Explain(job Job) Decision {
	var q request
	var p Pressure
	return r.consider(&q, &p, job)
}

// Consider returns what a policy would be given to decide about the job now, and its
// decision: see [Router.Explain].
func (r *Router) Consider(job Job) (JobInfo, Pressure, Decision) {
	q, p := request{}, Pressure{}
	d := r.consider(&q, &p, job)
	return q.info, p, d
}

// consider is Explain; it leaves what it was decided by in q and p.
func (r *Router) consider(q *request, p *Pressure, job Job) Decision {
	if err := job.Validate(); err != nil {
		return Decision{Strategy: Drop, Reason: err.Error()}
	}
	if !r.open() {
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
		k.downstream.Store(&downstream{name: name})
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
	r.fillPressure(q, p)
	r.choose(q, p)
	r.resolve(q)
	return r.decision(&q.choice)
}

// fillEvent makes the event of a decision, with what it shows before the job has ended.
//
//go:noinline
func (r *Router) fillEvent(q *request, p *Pressure) {
	q.event = &Event{}
	q.event.Time, q.event.Info, q.event.Pressure = r.epoch.Add(time.Duration(q.decided)), q.info, *p
	if p.Offers != nil { // the decision's own go back to a pool
		offers := *p.Offers
		q.event.Pressure.Offers = &offers
	}
	q.event.Decision = r.decision(&q.choice)
}

// decision returns a choice in full.
func (r *Router) decision(c *choice) Decision {
	if c.lane == laneNone {
		return c.decision("")
	}
	return c.decision(r.lanes[c.lane].name)
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
