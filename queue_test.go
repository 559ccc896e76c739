package helix

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/helixrouter/helix/internal/fair"
	"github.com/helixrouter/helix/internal/slots"
	"github.com/stretchr/testify/require"
)

// While more comes than can be done, a batch that is not full lets others go first,
// also those that are due later.
func TestBatchesFillUpUnderOverload(t *testing.T) {
	for name, c := range map[string]struct {
		scarce bool
		items  int
		want   []string
	}{
		"overload, not full": {true, 1, []string{"other", "batch of 1"}},
		"overload, full":     {true, 2, []string{"batch of 2", "other"}},
		"no overload":        {false, 1, []string{"batch of 1", "other"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, err := New(RouterConfig{CPUParallelism: 1, Policy: lanesByKind{}})
				require.NoError(t, err)
				defer r.Close()
				var mu sync.Mutex
				var order []string
				ran := func(what string) {
					mu.Lock()
					defer mu.Unlock()
					order = append(order, what)
				}
				task, err := Register(r, Kind[int, int]{Name: Batch, BatchMaxSize: 2, Budget: time.Second,
					Batch: func(_ context.Context, ins []int) ([]int, error) {
						ran(map[int]string{1: "batch of 1", 2: "batch of 2"}[len(ins)])
						return ins, nil
					}})
				require.NoError(t, err)
				var wg sync.WaitGroup
				submit := func(budget time.Duration, run func()) {
					wg.Go(func() {
						_, err := r.Submit(t.Context(), Job{Kind: CPUPool, Budget: budget, Run: func(context.Context) (any, error) {
							run()
							return nil, nil
						}})
						require.NoError(t, err)
					})
					synctest.Wait()
				}
				time.Sleep(20 * time.Millisecond) // so that the ledger is due, and then not again
				if c.scarce {
					var greedy fair.Account
					r.ledger.Tick(r.now(), func() fair.Machine {
						return fair.Machine{Cores: 1, Kinds: []fair.Kind{{Account: &greedy, Weight: 1, Offered: int64(time.Hour)}}}
					})
				}
				require.Equal(t, c.scarce, r.ledger.Scarce())
				submit(time.Second, func() { time.Sleep(5 * time.Millisecond) })
				for range c.items {
					wg.Go(func() {
						_, err := task.Submit(t.Context(), 1)
						require.NoError(t, err)
					})
					synctest.Wait()
				}
				submit(2*time.Second, func() { ran("other") })
				wg.Wait()
				require.Equal(t, c.want, order)
			})
		})
	}
}

// A slot that is free while somebody waits is between two holders: it does not tell
// that more could be done.
func TestASlotBetweenTwoHoldersIsNotSpare(t *testing.T) {
	p := newPool(1, func() int64 { return 0 }, func() {})
	require.True(t, p.tryAcquireFree(0, false))
	require.True(t, p.sawIdle.Swap(false), "nobody waits")
	require.False(t, p.tryAcquireFree(0, false))
	w := &slots.Node{Due: 1}
	require.NoError(t, p.enqueue(w, &returning{resume: make(chan struct{})}, &Ticket{kind: &kind{}, cfg: &RouterConfig{CPUQueueCap: 10}}))
	p.load.Add(^uint64(0)) // given back, and not granted yet
	require.True(t, p.tryAcquireFree(0, false))
	require.False(t, p.sawIdle.Load(), "somebody waits")
}

