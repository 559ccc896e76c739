package fair

import (
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/num"
)

// Turns schedules the retries of refused jobs of a kind, like the numbered tickets of a shop. A
// place for one job comes free each time the kind's guaranteed rate has done the work of one
// job, and each place is promised to one refused job only. If all jobs were given the time
// of the next free place, they would all return at once.
//
// A job that arrives when a turn is due takes it, if its kind is only slightly further ahead
// than allowed, so the rate of places need not be predicted exactly. Whether the turn was
// promised to this very job is not known, and does not matter.
type Turns struct {
	latest atomic.Int64 // the time of the latest turn given
	// The turns that are neither taken nor missed, in the order of time: from head to tail,
	// modulo turnsKept.
	head, tail atomic.Uint32
	due        atomic.Pointer[[turnsKept]atomic.Int64] // nil until the first
}

const (
	turnsKept = 512
	// mostRetry is the longest time that After returns.
	mostRetry = time.Minute
	// turnLasts is for how long a turn may be taken.
	turnLasts = 2 * time.Millisecond
)

// give notes a turn.
func (t *Turns) give(at int64) {
	due := t.due.Load()
	if due == nil {
		t.due.CompareAndSwap(nil, new([turnsKept]atomic.Int64))
		due = t.due.Load()
	}
	if t.tail.Load()-t.head.Load() < turnsKept { // predictions for more turns are too uncertain
		due[(t.tail.Add(1)-1)%turnsKept].Store(at)
	}
}

// Ready reports whether a turn is due at time now; take also takes it.
func (t *Turns) Ready(now int64, take bool) bool {
	for {
		head, tail := t.head.Load(), t.tail.Load()
		if head == tail {
			return false
		}
		at := t.due.Load()[head%turnsKept].Load()
		if at > now {
			return false
		}
		if now-at <= int64(turnLasts) && !take {
			return true
		}
		if t.head.CompareAndSwap(head, head+1) && now-at <= int64(turnLasts) {
			return true
		}
	}
}

// After returns when to retry a job refused at time now, whose virtual queue is too long by
// excess. A place comes free at each interval every, and jobs were refused at once.
func (t *Turns) After(now int64, excess, every time.Duration, jobs int64) time.Duration {
	first := num.Add(now, int64(max(excess, 0)))
	for {
		latest := t.latest.Load()
		turn := max(first, min(num.Add(latest, jobs*int64(every)), now+int64(mostRetry)))
		if t.latest.CompareAndSwap(latest, turn) {
			t.give(turn)
			return time.Duration(turn-now) + 1
		}
	}
}

// Share gives a turn to one more job that is told at time now to wait so long. Those that After
// gives next are later by as much.
func (t *Turns) Share(now int64, wait time.Duration) {
	if wait > 0 {
		t.give(now + int64(wait) - 1)
	}
}

// forget drops all turns, because places are free.
func (t *Turns) forget() {
	if t.latest.Load() != 0 {
		t.latest.Store(0)
		t.head.Store(t.tail.Load())
	}
}
