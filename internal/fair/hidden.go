package fair

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// hiddenEvery is how often the hidden queue is looked at, if hiddenLeast waits have been
	// told since; the shortest of fewer says little.
	hiddenEvery = 10 * time.Millisecond
	hiddenLeast = 4
	// hiddenPart is the part of the tightest budget that jobs may wait in the hidden queue.
	hiddenPart = 0.3
	// By hiddenLess what is given away shrinks at each look while they wait longer, and by
	// hiddenMuch while they wait longer than all of that budget, down to hiddenFloor; by up to
	// hiddenMore of the whole it grows while they do not.
	hiddenLess  = 0.92
	hiddenMuch  = 0.75
	hiddenMore  = 0.02
	hiddenFloor = 0.05
	// hiddenGone is after how long without a word the queue is taken to be gone.
	hiddenGone = 100 * time.Millisecond
	// hiddenBusy is the part of the capacity that jobs must ask for: if it is less, it is not
	// they that keep the queue standing.
	hiddenBusy = 0.5
)

// HiddenQueue is what stands in front of the router: jobs that have reached the machine and
// wait in sockets and in Go's run queue for being submitted. It is known by the shortest wait
// of those that come out of it: while that is long a queue stands, however much the
// others vary (Nichols and Jacobson, "Controlling queue delay", 2012). The jobs that the
// router admits keep it from being worked off, so it admits fewer until it is.
type HiddenQueue struct {
	told  atomic.Int64 // waits since the last look
	least atomic.Int64 // the shortest of them, in ns, plus one; 0 if there is none
	stand atomic.Bool  // less than all is given away; written by look

	// Guarded by Ledger.mu.
	looked int64
	less   float64 // what is not given away, as a part
}

// Note takes down that a job waited so many ns.
func (h *HiddenQueue) Note(wait int64) {
	h.told.Add(1)
	for wait = max(wait, 0) + 1; ; {
		was := h.least.Load()
		if was != 0 && was <= wait || h.least.CompareAndSwap(was, wait) {
			return
		}
	}
}

// Stands reports whether the queue stands, so that less than all is given away.
func (h *HiddenQueue) Stands() bool { return h.stand.Load() }

// look returns the part of the capacity that is to be given away from time now on, where
// tightest is the shortest budget of the jobs that come, which ask for the part asked of the
// capacity. Requires Ledger.mu.
func (h *HiddenQueue) look(now int64, tightest time.Duration, asked float64) float64 {
	since := now - h.looked
	told := h.told.Load()
	if since < int64(hiddenEvery) || told < hiddenLeast && since < int64(hiddenGone) {
		return 1 - h.less
	}
	h.looked = now
	h.told.Store(0)
	stands := float64(max(h.least.Swap(0)-1, 0))
	if told < hiddenLeast || asked < hiddenBusy {
		stands = 0
	}
	switch target := hiddenPart * float64(tightest); {
	case stands > target:
		by := hiddenLess
		if stands > float64(tightest) {
			by = hiddenMuch
		}
		h.less = min(1-(1-h.less)*by, 1-hiddenFloor)
	case h.less > 0:
		looks := math.Round(float64(since) / float64(hiddenEvery))
		h.less = max(h.less-looks*hiddenMore*(target-stands)/target, 0)
	}
	h.stand.Store(h.less > 0)
	return 1 - h.less
}
