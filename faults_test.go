package helix_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// What arrives in the future arrives now.
func TestArrivedInTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.Inline)})
		var s sleepers
		s.submit(t, r, "early", helix.Job{Arrived: time.Now().Add(time.Hour), Budget: time.Second}, 3*time.Second)
		s.wg.Wait()
		require.EqualValues(t, 1, r.Stats().Promised)
		require.Zero(t, r.Stats().Kept)
		require.Equal(t, 3*time.Second, r.Latency(helix.Inline).Sum())
	})
}

// Of those alike the last to be due makes room.
func TestTheLastDueIsDisplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1, CPUQueueCap: 3})
		var s sleepers
		s.submit(t, r, "runs", helix.Job{}, time.Second)
		for i, name := range []string{"low 1", "low 3", "low 2"} {
			budget := []time.Duration{time.Minute, time.Hour, time.Minute}[i]
			s.submit(t, r, name, helix.Job{Priority: helix.Low, Budget: budget}, time.Second)
		}
		s.submit(t, r, "high", helix.Job{Priority: helix.High}, time.Second)
		s.wg.Wait()
		require.ErrorIs(t, s.errs["low 3"], helix.ErrDropped)
		require.Equal(t, []string{"runs", "low 1", "low 2", "high"}, s.order)
	})
}

// A kind that fills the queue must leave another its part of it.
func TestTheQueueIsSharedByWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1, CPUQueueCap: 8})
		var first, second sleepers
		names := []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"}
		for _, name := range names {
			first.submit(t, r, name, helix.Job{Kind: "first"}, time.Second)
		}
		for _, name := range names[:6] {
			time.Sleep(20 * time.Millisecond) // the parts are worked out anew
			second.submit(t, r, name, helix.Job{Kind: "second"}, time.Second)
		}
		first.wg.Wait()
		second.wg.Wait()
		require.Len(t, second.order, 4, "half of the places")
		require.Len(t, first.order, 5, "what ran, and the other half")
	})
}

// What ends exactly when its budget does has kept it, for all who count.
func TestExactlyTheBudgetIsInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var in []bool
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.Inline), Hooks: helix.Hooks{
			Done: func(_ context.Context, _ helix.JobInfo, o helix.Outcome) { in = append(in, o.InBudget) },
		}})
		for _, run := range []time.Duration{time.Second, time.Second + 1} {
			var s sleepers
			s.submit(t, r, "job", helix.Job{Budget: time.Second}, run)
			s.wg.Wait()
		}
		require.Equal(t, []bool{true, false}, in)
		require.EqualValues(t, 1, r.Stats().Kept)
		require.EqualValues(t, 1, r.Stats().Kinds[0].Late)
	})
}

// Two slots come free while two long runs and a short one wait: one is for the short one,
// though it is due last.
func TestLongRunsLeaveASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 2})
		var s sleepers
		for _, name := range []string{"first", "second"} {
			s.submit(t, r, name, helix.Job{Kind: name, Cost: 1000}, time.Second)
		}
		for _, name := range []string{"long 1", "long 2", "long 3"} {
			s.submit(t, r, name, helix.Job{Kind: name, Cost: 5e6, Budget: time.Minute}, time.Second)
		}
		s.submit(t, r, "short", helix.Job{Kind: "short", Cost: 1000, Budget: time.Hour}, 1500*time.Millisecond)
		s.wg.Wait()
		require.Equal(t, []string{"long 2", "long 3"}, s.order[4:], "the short one goes with the first of them")
	})
}

// A job without a budget stands back for those that are due in less than a minute.
func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1})
		var s sleepers
		s.submit(t, r, "runs", helix.Job{}, time.Second)
		s.submit(t, r, "patient", helix.Job{}, time.Second)
		s.submit(t, r, "in two minutes", helix.Job{Budget: 2 * time.Minute}, time.Second)
		s.submit(t, r, "in half a minute", helix.Job{Budget: time.Minute / 2}, time.Second)
		s.wg.Wait()
		require.Equal(t, []string{"runs", "in half a minute", "patient", "in two minutes"}, s.order)
	})
}

// A refusal tells of the moment, though those of one millisecond share an error.
func TestRefusalsAreNotOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		refused := func(late time.Duration) error {
			_, err := r.Submit(t.Context(), helix.Job{Budget: time.Second, Arrived: time.Now().Add(-late), Run: nothing})
			return err
		}
		first := refused(time.Minute)
		require.Same(t, first, refused(time.Minute))
		time.Sleep(2 * time.Millisecond)
		require.NotSame(t, first, refused(time.Minute))
	})
}

