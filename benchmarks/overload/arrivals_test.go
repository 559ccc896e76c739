package main

import (
	"cmp"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// testSpec is a point on two cores, whatever the machine has.
func testSpec(load float64) pointSpec {
	return pointSpec{Mix: mixes[0], Load: load, Seconds: 4, Warmup: 1, Seed: 7, Procs: 2}
}

func TestArrivalsArePoisson(t *testing.T) {
	s := testSpec(2)
	all := s.arrivals()
	require.True(t, slices.IsSortedFunc(all, func(a, b arrival) int { return cmp.Compare(a.at, b.at) }))
	require.Less(t, all[len(all)-1].at, int64(s.horizon()*1e9))
	for i := range s.Mix.Classes {
		c := &s.Mix.Classes[i]
		var gaps []float64
		last := int64(0)
		for _, a := range all {
			if int(a.class) == i {
				gaps = append(gaps, float64(a.at-last)/1e9)
				last = a.at
			}
		}
		n := float64(len(gaps))
		expect := c.rate(s.cores()) * s.Load * s.horizon()
		require.InDelta(t, expect, n, 4*math.Sqrt(expect), "as many as the rate says: %s", c.Name)
		// Gaps are exponential: as spread as they are long, and their
		// distribution the right one (a Kolmogorov-Smirnov test at 0.1 %).
		slices.Sort(gaps)
		far := 0.0
		for k, g := range gaps {
			p := 1 - math.Exp(-g*c.rate(s.cores())*s.Load)
			far = max(far, math.Abs(p-float64(k)/n), math.Abs(p-float64(k+1)/n))
		}
		require.Less(t, far, 1.95/math.Sqrt(n), "gaps of %s", c.Name)
	}
}

func TestArrivalsDependOnTheSeedAlone(t *testing.T) {
	s := testSpec(1)
	first := s.arrivals()
	s.Contender, s.Yield, s.SpareP = "another", true, true
	require.Equal(t, first, s.arrivals())
	s.HintError = true
	for i, a := range s.arrivals() {
		require.Equal(t, first[i].at, a.at)
	}
	s.Seed++
	require.NotEqual(t, first[0].at, s.arrivals()[0].at)
}

func TestHintErrorIsLogUniform(t *testing.T) {
	s := testSpec(1)
	s.HintError = true
	all := s.arrivals()
	sum := 0.0
	for _, a := range all {
		require.GreaterOrEqual(t, a.lie, float32(lieLow))
		require.LessOrEqual(t, a.lie, float32(lieHigh))
		sum += math.Log(float64(a.lie))
	}
	require.InDelta(t, math.Log(lieLow*lieHigh)/2, sum/float64(len(all)), .02)
}

func TestBursts(t *testing.T) {
	s := testSpec(1)
	s.Bursts = true
	segments := s.segments()
	require.Zero(t, segments[0].from)
	require.Equal(t, s.horizon(), segments[len(segments)-1].to)
	inBurst, measured := 0.0, 0.0
	for i, g := range segments {
		if i > 0 {
			require.Equal(t, segments[i-1].to, g.from)
		}
		if !s.measured(g) {
			continue
		}
		measured += g.to - g.from
		if g.burst {
			inBurst += g.to - g.from
			require.Equal(t, burstLoad, g.load)
		} else {
			require.InDelta(t, calmLoad, g.load, 1e-12)
		}
	}
	require.InDelta(t, s.Seconds, measured, 1e-9)
	require.InDelta(t, .2*s.Seconds, inBurst, 1e-9)

	count := map[bool]float64{}
	for _, a := range s.arrivals() {
		if g := segments[a.segment]; s.measured(g) {
			require.GreaterOrEqual(t, float64(a.at)/1e9, g.from-1e-9)
			require.LessOrEqual(t, float64(a.at)/1e9, g.to)
			count[g.burst]++
		}
	}
	perSecond := func(n, seconds float64) float64 { return n / seconds }
	require.InDelta(t, burstLoad/calmLoad, perSecond(count[true], inBurst)/perSecond(count[false], measured-inBurst), .5)
}

func TestShift(t *testing.T) {
	s := testSpec(1)
	s.Shift = "medium"
	segments := s.segments()
	middle := s.Warmup + s.Seconds/2
	for _, a := range s.arrivals() {
		want := float32(1)
		if s.Mix.Classes[a.class].Name == s.Shift && segments[a.segment].from >= middle {
			want = shiftFactor
		}
		require.Equal(t, want, a.factor)
		require.Equal(t, float32(1), a.lie, "hints do not know")
		require.Equal(t, segments[a.segment].from >= middle, float64(a.at)/1e9 >= middle)
	}
}
