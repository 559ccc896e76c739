package helix_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// door is a way to submit the same work.
type door struct {
	name   string
	submit func(*fixture, context.Context, do) (int, error)
}

// fixture is a router all of whose jobs take one strategy.
type fixture struct {
	*helix.Router
	task *helix.Task[do, int]
}

var doors = []door{
	{"Router.Submit", func(f *fixture, ctx context.Context, work do) (int, error) {
		res, err := f.Submit(ctx, helix.Job{Run: func(ctx context.Context) (any, error) { return work(ctx) }})
		n, _ := res.Value.(int)
		return n, err
	}},
	{"Task.Submit", func(f *fixture, ctx context.Context, work do) (int, error) { return f.task.Submit(ctx, work) }},
	{"Router.Go", func(f *fixture, ctx context.Context, work do) (int, error) {
		future, err := f.Go(ctx, helix.Job{Run: func(ctx context.Context) (any, error) { return work(ctx) }})
		if err != nil {
			return 0, err
		}
		defer context.AfterFunc(ctx, future.Cancel)()
		res, err := future.Wait(context.Background())
		n, _ := res.Value.(int)
		return n, err
	}},
	{"Task.Go", func(f *fixture, ctx context.Context, work do) (int, error) {
		future, err := f.task.Go(ctx, work)
		if err != nil {
			return 0, err
		}
		defer context.AfterFunc(ctx, future.Cancel)()
		return future.Wait(context.Background())
	}},
}

// eachLane runs a test for every strategy and every door, in a bubble.
func eachLane(t *testing.T, test func(t *testing.T, f *fixture, d door)) {
	t.Helper()
	eachLaneOf(t, helix.RouterConfig{}, test)
}

// eachLaneOf is eachLane for routers that are configured like that.
func eachLaneOf(t *testing.T, cfg helix.RouterConfig, test func(t *testing.T, f *fixture, d door)) {
	t.Helper()
	for _, strategy := range []string{helix.Inline, helix.Spawn, helix.CPUPool, helix.Batch, "queueing"} {
		for _, d := range doors {
			t.Run(strategy+"/"+d.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg := cfg
					cfg.Policy, cfg.CPUParallelism = always(strategy), 2
					if strategy == "queueing" {
						cfg.Strategies = []helix.Strategy{newQueueing()}
					}
					r := newRouter(t, cfg)
					test(t, &fixture{r, register(t, r, doKind("do"))}, d)
				})
			})
		}
	}
}

type ctxKey struct{}

func TestEveryLaneReturnsWhatTheJobReturns(t *testing.T) {
	eachLane(t, func(t *testing.T, f *fixture, d door) {
		ctx := context.WithValue(t.Context(), ctxKey{}, 41)
		n, err := d.submit(f, ctx, func(ctx context.Context) (int, error) {
			return ctx.Value(ctxKey{}).(int) + 1, nil
		})
		require.NoError(t, err)
		require.Equal(t, 42, n)

		mine := errors.New("mine")
		n, err = d.submit(f, ctx, func(context.Context) (int, error) { return 7, mine })
		require.ErrorIs(t, err, mine)
		require.NotErrorIs(t, err, helix.ErrNotRun)
		require.Equal(t, 7, n)

		s := f.Stats()
		require.EqualValues(t, 1, s.Completed)
		require.EqualValues(t, 1, s.Failed)
		require.EqualValues(t, 2, s.Submitted)
	})
}

func TestEveryLaneWritesCallersVariables(t *testing.T) {
	eachLane(t, func(t *testing.T, f *fixture, d door) {
		sum := 0 // unguarded: the race detector is the assertion
		for i := range 20 {
			_, err := d.submit(f, t.Context(), func(context.Context) (int, error) { sum += i; return 0, nil })
			require.NoError(t, err)
		}
		require.Equal(t, 190, sum)
	})
}

func explode() { panic("boom") }

func TestEveryLaneRaisesPanicsAtTheSubmitter(t *testing.T) {
	eachLane(t, func(t *testing.T, f *fixture, d door) {
		panicked := func(work do) (p *helix.PanicError) {
			defer func() { p = recover().(*helix.PanicError) }()
			_, _ = d.submit(f, t.Context(), work)
			return nil
		}
		p := panicked(func(context.Context) (int, error) { explode(); return 0, nil })
		require.Equal(t, "boom", p.Value)
		require.Contains(t, string(p.Stack), "explode", "the stack of the panic, not of the submitter")

		mine := errors.New("mine")
		p = panicked(func(context.Context) (int, error) { panic(mine) })
		require.ErrorIs(t, p, mine)

		_, err := d.submit(f, t.Context(), func(context.Context) (int, error) { return 0, nil })
		require.NoError(t, err, "the lane works on")
		require.EqualValues(t, 2, f.Stats().Failed)
	})
}

func TestEveryLaneSurvivesGoexit(t *testing.T) {
	eachLane(t, func(t *testing.T, f *fixture, d door) {
		returned, err := false, error(nil)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err = d.submit(f, t.Context(), func(context.Context) (int, error) { runtime.Goexit(); return 0, nil })
			returned = true
		}()
		<-done
		if strings.HasSuffix(d.name, "Go") {
			require.ErrorIs(t, err, helix.ErrGoexit)
		} else {
			require.False(t, returned, "Goexit carries on in the submitter")
		}
		require.EqualValues(t, 1, f.Stats().Failed)

		_, err = d.submit(f, t.Context(), func(context.Context) (int, error) { return 0, nil })
		require.NoError(t, err, "the lane works on")
	})
}

