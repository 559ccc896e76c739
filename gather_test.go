package helix_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// loader is a kind that waits and has a batch function, and what it was called with.
type loader struct {
	mu    sync.Mutex
	calls [][]int
	takes time.Duration
	fail  func(ids []int) error
}

func (l *loader) batch(ctx context.Context, ids []int) ([]int, error) {
	l.mu.Lock()
	l.calls = append(l.calls, slices.Clone(ids))
	l.mu.Unlock()
	select {
	case <-time.After(l.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	outs := make([]int, len(ids))
	for i, id := range ids {
		outs[i] = 10 * id
	}
	if l.fail != nil {
		return outs, l.fail(ids)
	}
	return outs, nil
}

func (l *loader) register(t *testing.T, r *helix.Router, key func(int) any) *helix.Task[int, int] {
	return register(t, r, helix.Kind[int, int]{Name: "load", Waits: true, Batch: l.batch, Key: key})
}

func itself(id int) any { return id }

// 80 keys that are asked for at once are some ten calls; a lone caller waits for nobody.
func TestWaitingJobsShareCalls(t *testing.T) {
	for _, policy := range []helix.Policy{helix.AdaptivePolicy{}, helix.ThresholdPolicy{}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, helix.RouterConfig{CPUParallelism: 2, Policy: policy})
			l := &loader{takes: 5 * time.Millisecond}
			task := l.register(t, r, nil)
			began := time.Now()
			out, err := task.Submit(t.Context(), 4)
			require.NoError(t, err)
			require.Equal(t, 40, out)
			require.Equal(t, 5*time.Millisecond, time.Since(began), "a lone caller")

			began = time.Now()
			var wg sync.WaitGroup
			for i := range 80 {
				wg.Go(func() {
					out, err := task.Submit(t.Context(), i)
					require.NoError(t, err)
					require.Equal(t, 10*i, out)
				})
			}
			wg.Wait()
			require.LessOrEqual(t, time.Since(began), 10*time.Millisecond)
			require.LessOrEqual(t, len(l.calls), 1+20)
			for _, ids := range l.calls {
				require.LessOrEqual(t, len(ids), 8)
			}
			k := r.Stats().Kinds[0]
			require.Equal(t, uint64(81), k.Completed)
			require.Equal(t, uint64(len(l.calls)), k.Batch.Calls)
			require.Zero(t, k.Downstream.InFlight)
			require.Zero(t, k.Batch.Forming)
		})
	}
}

// inFlight starts a call that makes those that come later form a batch, and waits until it runs.
func (l *loader) inFlight(t *testing.T, task *helix.Task[int, int], wg *sync.WaitGroup) {
	wg.Go(func() { _, _ = task.Submit(context.Background(), -1) })
	synctest.Wait()
	require.Len(t, l.calls, 1)
}

// A key that is asked for more than once in a forming batch is one item, whose result all
// get; the one that asked first may leave.
func TestOneKeyIsOneItem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		l := &loader{takes: 5 * time.Millisecond}
		task := l.register(t, r, itself)
		var wg sync.WaitGroup
		l.inFlight(t, task, &wg)

		first, leave := context.WithCancel(t.Context())
		wg.Go(func() {
			_, err := task.Submit(first, 7)
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, helix.ErrNotRun)
		})
		synctest.Wait()
		for i := range 20 {
			wg.Go(func() {
				out, err := task.Submit(t.Context(), 7+i%2)
				require.NoError(t, err)
				require.Equal(t, 10*(7+i%2), out)
			})
		}
		synctest.Wait()
		leave()
		wg.Wait()
		require.Len(t, l.calls, 2)
		require.ElementsMatch(t, []int{7, 8}, l.calls[1])
		s := r.Stats()
		require.Equal(t, uint64(21), s.Completed)
		require.Equal(t, uint64(1), s.Withdrawn)
	})
}

