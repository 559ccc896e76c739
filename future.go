package helix

import (
	"context"
	"runtime"
	"sync/atomic"
)

// Future is the result of a job started with Go. All methods are safe for
// concurrent use, and may be called again and again.
type Future[T any] struct {
	of   started[T]
	done atomic.Pointer[signal] // made when first asked for; hasEnded once the job has
}

// started is an item from Go. It is never used for another job.
type started[T any] interface {
	self() *Ticket
	result() T // once it has ended
	abandon(cause error)
}

// signal is closed when something has happened.
type signal struct{ c chan struct{} }

var hasEnded = func() *signal {
	s := &signal{make(chan struct{})}
	close(s.c)
	return s
}()

// resolve makes the future ready. The ticket has ended.
func (f *Future[T]) resolve() {
	if s := f.done.Swap(hasEnded); s != nil {
		close(s.c)
	}
}

// Done is closed when the job has ended or never will start. A job that receives from it does
// not lend its slot, which the other may need: use Wait, or [Block] around the select.
func (f *Future[T]) Done() <-chan struct{} {
	if f.done.Load() == nil {
		f.done.CompareAndSwap(nil, &signal{make(chan struct{})})
	}
	return f.done.Load().c
}

// Wait returns the job's result once it has ended. If ctx is done first Wait
// returns its cause; the job goes on, and Wait may be called again. If the job
// panicked, Wait panics with its *PanicError; if it called runtime.Goexit, Wait
// returns ErrGoexit; if it never ran, the error matches ErrNotRun.
//
// Inside a job ctx must be the job's, or come from it: the job's slot is lent while it
// waits, and got back, by its old due time, before Wait returns.
func (f *Future[T]) Wait(ctx context.Context) (T, error) {
	if f.done.Load() != hasEnded && !waitFor(ctx, f.of.self(), f.Done()) {
		var zero T
		return zero, context.Cause(ctx)
	}
	t := f.of.self()
	if t.exit == exitPanicked {
		raise(t.err)
	}
	return f.of.result(), t.err
}

// Cancel gives the job up: withdrawn at once if it is queued, else its ctx is
// cancelled. It does not wait for the job to end.
func (f *Future[T]) Cancel() { f.cancel(context.Canceled) }

// cancel is Cancel for that cause.
func (f *Future[T]) cancel(cause error) {
	t := f.of.self()
	if t.withdraw(&withdrawnError{context.Canceled, cause}) {
		t.notifySubmitter()
		return
	}
	f.of.abandon(cause)
}

// pass makes what happened to a job happen to its submitter.
func (f exit) pass(err error) {
	if f > exitReturned {
		f.raise(err)
	}
}

// raise is pass for a job that did not return.
//
//go:noinline
func (f exit) raise(err error) {
	switch f {
	case exitPanicked:
		raise(err)
	case exitGoexit:
		runtime.Goexit()
	}
}
