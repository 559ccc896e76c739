package helix

import "container/heap"

// granter is what waits for a slot: a ticket, a batch, or a job in Yield.
type granter interface {
	claim() bool // reports that it still wants a slot; called under pool.mu
	grant() bool // takes the slot, or reports that nobody wants it any more
}

// waiter is a place in the pool's queue. All of it is guarded by pool.mu.
type waiter struct {
	due     int64  // ns since the router was made
	held    bool   // stands back behind all others until due, and is then due at urgent
	urgent  int64  // only if held
	order   uint64 // of arrival
	long    bool   // its run is predicted to be long
	index   int    // in the heap, plus 1; 0 = not queued
	jobs    int    // how many jobs it stands for
	ahead   int64  // predicted work in the pool when it came, in ns for each slot
	granter granter
}

func (w *waiter) queued() bool { return w.index > 0 }

// waitQueue is the pool's queue: waiters in order of due time and arrival, those
// for long runs apart so that shorter ones can be found, and those that stand back.
// It is guarded by pool.mu.
type waitQueue struct {
	short, long, held waitHeap
	arrived           uint64 // numbers the waiters
}

func (q *waitQueue) len() int { return len(q.short) + len(q.long) + len(q.held) }

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
	w.order = q.arrived
	heap.Push(q.heap(w), w)
}

func (q *waitQueue) remove(w *waiter) { heap.Remove(q.heap(w), w.index-1) }

func (q *waitQueue) fix(w *waiter) { heap.Fix(q.heap(w), w.index-1) }

// release ends that a waiter stands back.
func (q *waitQueue) release(w *waiter) {
	q.remove(w)
	w.held, w.due = false, w.urgent
	heap.Push(q.heap(w), w)
}

// ripen releases those that have stood back for long enough at time now.
func (q *waitQueue) ripen(now int64) {
	for len(q.held) > 0 && q.held[0].due <= now {
		q.release(q.held[0])
	}
}

// first is the first waiter, or the first short one if long ones must stand back
// and there is one. The queue must not be empty.
func (q *waitQueue) first(longMay bool) *waiter {
	switch {
	case len(q.long)+len(q.short) == 0:
		return q.held[0]
	case len(q.long) == 0:
		return q.short[0]
	case len(q.short) == 0:
		return q.long[0]
	case longMay && q.long[0].before(q.short[0]):
		return q.long[0]
	}
	return q.short[0]
}

// firstDue is the due time of the first waiter: as late as can be if all stand back.
func (q *waitQueue) firstDue() int64 {
	switch {
	case q.len() == 0:
		return maxDue
	case q.len() == len(q.held):
		return maxDue - 1
	}
	return q.first(true).due
}

func (w *waiter) before(other *waiter) bool {
	if w.due != other.due {
		return w.due < other.due
	}
	return w.order < other.order
}

// waitHeap is a container/heap of waiters, the earliest due on top.
type waitHeap []*waiter

func (h waitHeap) Len() int           { return len(h) }
func (h waitHeap) Less(i, j int) bool { return h[i].before(h[j]) }
func (h waitHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i+1, j+1
}
func (h *waitHeap) Push(x any) {
	w := x.(*waiter)
	*h = append(*h, w)
	w.index = len(*h)
}
func (h *waitHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	w.index = 0
	return w
}