// A caller that leaves while the call runs cancels it for no other, and the last to leave cancels it.
func TestLeavingASharedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		l := &loader{takes: 20 * time.Millisecond}
		task := l.register(t, r, itself)
		ask := func(leaves time.Duration, id int) (took time.Duration, err error) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			time.AfterFunc(leaves, cancel) // a deadline would count as a budget
			began := time.Now()
			_, err = task.Submit(ctx, id)
			return time.Since(began), err
		}
		var wg sync.WaitGroup
		l.inFlight(t, task, &wg)
		for _, leaves := range []time.Duration{25 * time.Millisecond, time.Second} {
			wg.Go(func() {
				_, err := ask(leaves, 7)
				require.NoError(t, err) // that of a job that has started is told
			})
		}
		wg.Wait()
		require.Len(t, l.calls, 2)
		require.Equal(t, []int{7}, l.calls[1])

		l.takes = time.Hour
		for range 3 { // the first alone, the others in one call
			wg.Go(func() {
				took, err := ask(25*time.Millisecond, 8)
				require.Error(t, err)
				require.Equal(t, 25*time.Millisecond, took)
			})
		}
		wg.Wait()
		require.Zero(t, r.Stats().InFlight)
	})
}

// Errors of single items, of the whole call, and panics reach all who asked for them.
func TestErrorsOfSharedCalls(t *testing.T) {
	odd := errors.New("odd")
	for name, fail := range map[string]func([]int) error{
		"items": func(ids []int) error {
			errs := make(helix.ItemErrors, len(ids))
			for i, id := range ids {
				if id%2 == 1 {
					errs[i] = odd
				}
			}
			return errs
		},
		"all":   func([]int) error { return odd },
		"panic": func([]int) error { panic("boom") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, helix.RouterConfig{})
				l := &loader{takes: 5 * time.Millisecond, fail: func(ids []int) error {
					if ids[0] == -1 {
						return nil
					}
					return fail(ids)
				}}
				task := l.register(t, r, itself)
				var wg sync.WaitGroup
				l.inFlight(t, task, &wg)
				var failed, panicked atomic.Int64
				for i := range 12 {
					wg.Go(func() {
						defer func() {
							if recover() != nil {
								panicked.Add(1)
							}
						}()
						if _, err := task.Submit(t.Context(), i%4); err != nil {
							require.ErrorIs(t, err, odd)
							failed.Add(1)
						}
					})
				}
				wg.Wait()
				require.Equal(t, map[string]int64{"items": 6, "all": 12, "panic": 0}[name], failed.Load())
				require.Equal(t, map[string]int64{"items": 0, "all": 0, "panic": 12}[name], panicked.Load())
				require.Zero(t, r.Stats().InFlight)
			})
		})
	}
}

// Items from Go, cancelled while the batch forms, and a router that closes, lose nothing.
func TestSharedCallsLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		l := &loader{takes: 5 * time.Millisecond}
		task := l.register(t, r, itself)
		var wg sync.WaitGroup
		l.inFlight(t, task, &wg)
		var futures []*helix.Future[int]
		for i := range 5 {
			f, err := task.Go(t.Context(), i)
			require.NoError(t, err)
			futures = append(futures, f)
		}
		futures[0].Cancel()
		_, err := futures[0].Wait(t.Context())
		require.Error(t, err)
		for i, f := range futures[1:] {
			out, err := f.Wait(t.Context())
			require.NoError(t, err)
			require.Equal(t, 10*(i+1), out)
		}
		wg.Wait()

		l.calls = nil
		l.inFlight(t, task, &wg)
		last, err := task.Go(t.Context(), 9)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		_, err = last.Wait(t.Context())
		require.ErrorIs(t, err, helix.ErrClosed)
		wg.Wait()
		s := r.Stats()
		require.Zero(t, s.InFlight)
		require.Equal(t, s.Submitted, s.Completed+s.Failed+s.Dropped+s.Withdrawn)
	})
}

func TestKeyOfAKind(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	l := &loader{}
	_, err := helix.Register(r, helix.Kind[int, int]{Name: "a", Batch: l.batch, Key: itself})
	require.ErrorContains(t, err, "Kind.Key")
	task := l.register(t, r, func(int) any { return []int{} })
	_, err = task.Submit(t.Context(), 1)
	require.ErrorContains(t, err, "Kind.Key()")
	require.Zero(t, r.Stats().Submitted)
}