// Who seals a batch looks at its members without batcher.mu: a member that has been
// withdrawn meanwhile goes only once that is over, and is not left behind for a next call.
func TestWithdrawnWhileItsBatchIsSealed(t *testing.T) {
	r, err := New(RouterConfig{CPUParallelism: 1})
	require.NoError(t, err) // never closed: the tickets are not real ones
	_, err = Register(r, Kind[int, int]{Name: "batched",
		Batch: func(_ context.Context, ins []int) ([]int, error) { return ins, nil }})
	require.NoError(t, err)
	k := r.kindNamed("batched")
	b := k.batcher.Load()
	require.True(t, r.pool.tryAcquireFree(0, false), "so that what is left behind waits")

	f := newBatch(&Ticket{kind: k}, 0)
	f.hasSlot = true
	member := func() *Ticket {
		return &Ticket{kind: k, cfg: r.cfg.Load(), choice: choice{lane: laneBatch}, batch: f}
	}
	stays, goes := member(), member()
	looked := false // guarded by nothing but that leave waits
	goes.job.work = time.Second
	r.pool.addWork(slots.Work(goes.charge()))

	f.sealing.Lock()
	require.True(t, goes.state.CompareAndSwap(stateQueued, stateWithdrawn))
	var leaving sync.WaitGroup
	leaving.Go(func() {
		b.removeWithdrawn(goes)
		require.True(t, looked)
	})
	for slots.Load(r.pool.load.Load()).Work() > 0 { // until leave has found that it is sealed
		runtime.Gosched()
	}
	f.leaveBehind([]*Ticket{goes, stays})
	looked = true
	f.sealing.Unlock()
	leaving.Wait()

	require.Equal(t, []*Ticket{stays}, b.forming.members)
	require.EqualValues(t, 1, r.pool.queued.Load())
	require.Same(t, b.forming, stays.batch)
	b.removeWithdrawn(stays)
	require.Zero(t, r.pool.queued.Load())
}

// nobody is a waiter that does not want its slot any more once it gets it.
type nobody struct{ taken func() }

func (nobody) accept() bool    { return true }
func (n nobody) granted() bool { n.taken(); return false }

// A slot taken for somebody who does not want it any more makes the router busy for a
// moment: whoever waits for it to be idle is told when that is over.
func TestASlotForNobodyIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := New(RouterConfig{CPUParallelism: 1})
		require.NoError(t, err)
		taken, proceed := make(chan struct{}), make(chan struct{})
		w := &slots.Node{Due: 1}
		require.NoError(t, r.pool.enqueue(w, nobody{func() { close(taken); <-proceed }}, &Ticket{kind: &kind{}, cfg: r.cfg.Load()}))
		go r.pool.dispatch()
		<-taken
		closed := make(chan struct{})
		go func() { _ = r.Close(); close(closed) }()
		synctest.Wait() // Close has seen that a slot is in use
		close(proceed)
		<-closed
	})
}

// A batch whose members have all given up, and are about to leave, takes no more.
func TestABatchThatNobodyWantsForms(t *testing.T) {
	r, err := New(RouterConfig{CPUParallelism: 1})
	require.NoError(t, err) // never closed: the ticket is not a real one
	_, err = Register(r, Kind[int, int]{Name: "k", Batch: func(_ context.Context, ins []int) ([]int, error) { return ins, nil }})
	require.NoError(t, err)
	k := r.kindNamed("k")
	b := k.batcher.Load()
	gone := &Ticket{kind: k, cfg: r.cfg.Load(), choice: choice{lane: laneBatch}}
	f := newBatch(gone, 0)
	f.members, gone.batch = append(f.members, gone), f
	require.NoError(t, r.pool.tryEnqueue(&f.place, f, gone))
	b.forming = f
	require.True(t, gone.giveUp())
	r.pool.dispatch()
	require.Nil(t, b.forming)
	require.Zero(t, b.fill.Load())
	require.Zero(t, r.pool.busy())
}

// The queue takes nothing once it is closed, whoever was admitted before.
func TestTheQueueAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := New(RouterConfig{CPUParallelism: 1})
		require.NoError(t, err)
		require.True(t, r.pool.tryAcquire(0))
		require.NoError(t, r.pool.Close(t.Context()))
		_, err = r.Submit(t.Context(), Job{Run: func(context.Context) (any, error) { return nil, nil }})
		require.ErrorIs(t, err, ErrClosed)
		r.pool.release(0, false)
		require.NoError(t, r.Close())
	})
}

// lanesByKind sends each kind to the strategy of its name.
type lanesByKind struct{}

func (lanesByKind) Choose(j JobInfo, _ Pressure) Decision {
	return Decision{Strategy: j.Kind, Reason: "by kind"}
}

// A batch takes a size class of the allocator whole: one byte more, and each costs a quarter more.
func TestBatchIsOfOneSizeClass(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(batch{}), uintptr(256))
}
