package helix_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// learning runs test in virtual time, on a router with so many slots and for a kind
// that is batched and for one that is not.
func learning(t *testing.T, slots int, test func(*testing.T, *helix.Router, *helix.Task[time.Duration, int])) {
	for name, batched := range map[string]bool{"alone": false, "batched": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, helix.RouterConfig{CPUParallelism: slots})
				test(t, r, register(t, r, sleepKind("k", 0, batched)))
			})
		})
	}
}

func kindOf(t *testing.T, r *helix.Router, name string) helix.KindStats {
	for _, k := range r.Stats().Kinds {
		if k.Name == name {
			return k
		}
	}
	t.Fatalf("no kind %q", name)
	return helix.KindStats{}
}

func strategyCount(counts []helix.StrategyCount, strategy string) uint64 {
	for _, c := range counts {
		if c.Strategy == strategy {
			return c.Count
		}
	}
	return 0
}

// One run in ten misses a cache and takes 10,000 times as long as the others.
func TestLearnsTheMeanOfHitsAndMisses(t *testing.T) {
	learning(t, 1, func(t *testing.T, r *helix.Router, task *helix.Task[time.Duration, int]) {
		for i := range 2000 {
			run := 2 * time.Microsecond
			if i%10 == 3 {
				run = 20 * time.Millisecond
			}
			_, err := task.Submit(t.Context(), run)
			require.NoError(t, err)
			time.Sleep(200 * time.Microsecond)
			if k := kindOf(t, r, "k"); i > 100 {
				require.InEpsilon(t, 2.0018, k.RunMs, .25, "after %d", i)
			}
		}
		k := kindOf(t, r, "k")
		require.Less(t, strategyCount(k.RoutedByStrategy, helix.Inline), uint64(100), "only while no miss had been seen")
		if k.Batch == nil { // whose jobs pay for a part of a full call
			require.InEpsilon(t, 2.0018/2.2018, k.Demand, .1, "of the core")
		}
	})
}

func TestFailuresTeachNothingOfSuccess(t *testing.T) {
	down := errors.New("connection refused")
	for name, fail := range map[string]func(ctx context.Context, cancel func()) error{
		"error":     func(context.Context, func()) error { return down },
		"cancelled": func(_ context.Context, cancel func()) error { cancel(); return nil },
		"panic":     func(context.Context, func()) error { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, helix.RouterConfig{CPUParallelism: 1})
				outage, cancel := false, func() {}
				task := register(t, r, helix.Kind[int, int]{Name: "k", Run: func(ctx context.Context, _ int) (int, error) {
					if outage {
						time.Sleep(2 * time.Microsecond)
						return 0, fail(ctx, cancel)
					}
					time.Sleep(50 * time.Millisecond)
					return 0, nil
				}})
				submit := func() {
					var ctx context.Context
					ctx, cancel = context.WithCancel(t.Context())
					defer cancel()
					defer func() { _ = recover() }()
					_, _ = task.Submit(ctx, 0)
				}
				for range 100 {
					submit()
				}
				outage = true
				for range 300 {
					submit()
					time.Sleep(time.Millisecond)
				}
				d := r.Explain(helix.Job{Kind: "k", Budget: 5 * time.Millisecond})
				require.Equal(t, helix.Drop, d.Strategy, "%+v", d)
				require.InEpsilon(t, 50*time.Millisecond, d.Run, .01)
			})
		})
	}
}

// A kind of which every job fails is charged for the CPU that they take, and holds slots
// however small its hints are.
func TestJobsThatAlwaysFailAreCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 2})
		var now, most atomic.Int64
		task := register(t, r, helix.Kind[int, int]{Name: "k", Cost: func(int) float64 { return 1 }, Run: func(context.Context, int) (int, error) {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(50 * time.Millisecond)
			now.Add(-1)
			return 0, errors.New("no")
		}})
		_, err := task.Submit(t.Context(), 1)
		require.Error(t, err)
		var callers sync.WaitGroup
		for range 30 {
			callers.Go(func() {
				for range 20 {
					_, _ = task.Submit(t.Context(), 1)
				}
			})
		}
		time.Sleep(3 * time.Second)
		require.InEpsilon(t, 2, kindOf(t, r, "k").Demand, .4, "CPU seconds a second, not ns") // a mean over 100 ms: of 50 ms runs
		require.GreaterOrEqual(t, r.Stats().Pressure.WorkMs, 500., "of the jobs that wait")
		callers.Wait()
		require.LessOrEqual(t, most.Load(), int64(2), "at the same time, on two slots")
		require.Zero(t, r.Stats().Pressure.WorkMs)
	})
}

