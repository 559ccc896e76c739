package helix_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// nestFixture is two routers all of whose jobs take one strategy, and what runs in them.
type nestFixture struct {
	r, other      *helix.Router
	task, away    *helix.Task[do, int]
	slots         int
	running, most atomic.Int64 // leaves
	runs          atomic.Int64
	leafTime      time.Duration
}

// leaf is a job that keeps a CPU busy, as it were.
func (f *nestFixture) leaf(context.Context) (int, error) {
	n := f.running.Add(1)
	for m := f.most.Load(); n > m && !f.most.CompareAndSwap(m, n); m = f.most.Load() {
	}
	time.Sleep(f.leafTime)
	f.running.Add(-1)
	f.runs.Add(1)
	return 1, nil
}

// each runs n goroutines and returns their first error.
func each(ctx context.Context, n int, f func(i int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// nestShapes are what a job does inside itself. Each returns how many leaves it ran.
var nestShapes = map[string]func(f *nestFixture, ctx context.Context) (int, error){
	"nest": func(f *nestFixture, ctx context.Context) (int, error) { return f.task.Submit(ctx, f.leaf) },
	"fork-join": func(f *nestFixture, ctx context.Context) (int, error) {
		var futures []*helix.Future[int]
		for range 5 {
			future, err := f.task.Go(ctx, f.leaf)
			if err != nil {
				return 0, err
			}
			futures = append(futures, future)
		}
		sum := 0
		for _, future := range futures {
			n, err := future.Wait(ctx)
			if err != nil {
				return 0, err
			}
			sum += n
		}
		return sum, nil
	},
	"fork-join by Block": func(f *nestFixture, ctx context.Context) (int, error) {
		future, err := f.r.Go(ctx, helix.Job{Run: func(ctx context.Context) (any, error) { return f.leaf(ctx) }})
		if err != nil {
			return 0, err
		}
		helix.Block(ctx, func() { <-future.Done() })
		res, err := future.Wait(ctx)
		if err != nil {
			return 0, err
		}
		return res.Value.(int), nil
	},
	"fan-out": func(f *nestFixture, ctx context.Context) (int, error) {
		return 8, each(ctx, 8, func(int) error { _, err := f.task.Submit(ctx, f.leaf); return err })
	},
	"fan-out of Go and Wait": func(f *nestFixture, ctx context.Context) (int, error) {
		return 8, each(ctx, 8, func(int) error {
			future, err := f.task.Go(ctx, f.leaf)
			if err == nil {
				_, err = future.Wait(ctx)
			}
			return err
		})
	},
	"fan-out, mixed, in Block": func(f *nestFixture, ctx context.Context) (n int, err error) {
		helix.Block(ctx, func() {
			n, err = 8, each(ctx, 8, func(i int) error {
				if i%2 == 0 {
					_, err := f.task.Submit(ctx, f.leaf)
					return err
				}
				future, err := f.task.Go(ctx, f.leaf)
				if err == nil {
					_, err = future.Wait(ctx)
				}
				return err
			})
		})
		return n, err
	},
	"two routers": func(f *nestFixture, ctx context.Context) (int, error) {
		return 4, each(ctx, 4, func(int) error {
			_, err := f.away.Submit(ctx, func(ctx context.Context) (int, error) {
				future, err := f.task.Go(ctx, f.leaf)
				if err != nil {
					return 0, err
				}
				if _, err := f.task.Submit(ctx, func(context.Context) (int, error) { return 0, nil }); err != nil {
					return 0, err
				}
				return future.Wait(ctx)
			})
			return err
		})
	},
	"recursion": func(f *nestFixture, ctx context.Context) (int, error) {
		var down func(depth int) do
		down = func(depth int) do {
			return func(ctx context.Context) (int, error) {
				if depth == 0 {
					return f.leaf(ctx)
				}
				return f.task.Submit(ctx, down(depth-1))
			}
		}
		return down(10)(ctx)
	},
	"recursion of Go and Wait": func(f *nestFixture, ctx context.Context) (int, error) {
		var down func(depth int) do
		down = func(depth int) do {
			return func(ctx context.Context) (int, error) {
				if depth == 0 {
					return f.leaf(ctx)
				}
				future, err := f.task.Go(ctx, down(depth-1))
				if err != nil {
					return 0, err
				}
				return future.Wait(ctx)
			}
		}
		return down(10)(ctx)
	},
}

// slotted says of each strategy whether its runs keep to the number of slots. The adaptive
// policy has those of a kind that it takes to be short, as outer jobs may be, run outside.
var slotted = map[string]bool{helix.Inline: false, helix.Spawn: false, helix.CPUPool: true, helix.Batch: true, "adaptive": false}

func newNestFixture(t *testing.T, strategy string, slots int) *nestFixture {
	cfg := helix.RouterConfig{CPUParallelism: slots, CPUQueueCap: 4096}
	if strategy != "adaptive" {
		cfg.Policy = always(strategy)
	}
	f := &nestFixture{slots: slots, leafTime: time.Millisecond}
	f.r, f.other = newRouter(t, cfg), newRouter(t, cfg)
	f.task, f.away = register(t, f.r, doKind("do")), register(t, f.other, doKind("away"))
	return f
}

// Work inside work ends, gives its results and keeps to the bound, and what it took is given
// back: for all lanes, numbers of slots and shapes.
func TestNestedWork(t *testing.T) {
	for strategy, bounded := range slotted {
		for _, slots := range []int{1, 2, 8} {
			for shape, run := range nestShapes {
				t.Run(fmt.Sprintf("%s/%d/%s", strategy, slots, shape), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						f := newNestFixture(t, strategy, slots)
						var leaves atomic.Int64
						ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
						defer cancel()
						require.NoError(t, each(ctx, 3, func(i int) error {
							n, err := doors[i].submit(&fixture{f.r, f.task}, ctx, func(ctx context.Context) (int, error) { return run(f, ctx) })
							leaves.Add(int64(n))
							return err
						}), "%+v", f.r.Stats().Pressure)
						require.NoError(t, ctx.Err(), "it hung")
						require.Equal(t, leaves.Load(), f.runs.Load())
						if bounded {
							require.LessOrEqual(t, f.most.Load(), int64(slots), "jobs at the same time")
						}
					})
				})
			}
		}
	}
}

