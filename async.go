package helix

import (
	"context"
	"sync/atomic"
	"time"
)

// async holds the ctx and the future of a job started with Go. They share the item's
// allocation; their channels are made on first use.
type async[T any] struct {
	own    goContext
	future Future[T]
	then   func(*Ticket) // called when it has ended, if not nil
}

// finished ends what the job may have left behind, and makes the future ready.
func (a *async[T]) finished() {
	a.own.cancel(&noCause)
	a.future.complete()
	if a.then != nil {
		a.then(a.future.of.self())
	}
}

// abandon tells the job that it is not wanted any more, and why.
func (a *async[T]) abandon(cause error) { a.own.cancel(&cause) }

// start admits a job started with Go; own becomes its ctx.
func (r *Router) start(t *Ticket, own *goContext, q *request) error {
	own.router, own.values = r, q.ctx
	t.fill(q)
	t.ctx = own
	if q.follow {
		own.followed()
	}
	err := r.admit(t, q.outer)
	if err != nil {
		own.cancel(&noCause)
		t.fate.pass(err)
	} else if q.follow {
		own.withdrawing(t)
	}
	return err
}

// goContext is the ctx of a job from Go: cancelled with the router and when the job
// has ended, with the values of the submitter's ctx, except that it holds no slot. What
// package context needs to cancel others is made on first use.
type goContext struct {
	router *Router
	values context.Context
	over   atomic.Pointer[error]        // why it was cancelled; nil while it was not
	full   atomic.Pointer[cancellation] // nil until first used, unless it follows
}

// noCause is the cause of a ctx that was cancelled without one.
var noCause error

// cancellation is a ctx and how to cancel it.
type cancellation struct {
	context.Context
	cancel  context.CancelCauseFunc
	unwatch atomic.Pointer[func() bool] // ends what withdrawing has begun
}

// cancel ends the ctx. It may be called again: then the first cause stays.
func (c *goContext) cancel(cause *error) {
	c.over.CompareAndSwap(nil, cause)
	if full := c.full.Load(); full != nil {
		full.cancel(*c.over.Load())
		if unwatch := full.unwatch.Load(); unwatch != nil {
			(*unwatch)()
		}
	}
}

// followed makes it a ctx that ends with the submitter's too, by the same cause.
//
//go:noinline
func (c *goContext) followed() {
	ctx, cancel := context.WithCancelCause(markless{c.values})
	router := c.router.ctx
	open := context.AfterFunc(router, func() { cancel(context.Cause(router)) })
	c.full.Store(&cancellation{Context: ctx, cancel: func(cause error) {
		open()
		cancel(cause)
	}})
}

// withdrawing has the ticket, whose job was accepted, withdrawn if the submitter's ctx ends
// before it starts.
//
//go:noinline
func (c *goContext) withdrawing(t *Ticket) {
	ctx, full := c.values, c.full.Load()
	unwatch := context.AfterFunc(ctx, func() {
		if t.withdraw(withdrawn(ctx)) {
			t.deliver()
		}
	})
	full.unwatch.Store(&unwatch)
	if c.over.Load() != nil { // cancel may not have seen it
		unwatch()
	}
}

// made returns the ctx of package context, which it makes if it is not there.
func (c *goContext) made() *cancellation {
	if full := c.full.Load(); full != nil {
		return full
	}
	full := &cancellation{}
	full.Context, full.cancel = context.WithCancelCause(goValues{c.router.ctx, c.values})
	if !c.full.CompareAndSwap(nil, full) {
		full.cancel(nil)
		return c.full.Load()
	}
	if cause := c.over.Load(); cause != nil { // cancel may not have seen it
		full.cancel(*cause)
	}
	return full
}

// Deadline implements context.Context.
func (c *goContext) Deadline() (time.Time, bool) {
	if full := c.full.Load(); full != nil {
		return full.Deadline() // none, unless it follows
	}
	return time.Time{}, false
}

// Done implements context.Context.
func (c *goContext) Done() <-chan struct{} { return c.made().Done() }

// Err implements context.Context.
func (c *goContext) Err() error {
	if c.over.Load() != nil || c.full.Load() != nil {
		return c.made().Err()
	}
	return c.router.ctx.Err()
}

// Value implements context.Context.
func (c *goContext) Value(key any) any {
	if c.full.Load() == nil && c.Err() == nil {
		return goValues{c.router.ctx, c.values}.Value(key)
	}
	return c.made().Value(key) // also knows how, and why, it was cancelled
}

// goValues is the router's ctx with the values of a submitter's.
type goValues struct {
	context.Context
	values context.Context
}

// Value implements context.Context.
func (c goValues) Value(key any) any {
	switch key.(type) {
	case slotMark:
		return nil
	}
	// The router's own ctx has no values but the one by which package context
	// finds it, which must win for children to be cancelled without a goroutine.
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// markless is a ctx that holds no slot.
type markless struct{ context.Context }

// Value implements context.Context.
func (c markless) Value(key any) any {
	if key == (slotMark{}) {
		return nil
	}
	return c.Context.Value(key)
}
