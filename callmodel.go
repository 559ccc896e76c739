package helix

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// callModel learns how long calls of a kind's batch function take, as a part that
// every call has and a part for every unit of cost in it: T = base + slope x units.
// It is a least-squares fit with exponentially fading weights (as recursive least
// squares has it: Ljung, "System Identification", 11.2), kept as two means, a
// variance and a covariance. A job that runs alone is a call of one.
//
// Its zero value has learned nothing. It is safe for concurrent use and reads no
// clock. Reading costs about 2 ns; observe about 20 ns, and skips its sample rather
// than wait for another that is being taken in.
type callModel struct {
	mu                   sync.Mutex // guards writing, and what has no atomic type
	units, run           float64    // means, of a call; run in ns
	variance, covariance float64    // of units; of units and run

	base, slope atomicFloat // ns, ns per unit
	unit        atomicFloat // mean cost of a job; 0 = not known
	deviation   atomicFloat // mean relative deviation of a call from its prediction
	samples     atomic.Uint64
}

// leastVariation is the relative variation of the units in a call from which they
// tell base and slope apart. With less, slope stays what it was.
const leastVariation = 0.2

// slopeForget is the part of slope that a call for one forgets, where none for more
// comes to confirm it. So a kind of which it was learned, by bad luck or long ago, that
// batches do not pay has its jobs batched again after some hundred that ran alone.
const slopeForget = 0.001

// cost is the units that a job with that cost counts as: without one, the mean.
func (m *callModel) cost(cost float64) float64 {
	if cost > 0 {
		return cost
	}
	if unit := m.unit.Load(); unit > 0 {
		return unit
	}
	return 1
}

// predict returns how long a call with that many units takes, in ns.
func (m *callModel) predict(units float64) float64 { return m.base.Load() + m.slope.Load()*units }

// gain is the part of the work that a call of that many usual jobs saves, beside
// one call for each; 1, the best, until something is known.
func (m *callModel) gain(jobs int) float64 {
	unit := m.cost(0)
	alone := float64(jobs) * m.predict(unit)
	if alone <= 0 {
		return 1
	}
	return 1 - m.predict(float64(jobs)*unit)/alone
}

// observe learns from a call of that many jobs with that many units in all.
func (m *callModel) observe(jobs int, units float64, run time.Duration) {
	if !m.mu.TryLock() {
		return
	}
	defer m.mu.Unlock()
	t := float64(max(run, 1))
	samples := m.samples.Add(1)
	g := max(gain, 1/float64(samples))
	if samples > 1 {
		predicted := max(m.predict(units), 1)
		off := min(math.Abs(t-predicted)/predicted, maxStep)
		m.deviation.Store(m.deviation.Load() + g*(off-m.deviation.Load()))
		t = min(t, maxStep*predicted)
	}
	du, dt := units-m.units, t-m.run
	m.units += g * du
	m.run += g * dt
	m.variance = (1 - g) * (m.variance + g*du*du)
	m.covariance = (1 - g) * (m.covariance + g*du*dt)

	slope := m.slope.Load()
	if least := leastVariation * m.units; m.variance > least*least {
		smooth := g // a quotient is noisy
		if samples < earlyCount {
			smooth = 1
		}
		slope += smooth * (m.covariance/m.variance - slope)
	} else if jobs == 1 {
		slope *= 1 - slopeForget
	}
	slope = min(max(slope, 0), m.run/m.units) // neither part is negative
	m.slope.Store(slope)
	m.base.Store(m.run - slope*m.units)
	unit := m.unit.Load()
	m.unit.Store(unit + g*(units/float64(jobs)-unit))
}
