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
					now := r.pool.underWay.time(r.now())
					require.LessOrEqual(t, now-before, 2*int64(10*time.Millisecond), "two slots")
					before = now
					capacity := r.ledger.Capacity()
					least, most = min(least, capacity), max(most, capacity)
				}
				stop()
				callers.Wait()
				require.Greater(t, least, 1.8)
				require.LessOrEqual(t, most, 2.)
				require.Zero(t, r.pool.underWay.time(r.now()), "nothing is under way")
			})
		})
	}
}

func TestUnderWay(t *testing.T) {
	var u underWay
	var a, b stopwatch
	u.begin(&a, 100)
	require.EqualValues(t, 50, u.time(150))
	u.begin(&b, 150)
	require.EqualValues(t, 150, u.time(200))
	u.pause(&a, 200)
	require.EqualValues(t, 100+150, u.time(300))
	u.lose(&a, 5) // it holds no slot
	u.lose(&b, 50)
	require.EqualValues(t, 100+100, u.time(300))
	u.resume(&a, 400)
	u.resume(&a, 450)
	require.EqualValues(t, 200+300, u.time(500))
	u.pause(&b, 500)
	u.end(&a)
	u.end(&a)
	require.EqualValues(t, 300, u.time(900))
	u.end(&b) // while a goroutine that it left behind waits for a slot
	require.Zero(t, u.time(1000))
	u.resume(&b, 1000)
	u.pause(&b, 1000)
	require.Zero(t, u.time(1000))
}
