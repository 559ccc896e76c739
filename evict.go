package helix

import "time"

// What leaves the queue before its slot comes: because its budget ends, or because another
// takes its place in a full queue.

// expiry has the queue looked at when a job in it can no longer end in its budget. It is
// guarded by pool.mu.
type expiry struct {
	timer   *time.Timer // nil until first needed
	at      int64       // when it fires; 0: it does not
	waiters int         // in the queue, with a budget
}

func (e *expiry) stop() {
	if e.timer != nil {
		e.timer.Stop()
	}
}

// expireEvery is how soon after one another the queue is looked at for that, at the most.
const expireEvery = int64(time.Millisecond)

// expireBy has the queue looked at then, at the latest. It requires p.mu.
func (p *pool) expireBy(due int64) {
	if p.expiry.at == 0 || due < p.expiry.at {
		p.armExpiry(due)
	}
}

// armExpiry requires p.mu.
func (p *pool) armExpiry(at int64) {
	p.expiry.at = at
	d := time.Duration(at - p.clock())
	if p.expiry.timer == nil {
		p.expiry.timer = time.AfterFunc(d, p.expire)
	} else {
		p.expiry.timer.Reset(d)
	}
}

// expire ends the jobs in the queue that can no longer end in their budgets.
func (p *pool) expire() {
	p.mu.Lock()
	now := p.clock()
	p.queue.ripen(now)
	var tickets []*Ticket
	var batches []*batch
	next := p.queue.overdue(now, func(w *waiter) {
		if !w.expires {
			return
		}
		switch g := w.granter.(type) {
		case *Ticket:
			tickets = append(tickets, g)
		case *batch:
			batches = append(batches, g)
		}
	})
	owned := tickets[:0]
	for _, t := range tickets {
		if p.pop(&t.place); t.claim() {
			owned = append(owned, t)
		}
	}
	p.expiry.at = 0
	p.mu.Unlock()
	for _, t := range owned {
		p.takeWork(workLoad(t.charge()))
		t.refuseLate(reasonExpired)
		t.deliver()
	}
	for _, f := range batches {
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
	next = maxDue
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

// fairPlaces is the part of the queue that every kind has a right to.
const fairPlaces = 8

// mayDisplace reports that a job of that kind and priority may have the place of another in
// a full queue: of a lower priority, or of a kind that has more than its part while its own
// has less.
func (p *pool) mayDisplace(k *kind, priority Priority, queueCap int) bool {
	lower := p.waiting.low.Load()
	if priority == High {
		lower = p.queued.Load() - p.waiting.high.Load()
	}
	if lower > 0 && priority != Low {
		return true
	}
	return fairPlaces*k.queued.Load() < int64(queueCap)
}

// displace ends a job in the full queue whose place t may have, and reports whether there
// was one; others may take the place before t does. It must be called with no lock held, a
// batcher's neither, as it may take a member out of any batch. First go lower priorities,
// then, of the kind that has most in the queue, jobs without a budget; and of those alike
// what is due last.
func (p *pool) displace(t *Ticket) bool {
	if p.queued.Load() < int64(t.cfg.CPUQueueCap) {
		return true
	}
	if !p.mayDisplace(t.kind, t.job.priority, t.cfg.CPUQueueCap) {
		return false
	}
	own := t.kind.queued.Load()
	var victim displaceable
	p.mu.Lock()
	p.queue.all(func(w *waiter) {
		v := displaceable{w: w, expires: w.expires, due: w.due}
		switch g := w.granter.(type) {
		case *Ticket:
			v.kind, v.priority = g.kind, g.job.priority
		case *batch:
			v.kind, v.priority = g.kind, g.priority
		default: // has started
			return
		}
		lower := v.priority < t.job.priority
		same := v.priority == t.job.priority && v.kind.queued.Load() > 2*(own+1)
		if (lower || same) && (victim.w == nil || v.goesBefore(&victim)) {
			victim = v
		}
	})
	if victim.w == nil {
		p.mu.Unlock()
		return false
	}
	if f, ok := victim.w.granter.(*batch); ok {
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
		p.takeWork(workLoad(out.charge()))
		out.refuseLate(reasonDisplaced)
		out.deliver()
	}
	return true
}

// displaceable is what decides which of those in the queue is to lose its place.
type displaceable struct {
	w        *waiter
	kind     *kind
	priority Priority
	expires  bool
	due      int64
}

// goesBefore reports that v is rather to lose its place than other.
func (v *displaceable) goesBefore(other *displaceable) bool {
	switch {
	case v.priority != other.priority:
		return v.priority < other.priority
	case v.kind != other.kind:
		return v.kind.queued.Load() > other.kind.queued.Load()
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
	if !f.granted {
		for _, t := range f.members {
			if out(t) && t.claim() {
				owned = append(owned, t)
			}
		}
		for _, t := range owned {
			f.remove(t)
		}
	}
	b.mu.Unlock()
	for _, t := range owned {
		t.refuseLate(reason)
		t.deliver()
	}
	return len(owned)
}
