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
	sampled atomic.Int64 // when the latest job started whose run is to be learned
}

// estimate is what is known of a job's run time.
type estimate struct {
	mean    time.Duration
	high    time.Duration // nine in ten runs keep within it; at least mean
	spread  time.Duration // mean deviation from mean
	samples uint64        // runs it rests on
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
	gainProbe  = 0.5
	gainWait   = 0.01
	waitPrior  = 5e6 // ns
	maxStep    = 4   // one sample counts at most as this multiple of the mean
)

// sampleEvery is how often a run of a kind is learned from at the most, after the first
// earlyCount, of which the first may have been an outlier that must not last: learning
// from each run of a kind that runs a million times a second costs a fifth of what
// a Submit costs, and makes cores share the words it writes. With 64 kinds even every
// 20 µs each were every third run.
const sampleEvery = 100 * time.Microsecond

// sample reports that a job that starts now is to be learned from. It is asked at
// the start because asking at the end would prefer short runs, or long ones.
func (m *model) sample(now int64) bool {
	if last := m.sampled.Load(); last != 0 && now-last < int64(sampleEvery) {
		return false
	}
	m.sampled.Store(now)
	return true
}

// predict returns the run time of a job with that cost.
// Before the first sample it is cost x unit, and 0, not known, without a cost.
func (m *model) predict(cost float64, unit time.Duration) estimate {
	samples := m.samples.Load()
	if samples == 0 {
		hinted := scaleDuration(unit, cost)
		return estimate{hinted, hinted, 0, 0}
	}
	mean, deviation := m.plain.mean.Load(), m.plain.deviation.Load()
	if cost > 0 {
		if unitMean := m.perUnit.mean.Load(); unitMean > 0 {
			if d := m.perUnit.deviation.Load(); d <= deviation || mean == 0 {
				mean, deviation = unitMean*cost, d
			}
		}
	}
	run := scaleDuration(1, mean)
	return estimate{run, scaleDuration(run, 1+2*deviation), scaleDuration(run, deviation), samples}
}

// observe learns from a run of a job with that cost. A probe, let in because the
// estimate may be wrong, counts for much more: there will be no other for a while.
func (m *model) observe(cost float64, run time.Duration, probe bool) {
	if !m.mu.TryLock() {
		return
	}
	ns := float64(max(run, 1))
	m.plain.add(ns, probe)
	if cost > 0 {
		m.perUnit.add(ns/cost, probe)
	}
	m.samples.Add(1)
	m.mu.Unlock()
}

// add requires model.mu.
func (a *average) add(v float64, probe bool) {
	a.n++
	if a.n == 1 {
		a.mean.Store(v)
		return
	}
	mean := a.mean.Load()
	g := gain
	switch {
	case probe:
		g = gainProbe
	case a.n <= earlyCount:
		g = gainEarly
	}
	a.deviation.Store(a.deviation.Load() + g*(min(math.Abs(v-mean)/mean, maxStep)-a.deviation.Load()))
	a.mean.Store(mean + g*(min(v, maxStep*mean)-mean))
}

// waitModel learns how long jobs of a kind wait for a slot, as a part of the work
// before them: with earliest deadline first, kinds with short budgets wait for little
// of it, and those with long ones also for what comes later. It is the ratio of two
// moving means. Its zero value takes it for all of the work. It is safe for concurrent
// use and reads no clock; observe skips its sample rather than wait.
type waitModel struct {
	mu          sync.Mutex // guards writing
	wait, ahead float64    // ns; guarded by mu
	ratio       atomicFloat
}

// predict returns the wait of a job that finds so much work before it, for each slot.
func (m *waitModel) predict(ahead time.Duration) time.Duration {
	if ratio := m.ratio.Load(); ratio > 0 {
		return scaleDuration(ahead, ratio)
	}
	return ahead
}

// observe learns from a job that has waited.
func (m *waitModel) observe(ahead, wait time.Duration) {
	if ahead <= 0 || !m.mu.TryLock() {
		return
	}
	defer m.mu.Unlock()
	if m.ahead == 0 { // begins with a ratio of 1, and some weight behind it
		m.wait, m.ahead = waitPrior, waitPrior
	}
	m.wait += gainWait * (float64(max(wait, 1)) - m.wait)
	m.ahead += gainWait * (float64(ahead) - m.ahead)
	m.ratio.Store(min(m.wait/m.ahead, maxStep))
}

// atomicFloat is a float64 that can be read while it is written.
type atomicFloat struct{ bits atomic.Uint64 }

func (f *atomicFloat) Load() float64   { return math.Float64frombits(f.bits.Load()) }
func (f *atomicFloat) Store(v float64) { f.bits.Store(math.Float64bits(v)) }
