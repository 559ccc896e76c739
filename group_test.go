package helix_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// eachGroup runs a test for every strategy, with two slots, in a bubble: at its end no
// goroutine is left, or the bubble fails.
func eachGroup(t *testing.T, test func(t *testing.T, f *fixture, g *helix.Group[do, int])) {
	t.Helper()
	eachGroupOf(t, doKind("do"), test)
}

// eachGroupAlone is eachGroup for items that are not batched: those of one call end with it.
func eachGroupAlone(t *testing.T, test func(t *testing.T, f *fixture, g *helix.Group[do, int])) {
	t.Helper()
	kind := doKind("do")
	kind.Batch = nil
	eachGroupOf(t, kind, test)
}

func eachGroupOf(t *testing.T, kind helix.Kind[do, int], test func(t *testing.T, f *fixture, g *helix.Group[do, int])) {
	t.Helper()
	for _, strategy := range []string{helix.Inline, helix.Spawn, helix.CPUPool, helix.Batch, "queueing", "adaptive"} {
		t.Run(strategy, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := helix.RouterConfig{Policy: always(strategy), CPUParallelism: 2}
				switch strategy {
				case "adaptive":
					cfg.Policy = nil
				case "queueing":
					cfg.Strategies = []helix.Strategy{newQueueing()}
				}
				r := newRouter(t, cfg)
				task := register(t, r, kind)
				test(t, &fixture{r, task}, helix.NewGroup(task))
			})
		})
	}
}

