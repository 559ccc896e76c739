package estimate

import (
	"sync"
	"time"

	"github.com/helixrouter/helix/internal/num"
)

// QueueWait learns how long jobs of a kind wait for a slot, as a fraction of the work
// before them: with earliest deadline first, kinds with short budgets wait for a small
// fraction of it, and kinds with long ones also for later arrivals. It is the ratio of two
// moving means. Its zero value predicts a wait for all of the work. It is safe for
// concurrent use and reads no clock; Observe skips its sample rather than wait.
type QueueWait struct {
	mu          sync.Mutex // guards writing
	wait, ahead float64    // ns; guarded by mu
	samples     float64    // guarded by mu
	ratio       num.Float
}

const (
	gainWait  = 0.005 // weight of a sample, at least: those that waited for the same run tell the same
	waitPrior = 5e6   // ns of waiting that the first ratio, of 1, rests on
	priorLike = 30    // samples that it counts for
)

// Predict returns the wait of a job that has so much work before it, per slot.
func (m *QueueWait) Predict(ahead time.Duration) time.Duration {
	if ratio := m.ratio.Load(); ratio > 0 {
		return num.Scale(ahead, ratio)
	}
	return ahead
}

// Observe learns from a job that has waited.
func (m *QueueWait) Observe(ahead, wait time.Duration) {
	if ahead <= 0 || !m.mu.TryLock() {
		return
	}
	defer m.mu.Unlock()
	if m.ahead == 0 {
		m.wait, m.ahead = waitPrior, waitPrior
	}
	m.samples++
	gain := max(gainWait, 1/(m.samples+priorLike))
	m.wait += gain * (float64(max(wait, 1)) - m.wait)
	m.ahead += gain * (float64(ahead) - m.ahead)
	m.ratio.Store(min(m.wait/m.ahead, StepMost))
}
