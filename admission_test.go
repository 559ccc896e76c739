package helix_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// flow is a stream of jobs in an overload.
type flow struct {
	kind  string
	run   time.Duration
	hints helix.Hints
	load  float64 // of all slots
}

// overload has flows come for that long, after a second that does not count, and returns how
// many of each came, and what part of them ended in its budget (if it has one).
func overload(t *testing.T, r *helix.Router, slots int, span time.Duration, flows []flow) (came []int, kept []float64) {
	tasks := map[string]*helix.Task[time.Duration, int]{}
	for _, f := range flows {
		if tasks[f.kind] == nil {
			tasks[f.kind] = register(t, r, sleepKind(f.kind, 0, false))
		}
	}
	came, ended := make([]int, len(flows)), make([]int, len(flows))
	var mu sync.Mutex
	var wg sync.WaitGroup
	begin := time.Now()
	for i, f := range flows {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(5, uint64(i)))
			every := float64(f.run) / (f.load * float64(slots))
			for time.Since(begin) < span+time.Second {
				wg.Go(func() {
					at := time.Now()
					_, err := tasks[f.kind].SubmitWith(t.Context(), f.run, f.hints)
					mu.Lock()
					defer mu.Unlock()
					if at.Sub(begin) < time.Second {
						return
					}
					if came[i]++; err == nil && (f.hints.Budget <= 0 || time.Since(at) <= f.hints.Budget) {
						ended[i]++
					}
				})
				time.Sleep(time.Duration(rng.ExpFloat64() * every))
			}
		})
	}
	wg.Wait()
	for i := range flows {
		kept = append(kept, float64(ended[i])/float64(came[i]))
	}
	return came, kept
}

const ms = time.Millisecond

// What arrives too late, or can never end in its budget, takes nothing from others.
func TestHopelessWorkTakesNothing(t *testing.T) {
	skipRace(t)
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 2})
		_, kept := overload(t, r, 2, 10*time.Second, []flow{
			{kind: "ordinary", run: 5 * ms, hints: helix.Hints{Budget: 100 * ms}, load: .8},
			{kind: "hopeless", run: 50 * ms, hints: helix.Hints{Budget: 20 * ms}, load: 3},
		})
		require.GreaterOrEqual(t, kept[0], .97, "of the ordinary ones")
		require.LessOrEqual(t, kept[1], .01)
	})
}

// Each job is judged by its own budget, and those of one kind with more time fare no better.
func TestMixedBudgetsInOneKindShareAlike(t *testing.T) {
	skipRace(t)
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 2})
		_, kept := overload(t, r, 2, 20*time.Second, []flow{
			{kind: "k", run: 5 * ms, hints: helix.Hints{Budget: 60 * ms}, load: 1},
			{kind: "k", run: 5 * ms, hints: helix.Hints{Budget: 2 * time.Second}, load: 1},
		})
		t.Log(kept)
		require.InDelta(t, .5, kept[0], .1)
		require.InDelta(t, .5, kept[1], .1)
	})
}

func TestLowIsRefusedBeforeNormalBeforeHigh(t *testing.T) {
	skipRace(t)
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 2})
		budget := 200 * ms
		_, kept := overload(t, r, 2, 15*time.Second, []flow{
			{kind: "k", run: 10 * ms, hints: helix.Hints{Budget: budget, Priority: helix.Low}, load: .5},
			{kind: "k", run: 10 * ms, hints: helix.Hints{Budget: budget}, load: .5},
			{kind: "k", run: 10 * ms, hints: helix.Hints{Budget: budget, Priority: helix.High}, load: .5},
		})
		t.Log(kept)
		require.Greater(t, kept[2], .95)
		require.Greater(t, kept[1], kept[0]+.2)
		require.Greater(t, kept[0], .02, "none starves")
	})
}

