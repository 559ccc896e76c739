// Package jobctx has the contexts of jobs that do not run under their submitter's ctx: of a job
// that goes on when its submitter has left ([Detached]), and of a call that several
// submitters share ([AllDone]).
package jobctx

import (
	"context"
	"sync/atomic"
	"time"
)

// Mark is the key for the slot of a running job in its ctx. A detached ctx does not have it,
// because the submitter does not wait for the detached job.
type Mark struct{}

// Detached is a ctx that ends with its parent or when it is cancelled, with the values of
// another ctx except [Mark]. Its cancellable context is allocated on first use.
// Init must be called before anything else; then it is safe for concurrent use.
type Detached struct {
	parent *context.Context // a pointer, since every job from Go has one
	values context.Context
	over   atomic.Pointer[error]        // the cause of its cancellation; nil before it
	full   atomic.Pointer[cancellation] // nil until first used, unless it follows
}

// noCause is the cause of a ctx that was cancelled without one.
var noCause error

// cancellation is a ctx and how to cancel it.
type cancellation struct {
	context.Context
	cancel  context.CancelCauseFunc
	unwatch atomic.Pointer[func() bool] // stops the AfterFunc of OnEnd
}

// Init initialises c as a ctx that ends with parent and has the values of values.
func (c *Detached) Init(parent *context.Context, values context.Context) {
	c.parent, c.values = parent, values
}

// End cancels it without a cause. It and Cancel may be called again: the first cause stays.
func (c *Detached) End() { c.end(&noCause) }

// Cancel cancels it with that cause.
func (c *Detached) Cancel(cause error) { c.end(&cause) }

func (c *Detached) end(cause *error) {
	c.over.CompareAndSwap(nil, cause)
	if full := c.full.Load(); full != nil {
		full.cancel(*c.over.Load())
		if unwatch := full.unwatch.Load(); unwatch != nil {
			(*unwatch)()
		}
	}
}

// Follow makes c end also with the ctx of its values, with the same cause, and have that ctx's
// deadline. It must be called right after Init.
//
//go:noinline
func (c *Detached) Follow() {
	ctx, cancel := context.WithCancelCause(markless{c.values})
	parent := *c.parent
	open := context.AfterFunc(parent, func() { cancel(context.Cause(parent)) })
	c.full.Store(&cancellation{Context: ctx, cancel: func(cause error) {
		open()
		cancel(cause)
	}})
}

// OnEnd calls f on a goroutine of its own if the ctx of its values ends before c is cancelled.
// Follow must have been called.
//
//go:noinline
func (c *Detached) OnEnd(f func()) {
	unwatch := context.AfterFunc(c.values, f)
	c.full.Load().unwatch.Store(&unwatch)
	if c.over.Load() != nil { // end may not have seen it
		unwatch()
	}
}

// made returns the ctx of package context, and creates it on the first call.
func (c *Detached) made() *cancellation {
	if full := c.full.Load(); full != nil {
		return full
	}
	full := &cancellation{}
	full.Context, full.cancel = context.WithCancelCause(joined{*c.parent, c.values})
	if !c.full.CompareAndSwap(nil, full) {
		full.cancel(nil)
		return c.full.Load()
	}
	if cause := c.over.Load(); cause != nil { // end may not have seen it
		full.cancel(*cause)
	}
	return full
}

// Deadline implements context.Context.
func (c *Detached) Deadline() (time.Time, bool) {
	if full := c.full.Load(); full != nil {
		return full.Deadline() // none, unless it follows
	}
	return time.Time{}, false
}

// Done implements context.Context.
func (c *Detached) Done() <-chan struct{} { return c.made().Done() }

// Err implements context.Context.
func (c *Detached) Err() error {
	if c.over.Load() != nil || c.full.Load() != nil {
		return c.made().Err()
	}
	return (*c.parent).Err()
}

// Value implements context.Context.
func (c *Detached) Value(key any) any {
	if c.full.Load() == nil && c.Err() == nil {
		return joined{*c.parent, c.values}.Value(key)
	}
	return c.made().Value(key) // also knows how, and why, it was cancelled
}

// joined is a parent ctx, without values of its own, with the values of another.
type joined struct {
	context.Context
	values context.Context
}

// Value implements context.Context.
func (c joined) Value(key any) any {
	if key == (Mark{}) {
		return nil
	}
	// The parent has no values except the one by which package context finds it. That one must
	// win, so that children are cancelled without a goroutine.
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// markless is a ctx without a [Mark].
type markless struct{ context.Context }

// Value implements context.Context.
func (c markless) Value(key any) any {
	if key == (Mark{}) {
		return nil
	}
	return c.Context.Value(key)
}
