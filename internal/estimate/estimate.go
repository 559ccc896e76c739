package estimate

import (
	"time"

	"github.com/helixrouter/helix/internal/num"
)

// Estimate is the prediction of one run time. Its zero value means that nothing is known. It
// has three words, so that it is passed in registers: the stacks of submitters are small.
type Estimate struct {
	ns      float64 // the mean
	samples uint64
	shape   *shape // nil: all runs are expected to be as long as the mean
}

// Samples returns the number of runs behind the estimate.
func (e Estimate) Samples() uint64 { return e.samples }

// Run returns the mean.
func (e Estimate) Run() time.Duration { return Bounded(e.ns) }

// Times returns the mean; what one run in ten stays within, or less while there are few samples:
// shorter runs may follow; what eight runs in ten and what nine in ten stay within, the latter no
// less than the mean; and the mean deviation from the mean.
func (e Estimate) Times() (mean, low, likely, high, spread time.Duration) {
	mean = Bounded(e.ns)
	s := e.shape
	if s == nil {
		return mean, mean, mean, mean, 0
	}
	return mean, Bounded(e.ns * s.low.Load()), Bounded(e.ns * s.likely.Load()),
		max(Bounded(e.ns*s.high.Load()), mean), Bounded(e.ns * s.spread.Load())
}

const (
	// EarlyRuns is the number of a kind's first runs that are all sampled.
	EarlyRuns = 30
	// UnconfirmedMost bounds the work predicted from a hint that no run has confirmed.
	UnconfirmedMost = time.Second
	// Longest bounds estimates, so that sums of them do not overflow: 417 days.
	Longest = 1 << 55
	// StepMost bounds one sample of a moving mean, in multiples of the mean.
	StepMost = 4

	gain = 0.05 // weight of a sample in Failures
)

// Bounded returns a duration of that many ns, at most Longest.
func Bounded(ns float64) time.Duration {
	if ns < Longest { // not by min, which takes care of NaN and of the sign of 0
		return time.Duration(ns)
	}
	return Longest
}

// confidence returns the fraction of the lowest tenth that so many samples support.
func confidence(samples uint64) float64 {
	const enough = 16
	if samples >= enough {
		return 1
	}
	return 1./4 + 3./4*float64(samples)/enough
}

// shape is a distribution, relative to its mean. One goroutine at a time writes it and any may
// read it; a reader may see fields of two successive distributions.
type shape struct{ spread, low, likely, high num.Float }

// set fills in a summary of so many samples.
func (s *shape) set(sum summary, samples uint64) {
	if sum.mean > 0 {
		s.spread.Store(sum.spread)
		s.low.Store(sum.low / sum.mean * confidence(samples))
		s.likely.Store(sum.likely / sum.mean)
		s.high.Store(sum.high / sum.mean)
	}
}

// Failures is the mean time of a kind's runs that did not succeed. They do not predict
// successful runs, but until one succeeds there is no other estimate. Its zero value has
// seen none. It is safe for concurrent use: one of two simultaneous samples may be lost.
type Failures struct{ mean num.Float }

// Observe learns from a run that did not succeed.
func (f *Failures) Observe(run time.Duration) {
	ns := float64(max(run, 1))
	if mean := f.mean.Load(); mean > 0 {
		ns = mean + (ns-mean)*gain
	}
	f.mean.Store(ns)
}

// Run returns the mean; 0 if there were none.
func (f *Failures) Run() time.Duration { return Bounded(f.mean.Load()) }
