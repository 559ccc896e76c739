package helix

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// tickEvery is how often demand and shares are worked out anew.
const tickEvery = 10 * time.Millisecond

// demandGain is the weight of the latest tick in the demand's moving mean.
const demandGain = 0.3

// demand is one kind's place in the ledger: what it asks for and what is its
// due, both in CPU seconds a second. Written by tick only, read by anybody.
type demand struct {
	asked   atomicFloat
	share   atomicFloat
	offered int64 // sum of cell.offered at the last tick; guarded by ledger.mu
}

// ledger knows the work offered, in seconds of CPU, and divides the machine
// among the kinds. It reads no clock and starts no goroutine: whoever first
// decides after a tick is due works it out.
type ledger struct {
	mu    sync.Mutex
	last  atomic.Int64 // time of the last tick, in ns; written under mu
	total atomicFloat  // demand of all kinds
}

// due reports that a tick is due at time now.
func (l *ledger) due(now int64) bool { return now-l.last.Load() >= int64(tickEvery) }

// tick works out demand and shares of all kinds at time now, of a machine with
// that many cores.
func (l *ledger) tick(now int64, cores float64, kinds map[string]*kind) {
	if !l.mu.TryLock() {
		return // somebody is at it
	}
	defer l.mu.Unlock()
	if !l.due(now) {
		return
	}
	elapsed := now - l.last.Swap(now)
	// Several ticks may have passed since anybody decided.
	keep := math.Pow(1-demandGain, float64(elapsed)/float64(tickEvery))
	asks := make([]ask, 0, len(kinds))
	total := 0.0
	for _, k := range kinds {
		sum := int64(0)
		for i := range k.cells {
			sum += k.cells[i].offered.Load()
		}
		rate := float64(sum-k.demand.offered) / float64(elapsed)
		k.demand.offered = sum
		asked := keep*k.demand.asked.Load() + (1-keep)*rate
		k.demand.asked.Store(asked)
		total += asked
		asks = append(asks, ask{k, asked, k.weight.Load()})
	}
	l.total.Store(total)
	level := waterFill(asks, cores)
	for _, a := range asks {
		a.kind.demand.share.Store(min(a.weight*level, cores))
	}
}

// ask is one kind's demand in the division of the machine.
type ask struct {
	kind           *kind
	demand, weight float64
}

// waterFill finds the level at which the kinds' shares, each the lesser of its
// demand and weight x level, add up to cores (weighted max-min fairness:
// Bertsekas and Gallager, "Data Networks", 6.5.2). A kind that asks for less
// than weight x level is not limited. It is +Inf where all demands fit.
func waterFill(asks []ask, cores float64) float64 {
	slices.SortFunc(asks, func(a, b ask) int {
		switch x, y := a.demand*b.weight, b.demand*a.weight; {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	weights := 0.0
	for _, a := range asks {
		weights += a.weight
	}
	left := cores
	for _, a := range asks {
		if level := left / weights; a.demand > a.weight*level {
			return level
		}
		left -= a.demand
		weights -= a.weight
	}
	return math.Inf(1)
}
