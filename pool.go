package helix

import (
	"context"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// pool is the cpu_pool strategy: a bounded set of slots, and an ordered queue
// for them. A slot is a right to use a CPU, not a goroutine: a Submit that gets
// one runs the job on its own goroutine, with no hand-off. Only jobs from Go
// need a goroutine, which lives as long as the job. Batches take their slots
// here too.
//
// The queue is ordered by due time, earliest first, then by arrival: earliest
// deadline first meets all deadlines that can be met (Liu and Layland, 1973).
type pool struct {
	mu       sync.Mutex
	slots    int       // capacity; guarded by mu
	closed   bool      // guarded by mu
	queue    waitQueue // guarded by mu
	longBusy int       // slots held by long runs; guarded by mu

	// Written under mu only, read by every decision.
	busy     atomic.Int64 // slots in use
	queued   atomic.Int64 // jobs in queue, all members of a batch
	work     atomic.Int64 // predicted CPU ns of what is queued or in a slot
	firstDue atomic.Int64 // due of the first in the queue; maxDue when empty

	// For how long slots granted to waiters were held, and how much of it was spent
	// in their jobs, in ns.
	held, used atomic.Int64
	clock      func() int64 // ns since the router was made
}

const (
	maxDue = math.MaxInt64
	// patience is the due time of jobs without a budget: they stand back for
	// more urgent work, but not forever.
	patience = time.Second
	// yieldFrom is the predicted run time from which a job gives way once
	// before it starts. Go does not preempt for 10 ms, so short work that is
	// runnable on the same P would otherwise wait for all of the run.
	yieldFrom = 20 * time.Microsecond
	// startMargin is the room a job must have left when its slot comes, besides
	// twice its predicted run time: on a full machine nothing runs as fast as
	// alone.
	startMargin = 500 * time.Microsecond
	// longFrom is the predicted run time from which a job must leave one slot to
	// shorter ones that wait.
	longFrom = time.Millisecond
)

func newPool(slots int, clock func() int64) *pool {
	p := &pool{slots: slots, clock: clock}
	p.firstDue.Store(maxDue)
	return p
}

func (p *pool) Name() string { return CPUPool }

// Offer runs the ticket's job at once if a slot is free, else queues it.
func (p *pool) Offer(t *Ticket) error {
	t.place.due, t.place.jobs, t.place.work = t.due(), 1, t.charge
	t.place.long = t.info.Predicted >= longFrom
	took, err := p.takeOrQueue(&t.place, t, t.cfg.CPUQueueCap)
	switch {
	case err != nil:
		return err
	case !took:
		return nil
	}
	t.claim() // nobody else knows the ticket yet
	switch {
	case t.info.Async:
		t.launch(p.runLaunched)
	default:
		t.home = true
		p.runClaimed(t, t.decided)
	}
	return nil
}

// due is the time the queue is ordered by.
func (t *Ticket) due() int64 {
	if t.info.Budget > 0 {
		return int64(t.info.Deadline)
	}
	return t.arrived + int64(patience)
}

// takeOrQueue takes a free slot and reports true, or puts w into the queue.
func (p *pool) takeOrQueue(w *waiter, g granter, queueCap int) (took bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false, errPoolClosed
	}
	if int(p.busy.Load()) < p.slots && p.queue.len() == 0 {
		p.take(w.long)
		p.work.Add(w.work)
		return true, nil
	}
	if p.queued.Load()+int64(w.jobs) > int64(queueCap) {
		return false, errQueueFull
	}
	p.work.Add(w.work)
	p.push(w, g)
	return false, nil
}

// take counts a slot as used. It requires p.mu.
func (p *pool) take(long bool) {
	p.busy.Add(1)
	if long {
		p.longBusy++
	}
}

// give is the reverse of take. It requires p.mu.
func (p *pool) give(long bool) {
	p.busy.Add(-1)
	if long {
		p.longBusy--
	}
}

// push puts w into the queue. It requires p.mu.
func (p *pool) push(w *waiter, g granter) {
	w.granter = g
	p.queue.push(w)
	p.queued.Add(int64(w.jobs))
	p.firstDue.Store(p.queue.firstDue())
}

// pop takes w, which is in the queue, out of it. It requires p.mu.
func (p *pool) pop(w *waiter) granter {
	p.queue.remove(w)
	p.queued.Add(-int64(w.jobs))
	p.firstDue.Store(p.queue.firstDue())
	g := w.granter
	w.granter = nil
	return g
}

// remove takes the ticket of a job that was withdrawn out of the queue, if it
// is still there.
func (p *pool) remove(w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.queued() {
		p.pop(w)
		p.work.Add(-w.work)
	}
}