func TestEveryLaneWithdrawsWhatIsDoneBefore(t *testing.T) {
	eachLane(t, func(t *testing.T, f *fixture, d door) {
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		_, err := d.submit(f, ctx, func(context.Context) (int, error) { t.Error("ran"); return 0, nil })
		require.ErrorIs(t, err, helix.ErrNotRun)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, why)
		s := f.Stats()
		require.EqualValues(t, 1, s.Withdrawn)
		require.EqualValues(t, 1, s.Submitted)
	})
}

func TestEveryLaneWaitsForARunningJob(t *testing.T) {
	eachLane(t, func(t *testing.T, f *fixture, d door) {
		ctx, cancel := context.WithCancel(t.Context())
		finished := false
		_, err := d.submit(f, ctx, func(ctx context.Context) (int, error) {
			cancel()
			<-ctx.Done() // the job sees that its caller gave up
			time.Sleep(time.Second)
			finished = true
			return 0, ctx.Err()
		})
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, helix.ErrNotRun)
		require.True(t, finished, "it returned before the job had ended")
	})
}

func TestEveryBoundedLaneWithdrawsQueuedJobsAtOnce(t *testing.T) {
	eachLane(t, func(t *testing.T, f *fixture, d door) {
		// Fill both slots, or the one worker, of the lanes that queue.
		free := make(chan struct{})
		for range 2 {
			go func() { _, _ = d.submit(f, t.Context(), func(context.Context) (int, error) { <-free; return 0, nil }) }()
			synctest.Wait()
		}
		strategy, _, _ := strings.Cut(strings.SplitN(t.Name(), "/", 3)[1], "/")
		defer close(free)
		if strategy == helix.Inline || strategy == helix.Spawn {
			return // never queue
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := d.submit(f, ctx, func(context.Context) (int, error) { t.Error("a withdrawn job ran"); return 0, nil })
		require.ErrorIs(t, err, helix.ErrNotRun)
		if !strings.HasSuffix(d.name, "Go") {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		require.Equal(t, time.Second, time.Since(start))
		require.EqualValues(t, 1, f.Stats().Withdrawn)
	})
}

func TestEveryLaneMeasuresFromArrivalToCompletion(t *testing.T) {
	for _, strategy := range []string{helix.Inline, helix.Spawn, helix.CPUPool, helix.Batch} {
		t.Run(strategy, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, helix.RouterConfig{Policy: always(strategy)})
				task := register(t, r, doKind("do"))
				time.Sleep(time.Minute)
				_, err := task.SubmitWith(t.Context(), func(context.Context) (int, error) {
					time.Sleep(3 * time.Second)
					return 0, nil
				}, helix.Hints{Arrived: time.Now().Add(-time.Second)})
				require.NoError(t, err)
				s := r.Stats()
				require.Len(t, s.Kinds, 1)
				for _, l := range append(s.LatencyByStrategy, s.Kinds[0].Latency) {
					if l.Strategy != strategy && l.Strategy != "" {
						require.Zero(t, l.Count, l.Strategy)
						continue
					}
					require.EqualValues(t, 1, l.Count)
					require.InDelta(t, 4000, l.AvgMs, 1)
					require.InEpsilon(t, 4000, l.P50Ms, .011)
					require.InEpsilon(t, 4000, l.P99Ms, .011)
				}
				require.Equal(t, r.Latency(strategy), r.KindLatency("do"))
				require.Zero(t, r.KindLatency("unheard of").Count())
			})
		})
	}
}

func TestNestedSubmitDoesNotDeadlock(t *testing.T) {
	for _, strategy := range []string{helix.CPUPool, helix.Batch} {
		for _, d := range doors {
			t.Run(strategy+"/"+d.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRouter(t, helix.RouterConfig{Policy: always(strategy), CPUParallelism: 1})
					f := &fixture{r, register(t, r, doKind("do"))}
					var nested func(depth int) do
					nested = func(depth int) do {
						return func(ctx context.Context) (int, error) {
							if depth == 0 {
								return 1, nil
							}
							n, err := f.task.Submit(ctx, nested(depth-1))
							return n + 1, err
						}
					}
					n, err := d.submit(f, t.Context(), nested(3))
					require.NoError(t, err)
					require.Equal(t, 4, n)
					require.EqualValues(t, 3, routed(r.Stats(), helix.Inline))
				})
			})
		}
	}
}

func TestGoFromInsideASlotAsksForItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1})
		task := register(t, r, doKind("do"))
		var child *helix.Future[int]
		_, err := task.Submit(t.Context(), func(ctx context.Context) (_ int, err error) {
			child, err = task.Go(ctx, func(ctx context.Context) (int, error) {
				return task.Submit(ctx, func(context.Context) (int, error) { return 5, nil })
			})
			synctest.Wait()
			require.Equal(t, 1, r.Stats().Pressure.Queued, "it waits for the slot its parent holds")
			return 0, err
		})
		require.NoError(t, err)
		n, err := child.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, 5, n)
	})
}
