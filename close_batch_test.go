package helix

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// onlyBatches is a policy that sends what can be batched to batch, and the rest to cpu_pool.
type onlyBatches struct{}

func (onlyBatches) Choose(j JobInfo, _ Pressure) Decision {
	if j.Batchable {
		return Decision{Strategy: Batch, Reason: "test"}
	}
	return Decision{Strategy: CPUPool, Reason: "test"}
}

// Close withdraws jobs before batches. A batch whose slot comes between the two does not run.
func TestABatchGrantedDuringCloseIsWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := New(RouterConfig{CPUParallelism: 1, Policy: onlyBatches{}})
		require.NoError(t, err)
		held := make(chan struct{})
		_, err = r.Go(t.Context(), Job{Run: func(context.Context) (any, error) { <-held; return nil, nil }})
		require.NoError(t, err)
		calls := 0
		task, err := Register(r, Kind[int, int]{Name: "batched", Batch: func(_ context.Context, ids []int) ([]int, error) {
			calls++
			return ids, nil
		}})
		require.NoError(t, err)
		var futures []*Future[int]
		for i := range 3 {
			f, err := task.Go(t.Context(), i)
			require.NoError(t, err)
			futures = append(futures, f)
		}
		go func() {
			_, err := task.Submit(context.Background(), 3)
			require.ErrorIs(t, err, ErrClosed)
		}()
		synctest.Wait()

		r.phase.Store(phaseClosed)
		close(held)
		time.Sleep(time.Second)
		require.Zero(t, calls)
		for _, f := range futures {
			_, err := f.Wait(t.Context())
			require.ErrorIs(t, err, ErrClosed)
		}
		require.NoError(t, r.Close())
		for account, sum := range r.Accounts() {
			require.Zero(t, sum, account)
		}
		require.EqualValues(t, 4, r.Stats().Withdrawn)
	})
}
