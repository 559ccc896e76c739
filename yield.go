package helix

import (
	"context"
	"runtime"
	"time"
)

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
	handed := s.pool.handOver(s)
	away := int64(time.Since(start))
	s.away.Add(away)
	if s.timed {
		s.pool.underWay.lose(&s.watch, away-handed)
	}
}

// handOver lets an earlier deadline have the slot and waits to get one back. It returns
// how long that took, in ns.
func (p *pool) handOver(s *slot) int64 {
	if p.firstDue.Load() >= s.due || !s.yielding.CompareAndSwap(false, true) {
		return 0
	}
	defer s.yielding.Store(false)
	p.mu.Lock()
	if p.firstDue.Load() >= s.due {
		p.mu.Unlock()
		return 0
	}
	y := &yielder{resume: make(chan struct{})}
	y.place.due, y.place.long = s.due, s.long
	now := p.clock()
	y.place.class = classOf(s.due - now)
	p.wait(&y.place, workLoad(max(s.until+s.away.Load()-now, 0)))
	p.push(&y.place, y)
	p.mu.Unlock()
	if s.timed {
		p.underWay.pause(&s.watch, now)
	}
	p.release(0, s.long)
	<-y.resume
	back := p.clock()
	if s.timed {
		p.underWay.resume(&s.watch, back)
	}
	return back - now
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
