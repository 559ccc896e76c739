package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWaterFill(t *testing.T) {
	for _, tt := range []struct {
		name                   string
		demand, weight, expect []float64
		capacity               float64
	}{
		{"all fit", []float64{.2, .3}, []float64{1, 1}, []float64{.2, .3}, 1},
		{"no demand fits", []float64{3, 2}, []float64{1, 1}, []float64{.5, .5}, 1},
		{"the small one fits", []float64{.1, 5, 5}, []float64{1, 1, 1}, []float64{.1, .45, .45}, 1},
		{"fits once the smaller ones leave room", []float64{.1, .44, 5}, []float64{1, 1, 1}, []float64{.1, .44, .46}, 1},
		{"weights", []float64{5, 5}, []float64{3, 1}, []float64{.75, .25}, 1},
		{"a weight that is not used up", []float64{.5, 5}, []float64{3, 1}, []float64{.5, .5}, 1},
		{"a demand of zero", []float64{0, 5}, []float64{1, 1}, []float64{0, 1}, 1},
		{"no capacity", []float64{1, 1}, []float64{1, 1}, []float64{0, 0}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.InDeltaSlice(t, tt.expect, waterFill(tt.demand, tt.weight, tt.capacity), 1e-12)
		})
	}
}

// nominal is the reference mix as its rates say, for a second.
func nominal(load float64) ([]segmentLoad, []float64) {
	s := testSpec(load)
	l := segmentLoad{seconds: 1}
	var weight []float64
	for i := range s.Mix.Classes {
		c := &s.Mix.Classes[i]
		l.jobs = append(l.jobs, c.rate(2)*load)
		l.best, l.alone = append(l.best, c.best()), append(l.alone, c.alone())
		weight = append(weight, 1)
	}
	return []segmentLoad{l}, weight
}

// TestReferenceBounds holds the bounds against figures worked out by hand.
func TestReferenceBounds(t *testing.T) {
	for _, tt := range []struct {
		load           float64
		fair, cheapest Bound
		byClass        []float64 // tiny, small, medium, large, batch, io
	}{
		{.9, Bound{InBudgetPct: 100, Goodput: .9}, Bound{InBudgetPct: 100, Goodput: .9}, []float64{100, 100, 100, 100, 100, 100}},
		{1.2, Bound{InBudgetPct: 100, Goodput: 1.2}, Bound{InBudgetPct: 100, Goodput: 1.2}, []float64{100, 100, 100, 100, 100, 100}},
		{2, Bound{InBudgetPct: 85, Goodput: 1.38}, Bound{InBudgetPct: 98, Goodput: 1.38}, []float64{100, 74, 49, 59, 100, 100}},
		{5, Bound{InBudgetPct: 61, Goodput: 1.96}, Bound{InBudgetPct: 83, Goodput: 1.96}, []float64{100, 24, 16, 19, 100, 100}},
		{10, Bound{InBudgetPct: 52, Goodput: 2.00}, Bound{InBudgetPct: 61, Goodput: 2.92}, []float64{100, 10, 6.7, 8, 52, 100}},
	} {
		loads, weight := nominal(tt.load)
		b := bounds(loads, weight, 2, 0)
		require.InDelta(t, tt.fair.InBudgetPct, b.Fair.InBudgetPct, .7, "at %gx", tt.load)
		require.InDelta(t, tt.fair.Goodput, b.Fair.Goodput, .006, "at %gx", tt.load)
		require.InDelta(t, tt.cheapest.InBudgetPct, b.Cheapest.InBudgetPct, .7, "at %gx", tt.load)
		require.InDelta(t, tt.cheapest.Goodput, b.Cheapest.Goodput, .006, "at %gx", tt.load)
		require.InDeltaSlice(t, tt.byClass, b.Fair.ByClassPct, .8, "at %gx", tt.load)
		require.Equal(t, b.Fair, b.FairNet, "a generator that takes nothing")
	}
}

func TestGeneratorLowersTheBound(t *testing.T) {
	loads, weight := nominal(2)
	b := bounds(loads, weight, 2, .04)
	require.InDelta(t, 83, b.FairNet.InBudgetPct, 1)
	require.InDelta(t, 1.33, b.FairNet.Goodput, .015)
	require.Less(t, b.CheapestNet.Goodput, b.Cheapest.Goodput)
}

func TestWeightsMoveTheBound(t *testing.T) {
	loads, weight := nominal(5)
	equal := bounds(loads, weight, 2, 0)
	weight[1] = 10 // small
	b := bounds(loads, weight, 2, 0)
	require.Greater(t, b.Fair.InBudgetPct, equal.Fair.InBudgetPct, "towards cheapest first")
	require.LessOrEqual(t, b.Fair.InBudgetPct, b.Cheapest.InBudgetPct)
}

// TestBoundsOfPhases: what is idle in one phase is of no use in another.
func TestBoundsOfPhases(t *testing.T) {
	calm, weight := nominal(.5)
	burst, _ := nominal(5)
	both := bounds(append(calm, burst...), weight, 2, 0)
	alone := bounds(burst, weight, 2, 0)
	require.InDelta(t, (.5+alone.Fair.Goodput)/2, both.Fair.Goodput, 1e-9)
}
