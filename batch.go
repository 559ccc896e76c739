package helix

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// batching is the batch strategy: every batchable kind has a batcher.
type batching struct{ router *Router }

func (batching) Name() string { return Batch }

// Offer lets the ticket's job join its kind's forming batch.
func (batching) Offer(t *Ticket) error { return t.kind.batcher.Load().offer(t) }

func (s batching) Load() Load {
	var sum Load
	for _, k := range *s.router.kinds.Load() {
		if b := k.batcher.Load(); b != nil {
			b.mu.Lock()
			sum.Running += b.running
			sum.Queued += int(b.fill.Load())
			b.mu.Unlock()
		}
	}
	return sum
}

// Close does nothing: queued batches are in the pool's queue.
func (batching) Close(context.Context) error { return nil }

// batcher forms the batches of one kind, by group commit (as databases write
// their logs; DeWitt et al., "Implementation techniques for main memory
// database systems", 1984): the first job takes a slot, or queues for one, and
// whatever comes until the batch is executed goes along. So nobody waits while
// a slot is free, and batches grow with the load.
type batcher struct {
	pool *pool
	// call runs the kind's batch function on the members' items and sets each
	// one's result and err. An error it returns is everybody's.
	call    func(ctx context.Context, members []*Ticket) error
	maxSize int   // 0: RouterConfig.BatchMaxSize
	delay   int64 // ns; 0: RouterConfig.BatchMaxDelay

	mu      sync.Mutex // taken before pool.mu
	forming *batch     // takes members; guarded by mu
	running int        // jobs in running calls; guarded by mu
	stats   BatchStats // guarded by mu
	oldest  int64      // longest wait of an item, in ns; guarded by mu

	fill atomic.Int64 // members of forming; written under mu, read by decisions
}

// batch is some jobs of one kind that will share a call and a slot.
type batch struct {
	batcher *batcher
	place   waiter    // in the pool's queue
	members []*Ticket // guarded by batcher.mu until sealed
}

// limits returns the most items in a batch, and how long it may stand back.
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
	size, delay := b.limits(t.cfg)
	due := t.decided + delay
	if t.info.Budget > 0 {
		due = int64(t.info.Deadline - t.info.Predicted)
	}

	b.mu.Lock()
	if f := b.forming; f != nil {
		t.batch = f
		err := b.pool.join(&f.place, due, t.charge, t.cfg.CPUQueueCap)
		if err == nil {
			f.members = append(f.members, t)
			b.grew(f, size)
		}
		b.mu.Unlock()
		return err
	}
	f := &batch{batcher: b, members: append(make([]*Ticket, 0, min(size, 16)), t)}
	f.place.due, f.place.jobs, f.place.work = due, 1, t.charge
	f.place.long = t.info.Predicted >= longFrom
	t.batch = f
	took, err := b.pool.takeOrQueue(&f.place, f, t.cfg.CPUQueueCap)
	if err == nil {
		if took {
			t.claim() // nobody else knows the ticket yet
		}
		b.grew(f, size)
	}
	b.mu.Unlock()
	switch {
	case !took:
	case t.info.Async:
		t.launch(f.lead)
	default:
		f.lead(t)
	}
	return err
}

// grew notes that f has one more member. It requires b.mu.
func (b *batcher) grew(f *batch, size int) {
	b.forming = f
	if len(f.members) >= size {
		b.forming = nil
	}
	b.noteFill()
}

// noteFill requires b.mu.
func (b *batcher) noteFill() {
	n := 0
	if b.forming != nil {
		n = len(b.forming.members)
	}
	b.fill.Store(int64(n))
}

// leave takes a member out that was withdrawn before the batch was sealed.
func (f *batch) leave(t *Ticket) {
	b := f.batcher
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(f.members, t)
	f.members = slices.Delete(f.members, i, i+1)
	if len(f.members) == 0 && b.forming == f {
		b.forming = nil
	}
	b.noteFill()
	b.pool.leave(&f.place, t.charge)
}

// withdrawAll withdraws all members of a queued batch, because the router closes.
func (f *batch) withdrawAll(err error) {
	b := f.batcher
	b.mu.Lock()
	members := slices.Clone(f.members)
	members = slices.DeleteFunc(members, func(t *Ticket) bool {
		return !t.state.CompareAndSwap(stateQueued, stateWithdrawn)
	})
	b.mu.Unlock()
	for _, t := range members {
		f.leave(t)
		t.endWithdrawn(err)
		t.deliver()
	}
}

func (f *batch) claim() bool { return true }

// granted hands a slot to the batch: one member will lead it.
func (f *batch) granted() bool {
	b := f.batcher
	b.mu.Lock()
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
	case leader.info.Async:
		leader.launch(f.lead)
	default:
		leader.wake <- wakeLead
	}
	return true
}

