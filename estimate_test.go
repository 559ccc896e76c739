package helix

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const ms = float64(time.Millisecond)
	for _, c := range []struct {
		name    string
		samples int
		sample  func(i int) (cost, ns float64)
		cost    float64
		want    float64
		within  float64
	}{
		{"nothing learned", 0, nil, 1000, 1000, 0},
		{"nothing known", 0, nil, 0, 0, 0},
		{"one sample", 1, func(int) (float64, float64) { return 2, 4 * ms }, 3, 6 * ms, 0},
		{"proportional to cost", 200, func(int) (float64, float64) { c := 1 + 9*rng.Float64(); return c, c * ms }, 5, 5 * ms, .01},
		{"hints that lie by 0.2 to 5, even in the logarithm", 2000, func(int) (float64, float64) {
			return 10 * math.Pow(5, 2*rng.Float64()-1), 10 * ms
		}, 30, 10 * ms, .2},
		{"no hints", 500, func(int) (float64, float64) { return 0, (1 + rng.Float64()) * ms }, 0, 1.5 * ms, .15},
		{"a hint where none was ever given", 500, func(int) (float64, float64) { return 0, ms }, 7, ms, .01},
		{"three times as slow since 100 samples", 600, func(i int) (float64, float64) {
			if i < 500 {
				return 1, ms
			}
			return 1, 3 * ms
		}, 1, 3 * ms, .05},
		{"one outlier counts at most four times", 301, func(i int) (float64, float64) {
			if i == 300 {
				return 1, 1e6 * ms
			}
			return 1, ms
		}, 1, 1.15 * ms, .01},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m model
			for i := range c.samples {
				cost, ns := c.sample(i)
				m.observe(cost, time.Duration(ns), false)
			}
			e := m.predict(c.cost, time.Nanosecond)
			run, spread, samples := e.mean, e.spread, e.samples
			require.EqualValues(t, c.samples, samples)
			require.InDelta(t, c.want, float64(run), c.want*c.within+1)
			require.GreaterOrEqual(t, spread, time.Duration(0))
		})
	}
}

func TestModelTellsItsSpread(t *testing.T) {
	var steady, noisy model
	for i := range 200 {
		steady.observe(1, time.Millisecond, false)
		noisy.observe(1, time.Duration(1+i%2*2)*time.Millisecond, false)
	}
	require.Zero(t, steady.predict(1, 1).spread)
	e := noisy.predict(1, 1)
	run, spread := e.mean, e.spread
	require.InEpsilon(t, 2*time.Millisecond, run, .05)
	require.InEpsilon(t, time.Millisecond, spread, .1)
}

func TestCallModel(t *testing.T) {
	us := func(v float64) float64 { return v * float64(time.Microsecond) }
	var m callModel
	require.InDelta(t, 1, m.gain(8), 0, "nothing seen: the best is hoped for")
	rng := rand.New(rand.NewPCG(5, 6))
	observe := func(calls, jobs int, cost, base, slope float64) {
		for range calls {
			n, units := 1+rng.IntN(jobs), 0.0
			for range n {
				units += cost * (.5 + rng.Float64())
			}
			m.observe(n, units, time.Duration(us((base+slope*units)*(.95+.1*rng.Float64()))))
		}
	}
	observe(400, 8, 10, 400, 2) // 400 µs a call and 20 µs a usual job
	require.InEpsilon(t, us(420), m.predict(10), .07)
	require.InEpsilon(t, us(560), m.predict(80), .07)
	require.InEpsilon(t, us(420), m.predict(m.cost(0)), .07, "a job without a cost is a usual one")
	require.InDelta(t, 1-560./(8*420), m.gain(8), .03)
	require.InDelta(t, 0, m.gain(1), 1e-9)

	for range 200 { // always as many, and twice as slow
		m.observe(8, 80, time.Duration(us(1120)))
	}
	require.InEpsilon(t, us(1120), m.predict(80), .01)
	require.Less(t, m.predict(10), us(1120))

	observe(400, 8, 10, 0, 50)
	require.InDelta(t, 0, m.gain(8), .06, "no saving any more")
	for range 300 {
		m.observe(1, 10, time.Duration(us(500)))
	}
	require.Greater(t, m.gain(8), batchPays, "it is tried again")
	observe(40, 8, 10, 0, 50)
	m.observe(4, 40, time.Hour)
	require.LessOrEqual(t, m.predict(40), us(1.2*4*2000), "one outlier counts at most four times")
	require.GreaterOrEqual(t, m.gain(8), 0.)
	require.GreaterOrEqual(t, m.base.Load(), 0.)
	require.GreaterOrEqual(t, m.slope.Load(), 0.)
}
