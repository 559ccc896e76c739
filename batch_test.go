package helix_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// batchFixture is a one-slot router with a kind whose calls are recorded.
type batchFixture struct {
	*helix.Router
	task  *helix.Task[int, string]
	mu    sync.Mutex
	calls [][]int
	wg    sync.WaitGroup
}

func newBatchFixture(t *testing.T, edit func(*helix.Kind[int, string]), call func(context.Context, []int) ([]string, error)) *batchFixture {
	f := &batchFixture{}
	f.Router = newRouter(t, helix.RouterConfig{Policy: always(helix.Batch), CPUParallelism: 1})
	k := helix.Kind[int, string]{Name: "b", Scaling: 1, Batch: func(ctx context.Context, ins []int) ([]string, error) {
		f.mu.Lock()
		f.calls = append(f.calls, ins)
		f.mu.Unlock()
		return call(ctx, ins)
	}}
	if edit != nil {
		edit(&k)
	}
	f.task = register(t, f.Router, k)
	return f
}

func (f *batchFixture) submit(ctx context.Context, in int, check func(string, error)) {
	f.wg.Go(func() { check(f.task.Submit(ctx, in)) })
	synctest.Wait()
}

func itoa(_ context.Context, ins []int) ([]string, error) {
	time.Sleep(time.Second)
	outs := make([]string, len(ins))
	for i, in := range ins {
		outs[i] = strconv.Itoa(in)
	}
	return outs, nil
}

func TestBatchGrowsWhileItWaitsAndIsOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newBatchFixture(t, nil, itoa)
		start := time.Now()
		for i := range 20 {
			f.submit(t.Context(), i, func(s string, err error) {
				require.NoError(t, err)
				require.Equal(t, strconv.Itoa(i), s, "everybody gets his own result")
			})
		}
		b := f.Stats().Kinds[0].Batch
		require.Equal(t, 3, b.Forming, "19 wait: 8 and 8 in full batches, 3 in the one that forms")
		f.wg.Wait()
		require.Equal(t, [][]int{{0}, {1, 2, 3, 4, 5, 6, 7, 8}, {9, 10, 11, 12, 13, 14, 15, 16}, {17, 18, 19}}, f.calls)
		require.Equal(t, 4*time.Second, time.Since(start), "the first did not wait for others")
		b = f.Stats().Kinds[0].Batch
		require.EqualValues(t, 4, b.Calls)
		require.EqualValues(t, 20, b.Items)
		require.EqualValues(t, 2, b.Full)
		require.InDelta(t, 3000, b.OldestWaitMs, 1)
	})
}

func TestBatchMaxSizeOfTheKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newBatchFixture(t, func(k *helix.Kind[int, string]) { k.BatchMaxSize = 1 }, itoa)
		for i := range 3 {
			f.submit(t.Context(), i, func(_ string, err error) { require.NoError(t, err) })
		}
		f.wg.Wait()
		require.Equal(t, [][]int{{0}, {1}, {2}}, f.calls)
	})
}

// What forms when BatchMaxSize becomes less goes as it is, and the next keeps to the new one.
func TestBatchesKeepToABatchMaxSizeLoweredMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newBatchFixture(t, nil, itoa)
		l := &loader{takes: time.Second}
		load := l.register(t, f.Router, nil)
		submit := func(from, to int) {
			for i := from; i < to; i++ {
				f.submit(t.Context(), i, func(_ string, err error) { require.NoError(t, err) })
				f.wg.Go(func() {
					_, err := load.Submit(t.Context(), i)
					require.NoError(t, err)
				})
				synctest.Wait()
			}
		}
		submit(0, 6) // the first is called at once
		require.NoError(t, f.Update(func(c *helix.RouterConfig) { c.BatchMaxSize = 2 }))
		submit(6, 9)
		f.wg.Wait()
		require.Equal(t, [][]int{{0}, {1, 2, 3, 4, 5}, {6, 7}, {8}}, f.calls)
		require.Equal(t, [][]int{{0}, {1, 2, 3, 4, 5}, {6, 7}, {8}}, l.calls)
	})
}

