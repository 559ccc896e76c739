package helix_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// inners are the ways in which a job waits for one inside itself.
var inners = map[string]func(f *nestFixture, ctx context.Context, work do) (int, error){
	"Submit": func(f *nestFixture, ctx context.Context, work do) (int, error) { return f.task.Submit(ctx, work) },
	"Router.Submit": func(f *nestFixture, ctx context.Context, work do) (int, error) {
		_, err := f.r.Submit(ctx, helix.Job{Run: func(ctx context.Context) (any, error) { return work(ctx) }})
		return 0, err
	},
	"Go and Wait": func(f *nestFixture, ctx context.Context, work do) (int, error) {
		future, err := f.task.GoWith(ctx, work, helix.Hints{Follow: true})
		if err != nil {
			return 0, err
		}
		return future.Wait(context.WithoutCancel(ctx))
	},
	"Group": func(f *nestFixture, ctx context.Context, work do) (int, error) {
		g := helix.NewGroup(f.task)
		g.Go(ctx, work)
		_, err := g.Wait(ctx)
		return 0, err
	},
	"Block": func(f *nestFixture, ctx context.Context, work do) (n int, err error) {
		helix.Block(ctx, func() { n, err = f.task.Submit(ctx, work) })
		return n, err
	},
	"another router": func(f *nestFixture, ctx context.Context, work do) (int, error) { return f.away.Submit(ctx, work) },
}

// eachDepth runs a test for all lanes, numbers of slots, ways to nest and depths. nest has
// work done at that depth.
func eachDepth(t *testing.T, test func(t *testing.T, f *nestFixture, nest func(ctx context.Context, work do) (int, error))) {
	t.Helper()
	for strategy := range slotted {
		for _, slots := range []int{1, 2} {
			for how, inner := range inners {
				for _, depth := range []int{1, 5} {
					t.Run(fmt.Sprintf("%s/%d/%s/%d", strategy, slots, how, depth), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							f := newNestFixture(t, strategy, slots)
							test(t, f, func(ctx context.Context, work do) (int, error) {
								for range depth {
									inside := work
									work = func(ctx context.Context) (int, error) { return inner(f, ctx, inside) }
								}
								return f.task.Submit(ctx, work)
							})
						})
					})
				}
			}
		}
	}
}

// requireIdle checks that both routers are as they began.
func (f *nestFixture) requireIdle(t *testing.T) {
	t.Helper()
	synctest.Wait() // for goroutines that have done their last statement
	requireIdle(t, f.r)
	requireIdle(t, f.other)
}

// A panic at any depth arrives as one *PanicError, with the stack of where it began.
func TestANestedPanicArrivesOnce(t *testing.T) {
	eachDepth(t, func(t *testing.T, f *nestFixture, nest func(context.Context, do) (int, error)) {
		raised := func() (v any) {
			defer func() { v = recover() }()
			_, _ = nest(t.Context(), func(context.Context) (int, error) { explode(); return 0, nil })
			return nil
		}()
		p, ok := raised.(*helix.PanicError)
		require.True(t, ok, "%T", raised)
		require.Equal(t, "boom", p.Value)
		require.Contains(t, string(p.Stack), "explode")
		require.Equal(t, 1, strings.Count(p.Error(), "helix: job panicked"))
		f.requireIdle(t)
		_, err := nest(t.Context(), f.leaf)
		require.NoError(t, err, "the routers work on")
		require.EqualValues(t, 1, f.runs.Load())
	})
}

// runtime.Goexit at any depth ends the goroutine, or is ErrGoexit where the job has one of
// its own; nothing is left.
func TestANestedGoexit(t *testing.T) {
	eachDepth(t, func(t *testing.T, f *nestFixture, nest func(context.Context, do) (int, error)) {
		returned, err := false, error(nil)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err = nest(t.Context(), func(context.Context) (int, error) { runtime.Goexit(); return 0, nil })
			returned = true
		}()
		<-done
		forks := strings.Contains(t.Name(), "Go_and_Wait") || strings.Contains(t.Name(), "Group")
		require.Equal(t, forks, returned)
		if returned {
			require.ErrorIs(t, err, helix.ErrGoexit)
		}
		f.requireIdle(t)
		_, err = nest(t.Context(), f.leaf)
		require.NoError(t, err, "the routers work on")
	})
}

