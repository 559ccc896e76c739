package fair

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/num"
)

const (
	// tickEvery is the interval at which demand and shares are computed.
	tickEvery = 10 * time.Millisecond
	// capacityGain is the weight of the latest tick, if jobs waited all through it, in
	// the moving mean of the CPU that jobs get. While none wait it grows by
	// capacityGrowth of the cores a tick, and by as much again for every calmTicks
	// of that state: half of the cores in two thirds of a second.
	capacityGain   = 0.05
	capacityGrowth = 0.001
	calmTicks      = 5
	leastCapacity  = 0.1   // of the cores
	leastShare     = 0.001 // of the capacity
	leastServed    = 0.1   // of its share, while what waits too long is worked off
	mostExtra      = 0.25  // of the capacity, while too little waits
	leastMemory    = 100 * time.Millisecond
	mostMemory     = time.Second
	mostOvertaken  = 0.9
	// A kind's work may wait for waitPart of its budgets. What waits beyond that is to be done
	// within a budget, but not in less time than leastDrain nor in more than mostDrain.
	waitPart   = 0.25
	leastDrain = 20 * time.Millisecond
	mostDrain  = 200 * time.Millisecond
	// If what waits is done sooner than that, more is handed out: the slots would soon be empty by
	// chance. Where budgets are short it is waitPart of them.
	enoughWaits = 50 * time.Millisecond
	// blocksFrom is how many times the tightest budget a run may be that does not yield. While
	// there are longer ones, only blockedPart of the capacity is handed out, no more because little
	// waits, and nothing is made up for: with a long run in each slot at all times, no job of a
	// tight budget would ever find one free.
	blocksFrom  = 2
	blockedPart = 0.99
	// probePart is the part of the capacity that all probes together may take.
	probePart = 0.02
)

// Ledger tracks the offered work, in seconds of CPU, and divides the machine among the kinds
// when demand exceeds capacity. It must be made by NewLedger. It is safe for concurrent use,
// reads no clock and starts no goroutine: the first caller that finds a tick due computes it.
type Ledger struct {
	mu    sync.Mutex
	last  atomic.Int64 // time of the last tick, in ns; written under mu
	total num.Float    // demand of all kinds

	// capacity is the CPU seconds a second that jobs get while they demand more. mu guards it,
	// worked (the work done at the last tick, including long runs under way) and idle (the
	// number of ticks in which more could have been done).
	capacity float64
	idle     float64
	memory   float64 // ns over which demand is averaged; guarded by mu
	worked   int64
	queueing num.Float   // weights of the kinds that have jobs in the queue
	scarce   atomic.Bool // some kind demands more than its share; written under mu
	cores    atomic.Int64
	// nextProbe is the earliest time at which a probe of any kind may be made.
	nextProbe atomic.Int64

	// Hidden is the queue in front of the router.
	Hidden HiddenQueue
}

// Machine is the state of the machine at a tick.
type Machine struct {
	Cores     int           // slots
	UnderWay  int64         // CPU ns of runs that Kind.Worked does not have yet
	Saturated bool          // jobs have waited all the time since the last tick
	Waiting   time.Duration // work in the queue
	Kinds     []Kind
}

// Kind is the state of one kind at a tick.
type Kind struct {
	Account *Account
	Weight  float64       // above 0
	Offered int64         // CPU ns demanded by all jobs so far, including refused ones
	Worked  int64         // CPU ns that jobs so far took
	Typical time.Duration // work of a usual job; 0 = not known
	Yields  bool          // its jobs hand their slot over while they run
	Queued  int64         // jobs that wait
}

// NewLedger returns a ledger without any measurements.
func NewLedger() *Ledger { return &Ledger{capacity: math.Inf(1), memory: float64(leastMemory)} }

// Demand returns the demand of all kinds together.
func (l *Ledger) Demand() float64 { return l.total.Load() }

// Scarce reports whether some kind demands more than its share.
func (l *Ledger) Scarce() bool { return l.scarce.Load() }

// Queueing returns the sum of the weights of those kinds that have jobs in the queue.
func (l *Ledger) Queueing() float64 { return l.queueing.Load() }

// Capacity returns the capacity that is handed out; +Inf before the first tick.
func (l *Ledger) Capacity() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.capacity
}

// Due reports whether a tick is due at time now. It is due if now is before the last tick: that
// is the time of another clock, as in a testing/synctest bubble.
func (l *Ledger) Due(now int64) bool {
	return uint64(now-l.last.Load()) >= uint64(tickEvery) // negative is large
}

