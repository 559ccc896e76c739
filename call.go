package helix

import (
	"context"
	"runtime"
	"slices"
	"time"

	"github.com/helixrouter/helix/internal/jobctx"
	"github.com/helixrouter/helix/internal/num"
	"github.com/helixrouter/helix/internal/slots"
)

// gatherTurns is how often a leader lets others run before it seals its batch,
// as long as the batch still grows.
const gatherTurns = 3

// gatherEvery: even when the last call had one member, every 16th call waits for others, in
// case the load has risen.
const gatherEvery = 16

// lead runs the batch in the slot it has, on this goroutine. leader is the
// member whose goroutine it is, already claimed.
func (f *batch) lead(leader *Ticket) {
	b, router := f.batcher, leader.router()
	for n, turn := int64(1), 0; turn < gatherTurns && !f.isFull.Load() && b.shared(); turn++ {
		runtime.Gosched()
		grown := b.fill.Load() // of f, or of the next if f is full
		if grown <= n {
			break
		}
		n = grown
	}

	leader.onSubmitter = !leader.job.async
	started := router.now()
	members := f.seal(leader, started)
	live, work, leads := members[:0], slots.Load(0), false
	closed := router.closed() // when its slot came before Close got to it
	for _, t := range members {
		work += slots.Work(int64(t.job.work))
		switch {
		case closed:
			t.endWithdrawn(ErrClosed)
			t.notifySubmitter()
		case t.endIfPointless(started):
			t.notifySubmitter()
		default:
			live = append(live, t)
			leads = leads || t == leader
		}
	}
	size, _ := b.limits(leader.cfg)
	b.note(started, live, size)
	leader.kind.waits.Observe(time.Duration(f.place.Ahead), time.Duration(started-leader.decided))
	switch {
	case len(live) == 0:
		b.pool.release(work, f.place.Long)
		router.signalIdle()
	case leads:
		leader.kind.runBatch(f, started, live, work)
	default: // the leader has given up, and goes at once
		live[0].launch(func(t *Ticket) { t.kind.runBatch(f, started, live, work) })
	}
}

// shared reports whether others may be about to join a batch: one is forming or running
// beside it, the last one had several members, or it is time to look again. Letting
// others run wakes an idle P, which costs a lone caller some µs.
func (b *batcher) shared() bool {
	calls := b.calls.Load()
	return b.latest.Load() > 1 || b.fill.Load() > 1 || b.running.Load() > 0 || calls%gatherEvery == 0
}

// seal ends the growth at time now and returns the members, all claimed, the
// leader first. Members that would make the call too long for the tightest budget
// in it stay behind, in a batch of their own. The result is the caller's.
func (f *batch) seal(leader *Ticket, now int64) []*Ticket {
	b := f.batcher
	b.mu.Lock()
	if b.forming == f {
		b.forming = nil
		b.noteFill()
	}
	all := f.members
	f.members = nil
	if len(all) == 1 { // the leader
		b.mu.Unlock()
		return all
	}
	f.sealing.Lock()
	b.mu.Unlock()
	defer f.sealing.Unlock()

	calls := &leader.kind.calls
	i := slices.Index(all, leader)
	all[0], all[i] = leader, all[0]
	members, rest := all[:0], []*Ticket(nil)
	units, tightest := 0.0, int64(num.Never)
	for _, t := range all {
		with := units + calls.Units(t.job.cost)
		call := int64(calls.Time(with))
		limit := tightest
		if t.job.budget > 0 {
			limit = min(limit, t.deadline())
		}
		if t != leader && now+call+call/4+int64(startMargin) > limit && limit-now > 2*int64(t.job.predicted)+int64(startMargin) {
			rest = append(rest, t)
			continue
		}
		if t == leader || t.claim() {
			members = append(members, t)
			units, tightest = with, limit
		}
	}
	if len(rest) > 0 {
		f.leaveBehind(rest)
	}
	return members
}

