package helix_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

func TestArrivedLongAgo(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{Policy: always(helix.Inline)})
	before := time.Duration(0)
	for range 30 {
		_, err := r.Submit(t.Context(), helix.Job{Arrived: time.Unix(0, 0), Run: nothing})
		require.NoError(t, err)
		after := r.Latency(helix.Inline).Sum()
		require.GreaterOrEqual(t, after, before, "a sum of latencies went back")
		before = after
	}
	adaptive := newRouter(t, helix.RouterConfig{})
	for _, at := range []time.Time{time.Time{}.Add(time.Nanosecond), time.Unix(0, 0), time.Now().Add(-time.Hour).Round(0)} {
		_, err := adaptive.Submit(t.Context(), helix.Job{Arrived: at, Budget: time.Millisecond, Run: nothing})
		require.ErrorIs(t, err, helix.ErrDropped, at)
		require.ErrorContains(t, err, "already late")
	}
	for _, at := range []time.Time{time.Now().Add(time.Hour), time.Unix(1<<40, 0)} {
		_, err := adaptive.Submit(t.Context(), helix.Job{Arrived: at, Budget: time.Hour, Run: nothing})
		require.NoError(t, err, "it counts as now")
	}
}

func TestAnEndlessBudgetInABatchThatStandsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.Batch), CPUParallelism: 1, CPUQueueCap: 1 << 16})
		task := register(t, r, helix.Kind[time.Duration, int]{Name: "k", Batch: func(_ context.Context, ds []time.Duration) ([]int, error) {
			time.Sleep(ds[0])
			return make([]int, len(ds)), nil
		}})
		var callers sync.WaitGroup
		for range 2000 { // more than there is to give
			callers.Go(func() { _, _ = task.Submit(t.Context(), 20*time.Millisecond) })
			time.Sleep(time.Millisecond)
		}
		start := time.Now()
		_, err := task.SubmitWith(t.Context(), time.Millisecond, helix.Hints{Budget: math.MaxInt64})
		require.NoError(t, err)
		require.Less(t, time.Since(start), 10*time.Minute)
		callers.Wait()
	})
}

func TestItemErrorsJoinedWithAnother(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{Policy: always(helix.Batch)})
	mine, item := errors.New("mine"), errors.New("item")
	for name, c := range map[string]struct{ err, want error }{
		"joined":         {errors.Join(helix.ItemErrors{nil}, mine), mine},
		"joined first":   {errors.Join(mine, helix.ItemErrors{nil}), mine},
		"wrapped, twice": {fmt.Errorf("%w and %w", mine, helix.ItemErrors{nil}), mine},
		"wrapped":        {fmt.Errorf("all: %w", helix.ItemErrors{item}), item},
		"joined alone":   {errors.Join(helix.ItemErrors{item}), item},
	} {
		task := register(t, r, helix.Kind[int, int]{Name: name, Batch: func(_ context.Context, in []int) ([]int, error) { return in, c.err }})
		_, err := task.Submit(t.Context(), 1)
		require.ErrorIs(t, err, c.want, name)
	}
}

// making is a policy that makes up its reasons.
type making struct{ n *int }

func (m making) Choose(helix.JobInfo, helix.Pressure) helix.Decision {
	*m.n++
	return helix.Decision{Strategy: helix.Drop, Reason: fmt.Sprint("reason ", *m.n)}
}

func TestMadeUpReasonsLeaveTheRoutersOwnAlone(t *testing.T) {
	n := 0
	r := newRouter(t, helix.RouterConfig{Policy: making{&n}})
	for range 100 {
		_, err := r.Submit(t.Context(), helix.Job{Run: nothing})
		require.ErrorContains(t, err, fmt.Sprint("reason ", n), "each hears its own")
	}
	s := r.Stats()
	require.Positive(t, droppedFor(s, "other reasons"))
	require.NoError(t, r.Update(func(c *helix.RouterConfig) { c.Policy = always("nowhere") }))
	_, err := r.Submit(t.Context(), helix.Job{Run: nothing})
	require.ErrorIs(t, err, helix.ErrDropped)
	require.EqualValues(t, 1, droppedFor(r.Stats(), "policy named an unknown strategy"))
	requireConserved(t, r.Stats())
}

func TestNamesFromOutsideDoNotBlockRegister(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{MaxKinds: 4})
	for i := range 100 {
		_, err := r.Submit(t.Context(), helix.Job{Kind: fmt.Sprint("outside ", i), Run: nothing})
		require.NoError(t, err)
	}
	for i := range 4 {
		register(t, r, doKind(fmt.Sprint("mine ", i)))
	}
	_, err := helix.Register(r, doKind("one more"))
	require.ErrorContains(t, err, "MaxKinds")
	require.Len(t, r.Stats().Kinds, 9, "names from outside, the one for all others, and mine")
}

func TestExplainBeyondMaxKindsKnowsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{MaxKinds: 1})
		slow := func(context.Context) (any, error) { time.Sleep(time.Second); return nil, nil }
		for _, kind := range []string{"first", "second", "third"} {
			for range 10 {
				_, err := r.Submit(t.Context(), helix.Job{Kind: kind, Run: slow})
				require.NoError(t, err)
			}
		}
		d := r.Explain(helix.Job{Kind: "fourth", Budget: time.Millisecond})
		require.Equal(t, helix.Drop, d.Strategy)
		require.InDelta(t, time.Second, d.Run, float64(100*time.Millisecond))
	})
}

// Jobs that share the error of a refusal have much the same numbers.
func TestRefusalsTellTheirOwnNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		for _, late := range []time.Duration{time.Hour, 2 * time.Millisecond, time.Minute} {
			_, err := r.Submit(t.Context(), helix.Job{Budget: time.Second, Arrived: time.Now().Add(-time.Second - late), Run: nothing})
			var drop *helix.DropError
			require.ErrorAs(t, err, &drop)
			require.Equal(t, -late, drop.Decision.Slack)
		}
	})
}

// A router of a whole test binary is used in one bubble after the other, and outside.
func TestARouterMadeOutsideIsUsedInBubbles(t *testing.T) {
	r, err := helix.New(helix.RouterConfig{Policy: anyStrategy{}, CPUParallelism: 1, Strategies: []helix.Strategy{offering{
		func(t *helix.Ticket) error { t.Run(); return nil },
	}}})
	require.NoError(t, err)
	task := register(t, r, doKind("do"))
	use := func(t *testing.T) {
		var callers sync.WaitGroup
		for i := range 60 {
			callers.Go(func() {
				hints := helix.Hints{Cost: float64([]int{1, 2, 3}[i%3])} // spawn, cpu_pool, batch
				if i%2 == 0 {
					hints.Budget = time.Hour
				}
				_, err := task.SubmitWith(t.Context(), func(context.Context) (int, error) { return 0, nil }, hints)
				require.NoError(t, err)
				_, err = r.Submit(t.Context(), helix.Job{Cost: hints.Cost, Budget: hints.Budget, Run: nothing})
				require.NoError(t, err)
			})
		}
		callers.Wait()
	}
	for range 3 {
		synctest.Test(t, use)
		use(t)
	}
	require.NoError(t, r.Close())
	requireIdle(t, r)
}
