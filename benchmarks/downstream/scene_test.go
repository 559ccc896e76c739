package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// evenly is a scene of calls that come every gap and take 5 ms, of which those of the first
// second count.
func evenly(gap, budget time.Duration, c change) *scene {
	s := &scene{downstream: downstreams[0], budget: budget, change: c, good: 1,
		counts: [2]time.Duration{0, time.Second}, until: time.Second + budget}
	for at := time.Duration(0); at < s.until; at += gap {
		s.calls = append(s.calls, arrival{at, s.mean})
	}
	return s
}

func TestBound(t *testing.T) {
	const capacity = 6400. // calls a second
	for _, c := range []struct {
		name   string
		gap    time.Duration
		budget time.Duration
		change change
		want   float64
	}{
		{"all fit", ms, 50 * ms, change{}, 1000},
		{"twice what fits, the last of it after the second", time.Second / 12800, 50 * ms, change{}, 1.05 * capacity},
		{"no budget", time.Second / 12800, 0, change{}, capacity},
		{"hangs for longer than the budget: what comes in the last of it can wait", time.Second / 6400, 100 * ms,
			change{from: 200 * ms, until: 700 * ms, hangs: true}, .6 * capacity},
		{"hangs for less, and then is all busy", time.Second / 3200, 400 * ms,
			change{from: 200 * ms, until: 400 * ms, hangs: true}, 3200},
		{"a quarter of the servers for half of the time", time.Second / 6400, 5 * ms,
			change{from: 200 * ms, until: 700 * ms, servers: servers / 4}, (.5 + .5/4) * capacity},
		{"four times slower for half of the time", time.Second / 6400, 5 * ms,
			change{from: 200 * ms, until: 700 * ms, slower: 4}, (.5 + .5/4) * capacity},
	} {
		require.InEpsilon(t, c.want, evenly(c.gap, c.budget, c.change).bound(), .015, c.name)
	}
}

func TestDrawnScenes(t *testing.T) {
	s := newScene(downstreams[3], 2, 50*ms, "", 4*time.Second, 1)
	counted := 0
	for _, a := range s.calls {
		if s.counted(a.at) {
			counted++
		}
	}
	require.InEpsilon(t, 4*2*servers/.0109, counted, .05)
	require.InDelta(t, .9, s.good, .02, "one call in ten takes longer than its budget")
	require.InEpsilon(t, .9*4*servers/.0109, s.bound(), .05)
	require.Equal(t, s.calls, newScene(downstreams[3], 2, 50*ms, "", 4*time.Second, 1).calls)

	slower := newScene(downstreams[1], 1, 50*ms, "slower", time.Second, 1)
	require.Less(t, slower.good, .99, "of those three times as long one in 28 takes longer than 50 ms")
	require.Greater(t, slower.good, .96)
	require.Equal(t, 8*time.Second, slower.counts[1])
}
