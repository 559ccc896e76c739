package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCompareRunsTheSameJobsInEachWay(t *testing.T) {
	code, out, errs := simulator(t, "-compare", "-json", "-jobs", "300", "-rate", "3000", "-seed", "3")
	require.Equal(t, exitOK, code, errs)
	var rows []comparison
	require.NoError(t, json.Unmarshal([]byte(out), &rows))
	require.Len(t, rows, len(ways))
	for i, r := range rows {
		require.Equal(t, ways[i].name, r.Way)
		require.EqualValues(t, 300, r.Jobs, r.Way)
		require.Equal(t, r.Jobs, r.InBudget+r.Late+r.Refused+r.Failed, r.Way)
		require.Zero(t, r.Failed, r.Way)
		require.GreaterOrEqual(t, r.TookS, 0.05, "300 arrivals at 3000 a second")
		require.Contains(t, errs, "running "+r.Way)
	}
	require.Zero(t, rows[0].Refused, "it never refuses")
	require.Zero(t, rows[1].Refused, "it never refuses")
}

// What is late, and what only seems to be in time because it was refused, must not count.
func TestCompareCountsWhatItSays(t *testing.T) {
	o, err := parseFlags([]string{"-compare", "-jobs", "4"}, nil)
	require.NoError(t, err)
	p := &plan{perStep: [kernels]float64{1, 1, 1}, jobs: func(yield func(job) bool) {
		for _, j := range []job{
			{size: 1, budget: time.Hour}, {size: 2, budget: time.Nanosecond}, {size: 3}, {size: 1, budget: time.Hour},
		} {
			if !yield(j) {
				return
			}
		}
	}}
	got, err := p.measured(t.Context(), o, ways[0], 0)
	require.NoError(t, err)
	require.Equal(t, []int64{4, 3, 1, 0, 0}, []int64{got.Jobs, got.InBudget, got.Late, got.Refused, got.Failed})
	require.InDelta(t, 75, got.InBudgetPct, 1e-9)
	require.InDelta(t, 100*5./7, got.WorkInTimePct, 1e-6)
}

func TestCompareFlags(t *testing.T) {
	for _, args := range [][]string{{"-json"}, {"-compare", "-policy", "adaptive"}} {
		code, _, errs := simulator(t, args...)
		require.Equal(t, exitUsage, code)
		require.Contains(t, errs, args[0])
	}
	o, err := parseFlags([]string{"-compare"}, nil)
	require.NoError(t, err)
	require.EqualValues(t, compareLoad, o.load)
	require.Equal(t, compareTime, o.arrivals.duration)
	require.Zero(t, o.arrivals.jobs, "as many as come")
	o, err = parseFlags([]string{"-compare", "-rate", "10", "-duration", "1s"}, nil)
	require.NoError(t, err)
	require.Zero(t, o.load)
	require.EqualValues(t, 10, o.arrivals.rate)
}