// What is refused counts as wanted; what waits counts as nothing.
func TestDemandIsWhatIsWantedOfTheCPU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 1})
		task := register(t, r, sleepKind("much", 50*time.Millisecond, false))
		waits := sleepKind("waits", 0, false)
		waits.Waits = true
		call := register(t, r, waits)
		var callers sync.WaitGroup
		for range 2000 { // three times what can be done
			callers.Go(func() { _, _ = task.Submit(t.Context(), 9*time.Millisecond) })
			callers.Go(func() { _, _ = call.Submit(t.Context(), 30*time.Millisecond) })
			time.Sleep(3 * time.Millisecond)
		}
		s := r.Stats()
		for _, k := range s.Kinds {
			if k.Name == "much" {
				require.InDelta(t, 3, k.Demand, .5)
			} else {
				require.Zero(t, k.Demand, k.Name)
			}
		}
		callers.Wait()
	})
}

// A call for all who wait would take longer than the first of them can wait: some stay
// behind for the next.
func TestBatchesSpareTheTightestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.Batch), CPUParallelism: 1})
		blocker := register(t, r, sleepKind("blocker", 0, true))
		var most int
		task := register(t, r, helix.Kind[int, int]{Name: "k", Batch: func(_ context.Context, ins []int) ([]int, error) {
			most = max(most, len(ins))
			time.Sleep(10*time.Millisecond + time.Duration(len(ins))*5*time.Millisecond)
			return ins, nil
		}})
		var callers sync.WaitGroup
		submit := func(budget time.Duration) {
			callers.Go(func() {
				began := time.Now()
				_, err := task.SubmitWith(t.Context(), 1, helix.Hints{Budget: budget})
				require.NoError(t, err)
				if budget > 0 {
					require.LessOrEqual(t, time.Since(began), budget)
				}
			})
			synctest.Wait()
		}
		for range 20 {
			for range 9 {
				submit(0)
			}
			callers.Wait()
		}
		require.Equal(t, 8, most)
		callers.Go(func() { _, _ = blocker.Submit(t.Context(), 5*time.Millisecond) })
		synctest.Wait()
		submit(45 * time.Millisecond) // 8 together take 50
		for range 7 {
			submit(0)
		}
		callers.Wait()
	})
}

// Whoever waits for a router to be idle is told, however many they are.
func TestSeveralWhoDrainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool)})
		var s sleepers
		s.submit(t, r, "runs", helix.Job{}, time.Second)
		var draining sync.WaitGroup
		for range 5 {
			draining.Go(func() { require.NoError(t, r.Drain(t.Context())) })
		}
		draining.Wait()
		s.wg.Wait()
	})
}

// cancelling is a policy during which the submitter leaves.
type cancelling struct {
	always
	cancel context.CancelFunc
}

func (c cancelling) Choose(j helix.JobInfo, p helix.Pressure) helix.Decision {
	c.cancel()
	return c.always.Choose(j, p)
}

// A job whose submitter has left before its goroutine began does not run.
func TestSpawnRunsNothingThatWasCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := newRouter(t, helix.RouterConfig{Policy: cancelling{always(helix.Spawn), cancel}})
	_, err := r.Submit(ctx, helix.Job{Run: func(context.Context) (any, error) {
		t.Error("it ran")
		return nil, nil
	}})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, helix.ErrNotRun)
	require.EqualValues(t, 1, r.Stats().Withdrawn)
}

// A flood of refusals leaves room for what runs among the decisions that are shown.
func TestWatchersSeeBothRunsAndRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		feed, stop := r.Watch(1000)
		for range 400 {
			_, err := r.Submit(t.Context(), helix.Job{Budget: 1, Arrived: time.Now().Add(-time.Hour), Run: nothing})
			require.ErrorIs(t, err, helix.ErrDropped)
		}
		for range 5 {
			_, err := r.Submit(t.Context(), helix.Job{Kind: "runs", Run: nothing})
			require.NoError(t, err)
		}
		stop()
		var ran []uint64
		n := 0
		for e := range feed {
			if n++; e.Outcome.Status == helix.Completed {
				ran = append(ran, e.Seq)
			}
		}
		require.Len(t, ran, 5)
		require.Greater(t, n, 5)
		require.True(t, slices.IsSorted(ran))
	})
}

// Nobody may ever ask a future for its error: that the job panicked is in the log.
func TestPanicsOfJobsFromGoAreLogged(t *testing.T) {
	for _, strategy := range []string{helix.Spawn, helix.CPUPool, helix.Batch} {
		var log bytes.Buffer
		r, err := helix.New(helix.RouterConfig{Policy: always(strategy), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, err)
		_, err = register(t, r, doKind("do")).Go(t.Context(), func(context.Context) (int, error) { panic("a bug") })
		require.NoError(t, err)
		require.NoError(t, r.Drain(t.Context()))
		require.NoError(t, r.Close())
		require.Contains(t, log.String(), "a bug", strategy)
		require.Contains(t, log.String(), "kind=do", strategy)
	}
}