// One kind cannot fill the queue for others, whatever the policy.
func TestAFloodLeavesRoomInTheQueue(t *testing.T) {
	skipRace(t)
	for _, policy := range []helix.Policy{helix.AdaptivePolicy{}, always(helix.CPUPool)} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, helix.RouterConfig{CPUParallelism: 2, Policy: policy})
			_, kept := overload(t, r, 2, 10*time.Second, []flow{
				{kind: "flood", run: 10 * ms, load: 4},
				{kind: "modest", run: 10 * ms, load: .3},
			})
			t.Log(kept)
			require.GreaterOrEqual(t, kept[1], .98, "%T", policy)
		})
	}
}

// A client that waits as long as its refusal says is admitted then, at twice what can be done,
// however run times vary, of several kinds and of each priority.
func TestRetryAfterIsKept(t *testing.T) {
	skipRace(t)
	exponential := spread{"exponential", func(rng *rand.Rand) float64 { return rng.ExpFloat64() }}
	for _, how := range []spread{constant, halves, exponential} {
		for _, c := range []struct {
			name       string
			runs       []time.Duration // of each kind
			priorities []helix.Priority
		}{
			{"one kind", []time.Duration{10 * ms}, []helix.Priority{helix.Normal}},
			{"three kinds", []time.Duration{2 * ms, 10 * ms, 20 * ms}, []helix.Priority{helix.Normal}},
			{"priorities", []time.Duration{10 * ms}, []helix.Priority{helix.Low, helix.Normal, helix.High}},
		} {
			t.Run(how.name+", "+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { retries(t, how, c.runs, c.priorities) })
			})
		}
	}
}

// retries offers twice what two slots can do, in equal parts of kinds with those runs and budgets
// of 20 of them. One refused client in ten comes back, once, when it was told to.
func retries(t *testing.T, how spread, runs []time.Duration, priorities []helix.Priority) {
	r := newRouter(t, helix.RouterConfig{CPUParallelism: 2})
	var mu sync.Mutex
	var wg sync.WaitGroup
	tried, admitted := map[helix.Priority]float64{}, map[helix.Priority]float64{}
	begin := time.Now()
	for i, mean := range runs {
		task := register(t, r, sleepKind(fmt.Sprint("k", i), 20*mean, false))
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		wg.Go(func() {
			for time.Since(begin) < 10*time.Second {
				comesBack := rng.IntN(10) == 0
				hints := helix.Hints{Priority: priorities[rng.IntN(len(priorities))]}
				run := max(1, time.Duration(how.draw(rng)*float64(mean)))
				wg.Go(func() {
					_, err := task.SubmitWith(t.Context(), run, hints)
					var drop *helix.DropError
					if !errors.As(err, &drop) || !comesBack || time.Since(begin) < 2*time.Second || drop.RetryAfter == 0 {
						return
					}
					time.Sleep(drop.RetryAfter)
					_, err = task.SubmitWith(t.Context(), run, hints)
					mu.Lock()
					defer mu.Unlock()
					if tried[hints.Priority]++; err == nil {
						admitted[hints.Priority]++
					}
				})
				time.Sleep(time.Duration(rng.ExpFloat64() * float64(mean) * float64(len(runs)) / 4))
			}
		})
	}
	wg.Wait()
	for _, p := range priorities {
		t.Logf("%v: %.0f of %.0f", p, admitted[p], tried[p])
		require.Greater(t, tried[p], 10.)
		require.GreaterOrEqual(t, admitted[p], .9*tried[p], "%v", p)
	}
}

// A budget in Hints may be longer than the kind's, or none, and Normal can be said.
func TestHintsSayWhatTheKindDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 1})
		events, stop := r.Watch(16)
		defer stop()
		k := sleepKind("k", 20*ms, false)
		k.Priority = helix.High
		task := register(t, r, k)
		for _, h := range []helix.Hints{{}, {Budget: time.Hour}, {Budget: helix.NoBudget, Priority: helix.PlainNormal}, {Priority: helix.Low}} {
			_, err := task.SubmitWith(t.Context(), ms, h)
			require.NoError(t, err)
		}
		var got []string
		for range 4 {
			e := <-events
			got = append(got, fmt.Sprint(e.Info.Budget, " ", e.Info.Priority))
		}
		require.Equal(t, []string{"20ms high", "1h0m0s high", "0s normal", "20ms low"}, got)
	})
}