func TestBatchStandsBackNoLongerThanBatchMaxDelay(t *testing.T) {
	for _, delay := range []time.Duration{time.Millisecond, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			f := newBatchFixture(t, func(k *helix.Kind[int, string]) { k.BatchMaxDelay = delay }, itoa)
			other := register(t, f.Router, helix.Kind[int, string]{Name: "urgent", Budget: 10 * time.Second, Batch: itoa})
			var order []string
			var mu sync.Mutex
			ended := func(name string) { mu.Lock(); order = append(order, name); mu.Unlock() }
			f.submit(t.Context(), 0, func(string, error) { ended("first") })
			f.submit(t.Context(), 1, func(string, error) { ended("batch") })
			f.wg.Go(func() { _, _ = other.Submit(t.Context(), 1); ended("urgent") })
			f.wg.Wait()
			want := []string{"first", "batch", "urgent"}
			if delay == time.Minute {
				want = []string{"first", "urgent", "batch"}
			}
			require.Equal(t, want, order)
		})
	}
}

func TestBatchItemErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := errors.New("bad item")
		f := newBatchFixture(t, nil, func(_ context.Context, ins []int) ([]string, error) {
			time.Sleep(time.Second)
			outs, errs := make([]string, len(ins)), make(helix.ItemErrors, len(ins))
			for i, in := range ins {
				if outs[i] = fmt.Sprint(in); in%3 == 0 {
					errs[i] = bad
				}
			}
			return outs, fmt.Errorf("some items failed: %w", errs)
		})
		for i := range 8 {
			f.submit(t.Context(), i, func(s string, err error) {
				require.Equal(t, fmt.Sprint(i), s)
				if i%3 == 0 {
					require.Equal(t, bad, err)
				} else {
					require.NoError(t, err)
				}
			})
		}
		f.wg.Wait()
		require.EqualValues(t, 3, f.Stats().Failed)
		require.EqualValues(t, 5, f.Stats().Completed)
	})
}

func TestBatchOfTheWrongLengthFailsAll(t *testing.T) {
	for name, call := range map[string]func(context.Context, []int) ([]string, error){
		"short": func(context.Context, []int) ([]string, error) { return make([]string, 1), nil },
		"none":  func(context.Context, []int) ([]string, error) { return nil, nil },
		"item errors": func(_ context.Context, ins []int) ([]string, error) {
			return make([]string, len(ins)), make(helix.ItemErrors, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				free := make(chan struct{})
				f := newBatchFixture(t, nil, func(ctx context.Context, ins []int) ([]string, error) {
					if len(ins) == 1 {
						<-free
						return make([]string, 1), nil
					}
					return call(ctx, ins)
				})
				f.submit(t.Context(), 0, func(_ string, err error) { require.NoError(t, err) })
				for i := range 3 {
					f.submit(t.Context(), i, func(_ string, err error) {
						var wrong *helix.BatchLengthError
						require.ErrorAs(t, err, &wrong)
						require.Equal(t, "b", wrong.Kind)
						require.Equal(t, 3, wrong.Want)
						require.NotErrorIs(t, err, helix.ErrNotRun)
					})
				}
				close(free)
				f.wg.Wait()
				require.EqualValues(t, 3, f.Stats().Failed)
			})
		})
	}
}

func TestBatchErrorsPanicsAndGoexitReachAllMembers(t *testing.T) {
	mine := errors.New("mine")
	for name, end := range map[string]func() error{
		"error":  func() error { return mine },
		"panic":  func() error { panic(mine) },
		"Goexit": func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newBatchFixture(t, nil, func(_ context.Context, ins []int) ([]string, error) {
					if len(ins) == 1 {
						time.Sleep(time.Second)
						return make([]string, 1), nil
					}
					return nil, end()
				})
				f.submit(t.Context(), 0, func(_ string, err error) { require.NoError(t, err) })
				got := make(chan any, 3)
				for range 3 {
					f.wg.Go(func() {
						var err error
						exited := true
						defer func() {
							if v := recover(); v != nil {
								got <- v
							} else if exited {
								got <- "exited"
							}
						}()
						_, err = f.task.Submit(t.Context(), 1)
						exited = false
						got <- err
					})
				}
				f.wg.Wait()
				for range 3 {
					switch v := <-got; name {
					case "error":
						require.Equal(t, mine, v)
					case "panic":
						require.ErrorIs(t, v.(*helix.PanicError), mine)
					case "Goexit":
						require.Equal(t, "exited", v)
					}
				}
				require.EqualValues(t, 3, f.Stats().Failed)
			})
		})
	}
}

func TestWithdrawnItemsLeaveTheirBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newBatchFixture(t, nil, itoa)
		f.submit(t.Context(), 0, func(_ string, err error) { require.NoError(t, err) })
		ctx, cancel := context.WithCancel(t.Context())
		gone := func(_ string, err error) { require.ErrorIs(t, err, helix.ErrNotRun) }
		f.submit(ctx, 1, gone)
		f.submit(t.Context(), 2, func(_ string, err error) { require.NoError(t, err) })
		f.submit(ctx, 3, gone)
		cancel()
		synctest.Wait()
		require.EqualValues(t, 2, f.Stats().Withdrawn)
		require.Equal(t, 1, f.Stats().Pressure.Queued)
		f.wg.Wait()
		require.Equal(t, [][]int{{0}, {2}}, f.calls)

		// A batch that everybody has left is gone.
		ctx, cancel = context.WithCancel(t.Context())
		f.submit(t.Context(), 4, func(_ string, err error) { require.NoError(t, err) })
		f.submit(ctx, 5, gone)
		cancel()
		synctest.Wait()
		require.Zero(t, f.Stats().Pressure.Queued)
		f.submit(t.Context(), 6, func(_ string, err error) { require.NoError(t, err) })
		f.wg.Wait()
		require.Equal(t, [][]int{{0}, {2}, {4}, {6}}, f.calls)
	})
}

func TestBatchCtxEndsWhenEverybodyHasLeft(t *testing.T) {
	leave := func(t *testing.T, after [3]time.Duration) { // each member
		var cancelled time.Time
		f := newBatchFixture(t, nil, func(ctx context.Context, ins []int) ([]string, error) {
			if len(ins) == 1 {
				time.Sleep(time.Second)
				return make([]string, 1), nil
			}
			require.Nil(t, ctx.Value(ctxKey{}), "nobody's values")
			<-ctx.Done()
			cancelled = time.Now()
			return make([]string, len(ins)), ctx.Err()
		})
		start := time.Now()
		f.submit(t.Context(), 0, func(_ string, err error) { require.NoError(t, err) })
		for i := range 3 {
			ctx := context.WithValue(t.Context(), ctxKey{}, i)
			ctx, cancel := context.WithTimeout(ctx, after[i]*time.Second)
			defer cancel()
			f.submit(ctx, i, func(_ string, err error) { require.ErrorIs(t, err, context.Canceled) })
		}
		f.wg.Wait()
		require.Equal(t, 10*time.Second, cancelled.Sub(start))
	}
	for _, after := range [][3]time.Duration{{10, 9, 8}, {8, 9, 10}, {8, 10, 9}} {
		synctest.Test(t, func(t *testing.T) { leave(t, after) })
	}
}

// counting is a ctx that lives on and knows how many watch it.
type counting struct {
	context.Context
	watching *atomic.Int64
}

// Value hides the ctx inside, which package context would otherwise watch itself.
func (counting) Value(any) any { return nil }

func (c counting) AfterFunc(f func()) func() bool {
	c.watching.Add(1)
	stop := context.AfterFunc(c.Context, f)
	return func() bool { c.watching.Add(-1); return stop() }
}

// A call that has ended leaves nothing behind in the ctxs of its members, which may last.
func TestBatchLeavesNothingInTheCtxsOfItsMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newBatchFixture(t, nil, itoa)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		lasting := counting{ctx, &atomic.Int64{}}
		for i := range 9 {
			f.submit(lasting, i, func(_ string, err error) { require.NoError(t, err) })
		}
		time.Sleep(1500 * time.Millisecond)
		require.Positive(t, lasting.watching.Load(), "while it runs")
		f.wg.Wait()
		require.Zero(t, lasting.watching.Load())
	})
}

func TestBatchMembersTooLateDoNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newBatchFixture(t, nil, itoa)
		f.submit(t.Context(), 0, func(_ string, err error) { require.NoError(t, err) })
		f.wg.Go(func() {
			_, err := f.task.SubmitWith(t.Context(), 1, helix.Hints{Budget: time.Second / 2})
			require.ErrorIs(t, err, helix.ErrDropped)
		})
		synctest.Wait()
		f.submit(t.Context(), 2, func(_ string, err error) { require.NoError(t, err) })
		f.wg.Wait()
		require.Equal(t, [][]int{{0}, {2}}, f.calls)
	})
}

func TestGoJobsShareBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newBatchFixture(t, nil, itoa)
		var futures []*helix.Future[string]
		for i := range 5 {
			future, err := f.task.Go(t.Context(), i)
			require.NoError(t, err)
			futures = append(futures, future)
			synctest.Wait()
		}
		futures[2].Cancel()
		for i, future := range futures {
			s, err := future.Wait(t.Context())
			if i == 2 {
				require.ErrorIs(t, err, helix.ErrNotRun)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, strconv.Itoa(i), s)
		}
		require.Equal(t, [][]int{{0}, {1, 3, 4}}, f.calls)
	})
}

func TestBatchQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newBatchFixture(t, nil, itoa)
		require.NoError(t, f.Update(func(c *helix.RouterConfig) { c.CPUQueueCap = 10 }))
		refused := 0
		for i := range 15 {
			f.submit(t.Context(), i, func(_ string, err error) {
				if err != nil {
					require.ErrorIs(t, err, helix.ErrDropped)
					refused++ // before the others end
				}
			})
		}
		require.Equal(t, 4, refused)
		f.wg.Wait()
		require.EqualValues(t, 11, f.Stats().Completed)
	})
}

func TestAKindWithOnlyABatchRunsAloneToo(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{Policy: always(helix.Inline)})
	bad := errors.New("bad")
	task := register(t, r, helix.Kind[int, int]{Name: "b", Batch: func(_ context.Context, ins []int) ([]int, error) {
		switch ins[0] {
		case 1:
			return []int{10}, nil
		case 2:
			return nil, helix.ItemErrors{bad}
		case 3:
			return nil, bad
		}
		return nil, nil
	}})
	n, err := task.Submit(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, 10, n)
	for in := 2; in <= 3; in++ {
		_, err = task.Submit(t.Context(), in)
		require.Equal(t, bad, err)
	}
	_, err = task.Submit(t.Context(), 4)
	require.ErrorContains(t, err, `batch function of kind "b" returned 0 results for 1 items`)
}

// Members come, give up and are left behind for a next call, all at any moment: each
// gets its own result or is told that it did not run.
func TestBatchesWhoseMembersComeAndGo(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{CPUParallelism: 2, BatchMaxSize: 8})
	task := register(t, r, helix.Kind[int, int]{
		Name: "squares", Cost: func(in int) float64 { return float64(1 + in%7) },
		Batch: func(_ context.Context, ins []int) ([]int, error) {
			outs := make([]int, len(ins))
			for i, in := range ins {
				outs[i] = in * in
				for end := time.Now().Add(time.Duration(10*(1+in%7)) * time.Microsecond); time.Now().Before(end); {
				}
			}
			return outs, nil
		},
	})
	var callers sync.WaitGroup
	for c := range 32 {
		callers.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(c)))
			for i := range 150 {
				in := c*1000 + i
				ctx, cancel := context.WithCancel(t.Context())
				if rng.IntN(2) == 0 {
					time.AfterFunc(time.Duration(1+rng.IntN(600))*time.Microsecond, cancel)
				}
				// With what a job must have left, room for a short call, but not for a long one.
				budget := time.Duration(700+rng.IntN(700)) * time.Microsecond
				out, err := task.SubmitWith(ctx, in, helix.Hints{Budget: budget})
				switch {
				case err == nil && out != in*in:
					t.Errorf("%d came back for %d", out, in)
				case err != nil && !errors.Is(err, helix.ErrNotRun):
					t.Error(err)
				}
				cancel()
			}
		})
	}
	callers.Wait()
	s := r.Stats()
	requireConserved(t, s)
	require.Zero(t, s.InFlight)
	require.Zero(t, s.Pressure.Queued)
	require.EqualValues(t, 32*150, s.Submitted)
}

// A full queue may hold the very batch that the newcomer would join.
func TestAMemberMakesRoomInItsOwnBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: anyStrategy{}, CPUParallelism: 1, CPUQueueCap: 2})
		pool, batch := float64(2), float64(3) // as anyStrategy has them
		task := register(t, r, doKind("do"))
		var s sleepers
		s.submit(t, r, "long", helix.Job{Cost: pool}, time.Second)
		errs := make([]error, 4)
		var callers sync.WaitGroup
		for i := range errs {
			priority := helix.Low
			if i >= 2 {
				priority = helix.High
			}
			callers.Go(func() {
				_, errs[i] = task.SubmitWith(t.Context(), func(context.Context) (int, error) { return 0, nil },
					helix.Hints{Cost: batch, Priority: priority})
			})
			synctest.Wait()
			require.LessOrEqual(t, r.Stats().Pressure.Queued, 2)
		}
		callers.Wait()
		s.wg.Wait()
		for i, err := range errs {
			if i < 2 {
				require.ErrorIs(t, err, helix.ErrDropped, "the place was taken by a High")
			} else {
				require.NoError(t, err)
			}
		}
		requireIdle(t, r)
	})
}
