package helix

import (
	"time"

	"github.com/helixrouter/helix/internal/num"
	"github.com/helixrouter/helix/internal/slots"
)

// What leaves the queue before its slot comes: because its budget ends, or because another
// takes its place in a full queue.

// expiry has the queue looked at when a job in it can no longer end in its budget. It is
// guarded by pool.mu.
type expiry struct {
	alarm   alarm
	at      int64 // when it fires; 0: it does not
	waiters int   // in the queue, with a budget
}

// expireEvery is the minimum time between two such looks at the queue.
const expireEvery = int64(time.Millisecond)

// expireBy has the queue looked at then, at the latest. It requires p.mu.
func (p *pool) expireBy(due int64) {
	if p.expiry.at == 0 || due < p.expiry.at || inBubble(p.clock()) || !sameClock(due, p.expiry.at) {
		p.armExpiry(due)
	}
}

// armExpiry requires p.mu.
func (p *pool) armExpiry(at int64) {
	p.expiry.at = at
	now := p.clock()
	p.expiry.alarm.set(now, time.Duration(at-now), p.expire)
}

// expire ends the jobs in the queue that can no longer end in their budgets.
func (p *pool) expire() {
	p.mu.Lock()
	now := p.clock()
	p.queue.UndeferDue(p.clock)
	var overdue unstarted
	next := p.queue.Overdue(now, func(w *slots.Node) {
		if !w.Expires || !sameClock(w.Due, now) { // a timer must not end what waits in a bubble
			return
		}
		overdue.add(w)
	})
	owned := overdue.tickets[:0]
	for _, t := range overdue.tickets {
		if p.pop(&t.place); t.claim() {
			owned = append(owned, t)
		}
	}
	p.expiry.at = 0
	p.mu.Unlock()
	for _, t := range owned {
		p.subWork(slots.Work(t.charge()))
		t.refuseLate(reasonExpired)
		t.notifySubmitter()
	}
	for _, f := range overdue.batches {
		next = min(next, f.expire(now))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.expiry.waiters > 0 && !p.closed {
		p.expireBy(max(next, now+expireEvery))
	}
}

// expire ends the members of a queued batch that can no longer end in their budgets, and
// returns when it is to be called next.
func (f *batch) expire(now int64) (next int64) {
	next = num.Never
	f.evict(reasonExpired, func(t *Ticket) bool {
		due := f.batcher.due(t)
		switch {
		case !t.expires():
			return false
		case due > now:
			next = min(next, due)
			return false
		}
		return true
	})
	return next
}

// places returns how many places of a full queue are the kind's part, by its weight among those
// that have jobs in the queue and comes, the kind of the arriving job.
func (k *kind) places(queueCap int, comes *kind) float64 {
	weight := k.weight.Load()
	all := k.router.ledger.Queueing()
	if comes.queued.Load() == 0 {
		all += comes.weight.Load()
	}
	if all <= weight { // it has the queue for itself
		return float64(queueCap)
	}
	return float64(queueCap) * weight / all
}

// displaceBelow is by which part of the queue a kind must have less than its part to take
// places from others: so rarely is a job that has waited refused for one that comes.
const displaceBelow = 1. / 16

// mayDisplace reports whether a job of that kind and priority may have the place of another in
// a full queue: of a lower priority, or of a kind that has more than its part while its own
// has less.
func (p *pool) mayDisplace(k *kind, priority Priority, queueCap int) bool {
	lower := p.low.Load()
	if priority == High {
		lower = p.queued.Load() - p.high.Load()
	}
	if lower > 0 && priority != Low {
		return true
	}
	return float64(k.queued.Load()) < k.places(queueCap, k)-displaceBelow*float64(queueCap)
}

// displace ends a job in the full queue whose place t may have, and reports whether there
// was one; others may take the place before t does. It must be called with no lock held, a
// batcher's neither, as it may take a member out of any batch. As the longest of fair queues
// is cut when memory is short (Suter et al., "Design considerations for supporting TCP with
// per-flow queueing", 1998), first go lower priorities, then, of the kind that is most above
// its part, jobs without a budget; and of those alike what is due last.
func (p *pool) displace(t *Ticket) bool {
	queueCap := t.cfg.CPUQueueCap
	if p.queued.Load() < int64(queueCap) {
		return true
	}
	if !p.mayDisplace(t.kind, t.job.priority, queueCap) {
		return false
	}
	var victim displaceable
	p.mu.Lock()
	p.queue.All(func(w *slots.Node) {
		v := displaceable{w: w, expires: w.Expires, due: w.Due}
		switch g := w.Requester.(type) {
		case *Ticket:
			v.kind, v.priority = g.kind, g.job.priority
		case *batch:
			v.kind, v.priority = g.slot.kind, g.priority
		default: // has started
			return
		}
		lower := v.priority < t.job.priority
		v.above = float64(v.kind.queued.Load()) / v.kind.places(queueCap, t.kind)
		same := v.priority == t.job.priority && v.above > 1
		if (lower || same) && (victim.w == nil || v.goesBefore(&victim)) {
			victim = v
		}
	})
	if victim.w == nil {
		p.mu.Unlock()
		return false
	}
	if f, ok := victim.w.Requester.(*batch); ok {
		p.mu.Unlock()
		found := false
		return f.evict(reasonDisplaced, func(*Ticket) bool {
			first := !found
			found = true
			return first
		}) > 0
	}
	out := p.pop(victim.w).(*Ticket)
	claimed := out.claim()
	p.mu.Unlock()
	if claimed {
		p.subWork(slots.Work(out.charge()))
		out.refuseLate(reasonDisplaced)
		out.notifySubmitter()
	}
	return true
}

// displaceable is what decides which of those in the queue is to lose its place.
type displaceable struct {
	w        *slots.Node
	kind     *kind
	priority Priority
	above    float64 // jobs of its kind in the queue, of its places
	expires  bool
	due      int64
}

// goesBefore reports whether v is rather to lose its place than other.
func (v *displaceable) goesBefore(other *displaceable) bool {
	switch {
	case v.priority != other.priority:
		return v.priority < other.priority
	case v.kind != other.kind:
		return v.above > other.above
	case v.expires != other.expires:
		return other.expires
	}
	return v.due > other.due
}

// evict refuses those waiting members of a queued batch that out picks, and returns how many
// they were.
func (f *batch) evict(reason string, out func(*Ticket) bool) int {
	b := f.batcher
	b.mu.Lock()
	var owned []*Ticket
	if !f.hasSlot {
		for _, t := range f.members {
			if out(t) && t.claim() {
				owned = append(owned, t)
			}
		}
		for _, t := range owned {
			f.removeMember(t)
		}
	}
	b.mu.Unlock()
	for _, t := range owned {
		t.refuseLate(reason)
		t.notifySubmitter()
	}
	return len(owned)
}
