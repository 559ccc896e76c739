package helix_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// two is a kind of which two run at a time, for 10 ms each, and what ran in which order.
type two struct {
	mu       sync.Mutex
	running  int
	most     int
	finished []int
}

func (w *two) register(t *testing.T, r *helix.Router) *helix.Task[int, int] {
	return register(t, r, helix.Kind[int, int]{Name: "two", Waits: true, MaxConcurrent: 2,
		Run: func(_ context.Context, id int) (int, error) {
			w.mu.Lock()
			w.running++
			w.most = max(w.most, w.running)
			w.mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.running--
			w.finished = append(w.finished, id)
			return id, nil
		}})
}

func restored(t *testing.T, r *helix.Router) {
	t.Helper()
	s := r.Stats()
	require.Zero(t, s.InFlight)
	require.Zero(t, s.Pressure.Spawned)
	require.Zero(t, s.Kinds[0].Queued)
	require.Zero(t, s.Kinds[0].Downstream.InFlight)
	require.Equal(t, s.Submitted, s.Completed+s.Failed+s.Dropped+s.Withdrawn)
}

// No more than MaxConcurrent run; the rest wait, the earliest deadline first, and jobs without
// a budget last, whatever the policy.
func TestMaxConcurrent(t *testing.T) {
	for _, policy := range []helix.Policy{helix.AdaptivePolicy{}, helix.ThresholdPolicy{}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, helix.RouterConfig{Policy: policy})
			w := &two{}
			task := w.register(t, r)
			var wg sync.WaitGroup
			submit := func(id int, budget time.Duration) {
				wg.Go(func() {
					_, err := task.SubmitWith(t.Context(), id, helix.Hints{Budget: budget})
					require.NoError(t, err)
				})
				synctest.Wait()
			}
			submit(0, 0)
			submit(1, 0)
			submit(2, 0)
			submit(3, 300*time.Millisecond)
			submit(4, 200*time.Millisecond)
			submit(5, 100*time.Millisecond)
			require.Equal(t, 4, r.Stats().Kinds[0].Queued)
			require.Equal(t, 2, r.Stats().Kinds[0].Downstream.InFlight)
			wg.Wait()
			require.Equal(t, 2, w.most)
			require.ElementsMatch(t, []int{0, 1}, w.finished[:2])
			require.ElementsMatch(t, []int{4, 5}, w.finished[2:4])
			require.ElementsMatch(t, []int{2, 3}, w.finished[4:])
			restored(t, r)
		})
	}
}

// A job that waits is told when its budget ends, and leaves at once when its ctx does.
func TestWaitingForMaxConcurrentEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		w := &two{}
		task := w.register(t, r)
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() { _, _ = task.Submit(t.Context(), i) })
		}
		synctest.Wait()
		began := time.Now()
		wg.Go(func() {
			_, err := task.SubmitWith(t.Context(), 2, helix.Hints{Budget: 3 * time.Millisecond})
			drop := (*helix.DropError)(nil)
			require.True(t, errors.As(err, &drop))
			require.ErrorIs(t, err, helix.ErrNotRun)
			require.Equal(t, "its budget ended while max_concurrent others ran", drop.Decision.Reason)
			require.Equal(t, 3*time.Millisecond, time.Since(began))
		})
		ctx, leave := context.WithCancel(t.Context())
		wg.Go(func() {
			_, err := task.Submit(ctx, 3)
			require.ErrorIs(t, err, context.Canceled)
			require.Equal(t, 5*time.Millisecond, time.Since(began))
		})
		future, err := task.Go(t.Context(), 4)
		require.NoError(t, err)
		time.Sleep(5 * time.Millisecond)
		leave()
		_, err = future.Wait(t.Context())
		require.NoError(t, err)
		wg.Wait()
		require.ElementsMatch(t, []int{0, 1, 4}, w.finished)
		restored(t, r)
	})
}

// Close withdraws those that wait, and waits for those that run.
func TestCloseWithMaxConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		w := &two{}
		task := w.register(t, r)
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() { _, err := task.Submit(t.Context(), i); require.NoError(t, err) })
		}
		synctest.Wait()
		for range 3 {
			wg.Go(func() {
				_, err := task.Submit(t.Context(), 9)
				require.ErrorIs(t, err, helix.ErrClosed)
			})
		}
		synctest.Wait()
		require.NoError(t, r.Close())
		wg.Wait()
		require.ElementsMatch(t, []int{0, 1}, w.finished)
		restored(t, r)
	})
}

func TestMaxConcurrentMustMakeSense(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	run := func(context.Context, int) (int, error) { return 0, nil }
	for name, k := range map[string]helix.Kind[int, int]{
		"negative":      {Name: "a", Run: run, Waits: true, MaxConcurrent: -1},
		"does not wait": {Name: "a", Run: run, MaxConcurrent: 1},
	} {
		_, err := helix.Register(r, k)
		require.ErrorContains(t, err, "Kind.MaxConcurrent", name)
	}
}
