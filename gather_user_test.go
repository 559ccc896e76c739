package helix_test

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// Hooks that panic or exit end only their own job: the others of a shared call have their results.
func TestSharedCallsSurviveHooks(t *testing.T) {
	for name, how := range map[string]func(){"panics": func() { panic("hook") }, "exits": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, helix.RouterConfig{Hooks: helix.Hooks{
					Done: func(_ context.Context, _ helix.JobInfo, o helix.Outcome) {
						if o.Members > 1 {
							how()
						}
					},
				}})
				l := &loader{takes: 5 * time.Millisecond}
				task := l.register(t, r, itself)
				var wg sync.WaitGroup
				l.inFlight(t, task, &wg)
				future, err := task.Go(t.Context(), 5)
				require.NoError(t, err)
				for i := range 3 {
					wg.Go(func() { _, _ = task.Submit(t.Context(), i%2) })
				}
				wg.Wait()
				out, err := future.Wait(t.Context())
				require.NoError(t, err)
				require.Equal(t, 50, out)
				require.EqualValues(t, 5, r.Stats().Completed)
			})
		})
	}
}

// A shared call is a job as any other for those that end the router inside it.
func TestClosingFromInsideASharedCallIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *helix.Router
		var hook error
		r = newRouter(t, helix.RouterConfig{Hooks: helix.Hooks{
			Done: func(context.Context, helix.JobInfo, helix.Outcome) { hook = r.Close() },
		}})
		l := &loader{fail: func([]int) error { return r.Close() }}
		_, err := l.register(t, r, nil).Submit(t.Context(), 1)
		require.ErrorIs(t, err, helix.ErrInsideJob)
		require.ErrorIs(t, hook, helix.ErrInsideJob)
	})
}

// A shared call is a job as any other for what is submitted inside it: a router that drains
// admits that, unless the call has ended.
func TestDrainLetsChildrenOfSharedCallsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		leaf := register(t, r, sleepKind("leaf", 0, false))
		var kept context.Context
		load := register(t, r, helix.Kind[int, int]{Name: "load", Waits: true, Batch: func(ctx context.Context, ids []int) ([]int, error) {
			kept = context.WithoutCancel(ctx)
			time.Sleep(time.Second)
			_, err := leaf.Submit(ctx, time.Millisecond)
			return make([]int, len(ids)), err
		}})
		var wg sync.WaitGroup
		for i := range 4 { // one call for one, and one for three
			wg.Go(func() {
				_, err := load.Submit(t.Context(), i)
				require.NoError(t, err)
			})
		}
		wg.Go(func() { // from inside a job
			_, err := r.Submit(t.Context(), helix.Job{Kind: "outer", Run: func(ctx context.Context) (any, error) {
				return load.Submit(ctx, 4)
			}})
			require.NoError(t, err)
		})
		synctest.Wait()
		wg.Go(func() {
			require.NoError(t, r.Drain(t.Context()))
			_, err := leaf.Submit(kept, 0)
			require.ErrorIs(t, err, helix.ErrClosed, "its call has ended")
		})
		wg.Wait()
		require.EqualValues(t, 8, r.Stats().Completed)
	})
}

// Close withdraws at once what waits for its window to end.
func TestShutdownWithdrawsWhatWaitsForASharedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{BatchMaxDelay: time.Hour})
		l := &loader{takes: time.Minute}
		task := l.register(t, r, nil)
		var wg sync.WaitGroup
		l.inFlight(t, task, &wg)
		future, err := task.Go(t.Context(), 1)
		require.NoError(t, err)
		wg.Go(func() {
			_, err := task.Submit(t.Context(), 2)
			require.ErrorIs(t, err, helix.ErrClosed)
		})
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, r.Shutdown(ctx), context.DeadlineExceeded)
		_, err = future.Wait(t.Context())
		require.ErrorIs(t, err, helix.ErrClosed)
		require.Equal(t, time.Second, time.Since(began))
		wg.Wait()
		require.Len(t, l.calls, 1)
	})
}