// With a tenth of all hints off by 1000, predictions of the others stay where they are.
func TestWrongHintsDoNotSpoilTheOthers(t *testing.T) {
	learning(t, 2, func(t *testing.T, r *helix.Router, task *helix.Task[time.Duration, int]) {
		for i := range 1000 {
			cost := float64(50 + 50*(i%3))
			run := time.Duration(cost) * 10 * time.Microsecond
			switch {
			case i%20 == 7:
				cost *= 1000
			case i%20 == 11:
				cost /= 1000
			}
			_, err := task.SubmitWith(t.Context(), run, helix.Hints{Cost: cost})
			require.NoError(t, err)
			time.Sleep(time.Millisecond)
			if i >= 100 {
				d := r.Explain(helix.Job{Kind: "k", Cost: 100, Budget: time.Second})
				require.InEpsilon(t, time.Millisecond, d.Run, .1, "after %d", i)
			}
		}
		if k := kindOf(t, r, "k"); k.Batch == nil {
			require.InEpsilon(t, .5, k.Demand, .1, "1 ms of work in 2 ms")
		}
	})
}

// Whatever hints and run times come, after 100 that are as usual nothing is left of them.
func TestAbsurdSamplesAreForgotten(t *testing.T) {
	learning(t, 2, func(t *testing.T, r *helix.Router, task *helix.Task[time.Duration, int]) {
		submit := func(cost float64, run time.Duration) {
			_, err := task.SubmitWith(t.Context(), run, helix.Hints{Cost: cost})
			require.NoError(t, err)
			time.Sleep(time.Millisecond)
			_, err = json.Marshal(r.Stats())
			require.NoError(t, err, "no figure is infinite or no number")
		}
		for _, n := range []int{1, 3, 40} {
			for _, cost := range []float64{math.MaxFloat64, 1e200, 1e15, 1e9, 5e-324, 0} {
				for _, run := range []time.Duration{time.Nanosecond, 3 * time.Millisecond, time.Hour} {
					for range n {
						submit(cost, run)
					}
					for i := range 100 {
						cost := float64(50 + 50*(i%3))
						submit(cost, time.Duration(cost)*10*time.Microsecond)
					}
					d := r.Explain(helix.Job{Kind: "k", Cost: 100, Budget: 50 * time.Millisecond})
					require.InEpsilon(t, time.Millisecond, d.Run, .25, "after %d of cost %v and %v", n, cost, run)
					require.NotEqual(t, helix.Drop, d.Strategy, "after %d of cost %v and %v: %s", n, cost, run, d.Reason)
				}
			}
		}
	})
}

func TestACostOfZeroNowAndThen(t *testing.T) {
	learning(t, 2, func(t *testing.T, r *helix.Router, task *helix.Task[time.Duration, int]) {
		for i := range 400 {
			cost := float64(50 + 50*(i%3))
			run := time.Duration(cost) * 10 * time.Microsecond
			if i%7 == 0 {
				cost = 0
			}
			_, err := task.SubmitWith(t.Context(), run, helix.Hints{Cost: cost})
			require.NoError(t, err)
			time.Sleep(time.Millisecond)
		}
		require.InEpsilon(t, 1500*time.Microsecond, r.Explain(helix.Job{Kind: "k", Cost: 150}).Run, .1)
		require.InEpsilon(t, time.Millisecond, r.Explain(helix.Job{Kind: "k"}).Run, .1)
	})
}

