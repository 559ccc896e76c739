package helix

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/helixrouter/helix/internal/fair"
	"github.com/helixrouter/helix/internal/slots"
)

// batching is the batch strategy: every batchable kind has a batcher.
type batching struct{ router *Router }

func (batching) Name() string { return Batch }

// Offer lets the ticket's job join its kind's forming batch.
func (batching) Offer(t *Ticket) error {
	b := t.kind.batcher.Load()
	if t.job.waits {
		b.gather(t)
		return nil
	}
	return b.offer(t)
}

func (s batching) Load() Load {
	var sum Load
	for _, k := range *s.router.kinds.Load() {
		if b := k.batcher.Load(); b != nil {
			sum.Running += int(b.running.Load())
			sum.Queued += int(b.fill.Load())
		}
	}
	return sum
}

// Close withdraws jobs that wait for others to share a call with. Queued batches are in the pool's queue.
func (s batching) Close(context.Context) error {
	for _, k := range *s.router.kinds.Load() {
		if b := k.batcher.Load(); b != nil {
			b.endWindow()
		}
	}
	return nil
}

// batcher forms the batches of one kind, by group commit (as databases write
// their logs; DeWitt et al., "Implementation techniques for main memory
// database systems", 1984): the first job takes a slot, or queues for one, and
// whatever comes until the batch is executed joins it. So no job waits while
// a slot is free, and batches grow with the load.
type batcher struct {
	pool *pool
	// call runs the kind's batch function on the members' items and sets each
	// one's result and err. An error it returns is every member's.
	call    func(ctx context.Context, members []*Ticket) error
	maxSize int   // 0: RouterConfig.BatchMaxSize
	delay   int64 // ns; 0: RouterConfig.BatchMaxDelay

	mu      sync.Mutex // taken before pool.mu
	forming *batch     // takes members; guarded by mu

	// Of kinds that wait, see gathering.
	gathering *gathering // takes members; guarded by mu
	underWay  int        // calls taken and not ended; guarded by mu
	// callItems is call, for members that ask for n items in all, item[i] being members[i]'s.
	callItems func(ctx context.Context, members []*Ticket, item []int, n int) error
	keyOf     func(t *Ticket) any // nil: the ticket's item is like no other

	fill      atomic.Int64 // members of forming; written under mu, read by decisions
	running   atomic.Int64 // jobs in running calls
	calls     atomic.Int64 // made so far
	joined    atomic.Int64 // jobs in them, besides the first of each
	fullCalls atomic.Int64 // calls with as many as there may be
	latest    atomic.Int64 // jobs in the latest call
	oldest    atomic.Int64 // longest wait of an item, in ns
}

// batch is some jobs of one kind that will share a call and a slot. With its slot
// and room for a few members it is one allocation, of 256 B. It is never
// used again: members that were withdrawn, and user code, may still know it.
type batch struct {
	batcher *batcher
	place   slots.Node // in the pool's queue
	slot    slot       // its kind is set when the batch is made
	members []*Ticket  // guarded by batcher.mu; nil once sealed
	// sealing is held while the batch is sealed, which looks at all members and takes too
	// long to do so under batcher.mu. It is locked under that.
	sealing    sync.Mutex
	due        int64 // of the most urgent member; guarded by batcher.mu
	urgent     int64 // due once it is no longer held back; guarded by pool.mu
	deferUntil int64 // earliest deferUntil of any member; valid only if deferred; guarded by batcher.mu
	isFull     atomic.Bool
	priority   Priority // of the first member
	hasSlot    bool     // has a slot, so is not in the queue; guarded by batcher.mu
	deferred   bool     // was held back when it was queued; never changed
	expires    bool     // a member has a budget; guarded by batcher.mu

	// Written before the members are told that the call has ended.
	perMemberNs int64   // ns it took, for each member
	correction  float64 // by what factor the prediction of the call was wrong; 0 = not known

	inlineMembers [4]*Ticket
}

