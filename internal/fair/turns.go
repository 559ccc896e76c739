package fair

import (
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/num"
)

// Turns gives refused jobs of a kind turns to come again, like the numbers that a bakery
// hands out: a place for one job comes free when its kind's guaranteed rate has worked off
// what a job adds, and each is promised to one of those refused only. Told only how long it
// takes until some place is free, they would all come at once.
//
// A job that comes when a turn is due takes it, if its kind is hardly further ahead than it
// may be: so the rate at which places come free need not be foreseen to the last job. That
// it is the job which was told so cannot be seen, and does not matter: it is the one that is
// there.
type Turns struct {
	latest atomic.Int64 // the time of the latest turn given
	// The turns that have not been taken nor missed, in the order of time: from head to tail,
	// modulo turnsKept.
	head, tail atomic.Uint32
	due        atomic.Pointer[[turnsKept]atomic.Int64] // nil until the first
}

const (
	turnsKept = 512
	// mostRetry is the longest time that a refused job is told to wait.
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
	if t.tail.Load()-t.head.Load() < turnsKept { // of more than so many nobody is sure
		due[(t.tail.Add(1)-1)%turnsKept].Store(at)
	}
}

// Ready reports that a turn is due at time now, and takes it if it is to.
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

// After returns in how long to come again for a job refused at time now that has excess too much
// before it, when a place comes free every so often, of so many jobs refused at once.
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

// forget ends that turns are kept, because places are free.
func (t *Turns) forget() {
	if t.latest.Load() != 0 {
		t.latest.Store(0)
		t.head.Store(t.tail.Load())
	}
}
