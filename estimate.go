package helix

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// model learns how long jobs of one kind run. It is an exponentially weighted
// mean with a mean deviation beside it, as TCP keeps its round-trip time
// (Jacobson, "Congestion Avoidance and Control", 1988), kept twice: of the run
// time per unit of cost, and of the run time itself for jobs without a cost.
// Of the two it predicts with the one that has lately been the better.
//
// Its zero value has learned nothing. It is safe for concurrent use and reads
// no clock. predict costs about 5 ns; observe about 15 ns, and skips its sample
// rather than wait for another that is being taken in.
type model struct {
	mu      sync.Mutex // guards writing
	perUnit average    // ns per unit of cost
	plain   average    // ns
	samples atomic.Uint64
}

// average is a mean and its mean relative deviation. Both are written under
// model.mu and read without it; a reader may see one a sample older.
type average struct {
	mean, deviation atomicFloat
	n               uint64 // guarded by model.mu
}

const (
	gain       = 0.05 // weight of a sample
	gainEarly  = 0.2  // of the first earlyCount, so that a cold start passes soon
	earlyCount = 30
	maxStep    = 4 // one sample counts at most as this multiple of the mean
)

// predict returns the run time of a job with that cost and its mean deviation.
// Before the first sample it is cost x unit, and 0, not known, without a cost.
func (m *model) predict(cost float64, unit time.Duration) (run, spread time.Duration, samples uint64) {
	samples = m.samples.Load()
	if samples == 0 {
		return scaleDuration(unit, cost), 0, 0
	}
	mean, deviation := m.plain.mean.Load(), m.plain.deviation.Load()
	if cost > 0 {
		if unitMean := m.perUnit.mean.Load(); unitMean > 0 {
			if d := m.perUnit.deviation.Load(); d <= deviation || mean == 0 {
				mean, deviation = unitMean*cost, d
			}
		}
	}
	run = scaleDuration(1, mean)
	return run, scaleDuration(run, deviation), samples
}

// observe learns from a run of a job with that cost.
func (m *model) observe(cost float64, run time.Duration) {
	if !m.mu.TryLock() {
		return
	}
	ns := float64(max(run, 1))
	m.plain.add(ns)
	if cost > 0 {
		m.perUnit.add(ns / cost)
	}
	m.samples.Add(1)
	m.mu.Unlock()
}

// add requires model.mu.
func (a *average) add(v float64) {
	a.n++
	if a.n == 1 {
		a.mean.Store(v)
		return
	}
	mean := a.mean.Load()
	g := gain
	if a.n <= earlyCount {
		g = gainEarly
	}
	a.deviation.Store(a.deviation.Load() + g*(min(math.Abs(v-mean)/mean, maxStep)-a.deviation.Load()))
	a.mean.Store(mean + g*(min(v, maxStep*mean)-mean))
}

// callModel learns how long a call of a batch function takes, T = fixed + perUnit
// x the members' cost (1 each without costs), by least squares with exponentially
// fading weights. Its zero value has learned nothing. It is safe for concurrent
// use; observe skips its sample rather than wait.
type callModel struct {
	fixed, perUnit atomicFloat
	samples        atomic.Uint64

	mu                             sync.Mutex // guards what follows, and writing
	n                              float64    // calls, as far as they have not faded
	cost, run, costCost, costByRun float64    // faded sums
}

// callMemory is how many calls the fit rests on.
const callMemory = 50

// observe learns from a call whose members cost that together.
func (m *callModel) observe(cost float64, run time.Duration) {
	if !m.mu.TryLock() {
		return
	}
	defer m.mu.Unlock()
	const fade = 1 - 1.0/callMemory
	t := float64(run)
	m.n = m.n*fade + 1
	m.cost = m.cost*fade + cost
	m.run = m.run*fade + t
	m.costCost = m.costCost*fade + cost*cost
	m.costByRun = m.costByRun*fade + cost*t
	meanCost, meanRun := m.cost/m.n, m.run/m.n
	// Without calls of different size nothing tells fixed from variable cost:
	// then it is all variable, and batching saves nothing as far as is known.
	perUnit := meanRun / meanCost
	if spread := m.costCost/m.n - meanCost*meanCost; spread > 1e-6*meanCost*meanCost {
		perUnit = min(max((m.costByRun/m.n-meanCost*meanRun)/spread, 0), perUnit)
	}
	m.perUnit.Store(perUnit)
	m.fixed.Store(meanRun - perUnit*meanCost)
	m.samples.Add(1)
}

// predict returns the time of a call with a single item of that cost, and what
// such an item adds to a call of that size.
func (m *callModel) predict(cost float64, size int) (alone, share time.Duration) {
	fixed, variable := m.fixed.Load(), m.perUnit.Load()*cost
	return scaleDuration(1, fixed+variable), scaleDuration(1, fixed/float64(size)+variable)
}

// gain is the part of the work that a call with size items saves; 1, the best,
// until calls of different sizes have been seen.
func (m *callModel) gain(size int, cost float64) float64 {
	fixed, variable := m.fixed.Load(), m.perUnit.Load()*cost
	if m.samples.Load() < callMemory || fixed+variable <= 0 {
		return 1
	}
	return 1 - (fixed+float64(size)*variable)/(float64(size)*(fixed+variable))
}

// atomicFloat is a float64 that can be read while it is written.
type atomicFloat struct{ bits atomic.Uint64 }

func (f *atomicFloat) Load() float64   { return math.Float64frombits(f.bits.Load()) }
func (f *atomicFloat) Store(v float64) { f.bits.Store(math.Float64bits(v)) }