// newBatch makes a batch that is due then; t will be its first member.
func newBatch(t *Ticket, due int64) *batch {
	f := &batch{batcher: t.kind.batcher.Load(), priority: t.job.priority, due: due, expires: t.expires()}
	f.slot.kind = t.kind
	f.members = f.inlineMembers[:0]
	f.place.Due, f.place.Long, f.place.Expires = due, t.long(), f.expires
	return f
}

// Urgent implements slots.Deferrable. It requires pool.mu.
func (f *batch) Urgent() int64 { return f.urgent }

// limits returns the most items in a batch, and for how long it may be deferred.
func (b *batcher) limits(cfg *RouterConfig) (size int, delay int64) {
	size, delay = b.maxSize, b.delay
	if size == 0 {
		size = cfg.BatchMaxSize
	}
	if delay == 0 {
		delay = int64(cfg.BatchMaxDelay)
	}
	return size, delay
}

// offer puts the ticket into the forming batch or starts one with it.
func (b *batcher) offer(t *Ticket) error {
	err := b.tryOffer(t)
	for err == errQueueFull && b.pool.displace(t) {
		err = b.tryOffer(t)
	}
	return err
}

// tryOffer is offer that makes no room in a full queue.
func (b *batcher) tryOffer(t *Ticket) error {
	size, _ := b.limits(t.cfg)
	due := b.due(t)

	b.mu.Lock()
	if f := b.forming; f != nil && len(f.members) >= size { // the most is less than when it was formed
		b.close(f)
	}
	if f := b.forming; f != nil {
		err := f.join(t, due, size)
		b.mu.Unlock()
		return err
	}
	f := newBatch(t, due)
	if n := int(b.latest.Load()); n > len(f.inlineMembers) { // as many are likely to come again
		f.members = make([]*Ticket, 0, min(n, size))
	}
	f.members = append(f.members, t)
	t.batch = f
	var err error
	took := b.pool.tryAcquireFree(slots.Work(t.charge()), f.place.Long)
	if took {
		f.hasSlot = true
		t.claim() // no other goroutine knows the ticket yet
	} else {
		if deferUntil := b.deferUntil(t, size); size > 1 && deferUntil > t.decided && t.router().ledger.Scarce() {
			f.deferred, f.deferUntil = true, deferUntil
			f.place.Deferred, f.place.Due, f.urgent = true, deferUntil, due
		}
		err = b.pool.tryEnqueue(&f.place, f, t)
	}
	if err == nil {
		b.grew(f, size)
	}
	b.mu.Unlock()
	switch {
	case !took:
		b.pool.dispatch()
	case t.job.async:
		t.launch(f.lead)
	default:
		t.nextAction = actionLead
	}
	return err
}

// join adds a member to the forming batch. Its waiting members are counted here, and not
// by the pool, whose lock a join rarely needs: only if the batch has become more urgent.
// It requires b.mu.
func (f *batch) join(t *Ticket, due int64, size int) error {
	b := f.batcher
	if !f.hasSlot && !b.pool.count(t) {
		return errQueueFull
	}
	work := slots.Work(t.charge())
	t.batch = f
	f.members = append(f.members, t)
	b.pool.addWork(work)
	if !f.hasSlot {
		b.pool.backlog.Add(&f.place, work)
	}
	b.grew(f, size)
	if f.hasSlot {
		return nil
	}
	sooner, full := due < f.due || t.expires() && !f.expires, len(f.members) >= size
	f.expires = f.expires || t.expires()
	f.due = min(f.due, due)
	if f.deferred {
		deferUntil := b.deferUntil(t, size)
		sooner = sooner || deferUntil < f.deferUntil || full
		f.deferUntil = min(f.deferUntil, deferUntil)
	}
	if sooner {
		b.pool.advanceDeadline(&f.place, f.due, f.deferUntil, full, f.expires)
	}
	return nil
}

