package fair

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// hiddenEvery is the interval of checks of the hidden queue, if hiddenLeast waits have been
	// reported since; the shortest of fewer is not significant.
	hiddenEvery = 10 * time.Millisecond
	hiddenLeast = 4
	// hiddenPart is the part of the tightest budget that jobs may wait in the hidden queue.
	hiddenPart = 0.3
	// Each check multiplies the part of the capacity that is handed out by hiddenLess while
	// they wait longer than that, and by hiddenMuch while they wait longer than the whole
	// budget, down to hiddenFloor. Otherwise it adds up to hiddenMore.
	hiddenLess  = 0.92
	hiddenMuch  = 0.75
	hiddenMore  = 0.02
	hiddenFloor = 0.05
	// hiddenGone is the time without a report after which the queue counts as empty.
	hiddenGone = 100 * time.Millisecond
	// hiddenBusy is the least demand, as a part of the capacity: with less, other work keeps the
	// queue standing.
	hiddenBusy = 0.5
)

// HiddenQueue is the queue in front of the router: jobs that have reached the machine and wait
// in sockets and in Go's run queue to be submitted. The shortest wait of the jobs that leave
// it reveals it: while that is long a queue stands, however much the others vary (Nichols
// and Jacobson, "Controlling queue delay", 2012). Admitted jobs delay its processing, so the
// router admits fewer until it is empty.
type HiddenQueue struct {
	told  atomic.Int64 // waits since the last look
	least atomic.Int64 // the shortest of them, in ns, plus one; 0 if there is none
	stand atomic.Bool  // less than all is handed out; written by look

	// Guarded by Ledger.mu.
	looked int64
	less   float64 // the part that is not handed out
}

// Note records that a job waited so many ns.
func (h *HiddenQueue) Note(wait int64) {
	h.told.Add(1)
	for wait = max(wait, 0) + 1; ; {
		was := h.least.Load()
		if was != 0 && was <= wait || h.least.CompareAndSwap(was, wait) {
			return
		}
	}
}

// Stands reports whether the queue stands, so that less than all is handed out.
func (h *HiddenQueue) Stands() bool { return h.stand.Load() }

// look returns the part of the capacity that is handed out from time now on. tightest is the
// shortest budget of arriving jobs, asked their demand as a part of the capacity. It requires
// Ledger.mu.
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
