package helix

// granter is what waits for a slot: a ticket, a batch, or a job that is to get its slot back.
type granter interface {
	claim() bool // reports that it still wants a slot; called under pool.mu
	grant() bool // accepts the slot, or reports that it is no longer wanted
}

// waiter is a place in the pool's queue. All of it is guarded by pool.mu.
type waiter struct {
	due     int64 // ns since the router was made
	ahead   int64 // predicted work in the pool when it came, in ns for each slot
	granter granter

	// In the heap. prev is the parent of a first child, and else the sibling before.
	child, next, prev *waiter

	order uint32 // of arrival
	work  uint32 // in pool.waiting; of a batch, guarded by batcher.mu
	class uint8  // likewise

	queued  bool
	long    bool // its run is predicted to be long
	held    bool // stands back behind all others until due, and is then due at batch.urgent
	gated   bool // of a ticket: in its kind's gate it has a place, or waits for one
	expires bool // is to be told when what it stands for can no longer end in its budget
}

// waitQueue is the pool's queue: waiters in order of due time and arrival, those
// for long runs apart so that shorter ones can be found, and those that stand back.
// It is guarded by pool.mu.
type waitQueue struct {
	short, long, held waitHeap
	arrived           uint32 // numbers the waiters
}

func (q *waitQueue) empty() bool { return q.onlyHeld() && q.held.top == nil }

// onlyHeld reports whether all waiters, if any, are held back.
func (q *waitQueue) onlyHeld() bool { return q.short.top == nil && q.long.top == nil }

// all calls f for every waiter, in no order. f must leave the queue alone.
func (q *waitQueue) all(f func(*waiter)) {
	for _, h := range []*waitHeap{&q.short, &q.long, &q.held} {
		h.all(f)
	}
}

// overdue calls f for every waiter that is due at time now, and returns when the next will
// be. f must leave the queue alone.
func (q *waitQueue) overdue(now int64, f func(*waiter)) (next int64) {
	next = maxDue
	for _, h := range []*waitHeap{&q.short, &q.long, &q.held} {
		next = min(next, h.overdue(now, f))
	}
	return next
}

func (q *waitQueue) heap(w *waiter) *waitHeap {
	switch {
	case w.held:
		return &q.held
	case w.long:
		return &q.long
	}
	return &q.short
}

func (q *waitQueue) push(w *waiter) {
	q.arrived++
	w.order, w.queued = q.arrived, true
	q.heap(w).push(w)
}

func (q *waitQueue) remove(w *waiter) {
	q.heap(w).remove(w)
	w.queued = false
}

// setDue changes when w is due.
func (q *waitQueue) setDue(w *waiter, due int64) {
	h := q.heap(w)
	h.remove(w)
	w.due = due
	h.push(w)
}

// release ends that a waiter stands back.
func (q *waitQueue) release(w *waiter) {
	q.held.remove(w)
	w.held, w.due = false, w.granter.(*batch).urgent
	q.heap(w).push(w)
}

// ripen releases those that have stood back for long enough at time now.
func (q *waitQueue) ripen(now int64) {
	for q.held.top != nil && q.held.top.due <= now {
		q.release(q.held.top)
	}
}

// first is the first waiter, or the first short one if long ones must stand back
// and there is one. The queue must not be empty.
func (q *waitQueue) first(longMay bool) *waiter {
	short, long := q.short.top, q.long.top
	switch {
	case short == nil && long == nil:
		return q.held.top
	case short == nil || long != nil && longMay && long.before(short):
		return long
	}
	return short
}

// firstDue is the due time of the first waiter: as late as can be if all stand back.
func (q *waitQueue) firstDue() int64 {
	switch {
	case q.empty():
		return maxDue
	case q.onlyHeld():
		return maxDue - 1
	}
	return q.first(true).due
}

func (w *waiter) before(other *waiter) bool {
	if w.due != other.due {
		return w.due < other.due
	}
	return int32(w.order-other.order) < 0 // the numbers may have wrapped around
}

// waitHeap is a pairing heap of waiters (Fredman, Sedgewick, Sleator, Tarjan, "The
// pairing heap", Algorithmica 1986), the earliest due on top. A push compares once,
// however many wait, and to take out what came last costs as little: a job that is more
// urgent than all, or is withdrawn soon. To take the top off is O(log n), amortised.
type waitHeap struct{ top *waiter }

func (h *waitHeap) push(w *waiter) { h.top = meld(h.top, w) }

func (h *waitHeap) remove(w *waiter) {
	rest := mergePairs(w.child)
	w.child = nil
	if w == h.top {
		h.top = rest
		return
	}
	w.cut()
	h.top = meld(h.top, rest)
}

// cut takes w, which is not the top, and what is below it out.
func (w *waiter) cut() {
	if w.prev.child == w {
		w.prev.child = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	}
	w.prev, w.next = nil, nil
}

// meld makes one heap of two, either of which may be nil, and returns its top.
func meld(a, b *waiter) *waiter {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case b.before(a):
		a, b = b, a
	}
	b.prev, b.next = a, a.child
	if b.next != nil {
		b.next.prev = b
	}
	a.child = b
	return a
}

// mergePairs makes one heap of a list of siblings: first of each two, then of those
// from the last to the first, or the depth would not stay small.
func mergePairs(list *waiter) (top *waiter) {
	var pairs *waiter // linked by next, the last first
	for list != nil {
		a, b := list, list.next
		if list = nil; b != nil {
			list = b.next
			b.prev, b.next = nil, nil
		}
		a.prev, a.next = nil, nil
		a = meld(a, b)
		a.next, pairs = pairs, a
	}
	for pairs != nil {
		a := pairs
		pairs, a.next = a.next, nil
		top = meld(top, a)
	}
	return top
}

// overdue calls f for every waiter that is due at time now, and returns when the next will be.
func (h *waitHeap) overdue(now int64, f func(*waiter)) (next int64) {
	next = maxDue
	for todo := []*waiter{h.top}; len(todo) > 0; {
		w := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for ; w != nil; w = w.next {
			if w.due > now { // as all below it
				next = min(next, w.due)
				continue
			}
			f(w)
			todo = append(todo, w.child)
		}
	}
	return next
}

// all calls f for every waiter.
func (h *waitHeap) all(f func(*waiter)) {
	for todo := []*waiter{h.top}; len(todo) > 0; {
		w := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for ; w != nil; w = w.next {
			f(w)
			if w.child != nil {
				todo = append(todo, w.child)
			}
		}
	}
}
