package helix_test

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// sleepers starts jobs that sleep, one after the other, and collects the order
// in which they start.
type sleepers struct {
	mu    sync.Mutex
	order []string
	errs  map[string]error
	wg    sync.WaitGroup
}

func (s *sleepers) submit(t *testing.T, r *helix.Router, name string, job helix.Job, sleep time.Duration) {
	job.Run = func(context.Context) (any, error) {
		s.mu.Lock()
		s.order = append(s.order, name)
		s.mu.Unlock()
		time.Sleep(sleep)
		return nil, nil
	}
	s.wg.Go(func() {
		_, err := r.Submit(t.Context(), job)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.errs == nil {
			s.errs = map[string]error{}
		}
		s.errs[name] = err
	})
	synctest.Wait()
}

func TestPoolRunsEarliestDeadlineFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1})
		var s sleepers
		second := time.Second
		s.submit(t, r, "first", helix.Job{}, 5*second)
		s.submit(t, r, "none", helix.Job{}, second) // no budget: due as if it were a minute
		s.submit(t, r, "100s", helix.Job{Budget: 100 * second}, second)
		s.submit(t, r, "20s", helix.Job{Budget: 20 * second}, second)
		s.submit(t, r, "50s", helix.Job{Budget: 50 * second}, second)
		s.submit(t, r, "100s again", helix.Job{Budget: 100 * second}, second)
		require.Equal(t, 5, r.Stats().Pressure.Queued)
		s.wg.Wait()
		require.Equal(t, []string{"first", "20s", "50s", "none", "100s", "100s again"}, s.order)
		for name, err := range s.errs {
			require.NoError(t, err, name)
		}
	})
}

func TestPoolIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, policy := range []helix.Policy{always(helix.CPUPool), helix.ThresholdPolicy{}} {
			r := newRouter(t, helix.RouterConfig{Policy: policy, CPUParallelism: 2, CPUQueueCap: 3, BackpressureBusyThreshold: 9})
			var s sleepers
			names := []string{"a", "b", "c", "d", "e", "f", "g"}
			for _, name := range names {
				s.submit(t, r, name, helix.Job{Cost: 1e6}, time.Second)
			}
			p := r.Stats().Pressure
			require.Equal(t, 2, p.CPUBusy)
			require.Equal(t, 3, p.Queued)
			require.InDelta(t, 5, p.WorkMs, .006, "to within 1 µs a job")
			require.InDelta(t, 2.5, p.WaitMs, .01)
			s.wg.Wait()
			require.ErrorIs(t, s.errs["f"], helix.ErrDropped)
			require.ErrorIs(t, s.errs["g"], helix.ErrDropped)
			require.EqualValues(t, 2, droppedFor(r.Stats(), "queue is full"))
			require.EqualValues(t, 5, r.Stats().Completed)
		}
	})
}

func TestSpawnIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, policy := range []helix.Policy{always(helix.Spawn), helix.ThresholdPolicy{}} {
			r := newRouter(t, helix.RouterConfig{Policy: policy, SpawnLimit: 2})
			var s sleepers
			for _, name := range []string{"a", "b", "c"} {
				s.submit(t, r, name, helix.Job{Cost: 50_000, Waits: true}, time.Second)
			}
			require.Equal(t, 2, r.Stats().Pressure.Spawned)
			s.wg.Wait()
			require.ErrorContains(t, s.errs["c"], "spawn_limit reached")
		}
	})
}

// What waits is told when its budget ends, and what could no longer end in it when its slot
// comes is told then: both had been promised.
func TestPoolRefusesWhatCanNoLongerEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1})
		var s sleepers
		s.submit(t, r, "long", helix.Job{Kind: "long"}, time.Second)
		began := time.Now()
		s.submit(t, r, "expires", helix.Job{Kind: "long", Budget: 500 * time.Millisecond}, 0)
		s.submit(t, r, "late", helix.Job{Kind: "hinted", Cost: 5e8, Budget: 1200 * time.Millisecond}, 0) // 500 ms
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		s.mu.Lock()
		expired := s.errs["expires"]
		s.mu.Unlock()
		require.ErrorIs(t, expired, helix.ErrDropped)
		require.ErrorContains(t, expired, "its budget ended while it waited for a slot")
		require.Equal(t, 500*time.Millisecond, time.Since(began), "told at once")
		s.wg.Wait()
		require.ErrorContains(t, s.errs["late"], "too late to start when its slot came")
		require.Equal(t, []string{"long"}, s.order)
		stats := r.Stats()
		require.EqualValues(t, 2, stats.Dropped)
		require.EqualValues(t, 3, routed(stats, helix.CPUPool), "they had been admitted")
		require.EqualValues(t, 2, stats.Promised, "promises that were not kept")
		require.EqualValues(t, 0, stats.Kept)
	})
}

