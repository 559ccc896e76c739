package helix

import (
	"context"
	"runtime"
	"runtime/debug"
)

// execute runs the job on this goroutine and settles it. The caller owns the
// ticket, and notifies its submitter, in a defer because the job may call runtime.Goexit,
// unless it is on the submitter's own goroutine. It is a method of the job's kind for
// the sake of Router.insideJob.
func (k *kind) execute(t *Ticket, started int64) {
	t.started = started
	t.members = 1
	k.prober.Start(t.choice.probe)
	t.exit = exitGoexit // unless it turns out otherwise
	ctx := t.mark()
	defer func() {
		if t.exit == exitGoexit {
			t.exit, t.err = rescue(recover())
		}
		t.ended = t.router().now()
		if t.slot != nil {
			t.slot.finish()
		}
		t.settle(k.learn(t))
	}()
	if t.cfg.Hooks.Start != nil {
		ctx = t.startHook(ctx)
	}
	t.err = t.work.run(ctx)
	t.exit = exitReturned
	runtime.KeepAlive(k) // so that the text of the stack shows it
}

// mark returns the ctx that the job is given. By its mark work inside the job is known, which
// costs an allocation: without a slot a job has one only if there has been work inside jobs
// of the kind, or this one is learned from, and so would show whether there is.
func (t *Ticket) mark() context.Context {
	if t.slot == nil {
		if !t.sampled && !t.kind.nests.Load() && t.router().open() {
			return t.ctx
		}
		t.slot = newMark(t)
	}
	return t.slot
}

// startHook calls Hooks.Start and returns the ctx to go on with. Its frame is
// large, and must be gone when the job runs.
//
//go:noinline
func (t *Ticket) startHook(ctx context.Context) context.Context {
	span := t.cfg.Hooks.Start(ctx, t.Info(), t.Decision())
	if span == nil || span == ctx {
		return ctx
	}
	if t.watch == nil {
		t.watch = &watch{}
	}
	t.watch.span = span
	return span
}

// rescue tells a panic with value v from a runtime.Goexit (v is nil).
func rescue(v any) (exit, error) {
	if v == nil {
		return exitGoexit, ErrGoexit
	}
	if p, ok := v.(*PanicError); ok { // of a job that this one submitted: it tells the origin
		return exitPanicked, p
	}
	return exitPanicked, &PanicError{Value: v, Stack: debug.Stack()}
}
