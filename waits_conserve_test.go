package helix_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// Whatever jobs that wait do, and whoever leaves when, nothing is lost and every account is
// back where it began; MaxConcurrent holds throughout.
func TestWaitingJobsAreConserved(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, helix.RouterConfig{SpawnLimit: 60})
			var mu sync.Mutex
			running, most := 0, 0
			odd := errors.New("odd")
			do := func(ctx context.Context, id int) (int, error) {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				defer func() { mu.Lock(); running--; mu.Unlock() }()
				select {
				case <-time.After(time.Duration(id%7)*time.Millisecond + 1):
				case <-ctx.Done():
					return 0, ctx.Err()
				}
				switch id % 11 {
				case 0:
					return 0, odd
				case 1:
					panic(odd)
				}
				return id, nil
			}
			gated := register(t, r, helix.Kind[int, int]{Name: "gated", Waits: true, MaxConcurrent: 3, Run: do})
			plain := register(t, r, helix.Kind[int, int]{Name: "plain", Waits: true, Downstream: "db",
				Run: func(ctx context.Context, id int) (int, error) { time.Sleep(time.Millisecond); return id, ctx.Err() }})
			l := &loader{takes: 3 * time.Millisecond, fail: func(ids []int) error {
				if ids[0]%11 == 1 {
					panic(odd)
				}
				return nil
			}}
			loads := register(t, r, helix.Kind[int, int]{Name: "loads", Waits: true, Downstream: "db", Batch: l.batch, Key: itself})
			tasks := []*helix.Task[int, int]{gated, plain, loads}

			rnd := rand.New(rand.NewPCG(seed, 3))
			var wg sync.WaitGroup
			for range 400 {
				task, id, how := tasks[rnd.IntN(3)], rnd.IntN(30), rnd.IntN(4)
				after, budget := time.Duration(rnd.IntN(8))*time.Millisecond+1, time.Duration(rnd.IntN(20))*time.Millisecond
				wg.Go(func() {
					defer func() { _ = recover() }()
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if how == 0 {
						time.AfterFunc(after, cancel)
					}
					if how != 1 {
						_, _ = task.SubmitWith(ctx, id, helix.Hints{Budget: budget})
						return
					}
					f, err := task.Go(ctx, id)
					if err != nil {
						return
					}
					time.AfterFunc(after, f.Cancel)
					_, _ = f.Wait(context.Background())
				})
				if rnd.IntN(6) == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			if seed%2 == 0 {
				require.NoError(t, r.Close())
			}
			wg.Wait()
			require.LessOrEqual(t, most, 3)
			s := r.Stats()
			require.Zero(t, s.InFlight)
			require.Equal(t, uint64(400), s.Submitted)
			require.Equal(t, s.Submitted, s.Completed+s.Failed+s.Dropped+s.Withdrawn)
			require.Zero(t, s.Pressure.Spawned)
			for _, k := range s.Kinds {
				require.Zero(t, k.Queued, k.Name)
				require.Zero(t, k.Downstream.InFlight, k.Name)
				if k.Batch != nil {
					require.Zero(t, k.Batch.Forming)
				}
			}
		})
	}
}
