package helix

import (
	"context"
	"runtime"
	"slices"
	"time"

	"github.com/helixrouter/helix/internal/limit"
)

// gathering is a batch that forms of jobs that wait, as a data loader's does: it needs no
// slot, and is called when it is full, when no call of its kind is under way, and at the latest when
// its window is over. So a lone caller does not wait for others, and while calls are under way, which says
// that more are likely to come, those that come share calls. Guarded by batcher.mu until it is
// taken; then it is its runner's.
type gathering struct {
	members []*Ticket
	item    []int       // which item of the call each member asks for
	keys    map[any]int // items by key; nil if the kind has no Key
	items   int
	timer   *time.Timer // nil if it is called at once
	due     int64       // when the window is over
}

// gather puts a job that waits into the forming batch, or starts one with it.
func (b *batcher) gather(t *Ticket) {
	size, delay := b.limits(t.cfg)
	key := b.keyOf(t) // user code: not under the lock
	due := b.windowEnd(t, delay)

	b.mu.Lock()
	g := b.gathering
	if g != nil && g.items >= size { // the most is less than when it was formed
		b.take(g)
		defer b.launch(g)
		g = nil
	}
	if g == nil {
		g = &gathering{due: due}
		b.gathering = g
	}
	g.add(t, key)
	ready := g.items >= size || b.underWay == 0 || t.router().closed()
	switch {
	case ready:
		b.take(g)
	case g.timer == nil:
		g.timer = time.AfterFunc(time.Duration(due-t.decided), func() { b.fire(g) })
	case due < g.due:
		g.timer.Reset(time.Duration(due - t.decided))
	}
	g.due = min(g.due, due)
	b.noteGathered()
	b.mu.Unlock()
	if ready {
		b.launch(g)
	}
}

// add requires batcher.mu, or that no other goroutine knows g yet.
func (g *gathering) add(t *Ticket, key any) {
	item, known := g.items, false
	if key != nil {
		if g.keys == nil {
			g.keys = map[any]int{}
		}
		if item, known = g.keys[key]; !known {
			item = g.items
			g.keys[key] = item
		}
	}
	if !known {
		g.items++
	}
	g.members, g.item = append(g.members, t), append(g.item, item)
}

// windowEnd is until when a job may be kept waiting for others: half of what a call
// takes, half of the time that the job can spare, and no longer than delay.
func (b *batcher) windowEnd(t *Ticket, delay int64) int64 {
	window := delay
	if call := t.kind.down().limit.Latency(); call > 0 {
		window = min(window, call/2)
	}
	if t.job.budget > 0 {
		window = min(window, (t.deadline()-t.decided-int64(t.job.predicted))/2)
	}
	return t.decided + max(window, 1) // see alarm: no timer is due when it is set
}

// fire calls g, whose window is over, if it still forms.
func (b *batcher) fire(g *gathering) {
	b.mu.Lock()
	ready := b.gathering == g
	if ready {
		b.take(g)
		b.noteGathered()
	}
	b.mu.Unlock()
	if ready {
		b.launch(g)
	}
}

// endWindow calls the batch that forms, if one does.
func (b *batcher) endWindow() {
	b.mu.Lock()
	g := b.gathering
	b.mu.Unlock()
	if g != nil {
		b.fire(g)
	}
}

// take ends the growth of g and claims its members, without those that were withdrawn: no other goroutine
// else may then touch the others, and g knows the withdrawn no more. It requires b.mu.
func (b *batcher) take(g *gathering) {
	b.gathering = nil
	b.underWay++
	if g.timer != nil {
		g.timer.Stop()
	}
	g.keep(func(t *Ticket) bool { return t.claim() })
}

// keep leaves out the members that want says no to, and numbers the items of the rest anew.
func (g *gathering) keep(want func(*Ticket) bool) {
	live, items := g.members[:0], g.item[:0]
	renamed := make([]int, g.items) // by the old number, from 1
	g.items = 0
	for i, t := range g.members {
		if !want(t) {
			continue
		}
		was := g.item[i]
		if renamed[was] == 0 {
			g.items++
			renamed[was] = g.items
		}
		live, items = append(live, t), append(items, renamed[was]-1)
	}
	g.members, g.item = live, items
}

// noteGathered requires b.mu.
func (b *batcher) noteGathered() {
	n := 0
	if b.gathering != nil {
		n = len(b.gathering.members)
	}
	b.fill.Store(int64(n))
}

