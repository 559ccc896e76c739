package estimate

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/num"
)

// Calls learns how long calls of a kind's batch function take: a fixed part and a part
// for every unit of cost, T = base + slope × units. A job that runs alone is a call of one.
//
// A resistant line through the latest calls (Tukey, "Exploratory Data Analysis", 1977)
// gives the ratio of the two parts; one call in eight may be off by any factor. A sketch of
// the times, each divided by the line's value for a usual job, gives the level. Costs far
// from those of most jobs are treated as wrong hints.
//
// Its zero value has learned nothing. It is safe for concurrent use and reads no
// clock. Reading costs about 3 ns; Observe some 700 ns. Observe skips its sample if
// another goroutine is in Observe.
type Calls struct {
	mu     sync.Mutex
	latest [48]call // a ring; guarded by mu
	costs  sketch   // of jobs that have one; guarded by mu
	times  sketch   // ns, of calls for one usual job; guarded by mu
	varied float64  // the part of those times that grows with the units; guarded by mu
	tells  bool     // the latest calls differed enough to tell; guarded by mu

	base, slope num.Float // ns, ns per unit
	unit        num.Float // mean cost of a job; 0 = not known
	least, most num.Float // a job's cost is believed between these
	shape       shape     // of the time of a call
	samples     atomic.Uint64
}

// call is one point of the line.
type call struct{ units, ns float32 }

const (
	// fitEvery is the number of calls between two fits of the line, after the first EarlyRuns.
	fitEvery = 8
	// fitGain is the weight of a new line that differs little from the one before; that of
	// one that differs by a half is 1.
	fitGain = 0.125
	// muchVaried is the change of Calls.varied from which times scaled by the old value are discarded.
	muchVaried = 0.1
	// muchDearer is the change of the usual cost from which the earlier jobs count as different ones.
	muchDearer = octave / 4
	// fenceFrom is the number of costs from which some are not believed.
	fenceFrom = 8
	// leastVariation is the relative difference of the units in small and large calls
	// from which they tell base and slope apart. With less, slope stays what it was.
	leastVariation = 0.4
	// slopeForget is the fraction of slope that a call for one job removes while no larger
	// call confirms it. So a kind that has learned, by chance or long ago, that batches do
	// not pay is batched again after some hundred jobs that ran alone.
	slopeForget = 0.0003
	// A cost is believed as far as believeReach beyond the middle half of all, or as far as
	// that extends (Tukey's fences, as above, a little closer).
	believeReach = 4 * octave
	// leastCost and mostCost stand in for costs beyond them. No product or quotient of
	// what they make overflows.
	leastCost, mostCost = 1e-30, 1e30
)

// Samples returns the number of calls learned from.
func (m *Calls) Samples() uint64 { return m.samples.Load() }

// Slope returns the time that each unit of cost adds to a call, in ns; 0 = not known.
func (m *Calls) Slope() float64 { return m.slope.Load() }

// Predict returns how long a job of that many units runs alone, as a call of one, and the time
// that it adds to a call of full jobs: the work that it is charged. Under overload, when it
// matters, batches fill up, but only if enough is admitted. It calls nothing, so that it fits
// into any stack.
func (m *Calls) Predict(units float64, full int) (alone Estimate, work time.Duration) {
	alone = Estimate{m.Time(units), m.samples.Load(), &m.shape}
	return alone, Bounded(m.base.Load()/float64(full) + m.slope.Load()*units)
}

// Usual returns the time of a call for one usual job, and its spread, in ns.
func (m *Calls) Usual() (run, spread float64) {
	run = m.Time(m.usual())
	return run, run * m.shape.spread.Load()
}

// Units returns the units of a job with that cost in a prediction: the mean without a cost.
func (m *Calls) Units(cost float64) float64 {
	if cost > 0 {
		cost = within(cost, leastCost, mostCost)
		if most := m.most.Load(); most > 0 {
			return within(cost, m.least.Load(), most)
		}
		return cost
	}
	return m.usual()
}

// usual returns the units of a job without a cost: the mean of those with one.
func (m *Calls) usual() float64 {
	if unit := m.unit.Load(); unit > 0 {
		return unit
	}
	return 1
}

// within is v, or the bound that it is beyond. See Bounded.
func within(v, least, most float64) float64 {
	switch {
	case v < least:
		return least
	case v > most:
		return most
	}
	return v
}

// Counted returns the units of a job with that cost in a call to learn from: those of a
// usual job if the cost is out of bounds.
func (m *Calls) Counted(cost float64) float64 {
	if believed := m.Units(cost); believed == cost {
		return cost
	}
	return m.usual()
}

// Time returns how long a call with that many units takes, in ns.
func (m *Calls) Time(units float64) float64 {
	if ns := m.base.Load() + m.slope.Load()*units; ns < Longest { // not by min: see Bounded
		return ns
	}
	return Longest
}

// Gain returns the fraction of work that one call of that many usual jobs saves compared to
// one call for each; 1, the best, before the first sample.
func (m *Calls) Gain(jobs int) float64 {
	unit := m.usual()
	alone := float64(jobs) * m.Time(unit)
	if alone <= 0 {
		return 1
	}
	return 1 - m.Time(float64(jobs)*unit)/alone
}