// eachTree runs, in every strategy and with 1, 2 and 8 slots, a tree of jobs three levels
// deep, and requires that it has that many leaves. fork is a job that runs branch some
// times and adds up what those return.
func eachTree(t *testing.T, leaves int, fork func(f *nestFixture, ctx context.Context, branch do) (int, error)) {
	for strategy, bounded := range slotted {
		for _, slots := range []int{1, 2, 8} {
			t.Run(fmt.Sprintf("%s/%d", strategy, slots), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newNestFixture(t, strategy, slots)
					tree := do(f.leaf)
					for range 3 {
						branch := tree
						tree = func(ctx context.Context) (int, error) { return fork(f, ctx, branch) }
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					defer cancel()
					n, err := f.task.Submit(ctx, tree)
					require.NoError(t, err)
					require.Equal(t, leaves, n)
					if bounded {
						require.LessOrEqual(t, f.most.Load(), int64(slots))
					}
				})
			})
		}
	}
}

// A tree of a thousand jobs: each forks ten and joins them, in both ways.
func TestATreeOfAThousandJobs(t *testing.T) {
	eachTree(t, 1000, func(f *nestFixture, ctx context.Context, branch do) (int, error) {
		var sum atomic.Int64
		err := each(ctx, 10, func(i int) error {
			n, err := 0, error(nil)
			if i%2 == 0 {
				n, err = f.task.Submit(ctx, branch)
			} else {
				var future *helix.Future[int]
				if future, err = f.task.Go(ctx, branch); err == nil {
					n, err = future.Wait(ctx)
				}
			}
			sum.Add(int64(n))
			return err
		})
		return int(sum.Load()), err
	})
}

// A router that drains finishes what it has: the children of running jobs are let in.
func TestDrainLetsChildrenIn(t *testing.T) {
	for strategy := range slotted {
		t.Run(strategy, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newNestFixture(t, strategy, 1)
				var kept context.Context
				_, err := f.task.Submit(t.Context(), func(ctx context.Context) (int, error) {
					kept = context.WithoutCancel(ctx)
					return 0, nil
				})
				require.NoError(t, err)
				var parent sync.WaitGroup
				parent.Go(func() {
					_, err = f.task.Submit(t.Context(), func(ctx context.Context) (int, error) {
						time.Sleep(time.Second)
						if _, err := f.task.Submit(ctx, f.leaf); err != nil {
							return 0, err
						}
						return nestShapes["fork-join"](f, ctx)
					})
				})
				parent.Go(func() {
					time.Sleep(time.Second / 2)
					_, err := f.task.Submit(kept, f.leaf)
					require.ErrorIs(t, err, helix.ErrClosed, "its job has ended")
				})
				synctest.Wait()
				require.NoError(t, f.r.Drain(t.Context()))
				parent.Wait()
				require.NoError(t, err)
				require.EqualValues(t, 6, f.runs.Load())
				_, err = f.task.Submit(t.Context(), f.leaf)
				require.ErrorIs(t, err, helix.ErrClosed)
			})
		})
	}
}

// The time of a nested job is not the outer one's too, whichever way both run.
func TestNestedTimeIsCountedOnce(t *testing.T) {
	for strategy := range slotted {
		t.Run(strategy, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newNestFixture(t, strategy, 1).r
				for range 300 { // 7 ms of every 10
					_, err := r.Submit(t.Context(), helix.Job{Kind: "parent", Run: func(ctx context.Context) (any, error) {
						_, err := r.Submit(ctx, helix.Job{Kind: "child", Run: func(context.Context) (any, error) {
							time.Sleep(7 * time.Millisecond)
							return nil, nil
						}})
						return nil, err
					}})
					require.NoError(t, err)
					time.Sleep(3 * time.Millisecond)
				}
				require.InDelta(t, .7, r.Stats().Pressure.Demand, .1)
				require.InDelta(t, 0, kindStats(t, r, "parent").RunMs, .1)
				require.InDelta(t, 7, kindStats(t, r, "child").RunMs, .1)
			})
		})
	}
}
