package helix

import (
	"github.com/helixrouter/helix/internal/num"
	"github.com/helixrouter/helix/internal/slots"
)

// What the predictions know of the runs in slots.

// begin notes that a run of about that many ns, which is nearly sure not to take longer by more, begins
// in the slot. If timed, its time so far counts as work under way, until untime.
func (s *slot) begin(started, run, more int64, timed bool) {
	s.until = num.Add(started, run)
	if s.timed = timed; timed {
		run = max(run, slots.NotedFrom(s.pool().slots.Load())) // of an unknown kind
	}
	s.occupy(started, run, more)
	if timed {
		s.pool().underWay.Begin(&s.nested().watch, started)
	}
}

// occupy notes that a run, see begin, holds the slot from now on, and to which jobs it yields.
func (s *slot) occupy(now, run, more int64) {
	s.place = slots.NoPlace
	if run >= slots.RunFrom {
		s.takePlace(now, run, more)
	}
}

// takePlace is occupy for a run that is long enough to matter.
func (s *slot) takePlace(now, run, more int64) {
	p := s.pool()
	if run < slots.NotedFrom(p.slots.Load()) {
		return
	}
	due := int64(slots.Always)
	if s.kind.yields.Load() {
		due = s.due
	}
	s.place = p.runs.Begin(now, run, more, due)
}

// vacate notes that the run, and those in whose slot it runs, hold no slot from now on. It
// requires pool.mu.
func (s *slot) vacate() {
	for ; s != nil; s = s.host() {
		if s.place != slots.NoPlace {
			p := s.pool()
			s.nested().more = p.runs.More(s.place)
			p.runs.End(s.place)
			s.place = slots.NoPlace
		}
	}
}

// reoccupy ends what vacate has begun. It requires pool.mu.
func (s *slot) reoccupy() {
	now := s.pool().clock()
	for ; s != nil; s = s.host() {
		if !s.ended() {
			s.occupy(now, s.left(now), s.nested().more)
		}
	}
}

// left returns how many ns of the run are predicted to be left.
func (s *slot) left(now int64) int64 { return max(s.until+s.nested().away.Load()-now, 0) }

// untime ends what begin has begun, if the run is timed.
func (s *slot) untime() {
	if s.timed {
		s.endTime()
	}
}

//go:noinline
func (s *slot) endTime() { s.pool().underWay.End(&s.nest.Load().watch) }
