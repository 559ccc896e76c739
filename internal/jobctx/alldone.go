package jobctx

import (
	"context"
	"sync"
)

// AllDone returns a ctx without values that is cancelled once all callers are done, and a
// function that ends it. It stores the callers, and watches one after the other.
func AllDone(callers []context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{callers: callers, cancel: cancel}
	w.next(0)
	return ctx, w.stop
}

// watch is the state of AllDone.
type watch struct {
	callers []context.Context
	cancel  context.CancelFunc

	mu      sync.Mutex
	unwatch func() bool // guarded by mu
	stopped bool        // guarded by mu
}

// next watches the first caller from i on that is not done.
func (w *watch) next(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i < len(w.callers) && w.callers[i].Err() != nil {
		i++
	}
	switch {
	case w.stopped:
	case i == len(w.callers):
		w.cancel()
	default:
		w.unwatch = context.AfterFunc(w.callers[i], func() { w.next(i + 1) })
	}
}

func (w *watch) stop() {
	w.mu.Lock()
	w.stopped = true
	unwatch := w.unwatch
	w.mu.Unlock()
	if unwatch != nil {
		unwatch()
	}
	w.cancel()
}