// Tick computes demand and shares of all kinds at time now, if a tick is due and no other
// goroutine is in Tick. Only then it calls look, with the ledger locked.
func (l *Ledger) Tick(now int64, look func() Machine) {
	if !l.mu.TryLock() {
		return
	}
	defer l.mu.Unlock()
	if !l.Due(now) {
		return
	}
	m := look()
	cores := float64(m.Cores)
	l.cores.Store(int64(m.Cores))
	elapsed := now - l.last.Swap(now)
	if elapsed <= 0 {
		elapsed = int64(tickEvery)
	}
	asks := make([]ask, len(m.Kinds))
	keep := math.Exp(-float64(elapsed) / l.memory)
	queueing := 0.0
	total, noise, worked := 0.0, 0.0, m.UnderWay
	var q backlog
	tightest, longest := Patience, time.Duration(0)
	for i, k := range m.Kinds {
		worked += k.Worked
		asked := k.Account.measure(k.Offered, elapsed, keep)
		total += asked
		noise += asked * k.Typical.Seconds()
		q.add(k.Account, time.Duration(k.Queued)*k.Typical)
		if k.Queued > 0 {
			queueing += k.Weight
		}
		if asked > leastShare {
			if least := k.Account.Tightest(); least > 0 {
				tightest = min(tightest, least)
			}
			if !k.Yields {
				longest = max(longest, k.Typical)
			}
		}
		asks[i] = ask{k, asked}
	}
	l.total.Store(total)
	l.queueing.Store(queueing)
	capacity := l.measure(cores, worked, elapsed, m.Saturated)

	given := capacity * l.Hidden.look(now, tightest, total/capacity)
	if q.blocks = longest > blocksFrom*tightest; q.blocks {
		given *= blockedPart
	}
	most, level := given, math.Inf(1)
	if l.overloaded(total, noise, most) {
		level = waterFill(asks, most)
	}
	l.scarce.Store(!math.IsInf(level, 1))
	served, modest := 0.0, 0.0 // to all, and to kinds within their share
	for _, a := range asks {
		share := a.share(level)
		if served += share; a.demand <= a.Weight*level {
			modest += share
		}
	}
	// Kinds that ask for more than their share make up for what waits too long or too little.
	less := 1.0
	if most > modest {
		less = max((most-q.excess(m.Waiting, most)-modest)/(most-modest), leastServed)
	}
	for i := range asks {
		a := &asks[i]
		a.Account.queue.allow(q.blocks, a.Typical)
		a.Account.divide(now, elapsed, capacity, most-served, a, level, less)
		tighter := 0.0
		for _, b := range asks {
			if 2*b.Account.Tightest() <= a.Account.Tightest() {
				tighter += b.share(level)
			}
		}
		a.Account.overtaken.Store(min(tighter/capacity, mostOvertaken))
	}
}

// measure updates the capacity from the work done in the last elapsed ns, and whether jobs
// waited all the time, and returns it. It requires l.mu.
//
// Capacity can be measured only while demand exceeds it, like a connection's bottleneck
// (Cardwell et al., "BBR: congestion-based congestion control", 2016): some CPU goes to
// things other than jobs, such as refusing and reading requests.
func (l *Ledger) measure(cores float64, worked, elapsed int64, saturated bool) float64 {
	// Between the charge of a job and its end its time counts twice; afterwards the difference
	// is too small by the same amount.
	rate := min(max(float64(worked-l.worked)/float64(elapsed), 0), 2*cores)
	l.worked = worked
	ticks := float64(elapsed) / float64(tickEvery)
	if l.idle += ticks; saturated {
		l.idle = 0
	}
	if saturated || rate > l.capacity {
		l.capacity += (1 - math.Pow(1-capacityGain, ticks)) * (rate - l.capacity)
	} else {
		l.capacity += capacityGrowth * ticks * (1 + l.idle/calmTicks) * cores
	}
	l.capacity = min(max(l.capacity, leastCapacity*cores), cores)
	return l.capacity
}

// backlog is what of the kinds' work may wait.
type backlog struct {
	may    time.Duration // of all kinds
	blocks bool          // runs are too long for the tightest budget
	// Of kinds over their share: the shares, what may wait, and that by the shortest budget, in s.
	shares, limited, weighted float64
}

// add takes in a kind of which that much work waits.
func (b *backlog) add(a *Account, waits time.Duration) {
	may := a.mayWait(waits)
	b.may += may
	if !a.Limited() || a.Tightest() == Patience {
		return
	}
	b.shares += min(a.Asked(), a.Share())
	b.limited += may.Seconds()
	b.weighted += may.Seconds() * a.Tightest().Seconds()
}

// excess returns the rate that is to be held back of the capacity so that what waits beyond
// what may wait is done within a usual budget of those that pay for it. Otherwise that would soon
// be late, and under earliest deadline first the longest budgets would pay. It is
// negative if too little waits: then a slot would soon be idle by chance, and that is never made
// up for.
func (b *backlog) excess(waits time.Duration, capacity float64) float64 {
	excess := max(waits-b.may, 0).Seconds()
	if b.limited <= 0 {
		return excess / mostDrain.Seconds()
	}
	if few := waits.Seconds() - capacity*min(b.limited/b.shares, enoughWaits.Seconds()); few < 0 && !b.blocks {
		excess = few
	}
	within := min(max(b.weighted/b.limited, leastDrain.Seconds()), mostDrain.Seconds())
	return max(excess/within, -mostExtra*capacity)
}

// overloaded reports whether demand exceeds capacity. An overload begins when it does by more
// than chance explains, and ends when it no longer does. For random arrivals a moving mean
// over memory has the variance noise / (2 memory), where noise is the sum of demand × work of
// a job (Campbell's theorem). So larger jobs need a longer memory. It requires l.mu.
func (l *Ledger) overloaded(total, noise, most float64) bool {
	margin := 0.0
	if !l.scarce.Load() {
		margin = 2 * math.Sqrt(noise/(2*l.memory/1e9))
	}
	const spread = 0.05 // of the capacity: the target of the standard deviation
	wanted := noise / (2 * spread * spread * most * most) * 1e9
	l.memory = min(max(wanted, float64(leastMemory)), float64(mostMemory))
	return total > most+margin
}

// MayProbe reports whether a probe of any kind may be made at time now: together they take
// 2 % of the capacity.
func (l *Ledger) MayProbe(now int64) bool { return now >= l.nextProbe.Load() }

// Probed records that a probe takes so much work, at its start or its end.
func (l *Ledger) Probed(now int64, work time.Duration) {
	next := num.Add(now, int64(float64(work)/(probePart*max(1, float64(l.cores.Load())))))
	if next > l.nextProbe.Load() {
		l.nextProbe.Store(next)
	}
}
