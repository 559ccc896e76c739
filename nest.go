package helix

import (
	"sync"
	"sync/atomic"

	"github.com/helixrouter/helix/internal/slots"
)

// nest is what a slot has besides, once there is work inside its job or around it, or the
// job yields or is long.
type nest struct {
	outer *slot   // of the job inside which this one was submitted, maybe to another router; nil if there is none
	host  *slot   // the run in whose slot this one runs; nil if it has one of its own, or none
	other []*slot // of a batch: the jobs around its members, besides outer

	// lent says whether the slot of the job around was lent because of this one, and not
	// given back to it: see slot.lendOuter.
	lent atomic.Int32

	waiting int        // goroutines of the job that wait; guarded by pool.mu
	back    *returning // the job's place in the queue while it is slotReturning; guarded by pool.mu
	more    int64      // see slots.Runs.Begin; of the run that holds no slot; guarded by pool.mu

	away     atomic.Int64    // ns that are not the job's own: in nested jobs, waiting, or in Yield
	watch    slots.Stopwatch // guarded by underWay.mu
	yielders atomic.Int32    // goroutines of the job in Yield
	parallel atomic.Bool     // several were at once

	mu    sync.Mutex
	gone  int   // goroutines of the job that are in nested jobs, or wait; guarded by mu
	since int64 // when the first of them went; guarded by mu
}

// The values of nest.lent.
const (
	lentNot int32 = iota
	lentOuter
	lentNoMore // the run has ended: too late
)

// nestedSlot is a slot with its nest, of a job that was submitted inside another.
type nestedSlot struct {
	slot
	room nest
}

// newNested makes the slot of a job that is submitted inside outer, and has entered host's
// slot if that is not nil.
func newNested(outer, host *slot) *slot {
	s := &nestedSlot{}
	s.room.outer = outer
	s.nest.Store(&s.room)
	s.state.Store(slotNone)
	if host != nil {
		s.room.host = host
		s.hold(host.long)
	}
	return &s.slot
}

// fillNested fills in what is known of a job inside another. It is due no later than the job
// that waits for it.
//
//go:noinline
func (t *Ticket) fillNested(q *request) {
	var s *slot
	if q.entered {
		s = q.ctx.(*slot)
		t.ctx = s.Context
	} else {
		s = newNested(q.outer, nil)
		s.Context = t.ctx
	}
	s.kind, s.due = t.kind, t.latestStart()
	for _, o := range []*slot{s.outer(), s.host()} {
		if o != nil && o.kind.router == t.router() {
			s.due = min(s.due, o.due)
		}
	}
	t.job.nested, t.slot = true, s
}

// nested returns the nest, and makes it if it is not there.
func (s *slot) nested() *nest {
	if n := s.nest.Load(); n != nil {
		return n
	}
	s.nest.CompareAndSwap(nil, &nest{})
	return s.nest.Load()
}

// outer returns the slot of the job inside which this one was submitted, maybe to another router; nil if
// there is none.
func (s *slot) outer() *slot {
	if n := s.nest.Load(); n != nil {
		return n.outer
	}
	return nil
}

func (s *slot) host() *slot {
	if n := s.nest.Load(); n != nil {
		return n.host
	}
	return nil
}

// around calls f for the job and for those around it, from the innermost outwards, until it
// returns true, and reports that it did.
func (s *slot) around(f func(*slot) bool) bool {
	for s != nil {
		if f(s) {
			return true
		}
		n := s.nest.Load()
		if n == nil {
			return false
		}
		for _, o := range n.other {
			if o.around(f) {
				return true
			}
		}
		s = n.outer
	}
	return false
}

// inside reports whether the job is one of r or inside one.
func (s *slot) inside(r *Router) bool {
	return s.around(func(s *slot) bool { return s.kind.router == r && !s.ended() })
}

// seat returns the slot of p in which a job that is submitted inside s may run right now: no
// other does, and its own job waits for this one.
func (p *pool) seat(s *slot) (host *slot) {
	s.around(func(s *slot) bool {
		if s.state.Load() == slotHeld && s.pool() == p {
			host = s
		}
		return host != nil
	})
	return host
}

// depart notes that a goroutine of the job does something else from now on: time that is not
// the job's own, however many do.
func (s *slot) depart() {
	n, now := s.nested(), s.router().now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone++; n.gone == 1 {
		n.since = now
		if s.timed {
			s.pool().underWay.Pause(&n.watch, now)
		}
	}
}

// arrive ends what depart has begun.
func (s *slot) arrive() {
	n, now := s.nested(), s.router().now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone--; n.gone == 0 {
		n.away.Add(now - n.since)
		if s.timed {
			s.pool().underWay.Resume(&n.watch, now)
		}
	}
}

// absent returns how many ns of a run that ended then were not the job's own.
func (s *slot) absent(ended int64) int64 {
	if n := s.nest.Load(); n != nil {
		return n.absent(ended)
	}
	return 0
}

// absent is slot.absent.
func (n *nest) absent(ended int64) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	away := n.away.Load()
	if n.gone > 0 { // goroutines that outlive it
		away += max(ended-n.since, 0)
	}
	return away
}

// lendOuter lends the slots of all jobs around this one, which wait for it, until they have
// its result: see endNested. A job in whose slot it runs has none to lend.
func (s *slot) lendOuter() {
	for outer := s.outer(); outer != nil; s, outer = outer, outer.outer() {
		n := s.nested()
		if n.host != outer && n.lent.CompareAndSwap(lentNot, lentOuter) {
			outer.lend()
		}
	}
}

// nesting notes that there is work inside jobs of the kind, or they block.
func (s *slot) nesting() {
	if !s.kind.nests.Load() { // the word is shared: write it once
		s.kind.nests.Store(true)
	}
}

// pause notes that a goroutine of the job blocks, and lends the slots it holds.
func (s *slot) pause() {
	s.nesting()
	s.depart()
	s.lend()
	s.lendOuter()
}

// unpause ends what pause has begun. It waits until the job has its slot back.
func (s *slot) unpause() {
	s.comeBack(1)
	s.arrive()
}

// submitNested admits a job that is submitted inside another, and does what its submitter
// must.
//
//go:noinline
func (t *Ticket) submitNested() error {
	outer := t.slot.outer()
	outer.nesting()
	outer.depart()
	defer t.endNested(outer) // also after runtime.Goexit
	if err := t.router().admit(t, outer); err != nil {
		return err
	}
	return t.finishSubmit()
}

// endNested gives the slot that a nested run had back, and waits until the job around it has
// its own.
func (t *Ticket) endNested(outer *slot) {
	s := t.slot
	if s.host() != nil {
		s.end(0)
	}
	waited := 0
	if s.nested().lent.Swap(lentNoMore) == lentOuter {
		waited = 1
	}
	if waited > 0 || outer.state.Load() == slotLent {
		outer.comeBack(waited)
	}
	outer.arrive()
}
