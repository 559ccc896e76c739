package slots

import "github.com/helixrouter/helix/internal/num"

// pairingHeap is a pairing heap of nodes (Fredman, Sedgewick, Sleator, Tarjan, "The
// pairing heap", Algorithmica 1986), the earliest due on top. A push takes one
// comparison, and removing the latest node is as cheap: a job that is more urgent than all, or
// is withdrawn soon. Removing the top takes O(log n), amortised. Its zero value is empty.
type pairingHeap struct{ top *Node }

// before reports whether n comes before the other: by due time, then by arrival.
func (n *Node) before(other *Node) bool {
	if n.Due != other.Due {
		return n.Due < other.Due
	}
	return int32(n.order-other.order) < 0 // the numbers may have wrapped around
}

// push adds n, which is in no heap.
func (h *pairingHeap) push(n *Node) { h.top = meld(h.top, n) }

// remove takes n, which is in the heap, out of it.
func (h *pairingHeap) remove(n *Node) {
	rest := mergePairs(n.child)
	n.child = nil
	if n == h.top {
		h.top = rest
		return
	}
	n.cut()
	h.top = meld(h.top, rest)
}

// cut takes n, which is not the top, and what is below it out.
func (n *Node) cut() {
	if n.prev.child == n {
		n.prev.child = n.next
	} else {
		n.prev.next = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	}
	n.prev, n.next = nil, nil
}

// meld makes one heap of two, either of which may be nil, and returns its top.
func meld(a, b *Node) *Node {
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
func mergePairs(list *Node) (top *Node) {
	var pairs *Node // linked by next, the last first
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

// overdue calls f for every node that is due at time now, and returns when the next will be.
// f must leave the heap alone.
func (h *pairingHeap) overdue(now int64, f func(*Node)) (next int64) {
	next = num.Never
	for todo := []*Node{h.top}; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for ; n != nil; n = n.next {
			if n.Due > now { // as all below it
				next = min(next, n.Due)
				continue
			}
			f(n)
			todo = append(todo, n.child)
		}
	}
	return next
}

// all calls f for every node, in no order. f must leave the heap alone.
func (h *pairingHeap) all(f func(*Node)) {
	for todo := []*Node{h.top}; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for ; n != nil; n = n.next {
			f(n)
			if n.child != nil {
				todo = append(todo, n.child)
			}
		}
	}
}
