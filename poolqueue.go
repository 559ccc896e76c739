package helix

import (
	"github.com/helixrouter/helix/internal/num"
	"github.com/helixrouter/helix/internal/slots"
)

// enqueue is tryEnqueue that makes room in a full queue, if t may have the place of
// another. It must be called with no lock held.
func (p *pool) enqueue(w *slots.Node, g requester, t *Ticket) error {
	err := p.tryEnqueue(w, g, t)
	for err == errQueueFull && p.displace(t) {
		err = p.tryEnqueue(w, g, t)
	}
	return err
}

// tryEnqueue puts w into the queue, for the job of t. The caller must call dispatch after it,
// holding no lock: a slot may have become free before its releaser could see w there.
func (p *pool) tryEnqueue(w *slots.Node, g requester, t *Ticket) error {
	if !p.count(t) {
		return errQueueFull
	}
	work := slots.Work(t.charge())
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		p.uncount(t)
		return errPoolClosed
	}
	w.Ahead = int64(p.ahead())
	w.Class = slots.ClassOf(w.Due - t.decided)
	p.addWork(work)
	p.backlog.Add(w, work)
	p.push(w, g)
	p.mu.Unlock()
	return nil
}

// count counts the job of t among those that wait, unless that would be too many.
func (p *pool) count(t *Ticket) bool {
	if p.queued.Add(1) > int64(t.cfg.CPUQueueCap) {
		p.queued.Add(-1)
		return false
	}
	p.noteQueued(t, 1)
	return true
}

// recount is count for a job that waits once more.
func (p *pool) recount(t *Ticket) {
	p.queued.Add(1)
	p.noteQueued(t, 1)
}

// uncount undoes count.
func (p *pool) uncount(t *Ticket) {
	p.queued.Add(-1)
	p.noteQueued(t, -1)
}

func (p *pool) noteQueued(t *Ticket, jobs int64) {
	t.kind.queued.Add(jobs)
	switch t.job.priority {
	case Low:
		p.low.Add(jobs)
	case High:
		p.high.Add(jobs)
	}
}

func (p *pool) addWork(work slots.Load) { p.load.Add(uint64(work)) }

func (p *pool) subWork(work slots.Load) { p.load.Add(-uint64(work)) }

// push puts w into the queue. What it stands for was counted. It requires p.mu.
func (p *pool) push(w *slots.Node, g requester) {
	w.Requester = g
	w.Due = min(w.Due, num.Never-1)
	p.queue.Push(w)
	p.firstDue.Store(p.queue.FirstDue())
	if w.Expires {
		p.expiry.waiters++
		p.expireBy(w.Due)
	}
	p.watchForStall()
}

// pop takes w, which is in the queue, out of it. It requires p.mu.
func (p *pool) pop(w *slots.Node) requester {
	p.queue.Remove(w)
	g := w.Requester.(requester)
	switch g := g.(type) {
	case *batch: // does so itself, as its members may leave one by one
	case *Ticket:
		p.backlog.Remove(w, 1, w.Work)
		p.uncount(g)
	default:
		p.backlog.Remove(w, 1, w.Work)
	}
	if w.Expires {
		p.expiry.waiters--
	}
	p.firstDue.Store(p.queue.FirstDue())
	w.Requester = nil
	return g
}

// dequeueWithdrawn takes the ticket of a job that was withdrawn out of the queue, if it is
// still there, and its work off: a slot that comes for it now finds that it is not
// wanted, and leaves the work alone.
func (p *pool) dequeueWithdrawn(w *slots.Node, work slots.Load) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.Queued {
		p.pop(w)
	}
	p.subWork(work)
}

// advanceDeadline moves a queued batch forward when a new member is more urgent: to due, or
// to deferUntil while it is held back. A full batch is no longer held back.
func (p *pool) advanceDeadline(w *slots.Node, due, deferUntil int64, full, expires bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !w.Queued {
		return
	}
	soonest := due
	if w.Deferred {
		f := w.Requester.(*batch)
		f.urgent, soonest = min(f.urgent, due), deferUntil
	}
	if soonest < w.Due {
		p.queue.SetDue(w, soonest)
	}
	if expires {
		if !w.Expires {
			p.expiry.waiters++
		}
		w.Expires = true
		p.expireBy(w.Due)
	}
	if w.Deferred && full {
		p.queue.Undefer(w)
	}
	p.firstDue.Store(p.queue.FirstDue())
}

// dequeueBatch takes a batch that has no members any more out of the queue, if it is there.
func (p *pool) dequeueBatch(w *slots.Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.Queued {
		p.pop(w)
	}
}

// unstarted are the jobs and batches of queue nodes, without jobs that have started and wait for a
// slot again.
type unstarted struct {
	tickets []*Ticket
	batches []*batch
}

func (u *unstarted) add(w *slots.Node) {
	switch g := w.Requester.(type) {
	case *Ticket:
		u.tickets = append(u.tickets, g)
	case *batch:
		u.batches = append(u.batches, g)
	}
}