// leaveBehind queues some members, except those withdrawn meanwhile, as a batch of
// their own. It requires f.sealing.
func (f *batch) leaveBehind(rest []*Ticket) {
	b := f.batcher
	b.mu.Lock()
	rest = slices.DeleteFunc(rest, func(t *Ticket) bool { return t.state.Load() != stateQueued })
	if len(rest) > 0 {
		b.queue(rest)
	}
	b.mu.Unlock()
	b.pool.dispatch() // there may be another slot for them
}

// queue queues tickets as a batch of their own. It requires b.mu.
func (b *batcher) queue(rest []*Ticket) {
	next := newBatch(rest[0], num.Never)
	next.members = rest
	for _, t := range rest {
		t.batch = next
		next.due = min(next.due, b.due(t))
		next.expires = next.expires || t.expires()
	}
	next.place.Due, next.place.Expires = next.due, next.expires
	next.place.Class = slots.ClassOf(next.due - b.pool.clock())
	b.pool.mu.Lock()
	defer b.pool.mu.Unlock()
	for _, t := range rest {
		b.pool.recount(t)
		b.pool.backlog.Add(&next.place, slots.Work(t.charge()))
	}
	if b.forming == nil {
		b.forming = next
		b.noteFill()
	}
	b.pool.push(&next.place, next)
}

// note keeps the statistics of a call that starts with those members.
func (b *batcher) note(started int64, members []*Ticket, size int) {
	if len(members) == 0 {
		return
	}
	b.calls.Add(1)
	if joined := int64(len(members) - 1); joined > 0 {
		b.joined.Add(joined)
	}
	if len(members) >= size {
		b.fullCalls.Add(1)
	}
	oldest := int64(0)
	for _, t := range members {
		oldest = max(oldest, started-t.decided)
	}
	for was := b.oldest.Load(); oldest > was && !b.oldest.CompareAndSwap(was, oldest); {
		was = b.oldest.Load()
	}
}

// runBatch calls the batch function in the slot that f has, takes that much work off it
// afterwards, and ends all members. It is a method of their kind for the sake of
// Router.insideJob.
func (k *kind) runBatch(f *batch, started int64, members []*Ticket, work slots.Load) {
	b, router := f.batcher, members[0].router()
	n := int64(len(members))
	if b.latest.Load() != n { // the word is shared: write it rarely
		b.latest.Store(n)
	}
	b.running.Add(n)
	k.prober.Start(false)
	defer func() { // also after runtime.Goexit
		b.running.Add(-n)
		f.slot.end(work)
		router.signalIdle()
		for _, t := range members {
			if t.wakeAction == actionSettle {
				t.wake <- struct{}{}
			} else {
				t.notifySubmitter()
			}
		}
	}()
	ctx, stop := callContext(members)
	how, err := exitGoexit, error(nil)
	for _, t := range members {
		t.started, t.members = started, int32(len(members))
	}
	// The same due time as in the queue, or batches would give way to one another.
	s := &f.slot
	s.Context, s.due, s.long, s.bounded = ctx, f.place.Due, f.place.Long, true
	f.nestIn(members)
	takes := f.predicted(members)
	s.begin(started, int64(takes), members[0].more(time.Duration(takes)), f.place.Long || members[0].job.samples == 0)
	defer func() {
		if how == exitGoexit {
			how, err = rescue(recover())
		}
		s.finish()
		s.untime()
		stop()
		ended := router.now()
		for _, t := range members {
			t.ended, t.exit = ended, how
			if err != nil {
				t.err = err
			}
		}
		f.learn(members, time.Duration(max(ended-started-s.absent(ended), 0)))
		settleMembers(members)
	}()
	if members[0].cfg.Hooks.Start != nil {
		for _, t := range members {
			t.startHook(t.ctx)
		}
	}
	err = b.call(s, members)
	how = exitReturned
	runtime.KeepAlive(k) // so that the text of the stack shows it
}

