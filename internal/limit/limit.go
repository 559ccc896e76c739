package limit

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// None is the limit of a downstream that is not the bottleneck.
const None = int64(math.MaxInt64)

// Priority selects the part of the queueing time in the downstream that a call may use.
type Priority int8

// The priorities, from the one refused first.
const (
	Low Priority = iota - 1
	Normal
	High
)

// room is the part of T - base that calls of each priority may fill. What is kept from Low
// is there for the others; High may go a little beyond. No priority starves: base alone
// keeps the downstream busy.
var room = [...]float64{.6, 1, 1.25}

// Limit bounds the calls of one downstream that are in flight. Its zero value is ready for
// use, knows nothing and does not limit. It is safe for concurrent use. Times are nanoseconds
// since any one moment; they may come a little out of order. A call costs some 40 ns in all,
// and half of it where there are many.
type Limit struct {
	calls    atomic.Uint64           // in flight, in the low countBits, and above them those that ended and were only counted
	on       atomic.Bool             // there is a limit
	hangs    atomic.Bool             // there is none, but nothing ends, so that there is one meanwhile
	reached  atomic.Bool             // a call found no room in this window
	limits   [len(room)]atomic.Int64 // by priority: X·T, whether on or not
	quiet    atomic.Int64            // while base is learned anew: how many in flight are few; else 0
	silence  atomic.Int64            // after how long without an end the downstream hangs; 0 = not known
	latest   atomic.Int64            // when a call last ended, or was admitted as a probe
	busy     atomic.Int64            // since when calls are in flight
	hopeless atomic.Int64            // no call is in time for so short a budget, which does not count
	shortest atomic.Int64            // budget since law.turned; 0 = none
	lost     atomic.Int64            // calls in flight that seem never to end, and do not count; see lost.go
	counting atomic.Int64            // until when successful calls are only counted: enough of them have been measured

	mu  sync.Mutex // guards law, and the writing of on, limits, quiet, silence and counting
	law *law       // made when the first call ends: most kinds of work do not wait

	// The learned values, for readers without the lock. Written under mu.
	base atomic.Uint64 // float64 bits of ns
	mean atomic.Uint64 // likewise
	rate atomic.Uint64 // float64 bits of calls a second
}

// What is added to Limit.calls when a call begins, ends, and ends and is counted: a carry out
// of the low half adds one to the high half.
const (
	countBits        = 32
	begins           = 1
	ends      uint64 = 1<<64 - 1
	counts    uint64 = 1<<countBits - 1
)

// Call is a call in flight.
type Call struct {
	Began int64
	// Among is how many were in flight then, this one too; maxAmong stands for more, 0 for few:
	// then it teaches base however many come later.
	Among uint16
}

const maxAmong = math.MaxUint16

// Room returns how many calls may be in flight for one of that priority to start; 0 = any
// number. If probe, one may start beyond that, because the downstream may hang. It changes
// nothing.
func (l *Limit) Room(now int64, p Priority) (most int, probe bool) {
	most = int(l.limits[p+1].Load())
	silent := false
	if l.InFlight() >= int64(most) {
		wait := l.silence.Load()
		silent = wait > 0 && now-l.latest.Load() >= wait
	}
	switch {
	case l.on.Load() || l.hangs.Load():
		return most, silent
	case silent: // it begins to hang
		return most, false
	}
	return 0, false
}

// Refused records that a call was refused because there was no room.
func (l *Limit) Refused() {
	flag := &l.hangs
	if l.on.Load() {
		flag = &l.reached
	}
	if !flag.Load() { // the word is shared: write it rarely
		flag.Store(true)
	}
}

// Lull reports whether no call has ended, or been admitted as a probe, for a while.
func (l *Limit) Lull(now int64) bool { return now-l.latest.Load() >= windowMost }

// Probe reports whether the caller's call is the one admitted during a lull.
func (l *Limit) Probe(now int64) bool {
	was := l.latest.Load()
	return now-was >= windowMost && l.latest.CompareAndSwap(was, now)
}

// Begin records that a call starts, with or without room, and returns its Call.Among.
// budget is that of the call; 0 = none.
func (l *Limit) Begin(now, budget int64) uint16 {
	n := max(inFlight(l.calls.Add(begins))-l.lost.Load(), 1)
	if budget > 0 {
		if least := l.shortest.Load(); (least == 0 || budget < least) && budget > l.hopeless.Load() {
			l.shortest.CompareAndSwap(least, budget)
		}
	}
	switch {
	case n == 1:
		if now-l.latest.Load() > latestEvery {
			l.busy.Store(now)
			l.latest.Store(now)
		}
		if l.silence.Load() == 0 {
			l.watchFirst(now, budget)
		}
	case n > l.limits[Normal+1].Load() && (l.on.Load() || l.hangs.Load()):
		l.latest.Store(now) // a probe, or as good as one
	}
	if n <= l.quiet.Load() {
		return 0
	}
	return uint16(min(n, maxAmong))
}

// watchFirst defines a hang before the first end of a call: no end for the budget of the first
// call. Then that is late, and more would be. Without a budget there is only a bound that no
// downstream is likely to need.
func (l *Limit) watchFirst(now, budget int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.law != nil || l.silence.Load() != 0 {
		return
	}
	l.busy.Store(now)
	l.latest.Store(now)
	if budget > 0 {
		l.publish(few, 0, 0, float64(max(budget, windowMost)))
	} else {
		l.publish(mostUnknown, 0, 0, float64(windowMost))
	}
}

