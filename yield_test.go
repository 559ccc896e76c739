package helix_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

func kindStats(t testing.TB, r *helix.Router, name string) helix.KindStats {
	t.Helper()
	for _, k := range r.Stats().Kinds {
		if k.Name == name {
			return k
		}
	}
	t.Fatalf("no kind %q", name)
	return helix.KindStats{}
}

// Goroutines that outlive their job go on to Yield with its ctx, while jobs with earlier
// deadlines wait: they have no slot to hand over any more.
func TestYieldOnGoroutinesThatOutliveTheirJob(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 2, CPUQueueCap: 1000})
	var stop atomic.Bool
	var yielding, jobs sync.WaitGroup
	for i := range 100 {
		jobs.Go(func() {
			budget := time.Hour - time.Duration(i)*time.Minute/10 // ever more urgent
			_, err := r.Submit(t.Context(), helix.Job{Budget: budget, Run: func(ctx context.Context) (any, error) {
				for range 2 {
					yielding.Go(func() {
						for n := 0; n < 5 || !stop.Load(); n++ {
							helix.Yield(ctx)
							runtime.Gosched() // as Yield does nothing once the job has ended
						}
					})
				}
				helix.Yield(ctx)
				return nil, nil
			}})
			if err != nil {
				t.Error(err)
			}
		})
		runtime.Gosched()
	}
	jobs.Wait()
	stop.Store(true)
	yielding.Wait()
	require.LessOrEqual(t, r.Stats().Pressure.CPUBusy, 2)
	_, err := r.Submit(t.Context(), helix.Job{Run: nothing})
	require.NoError(t, err, "the pool works on")
}

// A job ends while a goroutine of it is in Yield: its slot is given back once, and the bound
// holds for those who wait.
func TestAJobEndsWhileAGoroutineOfItYields(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1})
			leaves := nestFixture{r: r, leafTime: time.Millisecond}
			now, yielded := make(chan struct{}), make(chan struct{})
			var jobs sync.WaitGroup
			jobs.Go(func() {
				_, err := r.Submit(t.Context(), helix.Job{Budget: time.Hour, Run: func(ctx context.Context) (any, error) {
					go func() {
						time.Sleep(10 * time.Millisecond)
						close(now)
						helix.Yield(ctx)
						close(yielded)
					}()
					<-now
					return nil, nil
				}})
				require.NoError(t, err)
			})
			synctest.Wait()
			for range 4 {
				jobs.Go(func() {
					_, err := r.Submit(t.Context(), helix.Job{Budget: time.Minute, Run: func(ctx context.Context) (any, error) { return leaves.leaf(ctx) }})
					require.NoError(t, err)
				})
			}
			jobs.Wait()
			<-yielded
			require.EqualValues(t, 1, leaves.most.Load(), "jobs at the same time")
			require.Zero(t, r.Stats().Pressure.CPUBusy)
		})
	}
}

// What several goroutines of a job spend in Yield at the same time is counted once, and while
// some give way the others work.
func TestRunTimeOfAJobWhoseGoroutinesYield(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1})
		var urgent sleepers
		for range 10 {
			go func() {
				time.Sleep(5*time.Millisecond + 1)
				urgent.submit(t, r, "urgent", helix.Job{Kind: "urgent", Budget: time.Second}, 50*time.Millisecond)
			}()
			_, err := r.Submit(t.Context(), helix.Job{Kind: "long", Budget: time.Hour, Run: func(ctx context.Context) (any, error) {
				return nil, each(ctx, 8, func(int) error {
					for range 10 {
						time.Sleep(time.Millisecond)
						helix.Yield(ctx)
					}
					return nil
				})
			}})
			require.NoError(t, err)
		}
		require.Len(t, urgent.order, 10)
		require.InDelta(t, 10, kindStats(t, r, "long").RunMs, 1, "without what the urgent ones took")
	})
}

