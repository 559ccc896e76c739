package helix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
)

// The phases of a router's life.
const (
	phaseOpen int32 = iota
	phaseDraining
	phaseClosed
)

// closing is what Router.stop has begun.
type closing struct {
	once       sync.Once
	strategies sync.WaitGroup // a goroutine for each strategy from outside, in its Close

	mu   sync.Mutex
	errs []error // guarded by mu; complete when strategies is done
}

// Drain refuses new jobs, with ErrClosed, and waits for the rest to end, or
// for ctx, whose cause it then returns. The router stays draining. Jobs that
// submit inside themselves, with their ctx, are admitted. From inside a job, for which it would
// wait, it changes nothing and returns [ErrInsideJob].
func (r *Router) Drain(ctx context.Context) error {
	if r.insideJob() {
		return ErrInsideJob
	}
	r.phase.CompareAndSwap(phaseOpen, phaseDraining)
	return r.waitIdle(ctx)
}

// Shutdown ends a router as net/http's Server.Shutdown ends a server: it refuses new
// jobs, with ErrClosed, waits for the rest, queued ones too, and then closes the router
// and returns the error of [Router.Close]. If ctx is done first, the jobs that still wait
// are withdrawn with ErrClosed, the ctx of those that Go started is cancelled, and
// Shutdown returns ctx's cause without waiting any longer; Close waits for what still
// runs. From inside a job it changes nothing and returns [ErrInsideJob].
func (r *Router) Shutdown(ctx context.Context) error {
	if err := r.Drain(ctx); err != nil {
		if err != ErrInsideJob {
			r.stop()
		}
		return err
	}
	return r.Close()
}

// Close refuses new jobs, withdraws queued ones, cancels the ctx of those that
// Go started, closes the strategies and waits for whatever runs: afterwards no
// goroutine of the router is left. It may be called again and from several
// goroutines. From inside a job, for which it would wait, it changes nothing and returns
// [ErrInsideJob]; on a goroutine that a job waits for it hangs. Otherwise the error is
// that of a strategy of your own; a panic there is a [*PanicError] in it.
func (r *Router) Close() error {
	if r.insideJob() {
		return ErrInsideJob
	}
	r.stop()
	r.closing.strategies.Wait()
	_ = r.waitIdle(context.Background()) // never fails: its ctx has no end
	r.watchers.Close()
	r.closing.mu.Lock()
	defer r.closing.mu.Unlock()
	return errors.Join(r.closing.errs...)
}

// stop closes the router and waits for nothing.
func (r *Router) stop() {
	r.closing.once.Do(func() {
		r.phase.Store(phaseClosed)
		// First what is queued: the slot of a job that is cancelled must not go to it.
		for _, l := range r.lanes {
			if !l.custom {
				_ = l.strategy.Close(r.ctx) // never fails
			}
		}
		r.cancel(ErrClosed)
		for _, l := range r.lanes {
			if l.custom {
				// On a goroutine of its own, which a panic or runtime.Goexit there may end.
				r.closing.strategies.Go(func() { r.closeStrategy(l) })
			}
		}
	})
}

// closeStrategy closes a strategy from outside and keeps its error.
func (r *Router) closeStrategy(l *lane) {
	how, err := exitGoexit, error(nil)
	defer func() {
		if how == exitGoexit {
			if how, err = rescue(recover()); how == exitPanicked {
				err = fmt.Errorf("helix: strategy %q panicked in Close: %w", l.name, err)
			} else {
				err = fmt.Errorf("helix: strategy %q called runtime.Goexit in Close", l.name)
			}
		}
		r.closing.mu.Lock()
		defer r.closing.mu.Unlock()
		if err != nil {
			r.closing.errs = append(r.closing.errs, err)
		}
	}()
	err = l.strategy.Close(context.Background())
	how = exitReturned
}

// waitIdle waits until no job is in flight, no slot in use and no goroutine left.
func (r *Router) waitIdle(ctx context.Context) error {
	for !r.idle() {
		select {
		case <-r.ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	r.signalIdle() // for other waiters
	return nil
}

func (r *Router) idle() bool {
	for _, k := range *r.kinds.Load() {
		n := k.counters.Sum()
		if n.Running() > 0 || n.Goroutines > 0 {
			return false
		}
	}
	return r.pool.busy() == 0 && r.spawn.running.Load() == 0
}

// open reports whether the router takes all jobs, closed whether Close was called.
func (r *Router) open() bool   { return r.phase.Load() == phaseOpen }
func (r *Router) closed() bool { return r.phase.Load() == phaseClosed }

// signalIdle wakes a goroutine that waits for the router to be idle. It must follow every
// change that may have made it so.
func (r *Router) signalIdle() {
	if !r.open() {
		select {
		case r.ended <- struct{}{}:
		default:
		}
	}
}

// insideJob reports whether the calling goroutine is running a job of this router. A job
// has no other mark on its goroutine than the frame of what runs it, and that it costs
// nothing there is worth reading the stack's text here: every job runs below a method of
// its kind, whose address is the first argument shown.
func (r *Router) insideJob() bool {
	text := make([]byte, 64<<10)
	text = text[:runtime.Stack(text, false)]
	for _, method := range runsJob {
		if !bytes.Contains(text, method) {
			continue
		}
		for _, k := range *r.kinds.Load() {
			if bytes.Contains(text, fmt.Appendf(nil, "%s%p", method, k)) {
				return true
			}
		}
	}
	return false
}

// runsJob is how the frames below which all jobs run begin in the text of a stack.
var runsJob = [3][]byte{
	[]byte("github.com/helixrouter/helix.(*kind).execute("),
	[]byte("github.com/helixrouter/helix.(*kind).runBatch("),
	[]byte("github.com/helixrouter/helix.(*kind).runGathering("),
}
