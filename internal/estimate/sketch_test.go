package estimate

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// sketched is the summary of a sketch of n numbers.
func sketched(n int, number func(i int) float64) summary {
	var s sketch
	for i := range n {
		s.add(number(i), false)
	}
	return s.summary()
}

func TestSketch(t *testing.T) {
	var rng *rand.Rand // anew for each case
	for name, c := range map[string]struct {
		n                  int
		number             func(i int) float64
		mean, spread, high float64
		within             float64
	}{
		"one number":                           {1, func(int) float64 { return 7 }, 7, 0, 7, 0},
		"always the same":                      {1000, func(int) float64 { return 1e6 }, 1e6, 0, 1e6, 1e-9},
		"two, one by one":                      {1000, func(i int) float64 { return 1 + 2*float64(i%2) }, 2, .5, 3, .01},
		"one in eight is much":                 {1000, func(i int) float64 { return []float64{2, 2e4}[b2i(i%8 == 7)] }, 2501.75, 1.75, 2e4, .03},
		"one in twelve is much":                {1200, func(i int) float64 { return []float64{2, 2e4}[b2i(i%12 == 11)] }, 1668.5, 1.83, 1668.5, .03},
		"even":                                 {3000, func(int) float64 { return 1 + rng.Float64() }, 1.5, .25 / 1.5, 1.9, .06},
		"exponential":                          {3000, func(int) float64 { return rng.ExpFloat64() }, 1, 2 / math.E, math.Log(10), .15},
		"one of many is far":                   {200, func(i int) float64 { return []float64{1, 1e9}[b2i(i == 150)] }, 1, 0, 1, .05},
		"one of two is far":                    {2, func(i int) float64 { return []float64{1, 1e9}[i] }, 2.5, .6, 4, .001},
		"many were far":                        {188, func(i int) float64 { return []float64{1, 1e9}[b2i(i < 100)] }, 1, 0, 1, 1e-9},
		"many were tiny":                       {188, func(i int) float64 { return []float64{1, 1e-9}[b2i(i < 100)] }, 1, 0, 1, 1e-9},
		"three times as much since 40 numbers": {540, func(i int) float64 { return []float64{1, 3}[b2i(i >= 500)] }, 3, .15, 3, .1},
		"zero, and less, are a tiny number":    {10, func(i int) float64 { return -float64(i) }, leastNumber, 0, leastNumber, 1e-9},
		"infinity is a huge one":               {10, func(i int) float64 { return math.Inf(1) }, mostNumber, 0, mostNumber, 1e-9},
	} {
		t.Run(name, func(t *testing.T) {
			rng = rand.New(rand.NewPCG(1, 2))
			sum := sketched(c.n, c.number)
			require.InEpsilon(t, c.mean, sum.mean, c.within+1e-12, "mean")
			require.InDelta(t, c.spread, sum.spread, c.within+1e-12, "spread")
			require.InEpsilon(t, c.high, sum.high, c.within+1e-12, "high")
		})
	}
	require.Zero(t, sketched(0, nil))
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// What is far above the others and rare has its weight in the mean, whenever chance
// brings it.
func TestSketchKnowsTheMeanOfTwoModes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var s sketch
	off, n := 0, 0
	for i := range 20_000 {
		v := 2.
		if rng.IntN(10) == 0 {
			v = 20e3
		}
		s.add(v, false)
		if i < 2*memory {
			continue
		}
		n++
		mean := s.summary().mean
		if math.Abs(mean-2001.8) > 2001.8/4 {
			off++
		}
	}
	require.Less(t, float64(off), .02*float64(n), "of %d times the mean was off by more than a quarter", n)
}

func TestSketchForgetsNothingThatStillCounts(t *testing.T) {
	var s sketch
	for i := range 10 * sketchSize { // more values than buckets, far apart
		s.add(math.Pow(3, float64(i%20)), false)
	}
	require.Equal(t, sketchSize, s.used)
	sum := 0.
	for i := range 20 {
		sum += math.Pow(3, float64(i)) / 20
	}
	require.InEpsilon(t, sum, s.summary().mean, .1)
}