// What ends the outermost submitter's ctx ends all jobs inside, running or queued.
func TestANestIsCancelled(t *testing.T) {
	eachDepth(t, func(t *testing.T, f *nestFixture, nest func(context.Context, do) (int, error)) {
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		begun := time.Now()
		_, err := nest(ctx, func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		require.Error(t, err)
		require.True(t, errors.Is(err, context.Canceled) || errors.Is(err, why), err)
		require.Equal(t, time.Second, time.Since(begun))
		f.requireIdle(t)
	})
}

// Close while parents wait for children: all end, with what a job may return. Drain waits for
// both.
func TestANestEndsWithItsRouter(t *testing.T) {
	for _, drains := range []bool{true, false} {
		eachDepth(t, func(t *testing.T, f *nestFixture, nest func(context.Context, do) (int, error)) {
			ended := make(chan error, 1)
			go func() {
				_, err := nest(t.Context(), func(ctx context.Context) (int, error) {
					time.Sleep(time.Second)
					if _, err := f.task.Submit(ctx, f.leaf); err != nil {
						return 0, err
					}
					return 1, ctx.Err()
				})
				ended <- err
			}()
			synctest.Wait()
			if drains {
				require.NoError(t, f.r.Drain(t.Context()))
				require.NoError(t, <-ended, "children are let in")
			} else {
				require.NoError(t, f.r.Close())
				err := <-ended
				require.ErrorIs(t, err, helix.ErrClosed, "children are not let in")
			}
			f.requireIdle(t)
		})
	}
}

// A job and one inside it end while goroutines of both still wait in Block: nothing of their
// runs is left behind.
func TestANestThatEndsWhileGoroutinesOfItBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1, UnitTime: time.Millisecond})
		_, err := r.Submit(t.Context(), helix.Job{Cost: 5, Run: func(ctx context.Context) (any, error) {
			go func() {
				time.Sleep(time.Millisecond)
				helix.Block(ctx, func() { time.Sleep(time.Second) })
			}()
			return r.Submit(ctx, helix.Job{Cost: 5, Run: func(ctx context.Context) (any, error) {
				go helix.Block(ctx, func() { time.Sleep(time.Second) })
				time.Sleep(2 * time.Millisecond)
				return nil, nil
			}})
		}})
		require.NoError(t, err)
		time.Sleep(time.Second)
		requireIdle(t, r)
	})
}

// A job inside another blocks: neither holds the slot, and jobs that come do not count on it.
func TestANestThatBlocksIsNotInTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 1})
		kind := func(name string) *helix.Task[do, int] {
			return register(t, r, helix.Kind[do, int]{Name: name, Run: func(ctx context.Context, f do) (int, error) { return f(ctx) }})
		}
		outer, inner, small := kind("outer"), kind("inner"), kind("small")
		for range 40 {
			for task, run := range map[*helix.Task[do, int]]time.Duration{outer: 5 * time.Millisecond, inner: 5 * time.Millisecond, small: time.Millisecond} {
				_, err := task.Submit(t.Context(), after(run, 1))
				require.NoError(t, err)
			}
		}
		var jobs sync.WaitGroup
		jobs.Go(func() {
			_, err := outer.Submit(t.Context(), func(ctx context.Context) (int, error) {
				return inner.Submit(ctx, func(ctx context.Context) (int, error) {
					helix.Block(ctx, func() { time.Sleep(2 * time.Second) })
					return 0, nil
				})
			})
			require.NoError(t, err)
		})
		time.Sleep(time.Second)
		for range 3 {
			jobs.Go(func() {
				_, err := small.SubmitWith(t.Context(), after(time.Millisecond, 1), helix.Hints{Budget: 20 * time.Millisecond})
				require.NoError(t, err)
			})
		}
		jobs.Wait()
	})
}
