package helix

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/fair"
	"github.com/helixrouter/helix/internal/num"
	"github.com/helixrouter/helix/internal/slots"
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
	// What every decision reads: on one line of the cache.

	// load is the slots in use and the predicted work, one word so that taking a free
	// slot is one compare-and-swap and no lock. Changed by the goroutine that takes or gives a
	// slot, queues or leaves.
	load     atomic.Uint64 // a slots.Load
	slots    atomic.Int64  // capacity; written by New, and under Router.cfgMu
	queued   atomic.Int64  // jobs that wait, all members of a batch
	firstDue atomic.Int64  // due of the first in the queue, num.Never when empty; written under mu
	longBusy atomic.Int64  // slots held by long runs
	sawIdle  atomic.Bool   // set when a slot was free with an empty queue since the last tick; cleared by the ledger

	backlog   slots.Backlog // the queue, by how urgent it is
	low, high atomic.Int64  // jobs of these priorities in it
	runs      slots.Runs    // what is in the slots
	underWay  slots.UnderWay

	mu     sync.Mutex
	closed bool         // guarded by mu
	queue  slots.Queue  // guarded by mu
	expiry expiry       // guarded by mu
	stall  stall        // guarded by mu
	clock  func() int64 // ns since the router was made
	onIdle func()       // called after a granted slot was handed back unused
}

const (
	// longFrom is the predicted run time from which a job must leave one slot to
	// shorter ones that wait.
	longFrom = time.Millisecond
	// shortTurns is how often a Submit shorter than yieldFrom lets others run and looks
	// for a free slot again before it queues, while what is before it is short too: a park
	// and a wake cost more than such a job, and once some submitters have parked all later
	// ones must too (decision 3).
	shortTurns = 8
)

// requester is what waits for a slot: a ticket, a batch, or a job that is to get its slot back.
type requester interface {
	accept() bool  // reports whether it still wants a slot; called under pool.mu
	granted() bool // has it go on in the slot, or reports that it does not want it any more
}

func (p *pool) busy() int64 { return slots.Load(p.load.Load()).Busy() }

func newPool(size int, clock func() int64, idle func()) *pool {
	p := &pool{clock: clock, onIdle: idle}
	p.slots.Store(int64(size))
	p.firstDue.Store(num.Never)
	return p
}

func (p *pool) Name() string { return CPUPool }

// Offer runs the ticket's job at once if a slot is free, else queues it.
func (p *pool) Offer(t *Ticket) error {
	work, long := slots.Work(t.charge()), t.long()
	t.started = t.decided
	for turn := 0; !p.tryAcquireFree(work, long); turn++ {
		if turn == shortTurns || t.job.async || t.job.predicted == 0 || t.job.predicted >= yieldFrom || !p.backlogIsShort() {
			t.started = 0
			t.place.Due, t.place.Long, t.place.Expires = t.due(), long, t.expires()
			if t.job.nested && !t.expires() { // or it would be told too early
				t.place.Due = min(t.place.Due, t.slot.due)
			}
			err := p.enqueue(&t.place, t, t)
			p.dispatch()
			return err
		}
		runtime.Gosched()
		t.started = 0
	}
	p.begin(t)
	return nil
}

// begin has a ticket run that has taken a slot.
func (p *pool) begin(t *Ticket) {
	if t.job.async {
		t.claim() // no other goroutine knows the ticket yet, but Future.Cancel soon will
		t.started = 0
		t.launch(p.serve)
		return
	}
	t.nextAction = actionRun
}

// backlogIsShort reports whether the average job that runs or waits is shorter than yieldFrom.
func (p *pool) backlogIsShort() bool {
	l := slots.Load(p.load.Load())
	return l.Work() < time.Duration(l.Busy()+p.queued.Load())*yieldFrom
}

// long reports whether the job must leave one slot to shorter ones that wait.
func (t *Ticket) long() bool { return t.job.predicted >= longFrom }

// due returns the time the queue is ordered by.
func (t *Ticket) due() int64 {
	if t.job.budget > 0 {
		return t.deadline()
	}
	return t.decided + int64(fair.Patience)
}

// latestStart returns the time at which the run takes all that is left of the budget: once the job
// runs, only jobs that are due before may have its slot. A run that takes longer than its budget
// gives way until that ends.
func (t *Ticket) latestStart() int64 {
	due := t.due()
	if t.job.budget > t.job.predicted {
		due -= int64(t.job.predicted)
	}
	return due
}

