package helix

import (
	"sync"
	"time"

	"github.com/helixrouter/helix/internal/num"
	"github.com/helixrouter/helix/internal/slots"
)

// gate keeps the jobs of a kind that waits within Kind.MaxConcurrent: those beyond wait
// in order of their deadlines, earliest first, those without a budget last. Each kind
// has its own, if any.
type gate struct {
	most  int
	spawn *spawn
	clock func() int64 // ns since the router was made

	mu      sync.Mutex // guards the rest, and Ticket.place of those that wait
	running int
	waiting slots.Queue // those without a place
	queued  int
	alarm   alarm // for the first whose budget ends
	closed  bool
}

// enter takes a place for t and reports true, or queues t and reports false.
func (g *gate) enter(t *Ticket) (entered bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return false, errPoolClosed
	case g.running < g.most:
		g.running++
		t.place.Gated = true
		return true, nil
	}
	w := &t.place
	w.Gated, w.Due, w.Expires, w.Requester = true, t.due(), t.expires(), t
	g.queued++
	g.waiting.Push(w)
	if w.Expires {
		g.arm()
	}
	return false, nil
}

// arm has the queue looked at when the first that is due is. It requires g.mu.
func (g *gate) arm() {
	g.armIn(time.Duration(g.waiting.FirstDue() - g.clock()))
}

// armIn has the queue looked at after d. It requires g.mu.
func (g *gate) armIn(d time.Duration) {
	g.alarm.set(g.clock(), d, g.expire)
}

// leave gives a place to the first that waits for one and still wants it.
func (g *gate) leave() {
	g.mu.Lock()
	var next *Ticket
	for next == nil && !g.waiting.Empty() {
		if t := g.waiting.First(true).Requester.(*Ticket); g.take(t) {
			next = t
		}
	}
	if next == nil {
		g.running--
	}
	g.mu.Unlock()
	if next != nil {
		g.spawn.start(next)
	}
}

// take takes t out of the queue and makes the caller its owner, unless it was withdrawn. It requires g.mu.
func (g *gate) take(t *Ticket) bool {
	g.waiting.Remove(&t.place)
	g.queued--
	return t.claim()
}

// remove takes t, which was withdrawn, out of the queue if it is there.
func (g *gate) remove(t *Ticket) {
	g.mu.Lock()
	if t.place.Queued {
		g.waiting.Remove(&t.place)
		g.queued--
	}
	g.mu.Unlock()
	g.spawn.running.Add(-1)
}

// expire refuses those whose budgets have ended while they waited.
func (g *gate) expire() {
	g.mu.Lock()
	var due, late []*Ticket
	now := g.clock()
	next := g.waiting.Overdue(now, func(w *slots.Node) {
		if w.Expires && sameClock(w.Due, now) {
			due = append(due, w.Requester.(*Ticket))
		}
	})
	for _, t := range due {
		if g.take(t) {
			late = append(late, t)
		}
	}
	if next < num.Never {
		g.armIn(time.Duration(max(next-now, expireEvery)))
	}
	g.mu.Unlock()
	for _, t := range late {
		g.spawn.running.Add(-1)
		t.refuseLate(reasonGateTime)
		t.notifySubmitter()
	}
}

// close withdraws those that wait.
func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	var waiting, left []*Ticket
	g.waiting.All(func(w *slots.Node) { waiting = append(waiting, w.Requester.(*Ticket)) })
	for _, t := range waiting {
		if g.take(t) {
			left = append(left, t)
		}
	}
	g.alarm.stop()
	g.mu.Unlock()
	for _, t := range left {
		g.spawn.running.Add(-1)
		t.endWithdrawn(ErrClosed)
		t.notifySubmitter()
	}
}

// length returns how many wait.
func (g *gate) length() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.queued
}
