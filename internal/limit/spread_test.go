package limit

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSpread(t *testing.T) {
	var s spread
	_, _, _, calls := s.within(math.Inf(1))
	require.Zero(t, calls)
	r := rand.New(rand.NewPCG(1, 2))
	sum, squares := 0., 0.
	for range 400 {
		took := 5e6 * r.ExpFloat64()
		s.add(took)
		if took < 10e6 {
			calls++
			sum += took
			squares += took * took
		}
	}
	mean, deviation, _, n := s.within(10e6)
	require.InEpsilon(t, calls, n, .1, "up to the part of a bucket")
	require.InEpsilon(t, sum/calls, mean, .1)
	require.InEpsilon(t, math.Sqrt(squares/calls-sum/calls*sum/calls), deviation, .1)

	s.fade(8)
	for range 2000 {
		s.add(50e6)
	}
	mean, deviation, _, n = s.within(math.Inf(1))
	require.LessOrEqual(t, n, float64(spreadCalls))
	require.InEpsilon(t, 50e6, mean, .12)
	require.Less(t, deviation, 1e6, "what was before has faded")
	mean, _, _, _ = s.within(45e6)
	require.Less(t, mean, 45e6)
}

// Every latency has a bucket that is right to an eighth, from a microsecond to a minute.
func TestSpreadBuckets(t *testing.T) {
	for took := 1.5e3; took < 60e9; took *= 1.037 {
		var s spread
		s.add(took)
		mean, _, _, calls := s.within(math.Inf(1))
		require.EqualValues(t, 1, calls)
		require.InEpsilon(t, took, mean, .126, "%v ns", took)
	}
	for _, took := range []float64{0, 1, 1e3, 1e12, math.MaxInt64} {
		var s spread
		s.add(took)
		_, _, _, calls := s.within(math.Inf(1))
		require.EqualValues(t, 1, calls, "%v ns", took)
	}
}
