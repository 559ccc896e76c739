package estimate

import (
	"encoding/binary"
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
		{"one outlier counts at most four times", 304, func(i int) (float64, float64) {
			if i == 300 {
				return 1, 1e6 * ms
			}
			return 1, ms
		}, 1, 1.01 * ms, .005},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m Runs
			for i := range c.samples {
				cost, ns := c.sample(i)
				m.Observe(cost, time.Duration(ns), false)
			}
			e := m.Predict(c.cost, time.Nanosecond)
			require.EqualValues(t, c.samples, e.Samples())
			require.InDelta(t, c.want, float64(e.Run()), c.want*c.within+1)
			require.GreaterOrEqual(t, spread(e), time.Duration(0))
		})
	}
}

func TestModelTellsItsSpread(t *testing.T) {
	var steady, noisy Runs
	for i := range 200 {
		steady.Observe(1, time.Millisecond, false)
		noisy.Observe(1, time.Duration(1+i%2*2)*time.Millisecond, false)
	}
	require.Zero(t, spread(steady.Predict(1, 1)))
	e := noisy.Predict(1, 1)
	require.InEpsilon(t, 2*time.Millisecond, e.Run(), .05)
	require.InEpsilon(t, time.Millisecond, spread(e), .1)
}

func TestCallModel(t *testing.T) {
	us := func(v float64) float64 { return v * float64(time.Microsecond) }
	var m Calls
	require.InDelta(t, 1, m.Gain(8), 0, "nothing seen: the best is hoped for")
	rng := rand.New(rand.NewPCG(5, 6))
	observe := func(calls, jobs int, cost, base, slope float64) {
		for range calls {
			n, units := 1+rng.IntN(jobs), 0.0
			for range n {
				units += cost * (.5 + rng.Float64())
			}
			m.Observe(n, units, cost, time.Duration(us((base+slope*units)*(.95+.1*rng.Float64()))))
		}
	}
	observe(400, 8, 10, 400, 2) // 400 µs a call and 20 µs a usual job
	require.InEpsilon(t, us(420), m.Time(10), .07)
	require.InEpsilon(t, us(560), m.Time(80), .07)
	require.InEpsilon(t, us(420), m.Time(m.Units(0)), .07, "a job without a cost is a usual one")
	require.InDelta(t, 1-560./(8*420), m.Gain(8), .03)
	require.InDelta(t, 0, m.Gain(1), 1e-9)

	for range 200 { // always as many, and twice as slow
		m.Observe(8, 80, 10, time.Duration(us(1120)))
	}
	require.InEpsilon(t, us(1120), m.Time(80), .01)
	require.Less(t, m.Time(10), us(1120))

	observe(400, 8, 10, 0, 50)
	require.InDelta(t, 0, m.Gain(8), .06, "no saving any more")
	for range 600 {
		m.Observe(1, 10, 10, time.Duration(us(500)))
	}
	require.Greater(t, m.Gain(8), .1, "it is tried again")
	observe(40, 8, 10, 0, 50)
	m.Observe(4, 40, 10, time.Hour)
	require.LessOrEqual(t, m.Time(40), us(1.2*4*2000), "one outlier counts at most four times")
	require.GreaterOrEqual(t, m.Gain(8), 0.)
	require.GreaterOrEqual(t, m.base.Load(), 0.)
	require.GreaterOrEqual(t, m.slope.Load(), 0.)
}

// learned is a model after n samples.
func learned(n int, sample func(i int) (cost float64, run time.Duration)) *Runs {
	m := &Runs{}
	for i := range n {
		cost, run := sample(i)
		m.Observe(cost, run, false)
	}
	return m
}

func TestModelOfRunsOfTwoKinds(t *testing.T) {
	for name, cost := range map[string]float64{"no hints": 0, "a hint that is always the same": 3} {
		t.Run(name, func(t *testing.T) {
			m := learned(3000, func(i int) (float64, time.Duration) {
				if i%10 == 0 {
					return cost, 20 * time.Millisecond
				}
				return cost, 2 * time.Microsecond
			})
			e := m.Predict(cost, 1)
			require.InEpsilon(t, 2001800, e.Run(), .1, "the true mean")
			require.GreaterOrEqual(t, high(e), e.Run())
			require.Greater(t, 2*spread(e), e.Run(), "which is worth little for one job")
		})
	}
}

func TestModelWithWrongHints(t *testing.T) {
	type random func(*rand.Rand) float64
	for lie, factor := range map[string]random{
		"too high": func(*rand.Rand) float64 { return 1000 },
		"too low":  func(*rand.Rand) float64 { return .001 },
		"either":   func(rng *rand.Rand) float64 { return math.Pow(1000, float64(1-2*rng.IntN(2))) },
	} {
		for name, cost := range map[string]random{
			"much alike":    func(rng *rand.Rand) float64 { return 50 + 100*rng.Float64() },
			"always 100":    func(*rand.Rand) float64 { return 100 },
			"of all orders": func(rng *rand.Rand) float64 { return math.Pow(1000, rng.Float64()) },
		} {
			t.Run(lie+", "+name, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(7, 8))
				var m Runs
				for i := range 2000 {
					c := cost(rng)
					run := time.Duration(c * 10_000 * (.9 + .2*rng.Float64()))
					if rng.IntN(10) == 0 {
						c *= factor(rng)
					}
					m.Observe(c, run, false)
					if i >= 100 {
						e := m.Predict(100, 1)
						require.InEpsilon(t, time.Millisecond, e.Run(), .1, "after %d", i)
						require.Less(t, high(e), 1500*time.Microsecond)
					}
				}
				require.LessOrEqual(t, m.Predict(math.MaxFloat64, 1).Run(), 10*time.Millisecond*believeMost*2, "64 times what was seen")
				require.GreaterOrEqual(t, m.Predict(5e-324, 1).Run(), time.Duration(100))
			})
		}
	}
}

