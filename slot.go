package helix

import (
	"context"
	"sync/atomic"

	"github.com/helixrouter/helix/internal/jobctx"
	"github.com/helixrouter/helix/internal/slots"
)

// slot is the ctx of a running job: its own ctx, plus the mark by which work inside the job
// is known, and with it the slot that the job runs in, if it does. It is allocated for a
// run and never reused, because user code may keep a ctx.
//
// A slot belongs to a tree of work, not to a goroutine. A nested run, which a job has
// submitted and waits for, runs in the slot of its job. So the slot is with the innermost of
// a chain of runs, each of which has the one before as its host, and the run that has it lends it, or
// hands it over in Yield, for all of them. The states say where it is, as seen from one run:
//
//	none ── hold ─▶ held ── enter ─▶ inner ── exit ─▶ held
//	                held ── lend ──▶ lent ── comeBack ─▶ returning ── regain ─▶ held
//	                held ── handOver ──────────────────▶ returning
//	                inner ── lend ─▶ wanted ── exit ─▶ lent
//	                inner, wanted ── end ─▶ left ── exit ─▶ none
//	held, lent, returning ── finish or end ─▶ none
//
// While a goroutine of the job waits (nest.waiting > 0) the slot is never held: what it waits
// for may need it. All transitions are in this file. Those without a lock are one
// compare-and-swap on state; the others hold pool.mu.
type slot struct {
	context.Context
	kind *kind
	nest atomic.Pointer[nest] // nil for most: a slot is allocated for every run

	due   int64 // jobs due before may have its slot in Yield, and get a slot before it when it comes back
	until int64 // when it is predicted to end, not counting the time it is away
	state atomic.Int32
	over  atomic.Bool // the job has ended without having the slot; see ended

	bounded bool // it runs, or ran, in a slot
	timed   bool // its time so far is known to pool.underWay

	// The owner's of the slot.
	long  bool // it counts as held by a long run
	spent bool // the job has ended, and the slot, which it had, is to be given back
	place int8 // in pool.runs
}

// The states of a slot.
const (
	slotHeld      int32 = iota // the job has it; first, as nearly every slot is made for a job that does
	slotNone                   // given back, or there never was one
	slotInner                  // a nested run has it
	slotWanted                 // likewise, and a goroutine of the job waits: it is lent when the run ends
	slotLeft                   // likewise, and the job has ended: it is given back when the run ends
	slotLent                   // given back to the pool while goroutines of the job wait
	slotReturning              // the job is in the queue to get it back
)

// Value implements context.Context.
func (s *slot) Value(key any) any {
	if key == (jobctx.Mark{}) && !s.ended() {
		return s
	}
	return s.Context.Value(key)
}

// jobIn returns the innermost running job to which ctx belongs, of any router; nil if there is
// none.
func jobIn(ctx context.Context) *slot {
	s, _ := ctx.Value(jobctx.Mark{}).(*slot)
	return s
}

func (s *slot) router() *Router { return s.kind.router }

func (s *slot) pool() *pool { return s.kind.router.pool }

// newHeld makes the slot of a job that was given one.
func newHeld(t *Ticket) *slot {
	return &slot{Context: t.ctx, kind: t.kind, due: t.latestStart(), long: t.long(), place: slots.NoPlace, bounded: true}
}

// newMark makes the mark of a job that has no slot.
func newMark(t *Ticket) *slot {
	s := &slot{Context: t.ctx, kind: t.kind, due: t.latestStart()}
	s.state.Store(slotNone)
	return s
}

// finish notes that the job has ended. end must follow if it was given a slot.
func (s *slot) finish() {
	if s.spent = s.bounded && s.state.CompareAndSwap(slotHeld, slotNone); !s.spent {
		s.over.Store(true)
	}
}

// ended reports whether the job has ended; goroutines that outlive it may still have the ctx.
func (s *slot) ended() bool { return s.over.Load() || s.bounded && s.state.Load() == slotNone }

// hold notes that the job, which has not started, was given a slot.
func (s *slot) hold(long bool) {
	s.long, s.place, s.bounded = long, slots.NoPlace, true
	s.state.Store(slotHeld)
}

// enter gives a nested run the slot, if its job has it.
func (s *slot) enter() bool { return s.state.CompareAndSwap(slotHeld, slotInner) }

// exit gives the slot back that a nested run had.
func (s *slot) exit(long bool) {
	s.long = long
	if s.state.CompareAndSwap(slotInner, slotHeld) {
		return
	}
	p := s.pool()
	p.mu.Lock()
	was := s.state.Load() // no other goroutine changes it under the lock while the run has the slot
	switch was {
	case slotInner:
		s.state.Store(slotHeld)
	case slotWanted:
		s.state.Store(slotLent)
		s.vacate()
	case slotLeft:
		s.state.Store(slotNone)
	}
	p.mu.Unlock()
	switch was {
	case slotWanted:
		p.release(0, long)
	case slotLeft:
		s.giveBack(0)
		p.onIdle()
	}
}

// exitWithout is exit for a run that has lent the slot and not got it back.
func (s *slot) exitWithout() {
	p := s.pool()
	p.mu.Lock()
	left := s.state.CompareAndSwap(slotLeft, slotNone)
	if !left {
		s.state.Store(slotLent)
	}
	p.mu.Unlock()
	if host := s.host(); left && host != nil {
		host.exitWithout()
	}
}

