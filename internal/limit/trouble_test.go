package limit_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix/internal/limit"
)

// Floods, hangs and outages.

// With calls of one length in a downstream that works at all at once, none ends before a flood does not come
// any more, and then many end at once. Neither the flood nor that is taken for what it can do.
func TestFloodThatNoneOfEnds(t *testing.T) {
	for _, budget := range []int64{25 * ms, 50 * ms, 200 * ms} {
		for i := range uint64(4) {
			s := scene{down: downstream{32, true, fixed(5e6)}, mean: 5e6, load: 10, budget: budget, length: 6000 * ms, from: 3000 * ms}
			r := s.run(*first + i)
			require.Greater(t, 10*float64(r.kept)/float64(r.offered), .97, "budget %d ms", budget/ms)
			require.Less(t, float64(r.late)/float64(r.admitted), .01, "budget %d ms", budget/ms)

			s.quietUntil, s.from = 500*ms, 4000*ms // and the same after a time in which little came
			r = s.run(*first + i)
			require.Greater(t, 10*float64(r.kept)/float64(r.offered), .97, "budget %d ms, warm", budget/ms)
		}
	}
}

// While ten times as many calls come as a downstream can take, its limit stays, also while few calls are let in to
// learn how long they take alone, and are fast.
func TestALimitStaysInAFlood(t *testing.T) {
	for _, down := range []downstream{{1, false, exponential(5e6)}, {1, true, exponential(5e6)}, {4, false, exponential(5e6)}, {4, false, fixed(5e6)}} {
		for i := range uint64(30) {
			l, limited, length := new(limit.Limit), false, 8000*ms
			scene{down: down, mean: 5e6, load: 10, budget: 500 * ms, length: length, limit: l,
				change: func(now int64, _ *downstream) bool {
					is := l.Limit(limit.Normal) != limit.None
					require.False(t, limited && !is && now < length, "%d servers, shared: %t, seed %d: none after %d ms",
						down.servers, down.shared, i, now/ms)
					limited = is
					return false
				}}.run(i)
			require.True(t, limited)
		}
	}
}

// A downstream from which nothing comes back from the very first call on is taken to hang after
// the budget, and is as before soon after it does not any more. Without a budget there is no telling it
// from one that takes long, of which 10,000 calls in flight must be let be.
func TestHangFromTheFirstCall(t *testing.T) {
	s := scene{down: constant.down, mean: 5e6, load: .5, budget: 50 * ms, length: 4000 * ms, from: 3200 * ms}
	s.change = func(now int64, _ *downstream) bool { return now < 3000*ms }
	r := s.run(8)
	require.Less(t, r.most, int64(450), "3200 a second, for 100 ms; and a probe every 100 ms")
	require.Zero(t, r.refused, "from 0.2 s after it came back")

	s = scene{down: downstream{1 << 30, false, fixed(5e9)}, gap: 5e5, length: 6000 * ms}
	for _, budget := range []int64{0, 10_000 * ms} {
		s.budget = budget
		r = s.run(8)
		require.Zero(t, r.refused)
		require.Greater(t, r.most, int64(9500))
	}
	s.change = func(now int64, _ *downstream) bool { return true }
	s.budget, s.gap = 0, 1e5
	r = s.run(8)
	require.Less(t, r.most, int64(1<<14+64))
}

// Calls that take longer than what would be a hang before the first has ended teach latency.
func TestLongCallsFromTheFirst(t *testing.T) {
	var l limit.Limit
	now := int64(1)
	for range 4 {
		c := limit.Call{Began: now, Among: l.Begin(now, 100*ms)}
		now += 2000 * ms
		l.End(c, now, true)
	}
	require.InDelta(t, 2000*ms, l.Base(), 1e6)
}

// An outage, in which everything fails within a millisecond, is not taken for speed: the
// rate falls to nothing, the limit does not rise, and when the downstream is back nothing is late.
func TestOutageIsNotSpeed(t *testing.T) {
	var l limit.Limit
	before, during := int64(0), int64(0)
	s := scene{down: random.down, mean: 5e6, load: 3, budget: 50 * ms, length: 6000 * ms, from: 5000 * ms, limit: &l}
	s.fail = func(now int64) (bool, float64) {
		switch {
		case now < 2000*ms:
			before = l.Limit(limit.Normal)
		case now < 4000*ms:
			if now > 2500*ms {
				during = max(during, l.Limit(limit.Normal))
				require.Less(t, l.Rate(), 50.)
			}
			return true, 1e6
		}
		return false, 0
	}
	r := s.run(4)
	require.Greater(t, before, int64(30))
	require.LessOrEqual(t, during, before)
	require.Greater(t, float64(r.kept)/float64(r.offered), .97/3)
	require.Less(t, float64(r.late)/float64(r.admitted), .01)
}

// Calls that are cancelled at the end of their budget do not count as successful, while
// the downstream still works on them.
func TestCallersThatLeave(t *testing.T) {
	s := scene{down: random.down, mean: 5e6, load: 5, budget: 50 * ms, length: 6000 * ms, from: 2000 * ms, cancel: true}
	r := s.run(5)
	require.Greater(t, float64(r.kept)/float64(r.offered), .97/5)
}