// gatherTurns is how often a leader lets others run before it seals its batch,
// as long as the batch still grows.
const gatherTurns = 3

// lead runs the batch in the slot it has, on this goroutine. leader is the
// member whose goroutine it is, already claimed.
func (f *batch) lead(leader *Ticket) {
	b, router := f.batcher, leader.router
	size, _ := b.limits(leader.cfg)
	for n, turn := 1, 0; turn < gatherTurns; turn++ {
		runtime.Gosched()
		if grown := f.size(); grown > n && grown < size {
			n = grown
			continue
		}
		break
	}

	leader.home = !leader.info.Async
	started := router.now()
	var live []*Ticket
	work, leads := int64(0), false
	for _, t := range f.seal(leader) {
		work += t.charge
		if t.endIfPointless(started) {
			t.deliver()
			continue
		}
		live = append(live, t)
		leads = leads || t == leader
	}
	switch {
	case len(live) == 0:
		b.pool.release(work, f.place.long)
	case leads:
		f.run(started, live, work, size)
	default: // the leader has given up, and goes at once
		live[0].launch(func(*Ticket) { f.run(started, live, work, size) })
	}
}

func (f *batch) size() int {
	f.batcher.mu.Lock()
	defer f.batcher.mu.Unlock()
	return len(f.members)
}

// seal ends the growth and returns the members, all claimed.
func (f *batch) seal(leader *Ticket) []*Ticket {
	b := f.batcher
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.forming == f {
		b.forming = nil
		b.noteFill()
	}
	members := make([]*Ticket, 0, len(f.members))
	for _, t := range f.members {
		if t == leader || t.claim() {
			members = append(members, t)
		}
	}
	return members
}

// count keeps the statistics of a call.
func (b *batcher) count(started int64, members []*Ticket, size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running += len(members)
	b.stats.Calls++
	b.stats.Items += uint64(len(members))
	if len(members) >= size {
		b.stats.Full++
	}
	for _, t := range members {
		b.oldest = max(b.oldest, started-t.decided)
	}
}

// run calls the batch function in the slot it has, of which that much work is
// to be taken off, and ends all members.
func (f *batch) run(started int64, members []*Ticket, work int64, size int) {
	b, router := f.batcher, members[0].router
	b.count(started, members, size)
	members[0].kind.demand.start(started)
	defer func() { // also after runtime.Goexit
		b.mu.Lock()
		b.running -= len(members)
		b.mu.Unlock()
		b.pool.release(work, f.place.long)
		for _, t := range members {
			t.deliver()
		}
	}()
	ctx, stop := f.context(members)
	how, err := fateExited, error(nil)
	for _, t := range members {
		t.started, t.members = started, len(members)
	}
	// The same due time as in the queue, or batches would give way to one another.
	s := &slot{Context: ctx, pool: b.pool, due: f.place.due, long: f.place.long}
	defer func() {
		if how == fateExited {
			how, err = rescue(recover())
		}
		s.left.Store(true)
		stop()
		ended := router.now()
		for _, t := range members {
			t.ended, t.fate = ended, how
			if err != nil {
				t.err = err
			}
		}
		members[0].kind.learnBatch(members, time.Duration(ended-started-s.away.Load()))
		for _, t := range members {
			t.settle()
		}
	}()
	if start := members[0].cfg.Hooks.Start; start != nil {
		for _, t := range members {
			t.span = start(t.ctx, t.info, t.decision)
		}
	}
	err = b.call(s, members)
	how = fateReturned
}

// context returns the ctx of the call. A lone member's is its own. Otherwise it
// is the router's, without anybody's values, and is cancelled once every
// member has left: it watches one after the other.
func (f *batch) context(members []*Ticket) (context.Context, func()) {
	if len(members) == 1 {
		return members[0].ctx, func() {}
	}
	callers := make([]context.Context, len(members)) // tickets do not live as long as a watch
	for i, t := range members {
		if callers[i] = t.ctx; t.ctx.Done() == nil {
			return context.Background(), func() {} // this one never leaves
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var unwatch func() bool
	ended := false
	var watch func(i int)
	watch = func(i int) {
		mu.Lock()
		defer mu.Unlock()
		for i < len(callers) && callers[i].Err() != nil {
			i++
		}
		switch {
		case ended:
		case i == len(callers):
			cancel()
		default:
			unwatch = context.AfterFunc(callers[i], func() { watch(i + 1) })
		}
	}
	watch(0)
	return ctx, func() {
		mu.Lock()
		ended = true
		unwatch := unwatch
		mu.Unlock()
		if unwatch != nil {
			unwatch()
		}
		cancel()
	}
}
