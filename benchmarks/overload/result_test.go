package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAccounting: what is counted for what became of a job.
func TestAccounting(t *testing.T) {
	ms := func(v float64) int64 { return int64(v * 1e6) }
	mix := Mix{Name: "one", Classes: []Class{{Name: "a", CostUs: 1000, BudgetMs: 10, Share: 1}}}
	spec := pointSpec{Mix: mix, Load: 1, Seconds: 1, Warmup: .1, Procs: 1}
	p := &point{spec: spec, speed: 1e9, horizon: int64(seconds(spec.horizon())), classes: []class{{Class: mix.Classes[0], budget: 10 * time.Millisecond, aloneSec: 1e-3, bestS: 1e-3, weight: 1}}}
	const warm, measured, after = 0, 1, 2 // segments
	for _, j := range []struct {
		segment  uint16
		state    int32
		ended    float64 // ms after the arrival; 0 = never
		executed int64
	}{
		{warm, jobFinished, 1, 1e6},
		{measured, jobFinished, 2, 1e6},  // in budget
		{measured, jobFinished, 10, 1e6}, // just in budget
		{measured, jobFinished, 11, 1e6}, // late, 1 ms wasted
		{measured, jobStarted, 900, 5e5}, // cut short: late, 0.5 ms wasted
		{measured, jobStarted, 0, 25e4},  // never ended: late, 0.25 ms wasted
		{measured, jobWaiting, 0, 0},     // never even refused: late
		{measured, jobWaiting, .5, 0},    // refused
		{measured, jobWaiting, 12, 0},    // refused late is still refused
		{after, jobFinished, 100, 1e6},
	} {
		p.jobs = append(p.jobs, job{arrival: arrival{at: ms(500), segment: j.segment, factor: 1, lie: 1}, dispatched: ms(501)})
		last := &p.jobs[len(p.jobs)-1]
		last.state.Store(j.state)
		last.executed.Store(j.executed)
		if j.ended > 0 {
			last.ended.Store(last.at + ms(j.ended))
		}
	}
	r := p.result(&dispatcher{goroutines: 3, cpu: 60 * time.Millisecond, wall: 2 * time.Second})
	require.Equal(t, 8, r.Offered)
	require.Equal(t, 2, r.InBudget)
	require.Equal(t, 4, r.Late)
	require.Equal(t, 2, r.Refused)
	require.Equal(t, ClassResult{Name: "a", Offered: 8, InBudget: 2, Late: 4, Refused: 2,
		InBudgetPct: r.Classes[0].InBudgetPct, P50Ms: r.P50Ms, P99Ms: r.P99Ms}, r.Classes[0])
	require.InDelta(t, 25, r.InBudgetPct, 1e-9)
	require.InDelta(t, 100*2.0/6, r.AdmittedPct, 1e-9)
	require.InDelta(t, .002, r.Goodput, 1e-9)
	require.InDelta(t, .175, r.WastedPct, 1e-9)
	require.InDelta(t, .375, r.WorkPct, 1e-9)
	require.InDelta(t, 12, *r.RefuseP50, 1e-9)
	require.InDelta(t, 1, r.GeneratorLagP99Ms, 1e-9)
	require.InDelta(t, 3, r.GeneratorPct, 1e-9)
	require.InDelta(t, 25, r.OfFairPct.Jobs, 1e-9, "the bound is all of so little")
	require.Equal(t, "a", r.OfFairPct.WorstClass)
}

func TestQuantile(t *testing.T) {
	require.Nil(t, quantileMs(nil, .5))
	values := make([]float64, 0, 100)
	for i := 100; i > 0; i-- {
		values = append(values, float64(i)*1e6)
	}
	require.Equal(t, 51.0, *quantileMs(values, .5))
	require.Equal(t, 100.0, *quantileMs(values, .99))
	require.Equal(t, 100.0, *quantileMs(values, 1))
}

func TestRecovered(t *testing.T) {
	s := testSpec(1)
	for at, want := range map[float64]bool{3.1: true, 3.39: true, 3.41: false, 3.59: false, 3.79: false, 3.81: true} {
		require.Equal(t, want, s.recovered(&job{arrival: arrival{at: int64(at * 1e9)}}), "at %g s", at)
	}
}

func TestDisturbed(t *testing.T) {
	for _, tt := range []struct {
		before, after float64 // of the best
		want          bool
	}{{1, 1, false}, {.95, .97, false}, {.5, .5, true}, {1, .5, true}, {.5, 1, true}} {
		r := &Result{Speed: 1e9 * tt.before, SpeedAfter: tt.after / tt.before}
		require.Equal(t, tt.want, r.disturbed(1e9), "%v", tt)
		require.InDelta(t, 1e9*max(tt.before, tt.after), r.fastest(), 1)
	}
}