// ungather forgets a job that was withdrawn.
func (b *batcher) ungather(t *Ticket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.gathering
	if g == nil {
		return
	}
	i := slices.Index(g.members, t)
	if i < 0 {
		return
	}
	// Its item stays, for others that asked for it; take leaves it out if there is none.
	g.members, g.item = slices.Delete(g.members, i, i+1), slices.Delete(g.item, i, i+1)
	if len(g.members) == 0 {
		b.gathering = nil
		if g.timer != nil {
			g.timer.Stop()
		}
	}
	b.noteGathered()
}

// launch calls g, which was taken, on a goroutine that Close waits for.
func (b *batcher) launch(g *gathering) {
	if len(g.members) == 0 {
		b.landed()
		return
	}
	g.members[0].launch(func(t *Ticket) {
		defer b.landed() // also after runtime.Goexit
		t.kind.runGathering(g)
	})
}

// landed notes that a call has ended. If it was the last, nothing says that more will come.
func (b *batcher) landed() {
	b.mu.Lock()
	b.underWay--
	g := b.gathering
	if b.underWay > 0 {
		g = nil
	}
	if g != nil {
		b.take(g)
		b.noteGathered()
	}
	b.mu.Unlock()
	if g != nil {
		b.launch(g)
	}
}

// runGathering calls the batch function and ends all members, which are claimed. It is a method
// of their kind for the sake of Router.insideJob.
func (k *kind) runGathering(g *gathering) {
	b, started := k.batcher.Load(), k.router.now()
	g.dropPointless(k.router)
	if len(g.members) == 0 {
		return
	}
	first := g.members[0]
	size, _ := b.limits(first.cfg)
	b.note(started, g.members, size)
	b.running.Add(int64(len(g.members)))
	k.prober.Start(first.choice.probe)
	down := &k.down().limit
	call := limit.Call{Began: started, Among: down.Begin(started, int64(first.job.budget))}
	ctx, stop := callContext(g.members)
	how, err := exitGoexit, error(nil)
	for _, t := range g.members {
		t.started, t.members = started, int32(len(g.members))
	}
	mark := g.mark(ctx)
	defer func() { // also after runtime.Goexit
		if how == exitGoexit {
			how, err = rescue(recover())
		}
		mark.finish()
		stop()
		g.finish(b, down, call, how, err)
	}()
	if first.cfg.Hooks.Start != nil {
		for _, t := range g.members {
			t.startHook(t.ctx)
		}
	}
	err = b.callItems(mark, g.members, g.item, g.items)
	how = exitReturned
	runtime.KeepAlive(k) // so that the text of the stack shows it
}

// mark returns the ctx of the call, by which work inside it is known.
func (g *gathering) mark(ctx context.Context) *slot {
	s := newMark(g.members[0])
	s.Context = ctx
	for _, t := range g.members {
		s.due = min(s.due, t.latestStart())
		if t.slot != nil {
			n := s.nested()
			n.other = append(n.other, t.slot)
		}
	}
	return s
}

// dropPointless ends the members whose callers have left.
func (g *gathering) dropPointless(router *Router) {
	closed := router.closed()
	g.keep(func(t *Ticket) bool {
		switch {
		case closed:
			t.endWithdrawn(ErrClosed)
		case t.ctx.Err() != nil:
			t.endWithdrawn(withdrawn(t.ctx))
		default:
			return true
		}
		t.notifySubmitter()
		return false
	})
}

// finish ends all members of a call that has ended.
func (g *gathering) finish(b *batcher, down *limit.Limit, call limit.Call, how exit, err error) {
	k := g.members[0].kind
	ended, well := k.router.now(), 0
	for _, t := range g.members {
		t.ended, t.exit = ended, how
		if err != nil {
			t.err = err
		}
		if t.succeeded() {
			well++
		}
	}
	down.End(call, ended, 2*well > len(g.members))
	b.running.Add(-int64(len(g.members)))
	k.settleAll(g.members)
}

// settleAll settles the members of a call that has ended, and notifies their submitters.
func (k *kind) settleAll(members []*Ticket) {
	settled := 0
	defer func() {
		if settled < len(members) { // Hooks.Done called runtime.Goexit
			members[settled].notifySubmitter()
			k.settleAll(members[settled+1:])
		}
	}()
	for ; settled < len(members); settled++ {
		t := members[settled]
		t.settle(k.learn(t))
		t.notifySubmitter()
	}
}
