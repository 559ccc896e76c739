package helix

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The capacity of a machine that is busy all the time is all of it, however long the runs,
// from the first on: of jobs that sleep, two slots do two seconds of work a second.
func TestCapacityCountsWorkWhileItRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("a long simulation")
	}
	sleep := func(_ context.Context, d time.Duration) (int, error) { time.Sleep(d); return 0, nil }
	yielding := func(ctx context.Context, d time.Duration) (int, error) {
		for part := d / 20; d > 0; d -= part {
			time.Sleep(part)
			Yield(ctx)
		}
		return 0, nil
	}
	for name, c := range map[string]struct {
		runs  []time.Duration
		run   func(context.Context, time.Duration) (int, error)
		batch bool
	}{
		"500 ms":                              {runs: []time.Duration{500 * time.Millisecond}, run: sleep},
		"2 s":                                 {runs: []time.Duration{2 * time.Second}, run: sleep},
		"2 s, 500 ms, 200 µs":                 {runs: []time.Duration{2 * time.Second, 500 * time.Millisecond, 200 * time.Microsecond}, run: sleep},
		"2 s and 3 ms, the longer ones yield": {runs: []time.Duration{2 * time.Second, 3 * time.Millisecond}, run: yielding},
		"calls of 500 ms":                     {runs: []time.Duration{500 * time.Millisecond}, batch: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, err := New(RouterConfig{CPUParallelism: 2})
				require.NoError(t, err)
				defer r.Close()
				ctx, stop := context.WithCancel(t.Context())
				var callers sync.WaitGroup
				for i, run := range c.runs {
					k := Kind[time.Duration, int]{Name: run.String(), Budget: 20 * run, Run: c.run}
					if c.batch {
						k.Batch = func(_ context.Context, in []time.Duration) ([]int, error) {
							time.Sleep(in[0])
							return make([]int, len(in)), nil
						}
					}
					task, err := Register(r, k)
					require.NoError(t, err)
					for range 30 {
						callers.Go(func() {
							for ctx.Err() == nil {
								if _, err := task.Submit(ctx, c.runs[i]); err != nil {
									time.Sleep(time.Millisecond)
								}
							}
						})
					}
				}
				least, most, before := 2., 0., int64(0)
				for range 1500 {
					time.Sleep(10 * time.Millisecond)
					r.Stats() // ticks
					now := r.pool.underWay.Time(r.now())
					require.LessOrEqual(t, now-before, 2*int64(10*time.Millisecond), "two slots")
					before = now
					capacity := r.ledger.Capacity()
					least, most = min(least, capacity), max(most, capacity)
				}
				stop()
				callers.Wait()
				require.Greater(t, least, 1.8)
				require.LessOrEqual(t, most, 2.)
				require.Zero(t, r.pool.underWay.Time(r.now()), "nothing is under way")
			})
		})
	}
}
