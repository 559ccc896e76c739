package helix

import (
	"context"
	"slices"
	"sync"
)

// Group is items of one task that belong together: they run side by side, as the router
// decides, the first error cancels the rest, and [Group.Wait] waits for all. It is what
// golang.org/x/sync/errgroup is to goroutines. Make one with [NewGroup], for one set of items.
// Go and Wait are safe for concurrent use. Items that run in one batch call end with it, and it
// is cancelled once none of them is wanted. An item costs what [Task.GoWith] costs with
// Hints.Follow, and 100 B.
type Group[In, Out any] struct {
	task *Task[In, Out]

	mu       sync.Mutex // guards all below
	members  []*Future[Out]
	left     int           // calls of Go that have not returned, and items that have not ended
	none     chan struct{} // closed when left is 0; nil unless a caller waits for that
	err      error         // the first
	panicked *PanicError   // the first; nil once it was raised
}

// NewGroup returns a group without items.
func NewGroup[In, Out any](task *Task[In, Out]) *Group[In, Out] {
	return &Group[In, Out]{task: task}
}

// Go starts one item and does not wait for it. The item ends with ctx, whose deadline counts
// as a budget, as if Hints.Follow were set, and with the first error in the group, which
// is then the cause of the item's ctx. That the router refuses an item is an error as any
// other. After the first error Go starts nothing. An item may call Go for more of its group.
func (g *Group[In, Out]) Go(ctx context.Context, in In) { g.GoWith(ctx, in, Hints{}) }

// GoWith is Go with hints for this one item.
func (g *Group[In, Out]) GoWith(ctx context.Context, in In, h Hints) {
	g.mu.Lock()
	i := len(g.members)
	g.members = append(g.members, nil)
	if g.err != nil {
		g.mu.Unlock()
		return
	}
	g.left += 2 // this call, and the item
	g.mu.Unlock()

	ended := 2 // also if a strategy panics
	defer func() { g.leave(ended) }()
	h.Follow = true
	future, err := g.task.start(ctx, in, &h, g.ended)
	if err != nil {
		g.fail(err)
		return
	}
	ended = 1
	g.mu.Lock()
	g.members[i] = future
	err = g.err
	g.mu.Unlock()
	if err != nil { // the item that cancelled the others did not see this one
		future.cancel(err)
	}
}

// Wait returns once all items have ended, their results in the order in which Go was called,
// and the first error. An item that was refused, was withdrawn or panicked has the zero value.
// If ctx is done first its cause is the group's error, and Wait still waits for the items,
// which are cancelled. If items panicked Wait panics with the *PanicError of the first, once:
// called again, it returns. An item that called runtime.Goexit has failed with ErrGoexit.
//
// Inside a job ctx must be the job's, or come from it: the job's slot is lent while it
// waits, as by [Future.Wait]. An item must not wait for its own group.
func (g *Group[In, Out]) Wait(ctx context.Context) ([]Out, error) {
	g.mu.Lock()
	for g.left > 0 { // again: Go may have been called before this goroutine has its slot back
		if g.none == nil {
			g.none = make(chan struct{})
		}
		none := g.none
		g.mu.Unlock()
		g.await(ctx, none)
		g.mu.Lock()
	}
	outs, err, panicked := make([]Out, len(g.members)), g.err, g.panicked
	for i, m := range g.members {
		if m != nil {
			outs[i] = m.of.result()
		}
	}
	g.panicked = nil
	g.mu.Unlock()
	if panicked != nil {
		raise(panicked)
	}
	return outs, err
}

// await blocks until none is closed. The job to which ctx belongs, if any, lends its slot
// meanwhile.
func (g *Group[In, Out]) await(ctx context.Context, none <-chan struct{}) {
	if job := jobIn(ctx); job != nil {
		job.lending(func() { g.awaitOutside(ctx, none) })
		return
	}
	g.awaitOutside(ctx, none)
}

func (g *Group[In, Out]) awaitOutside(ctx context.Context, none <-chan struct{}) {
	select {
	case <-none:
	case <-ctx.Done():
		select {
		case <-none: // all have ended: that counts
		default:
			g.fail(context.Cause(ctx))
			<-none
		}
	}
}

// ended notes that an item has. It runs where the item did.
func (g *Group[In, Out]) ended(t *Ticket) {
	if t.err != nil {
		if t.exit == exitPanicked {
			g.mu.Lock()
			if g.panicked == nil {
				g.panicked = t.err.(*PanicError)
			}
			g.mu.Unlock()
		}
		g.fail(t.err)
	}
	g.leave(1)
}

// leave notes that so many of what was left are gone.
func (g *Group[In, Out]) leave(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left -= n; g.left == 0 && g.none != nil {
		close(g.none)
		g.none = nil
	}
}

// fail cancels all items if that is the first error.
func (g *Group[In, Out]) fail(err error) {
	g.mu.Lock()
	if g.err != nil {
		g.mu.Unlock()
		return
	}
	g.err = err
	members := slices.Clone(g.members)
	g.mu.Unlock()
	for _, m := range members {
		if m != nil {
			m.cancel(err)
		}
	}
}