// A hundred callers come at once with jobs that are said to be short, and take a second.
// Until one has ended, one at a time runs beside the slots.
func TestUnconfirmedHintsAreTriedOneAtATime(t *testing.T) {
	for name, async := range map[string]bool{"Submit": false, "Go": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, helix.RouterConfig{CPUParallelism: 2})
				var now, most atomic.Int64
				job := helix.Job{Kind: "k", Cost: 100, Run: func(context.Context) (any, error) {
					most.Store(max(most.Load(), now.Add(1)))
					time.Sleep(time.Second)
					now.Add(-1)
					return nil, nil
				}}
				var callers sync.WaitGroup
				for range 100 {
					callers.Go(func() {
						if async {
							f, err := r.Go(t.Context(), job)
							require.NoError(t, err)
							_, err = f.Wait(t.Context())
							require.NoError(t, err)
							return
						}
						_, err := r.Submit(t.Context(), job)
						require.NoError(t, err)
					})
				}
				synctest.Wait()
				require.LessOrEqual(t, most.Load(), int64(3), "at the same time, on two slots")
				d := r.Explain(job)
				require.Equal(t, helix.CPUPool, d.Strategy)
				require.Contains(t, d.Rejected[:], helix.Alternative{Strategy: helix.Inline, Reason: "hint not confirmed by any run yet"})
				callers.Wait()
				require.LessOrEqual(t, most.Load(), int64(3))
				require.InEpsilon(t, time.Second, r.Explain(job).Run, .01)
			})
		})
	}
}

// Where hints are right, the first job confirms them for all that follow.
func TestConfirmedHintsRunInline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 2})
		for i := range 10 {
			_, err := r.Submit(t.Context(), helix.Job{Kind: "k", Cost: 100, Run: func(context.Context) (any, error) {
				time.Sleep(100 * time.Nanosecond)
				return nil, nil
			}})
			require.NoError(t, err)
			require.EqualValues(t, i+1, strategyCount(r.Stats().RoutedByStrategy, helix.Inline))
		}
	})
}

// A job of which a hint says that it takes years takes a millisecond: others are not
// refused for it, neither while it waits nor later.
func TestAHugeHintDoesNotPoisonTheAccounts(t *testing.T) {
	learning(t, 1, func(t *testing.T, r *helix.Router, task *helix.Task[time.Duration, int]) {
		quick := register(t, r, sleepKind("quick", 50*time.Millisecond, false))
		for range 20 {
			_, err := quick.Submit(t.Context(), time.Millisecond)
			require.NoError(t, err)
		}
		for i := range 50 {
			var callers sync.WaitGroup
			callers.Go(func() {
				_, err := task.SubmitWith(t.Context(), time.Millisecond, helix.Hints{Cost: []float64{math.MaxFloat64, 1e12}[i%2]})
				require.NoError(t, err)
			})
			time.Sleep(2 * time.Millisecond)
			_, err := quick.Submit(t.Context(), time.Millisecond)
			require.NoError(t, err, "%d", i)
			callers.Wait()
			time.Sleep(10 * time.Millisecond)
		}
		require.Less(t, r.Stats().Pressure.Demand, .5)
		require.Zero(t, r.Stats().Pressure.WorkMs)
	})
}

// What a job took less than was thought, or all of it if it never ran, does not stand before
// the next of its kind.
func TestWhatIsAdmittedIsPutRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 1, Policy: always(helix.CPUPool)})
		submit := func(ctx context.Context, cost float64) error {
			_, err := r.Submit(ctx, helix.Job{Cost: cost, Run: func(context.Context) (any, error) {
				time.Sleep(time.Millisecond)
				return nil, nil
			}})
			return err
		}
		for range 60 {
			require.NoError(t, submit(t.Context(), 1e6))
		}
		turn := func() time.Duration {
			_, p, _ := r.Consider(helix.Job{Cost: 1e6, Run: nothing})
			return p.Turn
		}
		require.LessOrEqual(t, turn(), 2*time.Millisecond)
		var long sync.WaitGroup
		long.Go(func() { require.NoError(t, submit(t.Context(), 60e6)) })
		synctest.Wait()
		require.Greater(t, turn(), 50*time.Millisecond, "it was admitted")
		ctx, cancel := context.WithCancel(t.Context())
		long.Go(func() { require.ErrorIs(t, submit(ctx, 60e6), helix.ErrNotRun) })
		synctest.Wait()
		cancel()
		synctest.Wait()
		require.Less(t, turn(), 70*time.Millisecond, "the second will not run")
		long.Wait()
		require.LessOrEqual(t, turn(), 2*time.Millisecond, "the first took no longer than others")
	})
}
