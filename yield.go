package helix

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"
)

// slot is the ctx of a job that holds a slot: its own ctx plus the mark by
// which Yield and nested Submits find the slot. It is allocated for each run
// and never reused, because user code may keep a ctx.
type slot struct {
	context.Context
	pool     *pool
	due      int64
	long     bool
	left     atomic.Bool  // set once the slot was given back
	yielding atomic.Bool  // one Yield at a time
	away     atomic.Int64 // ns spent in Yield, which are not the job's own
	kind     *kind
}

// slotKey finds the slot of a certain pool in a ctx, anySlot the nearest.
type (
	slotKey struct{ pool *pool }
	anySlot struct{}
)

// Value implements context.Context.
func (s *slot) Value(key any) any {
	if key == (slotKey{s.pool}) || key == (anySlot{}) {
		return s
	}
	return s.Context.Value(key)
}

// holdsSlot reports that ctx belongs to a job that holds a slot of p, so that
// waiting for another might wait forever.
func (p *pool) holdsSlot(ctx context.Context) bool {
	s, ok := ctx.Value(slotKey{p}).(*slot)
	return ok && !s.left.Load()
}

// Yield gives way: first to whatever else is runnable, then, if a job with an
// earlier deadline waits for a CPU slot, it hands its slot over and queues for
// one again. Long jobs call it about every 100 µs of work, with the ctx they
// were given: a tight budget beside long jobs can only be kept if they do.
//
// Outside a job that holds a slot it does nothing. It costs about 200 ns while
// nobody waits. It does not return early when ctx is done.
func Yield(ctx context.Context) {
	s, ok := ctx.Value(anySlot{}).(*slot)
	if !ok || s.left.Load() {
		return
	}
	if !s.kind.yields.Load() { // the word is shared: write it once
		s.kind.yields.Store(true)
	}
	start := time.Now()
	runtime.Gosched()
	s.pool.handOver(s)
	s.away.Add(int64(time.Since(start)))
}

// handOver lets an earlier deadline have the slot and waits to get one back.
func (p *pool) handOver(s *slot) {
	if p.firstDue.Load() >= s.due || !s.yielding.CompareAndSwap(false, true) {
		return
	}
	defer s.yielding.Store(false)
	p.mu.Lock()
	if p.firstDue.Load() >= s.due {
		p.mu.Unlock()
		return
	}
	y := &yielder{resume: make(chan struct{})}
	y.place.due, y.place.long = s.due, s.long
	p.push(&y.place, y)
	p.mu.Unlock()
	p.release(0, s.long)
	<-y.resume
}

// yielder is a job that has handed its slot over and waits for another.
type yielder struct {
	place  waiter
	resume chan struct{}
}

func (y *yielder) claim() bool { return true }

func (y *yielder) grant() bool {
	close(y.resume)
	return true
}