// A run that was interrupted now and then says little of the others.
func TestModelOfShortRunsThatAreInterrupted(t *testing.T) {
	m := learned(34, func(i int) (float64, time.Duration) {
		if i == 7 || i == 20 {
			return 1, time.Duration(i) * 100 * time.Microsecond
		}
		return 1, 50
	})
	require.LessOrEqual(t, high(m.Predict(1, 1)), 100*time.Nanosecond)
	for range 5000 {
		m.Observe(1, 50, false)
		if m.Samples()%700 == 0 {
			m.Observe(1, 4*time.Millisecond, false)
		}
		require.LessOrEqual(t, high(m.Predict(1, 1)), 100*time.Nanosecond, "after %d", m.Samples())
	}
}

// A hint is worth something beyond the range in which it was learned.
func TestModelBelievesHintsBeyondWhatItSaw(t *testing.T) {
	m := learned(200, func(i int) (float64, time.Duration) {
		c := 1 + i%3
		return float64(c), time.Duration(c) * time.Millisecond
	})
	require.InEpsilon(t, 100*time.Millisecond, m.Predict(100, 1).Run(), 1e-6)
	require.InEpsilon(t, 20*time.Microsecond, m.Predict(.02, 1).Run(), 1e-6)
}

func TestModelWithACostOnlyNowAndThen(t *testing.T) {
	for name, every := range map[string]int{"no cost now and then": 10, "a cost every other time": 2} {
		m := learned(500, func(i int) (float64, time.Duration) {
			c := 1 + i%3
			run := time.Duration(c) * time.Millisecond
			if i%every == 0 {
				return 0, run
			}
			return float64(c), run
		})
		require.InEpsilon(t, 2*time.Millisecond, m.Predict(2, 1).Run(), .01, name)
		require.InEpsilon(t, 2*time.Millisecond, m.Predict(0, 1).Run(), .05, name)
	}
}

func TestProbesCountMore(t *testing.T) {
	slow := func(int) (float64, time.Duration) { return 1, 50 * time.Millisecond }
	m := learned(500, slow)
	m.Observe(1, time.Millisecond, true)
	e := m.Predict(1, 1)
	require.Less(t, e.Run(), 30*time.Millisecond)
	require.Greater(t, e.Run(), 20*time.Millisecond, "one alone does not decide")
	for range 6 {
		m.Observe(1, time.Millisecond, true)
	}
	require.Less(t, m.Predict(1, 1).Run(), 2*time.Millisecond)

	m = learned(500, slow)
	m.Observe(1, time.Hour, true)
	require.LessOrEqual(t, m.Predict(1, 1).Run(), 150*time.Millisecond, "nor does an absurd one")
}

func TestUnlearnedHintsSaturate(t *testing.T) {
	var m Runs
	require.EqualValues(t, int64(Longest), m.Predict(math.MaxFloat64, time.Second).Run())
	require.EqualValues(t, int64(Longest), high(m.Predict(1e15, time.Second)))
	require.Zero(t, m.Predict(5e-324, 1).Run())
}

// sane requires of an estimate what always holds.
func sane(t *testing.T, e Estimate) {
	t.Helper()
	require.GreaterOrEqual(t, e.Run(), time.Duration(0))
	require.LessOrEqual(t, e.Run(), time.Duration(Longest))
	require.GreaterOrEqual(t, high(e), e.Run())
	require.LessOrEqual(t, high(e), time.Duration(Longest))
	require.GreaterOrEqual(t, spread(e), time.Duration(0))
	require.LessOrEqual(t, spread(e), time.Duration(Longest))
}

// absurd reads samples out of fuzz data: a cost, of any bits, a run time, and flags.
func absurd(data []byte, each func(cost float64, run time.Duration, flags byte)) {
	for ; len(data) >= 17; data = data[17:] {
		cost := math.Float64frombits(binary.BigEndian.Uint64(data))
		if cost < 0 || math.IsNaN(cost) || math.IsInf(cost, 0) {
			cost = 0 // Submit refuses others
		}
		each(cost, time.Duration(binary.BigEndian.Uint64(data[8:])), data[16])
	}
}

// absurdSeed is n samples with that cost and run time.
func absurdSeed(n int, cost float64, run time.Duration, flags byte) (data []byte) {
	for range n {
		data = binary.BigEndian.AppendUint64(data, math.Float64bits(cost))
		data = append(binary.BigEndian.AppendUint64(data, uint64(run)), flags)
	}
	return data
}

