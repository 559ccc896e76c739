package helix

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// model learns how long jobs of one kind run, from two sketches: of the run times, and
// of the run times per unit of cost. It predicts with the one that spreads less, and
// jobs without a cost from the first. A run whose cost says something else by far than
// all others do, while it took as long as they, counts for the first only: the hint was
// wrong.
//
// Its zero value has learned nothing. It is safe for concurrent use and reads no
// clock. predict costs about 5 ns; observe 30 ns where run times
// repeat and up to 200 where they are all over the place, and skips its sample rather than
// wait for another that is being taken in.
type model struct {
	mu      sync.Mutex
	runs    sketch // ns; guarded by mu
	perUnit sketch // ns per unit of cost; guarded by mu

	run, unit forecast
	// A job's cost is believed up to these run times, in ns.
	least, most atomicFloat
	samples     atomic.Uint64
	sampled     atomic.Int64 // when the latest job started whose run is to be learned
}

// forecast is what readers want of a sketch. It is written under model.mu and read
// without it; a reader may see parts of two that follow one another.
type forecast struct {
	mean, median atomicFloat
	// As parts of mean.
	spread, low, likely, high atomicFloat
}

func (f *forecast) set(s summary) {
	f.mean.Store(s.mean)
	f.median.Store(s.median)
	f.spread.Store(s.spread)
	if s.mean > 0 {
		f.low.Store(s.low / s.mean)
		f.likely.Store(s.likely / s.mean)
		f.high.Store(s.high / s.mean)
	}
}

const (
	// earlyCount is the number of first runs that are all learned from.
	earlyCount = 30
	// summaryEvery is at which run the prediction is brought up to date, after those.
	summaryEvery = 8
	// A hint is believed as far as it says believeMost times more than the longest run
	// of late, or less than the shortest.
	believeMost = 64
	// longestRun bounds predictions, so that sums of them do not overflow: 417 days.
	longestRun = 1 << 55
	// unconfirmedMost is the most work that a hint stands for which no run has confirmed.
	unconfirmedMost = time.Second
	// A hint was wrong if it is off by oddFrom, and half as far again as the median is.
	oddFrom = 4 * octave
	// oddMost is the part of hints that may be wrong for the others to be of use.
	oddMost = 0.3

	gain      = 0.05 // weight of a sample
	gainWait  = 0.01
	waitPrior = 5e6 // ns
	maxStep   = 4   // one sample counts at most as this multiple of the mean
)

// sampleEvery limits learning to one run per kind per 100 µs after the first earlyCount
// runs (decision 8). Early runs are always sampled, so that an outlier among them is
// averaged out quickly.
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

// predict fills in the run time of a job with its cost. Before the first sample it is
// cost x unit, and 0, not known, without a cost.
//
//go:noinline
func (m *model) predict(j *JobInfo, unit time.Duration) {
	if j.Samples = m.samples.Load(); j.Samples == 0 {
		j.Predicted = min(scaleDuration(unit, j.Cost), longestRun)
		j.Low, j.Likely, j.High, j.Spread = j.Predicted, j.Predicted, j.Predicted, 0
		return
	}
	f, ns := &m.run, m.run.mean.Load()
	if j.Cost > 0 {
		if unit := m.unit.mean.Load(); unit > 0 && m.unit.spread.Load() <= m.run.spread.Load() {
			f, ns = &m.unit, min(max(unit*j.Cost, m.least.Load()), m.most.Load())
		}
	}
	j.Predicted = bounded(ns)
	j.Low = bounded(ns * f.low.Load() * confidence(j.Samples))
	j.Likely = bounded(ns * f.likely.Load())
	j.High = max(bounded(ns*f.high.Load()), j.Predicted)
	j.Spread = bounded(ns * f.spread.Load())
}

// confidence is the part of summary.low that few samples allow to believe in: shorter runs
// may be yet to come.
func confidence(samples uint64) float64 {
	const enough = 16
	return 1./4 + 3./4*float64(min(samples, enough))/enough
}

// bounded is a duration of that many ns.
func bounded(ns float64) time.Duration { return time.Duration(min(ns, longestRun)) }

// observe learns from a run of a job with that cost. A probe, let in because the
// estimate may be wrong, counts as much as all before it: there will be no other for a
// while.
func (m *model) observe(cost float64, run time.Duration, probe bool) {
	if !m.mu.TryLock() {
		return
	}
	defer m.mu.Unlock()
	if probe {
		m.runs.keep(1)
		m.perUnit.keep(1)
	}
	ns := float64(min(max(run, 1), longestRun))
	m.runs.add(ns, false)
	if cost > 0 {
		perUnit := ns / cost
		m.perUnit.add(perUnit, isOdd(perUnit, m.unit.median.Load(), ns, m.run.median.Load()))
	}
	if n := m.samples.Add(1); n > earlyCount && n%summaryEvery != 0 && !probe {
		return
	}
	runs := m.runs.summary()
	m.run.set(runs)
	m.least.Store(runs.least / believeMost)
	m.most.Store(runs.most * believeMost)
	if m.perUnit.used > 0 {
		units := m.perUnit.summary()
		if units.odd > oddMost {
			units.mean = 0
		}
		m.unit.set(units)
	}
}

// isOdd reports that a run time per unit is far from the usual one, and much farther than
// the run time is.
func isOdd(perUnit, usualPerUnit, run, usual float64) bool {
	if usualPerUnit == 0 {
		return false
	}
	off := apart(max(perUnit, leastNumber), usualPerUnit)
	return off > oddFrom && 2*off > 3*apart(run, usual)
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
