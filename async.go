package helix

import (
	"context"

	"github.com/helixrouter/helix/internal/jobctx"
)

// async holds the ctx and the future of a job started with Go. They share the item's
// allocation; their channels are made on first use.
type async[T any] struct {
	own    jobctx.Detached
	future Future[T]
	then   func(*Ticket) // called when it has ended, if not nil
}

// finished ends what the job may have left behind, and makes the future ready.
func (a *async[T]) finished() {
	a.own.End()
	a.future.resolve()
	if a.then != nil {
		a.then(a.future.of.self())
	}
}

// abandon tells the job that it is not wanted any more, and why.
func (a *async[T]) abandon(cause error) { a.own.Cancel(cause) }

// start admits a job started with Go; own becomes its ctx.
func (r *Router) start(t *Ticket, own *jobctx.Detached, q *request) error {
	own.Init(&r.ctx, q.ctx)
	t.initFrom(q)
	t.ctx = own
	if q.follow {
		own.Follow()
	}
	err := r.admit(t, q.outer)
	if err != nil {
		own.End()
		t.exit.pass(err)
	} else if q.follow {
		t.withdrawWith(own, q.ctx)
	}
	return err
}

// withdrawWith has the ticket, whose job was accepted, withdrawn if its submitter's ctx, which
// own follows, ends before it starts.
//
//go:noinline
func (t *Ticket) withdrawWith(own *jobctx.Detached, ctx context.Context) {
	own.OnEnd(func() {
		if t.withdraw(withdrawn(ctx)) {
			t.notifySubmitter()
		}
	})
}