// tryAcquireFree acquires a slot and adds work, if a slot is free. While a job waits none
// is, except in the moment before it is granted.
func (p *pool) tryAcquireFree(work slots.Load, long bool) bool {
	if !p.tryAcquire(work) {
		return false
	}
	if long {
		p.longBusy.Add(1)
	}
	// If a job waits, the slot was between two holders. The word is shared: write
	// it rarely.
	if !p.sawIdle.Load() && p.firstDue.Load() == num.Never {
		p.sawIdle.Store(true)
	}
	return true
}

// tryAcquire takes a slot and adds work, if a slot is free.
func (p *pool) tryAcquire(work slots.Load) bool {
	for {
		l := p.load.Load()
		if slots.Load(l).Busy() >= p.slots.Load() {
			return false
		}
		if p.load.CompareAndSwap(l, l+uint64(slots.One+work)) {
			return true
		}
	}
}

// ahead returns the predicted work in the pool for each slot, if none is free.
func (p *pool) ahead() time.Duration {
	load, size := slots.Load(p.load.Load()), p.slots.Load()
	if load.Busy() < size {
		return 0
	}
	return load.Work() / time.Duration(size)
}

// release gives a slot back, and on to the first in the queue that wants it.
func (p *pool) release(work slots.Load, long bool) {
	if long {
		p.longBusy.Add(-1)
	}
	p.load.Add(-uint64(slots.One + work))
	p.dispatch()
}

// dispatch gives free slots to the first in the queue. It must follow whatever puts a requester
// into the queue or makes a slot free: of two goroutines that do so at the same time, at
// least one sees what the other did.
func (p *pool) dispatch() {
	if p.firstDue.Load() != num.Never {
		p.dispatchQueue()
	}
}

func (p *pool) dispatchQueue() {
	for p.firstDue.Load() != num.Never {
		p.mu.Lock()
		if p.queue.UndeferDue(p.clock) {
			p.firstDue.Store(p.queue.FirstDue())
		}
		if p.queue.Empty() || !p.tryAcquire(0) {
			p.mu.Unlock()
			return
		}
		w := p.next(false)
		long := w.Long
		g := p.pop(w)
		p.stall.granted++
		// Claimed under mu: a goroutine that withdraws a ticket must pass through
		// dequeueWithdrawn before the ticket is used again.
		claimed := g.accept()
		p.mu.Unlock()
		if claimed && long {
			p.longBusy.Add(1)
		}
		if !claimed || !g.granted() {
			if claimed && long {
				p.longBusy.Add(-1)
			}
			p.load.Add(^uint64(slots.One) + 1)
			p.onIdle()
		}
	}
}

// next returns the waiter that gets the next slot: the first in the queue, unless that is long. With two slots
// or more, long runs leave one to shorter work that waits. If long, a long run is about to
// give its slot back. It requires p.mu, and the queue must not be empty.
func (p *pool) next(long bool) *slots.Node {
	size, longBusy := p.slots.Load(), p.longBusy.Load()
	if long {
		longBusy--
	}
	return p.queue.First(size < 2 || longBusy < size-1)
}

// accept implements requester.
func (t *Ticket) accept() bool { return t.claim() }

// granted implements requester: the ticket is claimed.
func (t *Ticket) granted() bool {
	if t.job.async {
		t.launch(t.pool().serve)
	} else {
		t.wakeFor(actionRun)
	}
	return true
}

// Load implements Strategy.
func (p *pool) Load() Load {
	return Load{Running: int(p.busy()), Queued: int(p.queued.Load()), Limit: int(p.slots.Load())}
}

// Close withdraws what is queued. Jobs that handed their slot over in Yield
// stay: they have started and will end.
func (p *pool) Close(context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.expiry.alarm.stop()
	p.stall.stop()
	var waiting unstarted
	p.queue.All(waiting.add)
	tickets := slices.DeleteFunc(waiting.tickets, func(t *Ticket) bool {
		p.pop(&t.place)
		return !t.giveUp() // its submitter has, and takes its work off
	})
	p.mu.Unlock()
	for _, t := range tickets {
		p.subWork(slots.Work(t.charge()))
		t.endWithdrawn(ErrClosed)
		t.notifySubmitter()
	}
	for _, b := range waiting.batches {
		b.withdrawAll(ErrClosed)
	}
	return nil
}