func addAbsurdSeeds(f *testing.F) {
	for _, cost := range []float64{math.MaxFloat64, 1e200, 1e15, 1e9, 5e-324, 0, 100} {
		for _, run := range []time.Duration{math.MaxInt64, time.Hour, time.Millisecond, 1, -1} {
			for _, n := range []int{1, 2, 30, 300} {
				f.Add(absurdSeed(n, cost, run, byte(n)))
			}
		}
	}
}

// FuzzRunModel learns from anything, and then from usual runs: it must know those.
func FuzzRunModel(f *testing.F) {
	addAbsurdSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		var m Runs
		absurd(data, func(cost float64, run time.Duration, flags byte) {
			m.Observe(cost, run, flags&1 == 1)
			for _, c := range []float64{cost, 0, 1, math.MaxFloat64, 5e-324} {
				sane(t, m.Predict(c, time.Second))
			}
		})
		for _, near := range []float64{.4, .2} { // about right soon, and right in the end
			for i := range 100 {
				c := 50 + 50*(i%3)
				m.Observe(float64(c), time.Duration(c)*10*time.Microsecond, false)
				sane(t, m.Predict(100, 1))
			}
			require.InEpsilon(t, time.Millisecond, m.Predict(100, 1).Run(), near)
			require.InEpsilon(t, time.Millisecond, m.Predict(0, 1).Run(), near)
			require.Less(t, high(m.Predict(100, 1)), 3*time.Millisecond)
		}
		require.InEpsilon(t, time.Millisecond, m.Predict(100, 1).Run(), .05)
	})
}

// FuzzCallModel does likewise with calls: after 100 it is about right, after 200 it is right.
func FuzzCallModel(f *testing.F) {
	addAbsurdSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		var m Calls
		check := func(cost float64) {
			for what, v := range map[string]float64{
				"run": m.Time(m.Units(cost)), "run of eight": m.Time(8 * m.Units(cost)), "gain": m.Gain(8), "base": m.base.Load(),
				"slope": m.slope.Load(), "spread": m.shape.spread.Load(), "high": m.shape.high.Load(), "cost": m.Units(cost),
			} {
				require.False(t, math.IsNaN(v) || math.IsInf(v, 0) || v < -1e-9, "%s %v", what, v)
			}
			require.LessOrEqual(t, m.Gain(8), 1.)
		}
		absurd(data, func(cost float64, run time.Duration, flags byte) {
			jobs := 1 + int(flags%8)
			m.Observe(jobs, float64(jobs)*m.Counted(cost), cost, run)
			for _, c := range []float64{cost, 0, 1, math.MaxFloat64, 5e-324} {
				check(c)
			}
		})
		usual := func(calls int) {
			for i := range calls {
				jobs, c := 1+i%4, float64(50+50*(i%3))
				m.Observe(jobs, float64(jobs)*m.Counted(c), c, time.Duration(1e6+float64(jobs)*c*1e4))
				check(c)
			}
		}
		usual(100)
		for jobs, want := range map[float64]float64{1: 2e6, 4: 5e6} {
			require.Greater(t, m.Time(jobs*m.Units(100)), want/2)
			require.Less(t, m.Time(jobs*m.Units(100)), want*2)
		}
		usual(100)
		require.InEpsilon(t, 2e6, m.Time(m.Units(100)), .1)
		require.InEpsilon(t, 5e6, m.Time(4*m.Units(100)), .1)
		require.Less(t, m.shape.high.Load(), 1.5)
	})
}

func TestCallModelOfCallsOfTwoKinds(t *testing.T) {
	var m Calls
	for i := range 3000 {
		run := 2 * time.Microsecond
		if i%10 == 0 {
			run = 20 * time.Millisecond
		}
		m.Observe(1, m.Counted(0), 0, run)
	}
	require.InEpsilon(t, 2001800, m.Time(m.Units(0)), .1)
}

func TestCallModelWithWrongHints(t *testing.T) {
	for name, factor := range map[string]float64{"too high": 1000, "too low": .001} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(9, 10))
			var m Calls
			for i := range 3000 {
				jobs, units, truth, one := 1+rng.IntN(8), 0., 0., 0.
				for range jobs {
					c := 50 + 100*rng.Float64()
					truth += c
					if one = c; rng.IntN(10) == 0 {
						one *= factor
					}
					units += m.Counted(one)
				}
				m.Observe(jobs, units, one, time.Duration(400e3+2e3*truth))
				if i >= 200 {
					require.InEpsilon(t, 600e3, m.Time(m.Units(100)), .1, "after %d", i)
					require.InEpsilon(t, 2000e3, m.Time(8*m.Units(100)), .1, "after %d", i)
				}
			}
			require.Less(t, m.Time(m.Units(math.MaxFloat64)), 100e6)
		})
	}
}

// high and spread return those two of the times of an estimate.
func high(e Estimate) time.Duration {
	_, _, _, high, _ := e.Times()
	return high
}

func spread(e Estimate) time.Duration {
	_, _, _, _, spread := e.Times()
	return spread
}
