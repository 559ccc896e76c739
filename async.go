package helix

import (
	"context"
	"sync/atomic"
	"time"
)

// async is what an item from Go has besides its ticket: all in one allocation, and
// nothing of it made that nobody asks for.
type async[T any] struct {
	own    goContext
	future Future[T]
}

// finished ends what the job may have left behind, and makes the future ready.
func (a *async[T]) finished() {
	a.own.cancel()
	a.future.complete()
}

// abandon tells the job that it is not wanted any more.
func (a *async[T]) abandon() { a.own.cancel() }

// start admits a job from Go, of which own becomes the ctx.
func (r *Router) start(t *Ticket, own *goContext, q *request) error {
	own.router, own.values = r, q.ctx
	t.fill(q)
	t.ctx = own
	err := r.admit(t, jobIn(q.ctx))
	if err != nil {
		own.cancel()
		t.fate.pass(err)
	}
	return err
}

// goContext is the ctx of a job from Go: cancelled with the router and when the job
// has ended, with the values of the submitter's ctx, except that it holds no slot. What
// package context needs to cancel others is made when somebody asks for it.
type goContext struct {
	router *Router
	values context.Context
	over   atomic.Bool                  // cancelled
	full   atomic.Pointer[cancellation] // nil until somebody asked
}

// cancellation is a ctx and how to cancel it.
type cancellation struct {
	context.Context
	cancel context.CancelFunc
}

// cancel ends the ctx. It may be called again.
func (c *goContext) cancel() {
	c.over.Store(true)
	if full := c.full.Load(); full != nil {
		full.cancel()
	}
}

// made returns the ctx of package context, which it makes if it is not there.
func (c *goContext) made() *cancellation {
	if full := c.full.Load(); full != nil {
		return full
	}
	full := &cancellation{}
	full.Context, full.cancel = context.WithCancel(goValues{c.router.ctx, c.values})
	if !c.full.CompareAndSwap(nil, full) {
		full.cancel()
		return c.full.Load()
	}
	if c.over.Load() { // cancel may not have seen it
		full.cancel()
	}
	return full
}

// Deadline implements context.Context.
func (c *goContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (c *goContext) Done() <-chan struct{} { return c.made().Done() }

// Err implements context.Context.
func (c *goContext) Err() error {
	if c.over.Load() || c.full.Load() != nil {
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