// join adds one job to a batch that may be in the queue.
func (p *pool) join(w *waiter, due, work int64, queueCap int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.queued() {
		if p.queued.Load() >= int64(queueCap) {
			return errQueueFull
		}
		w.jobs++
		p.queued.Add(1)
		if due < w.due {
			w.due = due
			p.queue.fix(w)
			p.firstDue.Store(p.queue.firstDue())
		}
	}
	p.work.Add(work)
	return nil
}

// leave takes one job out of a batch that may be in the queue.
func (p *pool) leave(w *waiter, work int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.work.Add(-work)
	if w.queued() {
		w.jobs--
		p.queued.Add(-1)
		if w.jobs == 0 {
			p.pop(w)
		}
	}
}

// release gives a slot back, and on to the first in the queue that wants it.
func (p *pool) release(work int64, long bool) {
	p.mu.Lock()
	p.work.Add(-work)
	p.give(long)
	p.mu.Unlock()
	p.grant()
}

// grant gives free slots to the first in the queue.
func (p *pool) grant() {
	for {
		p.mu.Lock()
		if int(p.busy.Load()) >= p.slots || p.queue.len() == 0 {
			p.mu.Unlock()
			return
		}
		// With two slots or more, long runs leave one to shorter work that waits.
		w := p.queue.first(p.slots < 2 || p.longBusy < p.slots-1)
		long := w.long
		g := p.pop(w)
		// Claimed under mu: whoever withdraws a ticket must pass through
		// remove before the ticket is used again.
		if !g.claim() {
			p.work.Add(-w.work)
			p.mu.Unlock()
			continue
		}
		p.take(long)
		w.since = p.clock()
		p.mu.Unlock()
		if !g.granted() {
			p.mu.Lock()
			p.give(long)
			p.mu.Unlock()
		}
	}
}

// resize puts a new number of slots in force.
func (p *pool) resize(slots int) {
	p.mu.Lock()
	p.slots = slots
	p.mu.Unlock()
	p.grant()
}

// granted hands a slot to the ticket, which is claimed.
func (t *Ticket) granted() bool {
	if t.info.Async {
		t.launch(t.router.pool.runLaunched)
	} else {
		t.wake <- wakeRun
	}
	return true
}

// runLaunched is runClaimed for jobs from Go.
func (p *pool) runLaunched(t *Ticket) { p.runClaimed(t, 0) }

// runClaimed runs the job in the slot it has, or refuses it if that is no
// longer of use, and gives the slot back. started 0 means now.
func (p *pool) runClaimed(t *Ticket, started int64) {
	s := &slot{Context: t.ctx, pool: p, due: t.due(), long: t.place.long}
	t.slot = s
	router, work, long := t.router, t.charge, t.place.long
	defer func() { // also after runtime.Goexit
		s.left.Store(true)
		p.release(work, long)
		router.nudge()
		t.deliver()
	}()
	if t.info.Predicted >= yieldFrom {
		runtime.Gosched()
		started = 0
	}
	if started == 0 {
		if started = t.router.now(); t.endIfPointless(started) {
			return
		}
	}
	t.exec(s, started)
	p.account(t.place.since, t.ended, t.worked())
}

// account notes how much of the time for which a granted slot was held was spent
// in its job; since 0 means that nobody had waited for the slot.
func (p *pool) account(since, ended int64, worked time.Duration) {
	if since > 0 {
		p.held.Add(ended - since)
		p.used.Add(int64(worked))
	}
}

// endIfPointless ends a claimed ticket whose slot came after its ctx was done
// or too late to meet its budget.
func (t *Ticket) endIfPointless(now int64) bool {
	switch {
	case t.ctx.Err() != nil:
		t.endWithdrawn(withdrawn(t.ctx))
	case t.info.Budget > 0 && !t.probe && now+2*int64(t.info.Predicted)+int64(startMargin) > int64(t.info.Deadline):
		t.refuseLate(reasonNoTime)
	default:
		return false
	}
	return true
}

// Load implements Strategy.
func (p *pool) Load() Load {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Load{Running: int(p.busy.Load()), Queued: int(p.queued.Load()), Limit: p.slots}
}

// Close withdraws what is queued. Jobs that handed their slot over in Yield
// stay: they have started and will end.
func (p *pool) Close(context.Context) error {
	p.mu.Lock()
	p.closed = true
	var tickets []*Ticket
	var batches []*batch
	for _, w := range slices.Concat(p.queue.short, p.queue.long) {
		switch g := w.granter.(type) {
		case *Ticket:
			p.pop(w)
			p.work.Add(-w.work)
			if g.state.CompareAndSwap(stateQueued, stateWithdrawn) {
				tickets = append(tickets, g)
			}
		case *batch:
			batches = append(batches, g)
		}
	}
	p.mu.Unlock()
	for _, t := range tickets {
		t.endWithdrawn(ErrClosed)
		t.deliver()
	}
	for _, b := range batches {
		b.withdrawAll(ErrClosed)
	}
	return nil
}