// grew notes that f has one more member. It requires b.mu.
func (b *batcher) grew(f *batch, size int) {
	b.forming = f
	if len(f.members) >= size {
		f.isFull.Store(true)
		b.forming = nil
	}
	b.noteFill()
}

// close has f, which forms, take no more members. It requires b.mu.
func (b *batcher) close(f *batch) {
	f.isFull.Store(true)
	b.forming = nil
	b.noteFill()
	if f.deferred && !f.hasSlot {
		b.pool.advanceDeadline(&f.place, f.due, f.deferUntil, true, f.expires)
	}
}

// noteFill requires b.mu.
func (b *batcher) noteFill() {
	n := 0
	if b.forming != nil {
		n = len(b.forming.members)
	}
	b.fill.Store(int64(n))
}

// due returns when the ticket's batch should start.
func (b *batcher) due(t *Ticket) int64 {
	if t.job.budget > 0 {
		return t.deadline() - int64(t.job.predicted)
	}
	_, delay := b.limits(t.cfg)
	return t.decided + delay
}

// deferUntil returns how long a partly filled batch may be held back for the ticket: half of its
// slack, as long as the other half covers two calls. Under overload small calls waste capacity.
func (b *batcher) deferUntil(t *Ticket, size int) int64 {
	if t.job.budget == 0 {
		return b.due(t)
	}
	calls := &t.kind.calls
	call := int64(calls.Time(float64(size) * calls.Units(0)))
	slack := min(t.deadline()-t.decided, int64(fair.Patience))
	return t.decided + min(slack/2, slack-2*call-4*int64(startMargin))
}

// removeWithdrawn takes a member out that was withdrawn before the batch was sealed.
func (b *batcher) removeWithdrawn(t *Ticket) {
	b.mu.Lock()
	f := t.batch
	sealed := !f.removeMember(t)
	b.mu.Unlock()
	if sealed {
		f.sealing.Lock() // the leader that seals the batch may still look at the ticket
		defer f.sealing.Unlock()
	}
}

// removeMember takes a member out that has ended, and reports whether it was still in. It requires
// b.mu.
func (f *batch) removeMember(t *Ticket) bool {
	b := f.batcher
	i := slices.Index(f.members, t)
	if i >= 0 {
		f.members = slices.Delete(f.members, i, i+1)
	}
	if len(f.members) == 0 && b.forming == f {
		b.forming = nil
	}
	b.noteFill()
	work := slots.Work(t.charge())
	b.pool.subWork(work)
	if !f.hasSlot {
		b.pool.backlog.Remove(&f.place, 1, work.Units())
		b.pool.uncount(t)
		if len(f.members) == 0 {
			b.pool.dequeueBatch(&f.place)
		}
	}
	return i >= 0
}

// withdrawAll withdraws all members of a queued batch, because the router closes.
func (f *batch) withdrawAll(err error) {
	b := f.batcher
	b.mu.Lock()
	members := slices.Clone(f.members)
	members = slices.DeleteFunc(members, func(t *Ticket) bool {
		return !t.giveUp()
	})
	b.mu.Unlock()
	for _, t := range members {
		b.removeWithdrawn(t)
		t.endWithdrawn(err)
		t.notifySubmitter()
	}
}

// accept implements requester: there may be members that still want the slot.
func (f *batch) accept() bool { return true }

// granted implements requester: one member will lead the batch.
func (f *batch) granted() bool {
	b := f.batcher
	b.mu.Lock()
	f.hasSlot = true
	b.pool.backlog.Remove(&f.place, len(f.members), f.place.Work)
	for _, t := range f.members {
		b.pool.uncount(t)
	}
	var leader *Ticket
	for _, t := range f.members {
		if t.claim() {
			leader = t
			break
		}
	}
	if leader == nil && b.forming == f {
		b.forming = nil // the withdrawn ones are about to leave
		b.noteFill()
	}
	b.mu.Unlock()
	switch {
	case leader == nil:
		return false
	case leader.job.async:
		leader.launch(f.lead)
	default:
		leader.wakeFor(actionLead)
	}
	return true
}