// after is an item that takes d, or ends when it is not wanted any more, and returns n.
func after(d time.Duration, n int) do {
	return func(ctx context.Context) (int, error) {
		select {
		case <-time.After(d):
			return n, nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func TestGroupReturnsResultsInOrder(t *testing.T) {
	eachGroup(t, func(t *testing.T, f *fixture, g *helix.Group[do, int]) {
		want := make([]int, 12)
		for i := range want {
			want[i] = i + 1
			g.Go(t.Context(), after(time.Duration(len(want)-i)*time.Millisecond, i+1))
		}
		for range 2 { // Wait may be called again
			outs, err := g.Wait(t.Context())
			require.NoError(t, err)
			require.Equal(t, want, outs)
		}
		require.EqualValues(t, len(want), f.Stats().Completed)
		_, err := f.task.Submit(t.Context(), after(0, 1))
		require.NoError(t, err, "the router works on")
	})
	outs, err := helix.NewGroup[do, int](nil).Wait(t.Context())
	require.NoError(t, err)
	require.Empty(t, outs)
}

// The first error cancels those that run and those that wait, tells them why, and is the one
// that Wait returns, however many follow.
func TestTheFirstErrorOfAGroupCancelsTheRest(t *testing.T) {
	first := errors.New("first")
	eachGroupAlone(t, func(t *testing.T, f *fixture, g *helix.Group[do, int]) {
		var causes atomic.Int64
		g.Go(t.Context(), after(0, 1))
		synctest.Wait()
		g.Go(t.Context(), func(context.Context) (int, error) { time.Sleep(time.Millisecond); return 7, first })
		for range 5 {
			g.Go(t.Context(), func(ctx context.Context) (int, error) {
				_, err := after(time.Hour, 2)(ctx)
				if errors.Is(err, first) {
					causes.Add(1)
				}
				return 0, errors.New("second")
			})
		}
		begun := time.Now()
		outs, err := g.Wait(t.Context())
		require.ErrorIs(t, err, first)
		require.Less(t, time.Since(begun), time.Minute)
		require.Equal(t, []int{1, 7, 0, 0, 0, 0, 0}, outs)
		s := f.Stats()
		require.Zero(t, s.InFlight, "Wait waits for all")
		require.EqualValues(t, causes.Load(), s.Failed-1, "all that ran were told why")
		require.EqualValues(t, 5, s.Failed-1+s.Withdrawn)

		g.Go(t.Context(), func(context.Context) (int, error) { t.Error("ran"); return 0, nil })
		outs, err = g.Wait(t.Context())
		require.ErrorIs(t, err, first)
		require.Len(t, outs, 8)
		require.Equal(t, s.Submitted, f.Stats().Submitted, "after an error Go starts nothing")
		_, err = f.task.Submit(t.Context(), after(0, 1))
		require.NoError(t, err, "the router works on")
	})
}

// Nobody needs to be in Wait for it.
func TestAGroupIsCancelledBeforeWait(t *testing.T) {
	eachGroupAlone(t, func(t *testing.T, f *fixture, g *helix.Group[do, int]) {
		mine := errors.New("mine")
		g.Go(t.Context(), func(context.Context) (int, error) { time.Sleep(time.Millisecond); return 0, mine })
		g.Go(t.Context(), after(time.Hour, 1))
		time.Sleep(time.Second)
		require.Zero(t, f.Stats().InFlight)
		_, err := g.Wait(t.Context())
		require.ErrorIs(t, err, mine)
	})
}

func TestAGroupEndsWithItsContexts(t *testing.T) {
	eachGroupAlone(t, func(t *testing.T, f *fixture, g *helix.Group[do, int]) {
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		for range 4 {
			g.Go(ctx, after(time.Hour, 1))
		}
		time.AfterFunc(time.Second, func() { cancel(why) })
		_, err := g.Wait(t.Context())
		require.ErrorIs(t, err, why, "the ctx of Go")
		require.Zero(t, f.Stats().InFlight)

		g = helix.NewGroup(f.task)
		ctx, cancel = context.WithCancelCause(t.Context())
		stays := 0
		g.Go(t.Context(), func(ctx context.Context) (int, error) {
			<-ctx.Done()
			time.Sleep(time.Second)
			stays++ // unguarded: Wait waits for it
			return 0, nil
		})
		time.AfterFunc(time.Second, func() { cancel(why) })
		_, err = g.Wait(ctx)
		require.ErrorIs(t, err, why, "the ctx of Wait")
		require.Equal(t, 1, stays)
	})
}

// What the router refuses is the group's error, and cancels what it let in.
func TestARefusalIsAnErrorOfTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1, CPUQueueCap: 2})
		g := helix.NewGroup(register(t, r, doKind("do")))
		for range 5 {
			g.Go(t.Context(), after(time.Hour, 1))
		}
		outs, err := g.Wait(t.Context())
		var drop *helix.DropError
		require.ErrorAs(t, err, &drop)
		require.ErrorIs(t, err, helix.ErrNotRun)
		require.Len(t, outs, 5)
		s := r.Stats()
		require.EqualValues(t, 4, s.Submitted, "three are let in, one is refused, one is not started")
		require.EqualValues(t, 1, s.Dropped)

		g = helix.NewGroup(register(t, r, doKind("hinted")))
		g.GoWith(t.Context(), after(0, 1), helix.Hints{Cost: -1})
		_, err = g.Wait(t.Context())
		var field *helix.FieldError
		require.ErrorAs(t, err, &field)

		gone, leave := context.WithCancel(t.Context())
		leave()
		g = helix.NewGroup(register(t, r, doKind("gone")))
		g.Go(gone, func(context.Context) (int, error) { t.Error("ran"); return 0, nil })
		_, err = g.Wait(t.Context())
		require.ErrorIs(t, err, helix.ErrNotRun)
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestAPanicInAGroupIsRaisedOnce(t *testing.T) {
	eachGroup(t, func(t *testing.T, f *fixture, g *helix.Group[do, int]) {
		wait := func() (raised any, err error) {
			defer func() { raised = recover() }()
			_, err = g.Wait(t.Context())
			return nil, err
		}
		g.Go(t.Context(), after(time.Hour, 1))
		g.Go(t.Context(), func(context.Context) (int, error) { time.Sleep(time.Second); explode(); return 0, nil })
		raised, _ := wait()
		require.IsType(t, &helix.PanicError{}, raised)
		require.Equal(t, "boom", raised.(*helix.PanicError).Value)
		require.Contains(t, string(raised.(*helix.PanicError).Stack), "explode")
		require.Zero(t, f.Stats().InFlight, "the others were waited for")
		raised, err := wait()
		require.Nil(t, raised)
		var p *helix.PanicError
		require.ErrorAs(t, err, &p)

		// A panic is not lost behind an error.
		g = helix.NewGroup(f.task)
		g.Go(t.Context(), func(ctx context.Context) (int, error) { <-ctx.Done(); explode(); return 0, nil })
		synctest.Wait()
		g.GoWith(t.Context(), after(0, 1), helix.Hints{Cost: -1})
		raised, _ = wait()
		require.IsType(t, &helix.PanicError{}, raised)
		_, err = wait()
		var field *helix.FieldError
		require.ErrorAs(t, err, &field, "the first error")
	})
}

func TestGoexitInAGroup(t *testing.T) {
	eachGroup(t, func(t *testing.T, f *fixture, g *helix.Group[do, int]) {
		g.Go(t.Context(), func(context.Context) (int, error) { runtime.Goexit(); return 0, nil })
		_, err := g.Wait(t.Context())
		require.ErrorIs(t, err, helix.ErrGoexit)
	})
}

// A group inside a job lends the job's slot while it waits, whatever the number of slots.
func TestGroupsInsideJobs(t *testing.T) {
	eachTree(t, 125, func(f *nestFixture, ctx context.Context, branch do) (int, error) {
		g := helix.NewGroup(f.task)
		for range 5 {
			g.Go(ctx, branch)
		}
		outs, err := g.Wait(ctx)
		sum := 0
		for _, n := range outs {
			sum += n
		}
		return sum, err
	})
}

// Items may add to their group; Wait waits for those too.
func TestItemsAddToTheirGroup(t *testing.T) {
	eachGroup(t, func(t *testing.T, f *fixture, g *helix.Group[do, int]) {
		var more func(depth int) do
		more = func(depth int) do {
			return func(context.Context) (int, error) {
				if depth > 0 {
					g.Go(t.Context(), more(depth-1))
					g.Go(t.Context(), more(depth-1))
				}
				return 1, nil
			}
		}
		g.Go(t.Context(), more(5))
		outs, err := g.Wait(t.Context())
		require.NoError(t, err)
		require.Len(t, outs, 63)
	})
}

// Closing the router ends groups, and those who wait for them.
func TestClosingEndsGroups(t *testing.T) {
	eachGroupAlone(t, func(t *testing.T, f *fixture, g *helix.Group[do, int]) {
		for range 6 {
			g.Go(t.Context(), after(time.Hour, 1))
		}
		time.AfterFunc(time.Second, func() { _ = f.Close() })
		_, err := g.Wait(t.Context())
		require.ErrorIs(t, err, helix.ErrClosed)
		g = helix.NewGroup(f.task)
		g.Go(t.Context(), after(0, 1))
		_, err = g.Wait(t.Context())
		require.ErrorIs(t, err, helix.ErrClosed)
	})
}

// A strategy that panics does so in Go; the group ends all the same.
func TestAGroupSurvivesAPanicInOffer(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{Policy: always("offering"), Strategies: []helix.Strategy{
		offering{func(*helix.Ticket) error { panic("offer") }}}})
	g := helix.NewGroup(register(t, r, doKind("do")))
	require.Panics(t, func() { g.Go(t.Context(), after(0, 1)) })
	outs, err := g.Wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int{0}, outs)
}

// An item that is added while Wait waits for its job's slot is waited for too.
func TestItemsAddedWhileWaitGetsItsSlotBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1})
		g := helix.NewGroup(register(t, r, doKind("do")))
		future, err := r.Go(t.Context(), helix.Job{Run: func(ctx context.Context) (any, error) {
			g.Go(ctx, after(time.Second, 1))
			return g.Wait(ctx)
		}})
		require.NoError(t, err)
		time.Sleep(time.Second / 2)
		other, err := r.Go(t.Context(), helix.Job{Budget: 30 * time.Second, Run: func(context.Context) (any, error) {
			time.Sleep(2 * time.Second)
			return nil, nil
		}})
		require.NoError(t, err)
		time.Sleep(time.Second) // the item has ended, and the other job has the slot
		g.Go(t.Context(), after(time.Second, 2))
		res, err := future.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, []int{1, 2}, res.Value)
		_, err = other.Wait(t.Context())
		require.NoError(t, err)
	})
}