// lend notes that one more goroutine of the job waits, and lends the slot.
func (s *slot) lend() {
	if s.state.Load() == slotNone {
		return
	}
	n, p := s.nested(), s.pool()
	p.mu.Lock()
	n.waiting++
	lent, long := false, false
	for n.waiting > 0 && !lent {
		if lent = s.state.CompareAndSwap(slotHeld, slotLent); lent {
			long = s.long
			s.vacate()
		} else if s.state.CompareAndSwap(slotInner, slotWanted) || !s.inUse() {
			break
		}
	}
	p.mu.Unlock()
	if lent {
		p.release(0, long)
	}
}

// inUse reports whether the job or a nested run has the slot; at any moment one may pass it
// to the other.
func (s *slot) inUse() bool {
	state := s.state.Load()
	return state == slotHeld || state == slotInner
}

// comeBack notes that some goroutines of the job, one or none, do not wait any more. If none
// does it waits until the job has its slot back.
func (s *slot) comeBack(waited int) {
	if s.state.Load() == slotNone {
		return
	}
	n, p := s.nested(), s.pool()
	p.mu.Lock()
	n.waiting -= waited
	var back *returning
	if n.waiting <= 0 {
		s.state.CompareAndSwap(slotWanted, slotInner)
		if s.state.Load() == slotReturning {
			back = n.back
		}
		if s.state.CompareAndSwap(slotLent, slotReturning) {
			back = s.queueBack(s.long)
		}
	}
	p.mu.Unlock()
	if back != nil {
		p.dispatch() // a slot may be free
		<-back.resume
	}
}

// handOver lets an earlier deadline have the slot, and waits to get one back. Other goroutines
// of the job that come here meanwhile wait too: job is theirs, and runs in the slot.
func (s *slot) handOver(job *slot) {
	p := s.pool()
	if p.firstDue.Load() >= s.due && s.state.Load() != slotReturning {
		return
	}
	n := s.nested()
	p.mu.Lock()
	back, given, long := n.back, false, false
	if back == nil {
		if !s.state.CompareAndSwap(slotHeld, slotReturning) {
			p.mu.Unlock()
			return
		}
		// In the queue it counts as long, or it would itself be the shorter work to which
		// long runs must leave a slot.
		back, long = s.queueBack(true), s.long
		if given = p.next(long).Due < s.due; !given {
			p.pop(&back.place)
			n.back = nil
			s.state.Store(slotHeld)
			p.mu.Unlock()
			return
		}
		s.vacate()
	}
	p.mu.Unlock()
	job.depart()
	if given {
		p.release(0, long)
	}
	<-back.resume
	job.arrive()
}

// queueBack puts the job into the queue to get its slot back, by when it was due. It requires
// pool.mu; dispatch or release must follow.
func (s *slot) queueBack(long bool) *returning {
	n, p := s.nested(), s.pool()
	now := p.clock()
	back := &returning{slot: s, resume: make(chan struct{})}
	n.back = back
	back.place.Due, back.place.Long = s.due, long
	back.place.Class = slots.ClassOf(s.due - now)
	p.backlog.Add(&back.place, slots.Work(s.left(now)))
	p.push(&back.place, back)
	return back
}

// regain gives the job its slot back, or reports that a goroutine of it waits again. It
// requires pool.mu.
func (s *slot) regain(long bool) bool {
	n := s.nest.Load()
	n.back = nil
	if n.waiting > 0 {
		s.state.Store(slotLent)
		return false
	}
	s.long = long
	s.reoccupy()
	s.state.Store(slotHeld)
	return true
}

// end gives back what the job has, which has ended, and takes work off.
func (s *slot) end(work slots.Load) {
	if s.spent || s.state.CompareAndSwap(slotHeld, slotNone) {
		s.giveBack(work)
	} else {
		s.endAway(work)
	}
}

// endAway is end for a job that does not have the slot.
func (s *slot) endAway(work slots.Load) {
	p := s.pool()
	p.subWork(work)
	p.mu.Lock()
	without := false
	for done := false; !done; {
		switch state := s.state.Load(); state {
		case slotInner, slotWanted:
			if done = s.state.CompareAndSwap(state, slotLeft); done {
				p.runs.End(s.place)
				s.place = slots.NoPlace
			}
		case slotHeld:
			if s.state.CompareAndSwap(slotHeld, slotNone) {
				p.mu.Unlock()
				s.giveBack(0)
				return
			}
		case slotReturning:
			n := s.nest.Load()
			p.pop(&n.back.place)
			close(n.back.resume)
			n.back = nil
			fallthrough
		default:
			without, done = state != slotNone, true
			s.state.Store(slotNone)
		}
	}
	p.mu.Unlock()
	if host := s.host(); without && host != nil {
		host.exitWithout()
	}
}

// giveBack gives the slot, which has no holder now, to the host or the pool.
func (s *slot) giveBack(work slots.Load) {
	p := s.pool()
	p.runs.End(s.place)
	if host := s.host(); host != nil {
		host.exit(s.long)
		return
	}
	p.release(work, s.long)
}

// returning is a job that waits in the queue to get its slot back.
type returning struct {
	place  slots.Node
	slot   *slot
	resume chan struct{} // closed when it has it, or does not want it any more
}

func (b *returning) accept() bool {
	if !b.slot.regain(b.place.Long) {
		close(b.resume)
		return false
	}
	return true
}

func (b *returning) granted() bool {
	close(b.resume)
	return true
}
