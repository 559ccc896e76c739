package estimate

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/num"
)

// Runs learns how long jobs of one kind run, from two sketches: of the run times, and
// of the run times per unit of cost. It predicts with the one that spreads less, and
// jobs without a cost from the first. A run of usual length with a far-off cost counts for the
// first sketch only: the hint was wrong.
//
// Its zero value has learned nothing. It is safe for concurrent use and reads no
// clock. Predict costs about 5 ns; Observe 30 ns if run times repeat and up to
// 200 ns if they vary widely. Observe skips its sample if another goroutine is in Observe.
type Runs struct {
	mu      sync.Mutex
	runs    sketch // ns; guarded by mu
	perUnit sketch // ns per unit of cost; guarded by mu

	run, unit forecast
	// A job's cost is believed up to these run times, in ns.
	least, most num.Float
	samples     atomic.Uint64
	sampled     atomic.Int64 // when the latest job started whose run is to be learned
}

// forecast has the figures of a sketch that readers need. It is written under Runs.mu and read
// without it.
type forecast struct {
	mean, median num.Float
	shape
}

func (f *forecast) set(s summary, samples uint64) {
	f.mean.Store(s.mean)
	f.median.Store(s.median)
	f.shape.set(s, samples)
}

const (
	// summaryEvery is the number of runs between two updates of the estimate, after EarlyRuns.
	summaryEvery = 8
	// A hint is believed up to believeMost times the longest recent run, and down to the
	// same fraction of the shortest.
	believeMost = 64
	// A hint is wrong if it is off by oddFrom, and half as far again as the median is.
	oddFrom = 4 * octave
	// oddMost is the fraction of wrong hints up to which the others are used.
	oddMost = 0.3
)

// sampleEvery limits learning to one run per kind per 100 µs after the first EarlyRuns
// (decision 8). Early runs are always sampled, so that an outlier among them is
// averaged out quickly.
const sampleEvery = 100 * time.Microsecond

// Sample reports whether a job that starts now, in ns, is sampled. The choice is made at the
// start, because at the end it would prefer short runs, or long ones.
func (m *Runs) Sample(now int64) bool {
	if last := m.sampled.Load(); last != 0 && now-last < int64(sampleEvery) {
		return false
	}
	m.sampled.Store(now)
	return true
}

// Samples returns the number of runs learned from.
func (m *Runs) Samples() uint64 { return m.samples.Load() }

// PerUnit returns the mean run time of a unit of cost, in ns; 0 = not known.
func (m *Runs) PerUnit() float64 { return m.unit.mean.Load() }

// Mean returns the mean run time and its spread, both in ns; 0 = not known.
func (m *Runs) Mean() (run, spread float64) {
	run = m.run.mean.Load()
	return run, run * m.run.spread.Load()
}

// Predict returns the run time of a job with that cost. Before the first sample it is
// cost × unit, and 0, not known, without a cost.
//
//go:noinline
func (m *Runs) Predict(cost float64, unit time.Duration) Estimate {
	samples := m.samples.Load()
	if samples == 0 {
		return Estimate{ns: min(float64(unit)*cost, Longest)}
	}
	f, ns := &m.run, m.run.mean.Load()
	if cost > 0 {
		if unit := m.unit.mean.Load(); unit > 0 && m.unit.spread.Load() <= m.run.spread.Load() {
			f, ns = &m.unit, unit*cost
			if most := m.most.Load(); ns > most { // not by min and max: see Bounded
				ns = most
			} else if least := m.least.Load(); ns < least {
				ns = least
			}
		}
	}
	return Estimate{ns, samples, &f.shape}
}

// Observe learns from a run of a job with that cost. A probe, admitted because the estimate
// may be wrong, weighs as much as all samples before it: the next one comes much later.
func (m *Runs) Observe(cost float64, run time.Duration, probe bool) {
	if !m.mu.TryLock() {
		return
	}
	defer m.mu.Unlock()
	if probe {
		m.runs.keep(1)
		m.perUnit.keep(1)
	}
	ns := float64(min(max(run, 1), Longest))
	m.runs.add(ns, false)
	if cost > 0 {
		perUnit := ns / cost
		m.perUnit.add(perUnit, isOdd(perUnit, m.unit.median.Load(), ns, m.run.median.Load()))
	}
	n := m.samples.Add(1)
	if n > EarlyRuns && n%summaryEvery != 0 && !probe {
		return
	}
	runs := m.runs.summary()
	m.run.set(runs, n)
	m.least.Store(runs.least / believeMost)
	m.most.Store(runs.most * believeMost)
	if m.perUnit.used > 0 {
		units := m.perUnit.summary()
		if units.odd > oddMost {
			units.mean = 0
		}
		m.unit.set(units, n)
	}
}

// isOdd reports whether a run time per unit is far from the usual one, and much farther than
// the run time is from its own.
func isOdd(perUnit, usualPerUnit, run, usual float64) bool {
	if usualPerUnit == 0 {
		return false
	}
	off := apart(max(perUnit, leastNumber), usualPerUnit)
	return off > oddFrom && 2*off > 3*apart(run, usual)
}