// The end of a run is not the end of Submit: other jobs that wait are woken first.
func TestAJobLeavesTimeToReturnWhileOthersWait(t *testing.T) {
	for _, c := range []struct {
		left   time.Duration // beyond its run, when its slot comes
		others bool
		run    bool
	}{
		{200 * time.Microsecond, false, true},
		{200 * time.Microsecond, true, false},
		{600 * time.Microsecond, true, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			const budget, run = time.Second, 500 * time.Millisecond
			r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1})
			var s sleepers
			s.submit(t, r, "first", helix.Job{}, budget-run-c.left)
			s.submit(t, r, "job", helix.Job{Kind: "hinted", Cost: float64(run), Budget: budget}, run)
			if c.others {
				s.submit(t, r, "other", helix.Job{}, 0)
			}
			s.wg.Wait()
			if c.run {
				require.NoError(t, s.errs["job"], "%+v", c)
			} else {
				require.ErrorContains(t, s.errs["job"], "too late to start when its slot came", "%+v", c)
			}
		})
	}
}

func TestPromisesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.Inline)})
		var s sleepers
		s.submit(t, r, "kept", helix.Job{Budget: time.Second}, time.Second)
		s.submit(t, r, "none", helix.Job{}, time.Second)
		s.submit(t, r, "late", helix.Job{Budget: time.Second}, time.Second+1)
		s.wg.Wait()
		require.EqualValues(t, 2, r.Stats().Promised)
		require.EqualValues(t, 1, r.Stats().Kept)
	})
}

func TestUpdateResizesThePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1})
		var s sleepers
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			s.submit(t, r, name, helix.Job{}, time.Second)
		}
		require.NoError(t, r.Update(func(c *helix.RouterConfig) { c.CPUParallelism = 3 }))
		synctest.Wait()
		require.Equal(t, 3, r.Stats().Pressure.CPUBusy)
		require.NoError(t, r.Update(func(c *helix.RouterConfig) { c.CPUParallelism = 1 }))
		time.Sleep(time.Second + time.Millisecond)
		require.Equal(t, 1, r.Stats().Pressure.CPUBusy)
		s.wg.Wait()
		require.EqualValues(t, 5, r.Stats().Completed)
	})
}

func TestYieldHandsTheSlotToAnEarlierDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1})
		var urgent sleepers
		var long sync.WaitGroup
		for range 2 { // two long jobs: neither gives way to the other
			long.Go(func() {
				_, err := r.Submit(t.Context(), helix.Job{Budget: time.Hour, Run: func(ctx context.Context) (any, error) {
					for range 100 {
						time.Sleep(time.Second)
						helix.Yield(ctx)
					}
					return nil, nil
				}})
				require.NoError(t, err)
			})
			synctest.Wait()
		}
		time.Sleep(10*time.Second + time.Millisecond)
		start := time.Now()
		urgent.submit(t, r, "urgent", helix.Job{Budget: 10 * time.Second}, 3*time.Second)
		urgent.wg.Wait()
		require.NoError(t, urgent.errs["urgent"])
		require.Less(t, time.Since(start), 5*time.Second)
		long.Wait()
		require.InDelta(t, 203*time.Second, time.Since(start)+10*time.Second, float64(time.Second), "nobody's slot was lost or doubled")
	})
}

func TestYieldOutsideAJobDoesNothing(t *testing.T) {
	helix.Yield(t.Context())
	r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool)})
	var kept context.Context
	_, err := r.Submit(t.Context(), helix.Job{Run: func(ctx context.Context) (any, error) { kept = ctx; return nil, nil }})
	require.NoError(t, err)
	helix.Yield(kept) // the job is over, its slot is another's
	require.Zero(t, r.Stats().Pressure.CPUBusy)
}

// Callers that leave at the moment their slot comes are the ones about whom the pool and
// the caller could disagree.
func TestWithdrawalsLeaveNothingBehind(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1, UnitTime: time.Millisecond})
	task := register(t, r, doKind("batched"))
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for n := range 2000 {
				ctx, cancel := context.WithCancel(context.Background())
				job := helix.Job{Cost: 1, Run: func(context.Context) (any, error) {
					runtime.Gosched()
					return nil, nil
				}}
				if n%4 == 3 {
					go cancel()
					_, _ = task.SubmitWith(ctx, func(context.Context) (int, error) { return 0, nil }, helix.Hints{Cost: 1})
				} else if (n+i)%2 == 0 {
					if f, err := r.Go(ctx, job); err == nil {
						runtime.Gosched()
						f.Cancel()
					}
				} else {
					go cancel()
					_, _ = r.Submit(ctx, job)
				}
				cancel()
			}
		})
	}
	callers.Wait()
	require.NoError(t, r.Drain(t.Context()))
	requireIdle(t, r)
}