// Abandon records that a call that has begun will never start.
func (l *Limit) Abandon() { l.calls.Add(ends) }

// End records the end of a call. well is false if it failed or its ctx was done: then it does
// not count in the rate of the downstream.
func (l *Limit) End(c Call, now int64, well bool) {
	if now-l.latest.Load() > latestEvery {
		l.latest.Store(now)
	}
	if l.hangs.Load() {
		l.hangs.Store(false)
	}
	if well && now < l.counting.Load() && l.lost.Load() == 0 {
		l.calls.Add(counts)
		return
	}
	all := inFlight(l.calls.Add(ends))
	l.mu.Lock()
	if l.law == nil {
		l.law = new(law)
	}
	n := all - l.law.unlose(l, c, all)
	l.law.note(l, c, n+1, now, well)
	l.mu.Unlock()
}

// InFlight returns the number of calls in flight, without those that seem never to end: Lost
// returns that of these.
func (l *Limit) InFlight() int64 { return max(inFlight(l.calls.Load())-l.lost.Load(), 0) }
func (l *Limit) Lost() int64     { return min(l.lost.Load(), inFlight(l.calls.Load())) }

func inFlight(calls uint64) int64 { return int64(calls & (1<<countBits - 1)) }

// counted is how many calls were only counted, ever; it wraps around.
func (l *Limit) counted() uint32 { return uint32(l.calls.Load() >> countBits) }

// Limit returns how many calls of that priority may be in flight now, or None.
func (l *Limit) Limit(p Priority) int64 {
	if l.on.Load() || l.hangs.Load() {
		return l.limits[p+1].Load()
	}
	return None
}

// Base is the latency of calls that find little else in flight, in ns, and Latency that of
// calls lately; 0 = not known.
func (l *Limit) Base() int64    { return int64(load(&l.base)) }
func (l *Limit) Latency() int64 { return int64(load(&l.mean)) }

// Rate is how many calls have ended well a second, lately.
func (l *Limit) Rate() float64 { return load(&l.rate) }

func load(bits *atomic.Uint64) float64 { return math.Float64frombits(bits.Load()) }

// publish stores the limits for readers. It requires l.mu.
func (l *Limit) publish(limit, base, target, silence float64) {
	for p, part := range room {
		queue := 1.0
		if target > 0 {
			queue = (base + part*(target-base)) / target
		}
		n := limit * queue
		if n < least {
			n = math.Ceil(n - .1)
		}
		l.limits[p].Store(int64(max(math.Ceil(n-.5), 1)))
	}
	l.silence.Store(int64(silence))
}

// The constants of the law; doc.go has the formulas.
const (
	// least is the lowest limit: enough calls to notice that the downstream is back.
	least = 4
	// few calls in flight are no load for any downstream.
	few = 8
	// mostUnknown calls without a budget may be in flight before any has ended.
	mostUnknown = 1 << 14
	// A window closes after windowLeast if windowCalls have ended in it, or after windowMost.
	windowLeast = int64(10 * time.Millisecond)
	windowMost  = int64(100 * time.Millisecond)
	windowCalls = 20
	// Of a window without a limit the latencies of timedMost calls are looked at, and others that
	// end well in its first windowLeast are only counted: so many cannot all wait for Limit.mu.
	timedMost = 128
	// shortMean is the shortest time over which a mean is taken, in ns, longMean the longest one
	// for the sake of chance.
	shortMean, longMean = 30e6, 300e6
	// base is sure with baseSure calls, and rests on at most baseCalls, or more if they vary much; to learn it
	// anew takes up to drainWindows, or baseMost calls.
	baseSure     = 16
	baseCalls    = 256
	baseMost     = 200
	drainWindows = 4
	// loneKept is the part of the calls that found nothing else in flight that still counts a second later.
	loneKept = .6
	// varies is a coefficient of variation that an exponential distribution has not.
	varies = 1.5
	// idleFirst is the part of its capacity that a downstream is taken to have idle when a limit is set. It is
	// a mean of idleCalls calls, and of longMean.
	idleFirst, idleCalls = .1, 100
	// leastLate is the part of the calls that find the limit nearly reached that may be late in any case. They
	// may queue for roomPart of what that leaves of the budget.
	leastLate, roomPart = .003, .8
	// How latencies spread when the limit is nearly reached rests on nearCalls calls, or more if they vary
	// much, and is half sure with nearSure. Their deviation grows by growthMost of their mean at most,
	// or as much as with processor sharing.
	nearCalls, nearSure, growthMost = 400, 30, .5
	// longQueue is how much queue there may be in any case, in ns, patience the same for calls without a budget.
	// Both are a quarter if the downstream is never idle, and whole from idleEnough on.
	longQueue, patience, idleEnough = 20e6, 50e6, .05
	// places is how many calls may queue in any case, if they vary as an exponential distribution does: so many come
	// at once by chance.
	places = 64
	// latestEvery is how exactly Limit.latest is kept: writing it costs more than reading it.
	latestEvery = int64(time.Millisecond / 2)
	// remember is how long a limit stays that is not needed, and how long a budget counts.
	remember = int64(time.Second)
)
