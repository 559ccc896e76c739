package helix

import (
	"context"
	"runtime"
)

// Future is the result of a job started with Go. All methods are safe for
// concurrent use, and may be called again and again.
type Future[T any] struct {
	ticket *Ticket // only ended and cancelled through the future; never reused
	done   chan struct{}
	value  T // written before done is closed, read after
}

func newFuture[T any](t *Ticket) *Future[T] {
	return &Future[T]{ticket: t, done: make(chan struct{})}
}

// complete makes the future ready. The ticket has ended.
func (f *Future[T]) complete(value T) {
	f.value = value
	close(f.done)
}

// Done is closed when the job has ended or never will start.
func (f *Future[T]) Done() <-chan struct{} { return f.done }

// Wait returns the job's result once it has ended. If ctx is done first Wait
// returns its cause; the job goes on, and Wait may be called again. If the job
// panicked, Wait panics with its *PanicError; if it called runtime.Goexit, Wait
// returns ErrGoexit; if it never ran, the error matches ErrNotRun.
func (f *Future[T]) Wait(ctx context.Context) (T, error) {
	select {
	case <-f.done:
	default:
		select {
		case <-f.done:
		case <-ctx.Done():
			var zero T
			return zero, context.Cause(ctx)
		}
	}
	if f.ticket.fate == fatePanicked {
		panic(f.ticket.err)
	}
	return f.value, f.ticket.err
}

// Cancel gives the job up: withdrawn at once if it is queued, else its ctx is
// cancelled. It does not wait for the job to end.
func (f *Future[T]) Cancel() {
	t := f.ticket
	if t.withdraw(&withdrawnError{context.Canceled, context.Canceled}) {
		t.deliver()
		return
	}
	t.cancel()
}

// pass makes what happened to a job happen to its submitter.
func (f fate) pass(err error) {
	switch f {
	case fatePanicked:
		panic(err)
	case fateExited:
		runtime.Goexit()
	}
}