func TestSketchLeavesTheOddApart(t *testing.T) {
	var s sketch
	for i := range 100 {
		s.add([]float64{1, 1000}[b2i(i%10 == 9)], i%10 == 9)
	}
	sum := s.summary()
	require.InDelta(t, 1, sum.mean, 1e-9)
	require.InDelta(t, 1, sum.high, 1e-9)
	require.InDelta(t, .1, sum.odd, .01)
	require.InDelta(t, 1, sum.median, 1e-9)
}

// checkSketch requires what always holds, whatever was added.
func checkSketch(t *testing.T, s *sketch) {
	t.Helper()
	require.LessOrEqual(t, s.used, sketchSize)
	used, total := s.buckets[:s.used], 0.
	require.True(t, slices.IsSortedFunc(used, func(a, b bucket) int {
		if a.mean < b.mean {
			return -1
		}
		return 1
	}), "%v", used)
	for _, b := range used {
		require.GreaterOrEqual(t, b.mean, leastNumber)
		require.LessOrEqual(t, b.mean, mostNumber)
		require.GreaterOrEqual(t, b.weight, float32(0))
		require.Positive(t, b.hits)
		total += float64(b.weight)
	}
	require.InEpsilon(t, total, float64(s.total), .01)
	sum := s.summary()
	for _, v := range []float64{sum.mean, sum.spread, sum.high, sum.median, sum.least, sum.most, sum.odd} {
		require.False(t, math.IsNaN(v) || math.IsInf(v, 0) || v < 0, "%+v", sum)
	}
	if sum.mean > 0 {
		require.GreaterOrEqual(t, sum.mean, sum.least*(1-1e-6))
		require.LessOrEqual(t, sum.mean, sum.most*(1+1e-6))
		require.GreaterOrEqual(t, sum.high, sum.mean)
		require.LessOrEqual(t, sum.high, sum.most*(1+1e-6))
	}
}

// FuzzSketch adds any numbers, and then lively that are usual: only those count.
func FuzzSketch(f *testing.F) {
	f.Add([]byte("some bytes that are many numbers, of any size and sign"), false)
	f.Add(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, math.Float64bits(math.MaxFloat64)), 1), true)
	f.Fuzz(func(t *testing.T, data []byte, odd bool) {
		var s sketch
		for ; len(data) >= 8; data = data[8:] {
			v := math.Float64frombits(binary.BigEndian.Uint64(data))
			if math.IsNaN(v) {
				continue
			}
			s.add(v, odd && data[7]&1 == 1)
			checkSketch(t, &s)
			if data[7]&7 == 7 {
				s.keep(1)
				checkSketch(t, &s)
			}
		}
		for i := range 3 * lively {
			s.add(100+float64(i%3), false)
			checkSketch(t, &s)
		}
		require.InDelta(t, 101, s.summary().mean, 1)
	})
}

func BenchmarkModels(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	var costs, runs [1024]float64
	for i := range runs {
		costs[i] = 1 + rng.Float64()
		runs[i] = 1e6 * costs[i] * rng.ExpFloat64()
	}
	b.Run("Runs/Observe", func(b *testing.B) {
		var m Runs
		for i := 0; b.Loop(); i++ {
			m.Observe(0, time.Duration(runs[i%1024]), false)
		}
	})
	b.Run("Runs/Observe with costs", func(b *testing.B) {
		var m Runs
		for i := 0; b.Loop(); i++ {
			m.Observe(costs[i%1024], time.Duration(runs[i%1024]), false)
		}
	})
	b.Run("Runs/Predict", func(b *testing.B) {
		var m Runs
		for i := range runs {
			m.Observe(costs[i], time.Duration(runs[i]), false)
		}
		for b.Loop() {
			m.Predict(1, 1)
		}
	})
	b.Run("Calls/Observe", func(b *testing.B) {
		var m Calls
		for i := 0; b.Loop(); i++ {
			jobs := 1 + i%8
			m.Observe(jobs, float64(jobs)*costs[i%1024], costs[i%1024], time.Duration(runs[i%1024]))
		}
	})
	b.Run("Calls/Time", func(b *testing.B) {
		var m Calls
		for i := range runs {
			m.Observe(1, costs[i], costs[i], time.Duration(runs[i]))
		}
		for b.Loop() {
			m.Time(m.Units(1))
		}
	})
}
