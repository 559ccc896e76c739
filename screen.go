package helix

import (
	"context"
	"log/slog"
)

// Screen refuses a job that Submit would refuse now, for a door at which refusing costs less:
// one that has not read and parsed all of a request. The error is that of Submit, and the
// refusal is counted as Submit's are.
//
// If it returns nil, nothing has happened and nothing is counted: submit the job, which is
// decided on then as any other, and may still be refused. Turns and probes are left to it.
// It returns nil too while the router drains and when it is closed; Submit tells that.
//
// Run and Started may be nil. A job that cannot be used (a negative cost) is an error that
// names the field, and counts nowhere. Screen costs about as much as a refusal by Submit.
func (r *Router) Screen(job Job) error {
	if err := job.Validate(); err != nil {
		return err
	}
	if !r.open() {
		return nil
	}
	q := request{ctx: context.Background()}
	r.describeValid(&q, &job)
	q.decided = r.now()
	q.arrived = min(q.arrived, q.decided)
	q.cfg = r.cfg.Load()
	r.tick(q.decided, q.cfg)
	if r.screen(&q); !q.choice.dropped {
		return nil
	}
	return r.refuse(&q)
}

// screen fills in the choice. Unlike judge it takes no probe, turn or trial, and shows a
// decision only if it is a refusal: another comes for a job that passes.
func (r *Router) screen(q *request) {
	var p Pressure
	r.fillPressure(q, &p)
	r.choose(q, &p)
	r.resolve(q)
	if q.choice.dropped {
		if r.watchers.Sample(q.decided, true) {
			r.fillEvent(q, &p)
		}
		if r.logs.Enabled(q.ctx, slog.LevelDebug) {
			r.logDecision(q, &p)
		}
	}
	if p.Offers != nil {
		p.forget()
	}
}
