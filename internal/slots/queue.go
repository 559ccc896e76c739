package slots

import "github.com/helixrouter/helix/internal/num"

// Node is a place in a queue for slots. All of it is guarded by the lock of the queue.
type Node struct {
	Due       int64 // ns
	Ahead     int64 // predicted work in the pool when it came, in ns for each slot
	Requester any   // receives the slot; a [Deferrable] if Deferred

	// In the heap. prev is the parent of a first child, and else the sibling before.
	child, next, prev *Node

	order uint32 // of arrival
	Work  uint32 // in the backlog, in units of Load
	Class uint8  // likewise

	Queued   bool
	Long     bool // its run is predicted to be long
	Deferred bool // comes after all others until it is due, and is then due earlier
	Gated    bool // of a job: it has or awaits a place in its kind's gate
	Brief    bool // of a job: it is so short that its work is not in tally.Shard.Admitted
	Expires  bool // the requester is notified when it can no longer finish in its budget
}

// Deferrable is a requester that may be deferred.
type Deferrable interface {
	Urgent() int64 // when it is due once it is not deferred any more
}

// Queue is a queue for slots: nodes in order of due time and arrival, those
// for long runs apart so that shorter ones can be found, and those that are deferred.
// Its zero value is empty. It has no lock of its own.
type Queue struct {
	short, long, deferred pairingHeap
	arrived               uint32 // numbers the nodes
}

// Empty reports whether there are no nodes.
func (q *Queue) Empty() bool { return q.OnlyDeferred() && q.deferred.top == nil }

// OnlyDeferred reports whether all nodes, if any, are deferred.
func (q *Queue) OnlyDeferred() bool { return q.short.top == nil && q.long.top == nil }

// All calls f for every node, in no order. f must leave the queue alone.
func (q *Queue) All(f func(*Node)) {
	for _, h := range []*pairingHeap{&q.short, &q.long, &q.deferred} {
		h.all(f)
	}
}

// Overdue calls f for every node that is due at time now, and returns when the next will
// be. f must leave the queue alone.
func (q *Queue) Overdue(now int64, f func(*Node)) (next int64) {
	next = num.Never
	for _, h := range []*pairingHeap{&q.short, &q.long, &q.deferred} {
		next = min(next, h.overdue(now, f))
	}
	return next
}

func (q *Queue) heap(n *Node) *pairingHeap {
	switch {
	case n.Deferred:
		return &q.deferred
	case n.Long:
		return &q.long
	}
	return &q.short
}

// Push adds n behind those that are due no later.
func (q *Queue) Push(n *Node) {
	q.arrived++
	n.order, n.Queued = q.arrived, true
	q.heap(n).push(n)
}

// Remove takes n, which is in the queue, out of it.
func (q *Queue) Remove(n *Node) {
	q.heap(n).remove(n)
	n.Queued = false
}

// SetDue changes the due time of n, which is in the queue.
func (q *Queue) SetDue(n *Node, due int64) {
	h := q.heap(n)
	h.remove(n)
	n.Due = due
	h.push(n)
}

// Undefer moves n, which is deferred, to the place of its due time.
func (q *Queue) Undefer(n *Node) {
	q.deferred.remove(n)
	n.Deferred, n.Due = false, n.Requester.(Deferrable).Urgent()
	q.heap(n).push(n)
}

// UndeferDue undefers nodes that have been deferred for long enough, and reports whether any node
// was deferred. It calls clock only in that case.
func (q *Queue) UndeferDue(clock func() int64) bool {
	if q.deferred.top == nil {
		return false
	}
	now := clock()
	for q.deferred.top != nil && q.deferred.top.Due <= now {
		q.Undefer(q.deferred.top)
	}
	return true
}

// First returns the first node, or the first short one if long ones must leave the slot to
// it and there is one. The queue must not be empty.
func (q *Queue) First(longMay bool) *Node {
	short, long := q.short.top, q.long.top
	switch {
	case short == nil && long == nil:
		return q.deferred.top
	case short == nil || long != nil && longMay && long.before(short):
		return long
	}
	return short
}

// FirstDue returns the due time of the first node: num.Never if the queue is empty, and
// just before that if all are deferred.
func (q *Queue) FirstDue() int64 {
	switch {
	case q.Empty():
		return num.Never
	case q.OnlyDeferred():
		return num.Never - 1
	}
	return q.First(true).Due
}
