package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Every contender that is idle makes a call.
func TestContendersMakeCalls(t *testing.T) {
	for _, name := range order {
		who, err := contenders[name](&scene{budget: time.Hour})
		require.NoError(t, err)
		called := false
		require.True(t, who.do(t.Context(), time.Now(), func() { called = true }), name)
		require.True(t, called, name)
		who.close()
	}
}

// Every call is accounted for. How many were in time is left to quiet machines.
func TestEveryCallCounts(t *testing.T) {
	for _, budget := range []time.Duration{50 * ms, 0} {
		s := newScene(downstreams[1], 2, budget, "", 0, 1)
		s.counts, s.until = [2]time.Duration{0, 150 * ms}, 250*ms
		offered := int64(0)
		for _, a := range s.calls {
			if s.counted(a.at) {
				offered++
			}
		}
		results, _, err := run(s, order)
		require.NoError(t, err)
		require.Len(t, results, len(order))
		for i, r := range results {
			require.Equal(t, offered, r.offered, order[i])
			require.Equal(t, r.offered, r.admitted+r.refused, order[i])
			if budget > 0 {
				require.Equal(t, r.admitted, r.kept+r.late, order[i])
			}
		}
		require.Zero(t, results[0].refused, "nothing refuses nothing")
	}
}

// What ends after its budget is late, and what never ended as well.
func TestLateIsNotKept(t *testing.T) {
	s := newScene(downstreams[0], 0.1, time.Nanosecond, "", 0, 1)
	s.counts, s.until = [2]time.Duration{0, 50 * ms}, 60*ms
	s.calls = []arrival{{1 * ms, ms}, {2 * ms, time.Hour}, {55 * ms, ms}}
	results, _, err := run(s, order[:1])
	require.NoError(t, err)
	require.Equal(t, result{offered: 2, admitted: 2, late: 2, bound: results[0].bound}, results[0])
}

func TestPublishedLaws(t *testing.T) {
	g := newGradient2()
	for range 50 {
		g.sample(5e6, 1e6, int(g.now))
	}
	grown := g.limit()
	require.InDelta(t, 20+50*.2*4, grown, 1e-6, "a fifth of four a window, while the latency stays")
	g.sample(20e6, 1e6, int(grown))
	require.InDelta(t, grown*(.8+.2*.5)+.8, g.limit(), 1e-6, "down by half at most, smoothed")
	before := g.limit()
	g.sample(5e6, 1e6, 1)
	require.Equal(t, before, g.limit(), "not used")

	v := newVegas()
	v.sample(0, 5e6, 20)
	v.sample(0, 5e6, 20)
	require.EqualValues(t, 26, v.limit(), "no queue: six steps up")
	v.sample(0, 5.2e6, 20)
	require.EqualValues(t, 27, v.limit(), "a short queue: one up")
	v.sample(0, 6e6, 20)
	require.EqualValues(t, 27, v.limit(), "some queue")
	v.sample(0, 10e6, 20)
	require.EqualValues(t, 26, v.limit(), "a long queue: one down")
}

func TestBadFlags(t *testing.T) {
	for _, c := range [][2]string{{"-downstreams", "none"}, {"-loads", "1,x"}, {"-loads", "NaN"}, {"-only", "nobody"},
		{"-for", "0s"}, {"-budgets", "soon"}, {"-changes", "fire"}} {
		require.ErrorContains(t, runAll([]string{c[0], c[1]}), c[0])
	}
}

// Each combination is measured once.
func TestScenes(t *testing.T) {
	for changes, n := range map[string]int{"none": 2 * 3, "hang": 2, "none,capacity,slower,hang": 2*3 + 3*2} {
		scenes, err := allScenes("exponential", "50ms,0", "0.8,1.5,5", changes, time.Second, 1)
		require.NoError(t, err)
		require.Len(t, scenes, n, changes)
	}
}