// settleMembers settles those members of a call that do not settle themselves.
func settleMembers(members []*Ticket) {
	settled := 0
	defer func() {
		if settled < len(members) { // Hooks.Done called runtime.Goexit
			settleMembers(members[settled+1:])
		}
	}()
	for ; settled < len(members); settled++ {
		if t := members[settled]; t.onSubmitter || t.job.async || t.watch != nil || t.cfg.Hooks.Done != nil {
			t.settleMember()
		} else {
			t.wakeAction = actionSettle
		}
	}
}

// nestIn has the call know the jobs inside which its members were submitted: members[0],
// on whose goroutine it is, if it is on any member's, and the others.
func (f *batch) nestIn(members []*Ticket) {
	for _, t := range members {
		switch {
		case t.slot == nil:
		case t.onSubmitter:
			f.slot.nested().outer = t.slot
		default:
			n := f.slot.nested()
			n.other = append(n.other, t.slot)
		}
	}
}

// predicted returns how many ns a call for those members takes.
func (f *batch) predicted(members []*Ticket) float64 {
	if len(members) == 1 {
		return float64(members[0].job.predicted)
	}
	calls, units := &members[0].kind.calls, 0.0
	for _, t := range members {
		units += calls.Units(t.job.cost)
	}
	return calls.Time(units)
}

// learn updates the model from a call for those members. They are charged their share of a
// full batch, corrected by the call's prediction error but not by its fill level: charging
// the real cost of half-empty batches would admit too few jobs to ever fill one.
func (f *batch) learn(members []*Ticket, run time.Duration) {
	k := members[0].kind
	units, sampled := 0.0, false
	for _, t := range members {
		units += k.calls.Counted(t.job.cost)
		sampled = sampled || t.sampled
	}
	f.perMemberNs = int64(run) / int64(len(members))
	if predicted := k.calls.Time(units); predicted > 0 && members[0].exit == exitReturned {
		f.correction = float64(run) / predicted
	}
	paid := f.parts(members)
	if paid > int64(run) { // they were charged for more than a call can take
		f.correction *= float64(run) / float64(paid)
		paid = f.parts(members)
	}
	k.counters.Shard(members[0].shard).Unfilled.Add(int64(run) - paid)
	switch {
	case !sampled:
	case mostSucceeded(members):
		one := members[int(k.calls.Samples())%len(members)]
		k.calls.Observe(len(members), units, one.job.cost, run)
	default:
		k.failures.Observe(run / time.Duration(len(members)))
	}
}

// mostSucceeded reports whether more than half of the members did.
func mostSucceeded(members []*Ticket) bool {
	n := 0
	for _, t := range members {
		if t.succeeded() {
			n++
		}
	}
	return 2*n > len(members)
}

// parts returns what the members are charged in all.
func (f *batch) parts(members []*Ticket) (sum int64) {
	for _, t := range members {
		sum += f.part(t)
	}
	return sum
}

// part returns what a member is charged for the call.
func (f *batch) part(t *Ticket) int64 {
	if f.correction > 0 {
		return int64(float64(t.job.work) * f.correction)
	}
	return f.perMemberNs
}

// settleMember does one member's accounting on that member's goroutine, which frees the slot
// sooner. The leader does it instead if a hook or watcher must run first, or if no submitter
// waits.
func (t *Ticket) settleMember() {
	t.pay(t.batch.part(t), false)
	t.settle(false)
}

// callContext returns the ctx of the call. A lone member's is its own. Otherwise it
// is the router's, without any caller's values, and is cancelled once every
// member has left: it watches one after the other.
func callContext(members []*Ticket) (context.Context, func()) {
	if len(members) == 1 {
		return members[0].ctx, func() {}
	}
	for _, t := range members {
		if t.ctx.Done() == nil {
			return context.Background(), func() {} // this one never leaves
		}
	}
	callers := make([]context.Context, len(members)) // tickets do not live as long as a watch
	for i, t := range members {
		callers[i] = t.ctx
	}
	return jobctx.AllDone(callers)
}