// Observe learns from a call of that many jobs with that many units in total; cost is one job's.
func (m *Calls) Observe(jobs int, units, cost float64, run time.Duration) {
	if !m.mu.TryLock() {
		return
	}
	defer m.mu.Unlock()
	if cost > 0 {
		m.costs.add(min(max(cost, leastCost), mostCost), false)
	}
	units = min(max(units, leastCost), float64(jobs)*mostCost)
	ns := float64(min(max(run, 1), Longest))
	n := m.samples.Load()
	m.latest[n%uint64(len(m.latest))] = call{float32(units), float32(ns)}
	m.samples.Store(n + 1)
	if n < EarlyRuns || n%fitEvery == 0 || jobs > 1 && !m.tells {
		unit := m.usual()
		m.believe()
		varied := m.varied
		m.fit(int(min(n+1, uint64(len(m.latest)))))
		if math.Abs(m.varied-varied) > muchVaried || apart(m.usual(), unit) > muchDearer {
			m.restate(n)
		}
	}
	if jobs == 1 && !m.tells {
		m.varied *= 1 - slopeForget
	}
	m.times.add(ns/m.longer(units), false)
	times := m.times.summary()
	m.base.Store(times.mean * (1 - m.varied))
	m.slope.Store(times.mean * m.varied / m.usual())
	m.shape.set(times, n+1)
}

// longer is how many times longer a call with that many units takes than one for a usual
// job. It requires m.mu.
func (m *Calls) longer(units float64) float64 {
	return 1 - m.varied + m.varied*units/m.usual()
}

// believe updates the usual cost and the bounds of believed costs. After a small change the
// old samples are scaled by the new cost, so base and slope stay. It requires m.mu.
func (m *Calls) believe() {
	if m.costs.used == 0 {
		return
	}
	lower, upper := m.costs.quantile(.25), m.costs.quantile(.75)
	reach := max(believeReach, apart(lower, upper))
	least, most := shift(lower, -reach), shift(upper, reach)
	unit := m.costs.meanWithin(least, most)
	if was := m.usual(); apart(unit, was) <= muchDearer {
		by := m.longer(unit)
		m.times.stretch(by)
		m.varied *= unit / was / by
	}
	m.unit.Store(unit)
	if m.costs.count >= fenceFrom {
		m.least.Store(least)
		m.most.Store(most)
	}
}

// restate rebuilds m.times from the latest calls before the nth after a large change of their
// scale. It requires m.mu.
func (m *Calls) restate(n uint64) {
	m.times = sketch{}
	size := uint64(len(m.latest))
	for i := n - min(n, size-1); i < n; i++ {
		c := m.latest[i%size]
		m.times.add(float64(c.ns)/m.longer(float64(c.units)), false)
	}
}

// fit draws the line through the latest n calls, if they differ enough. It requires m.mu.
//
//go:noinline
func (m *Calls) fit(n int) {
	// A call in one word: in the order of words calls are in the order of their units.
	var words [len(m.latest)]uint64
	calls := words[:n]
	for i, c := range m.latest[:n] {
		calls[i] = uint64(math.Float32bits(c.units))<<32 | uint64(math.Float32bits(c.ns))
	}
	slices.Sort(calls)
	third := (n + 2) / 3
	slope, tells := slopeBetween(calls[:third], calls[n-third:])
	if !tells {
		// Few may be large: of those above the middle of the range two will do.
		half := (unpack(calls[0]).units + unpack(calls[n-1]).units) / 2
		above := n - 1
		for above > 0 && unpack(calls[above-1]).units > half {
			above--
		}
		if min(above, n-above) >= 2 {
			slope, tells = slopeBetween(calls[:above], calls[above:])
		}
	}
	if m.tells = tells; !tells {
		return
	}
	base := max(0, middle(calls, func(c call) float32 { return c.ns - float32(slope)*c.units }))
	if unit := slope * m.usual(); base+unit > 0 {
		off := unit/(base+unit) - m.varied
		if n > EarlyRuns {
			off *= min(max(fitGain, 2*math.Abs(off)), 1)
		}
		m.varied += off
	}
}

// slopeBetween returns the slope of the line through the middles of calls with few units and
// of calls with many, and whether they differ enough to tell.
func slopeBetween(few, many []uint64) (slope float64, tells bool) {
	units := func(c call) float32 { return c.units }
	ns := func(c call) float32 { return c.ns }
	x1, x2 := middle(few, units), middle(many, units)
	if x2-x1 <= leastVariation*(x1+x2)/2 {
		return 0, false
	}
	return max(0, (middle(many, ns)-middle(few, ns))/(x2-x1)), true
}

func unpack(word uint64) call {
	return call{math.Float32frombits(uint32(word >> 32)), math.Float32frombits(uint32(word))}
}

// middle returns the mean of the middle quarter of the values that of returns for the calls.
func middle(calls []uint64, of func(call) float32) (sum float64) {
	var room [len(Calls{}.latest)]float32
	values := room[:len(calls)]
	for i, word := range calls {
		values[i] = of(unpack(word))
	}
	slices.Sort(values)
	cut := len(values) * 3 / 8
	for _, v := range values[cut : len(values)-cut] {
		sum += float64(v)
	}
	return sum / float64(len(values)-2*cut)
}