// Goroutines of one job that all yield, all the time, do not make its run time disappear.
func TestRunTimeOfAJobWithManyYields(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1})
	run := 0.0
	for range 3 {
		res, err := r.Submit(t.Context(), helix.Job{Kind: "yields", Run: func(ctx context.Context) (any, error) {
			return nil, each(ctx, 16, func(int) error {
				x := 1
				for range 20 {
					for i := range 20_000 {
						x = x*31 + i
					}
					helix.Yield(ctx)
				}
				if x == 0 {
					t.Log(x) // never, but the compiler cannot know
				}
				return nil
			})
		}})
		require.NoError(t, err)
		run += res.Run.Seconds() * 1000 / 3
	}
	require.Greater(t, kindStats(t, r, "yields").RunMs, run/4)
}

// Beside one long run, a job that yields hands its slot to another with an earlier deadline,
// long as that is too, instead of to itself again and again.
func TestYieldHandsOverToALongJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 2})
		long := 10 * time.Millisecond
		cost := float64(long)
		var jobs sync.WaitGroup
		jobs.Go(func() {
			_, err := r.Submit(t.Context(), helix.Job{Kind: "long", Cost: cost, Budget: time.Minute, Run: func(context.Context) (any, error) {
				time.Sleep(time.Second)
				return nil, nil
			}})
			require.NoError(t, err)
		})
		var yields atomic.Int64
		jobs.Go(func() {
			_, err := r.Submit(t.Context(), helix.Job{Kind: "yields", Budget: time.Hour, Run: func(ctx context.Context) (any, error) {
				for range 3000 {
					time.Sleep(100 * time.Microsecond)
					helix.Yield(ctx)
					yields.Add(1)
				}
				return nil, nil
			}})
			require.NoError(t, err)
		})
		time.Sleep(time.Millisecond + 1)
		start := time.Now()
		res, err := r.Submit(t.Context(), helix.Job{Kind: "urgent", Cost: cost, Budget: 100 * time.Millisecond, Run: func(context.Context) (any, error) {
			time.Sleep(long)
			return nil, nil
		}})
		require.NoError(t, err)
		require.Less(t, res.Wait, time.Millisecond)
		require.Less(t, time.Since(start), 2*long)
		require.Less(t, yields.Load(), int64(50), "it goes on in the meantime")
		jobs.Wait()
	})
}

// Once a run takes all that is left of its budget, it keeps its slot in Yield: however many jobs
// come that are due earlier, and could wait, it ends in time.
func TestYieldKeepsWhatItsBudgetNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 1})
		long := register(t, r, helix.Kind[time.Duration, int]{
			Name: "long", Budget: 150 * time.Millisecond,
			Run: func(ctx context.Context, run time.Duration) (int, error) {
				for ; run > 0; run -= 100 * time.Microsecond {
					time.Sleep(100 * time.Microsecond)
					helix.Yield(ctx)
				}
				return 0, nil
			},
		})
		short := register(t, r, sleepKind("short", 60*time.Millisecond, false))
		for range 20 {
			_, err := long.Submit(t.Context(), 100*time.Millisecond)
			require.NoError(t, err)
			_, err = short.Submit(t.Context(), 5*time.Millisecond)
			require.NoError(t, err)
		}
		var jobs sync.WaitGroup
		jobs.Go(func() {
			came := time.Now()
			_, err := long.Submit(t.Context(), 100*time.Millisecond)
			require.NoError(t, err)
			require.LessOrEqual(t, time.Since(came), 150*time.Millisecond)
		})
		var kept atomic.Int64
		for range 30 { // as much as the slot can do
			time.Sleep(5 * time.Millisecond)
			jobs.Go(func() {
				if _, err := short.Submit(t.Context(), 5*time.Millisecond); err == nil {
					kept.Add(1)
				}
			})
		}
		jobs.Wait()
		require.GreaterOrEqual(t, kept.Load(), int64(8), "of those that fit beside it")
	})
}
