package limit_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix/internal/limit"
)

// Calls that never end take no room for ever: as soon as others would end, they are let in. Of those that do end
// after all, none counts twice.
func TestLostCalls(t *testing.T) {
	for _, load := range []float64{.5, 1.5} {
		for _, budget := range budgets {
			for _, part := range []float64{1, .1} { // of the calls for a second; for ever
				var l limit.Limit
				rnd, lost := rand.New(rand.NewPCG(1, 2)), 0
				r := scene{down: constant.down, mean: 5e6, load: load, budget: budget, length: 8000 * ms, from: 4000 * ms, limit: &l,
					fail: func(now int64) (bool, float64) {
						if now < 2000*ms || now >= 3000*ms && part == 1 || rnd.Float64() >= part {
							return false, 0
						}
						lost++
						return true, 1e18
					}}.run(4)
				can := min(1, 1/load)
				if part < 1 {
					can = min(1-part, can)
				}
				kept := float64(r.kept) / float64(r.offered) / can
				t.Logf("%g×, budget %d ms: %d of %g lost, kept %.1f %%", load, budget/ms, lost, part, 100*kept)
				require.Greater(t, kept, .4)
				require.True(t, part < 1 && load > 1 || kept > .99)
				require.EqualValues(t, lost, l.InFlight()+l.Lost())
			}
		}
	}
	l, call, stuck := withLostCalls(t, 50*ms)
	require.Zero(t, l.InFlight())
	call(2000 * ms)
	for i, c := range stuck {
		l.End(c, 2000*ms+int64(i)*ms, false)
		require.EqualValues(t, 199-i, l.Lost())
		require.EqualValues(t, 1, l.InFlight())
	}
}

// Nor are those lost any longer that end well while so many calls do that most are only counted.
func TestLostCallsThatEndAmongMany(t *testing.T) {
	l, call, stuck := withLostCalls(t, 0)
	for now := 2000 * ms; now < 4000*ms; now += ms / 100 { // until no limit is needed, and beyond
		l.End(call(now), now+ms/200, true)
	}
	require.Equal(t, limit.None, l.Limit(limit.Normal))
	var live []limit.Call
	for range 300 {
		live = append(live, call(4000*ms))
	}
	for range 400 { // more than are looked at in a window
		l.End(call(4000*ms), 4000*ms+ms/100, true)
	}
	for _, c := range stuck {
		l.End(c, 4000*ms+ms/50, true)
	}
	require.Zero(t, l.Lost())
	require.EqualValues(t, len(live), l.InFlight())
}

// withLostCalls returns a limit at 2 s of which 200 calls are lost, and what begins another call.
func withLostCalls(t *testing.T, budget int64) (l *limit.Limit, call func(now int64) limit.Call, lost []limit.Call) {
	l = new(limit.Limit)
	call = func(now int64) limit.Call { return limit.Call{Began: now, Among: l.Begin(now, budget)} }
	for now := range int64(100) {
		l.End(call(now*ms), now*ms+ms, true)
	}
	for now := 100 * ms; len(lost) < 200; now += ms {
		lost = append(lost, call(now))
	}
	for now := 1000 * ms; now < 2000*ms; now += 200 * ms { // probes
		l.End(call(now), now+ms, true)
	}
	require.EqualValues(t, 200, l.Lost())
	return l, call, lost
}
