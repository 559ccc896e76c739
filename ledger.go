package helix

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// tickEvery is how often demand and shares are worked out anew.
	tickEvery = 10 * time.Millisecond
	// demandGain is the weight of the latest tick in the demand's moving mean.
	demandGain = 0.1
	// usable is the part of the machine that is given away at the most. With less,
	// work is left undone; with more, what is admitted comes late.
	usable = 0.99
	// capacityGain is the weight of the latest tick, if jobs waited all through it, in
	// the moving mean of what the machine gives to jobs. While none wait it is taken
	// to be more by capacityGrowth of the cores a tick, and again as much for every
	// calmTicks that this has gone on: half of the cores in two thirds of a second.
	capacityGain   = 0.05
	capacityGrowth = 0.001
	calmTicks      = 5
	leastCapacity  = 0.1 // of the cores
	// A kind's work may wait for waitPart of its budgets. What waits beyond that is to
	// be done within drainTime, if leastGiven of the capacity can be spared.
	waitPart   = 0.25
	drainTime  = 100 * time.Millisecond
	leastGiven = 0.3
	// leastBurst is how much of its share a kind may save up, as time at its rate,
	// if its budgets are shorter: work that can wait longer may come in larger
	// bursts.
	leastBurst = 50 * time.Millisecond
	// tierFloor is the part of a kind's share that no priority is denied.
	tierFloor = 0.05
	// fillEvery is how often the buckets are filled: not at every look, because the
	// words are shared.
	fillEvery = 20 * time.Microsecond
	// probeEvery is after how long a kind of which nothing gets to run is let in all
	// the same, so that a wrong estimate heals.
	probeEvery = time.Second
)

// tierReserve is the part of its savings that a kind keeps for jobs of higher
// priority than Low, Normal and High.
var tierReserve = [3]float64{0.20, 0.05, 0}

// ledger knows the work offered, in seconds of CPU, and divides the machine
// among the kinds when they ask for more than there is: weighted max-min fair
// shares. It reads no clock and starts no goroutine: whoever first decides after
// a tick is due works it out.
type ledger struct {
	mu    sync.Mutex
	last  atomic.Int64 // time of the last tick, in ns; written under mu
	total atomicFloat  // demand of all kinds

	// capacity is the CPU seconds a second that jobs get when they want more.
	// Guarded by mu, like worked, the work done at the last tick, and calm, the ticks
	// for which more could have been done.
	capacity float64
	calm     float64
	worked   int64
	scarce   atomic.Bool // some kind asks for more than its share; written under mu
	// procs is GOMAXPROCS, which is not to be asked at every decision: that takes a lock
	// of the scheduler's. Written by New and under mu.
	procs atomic.Int64
}

// measure takes in the work done in the last elapsed ns, and whether jobs waited
// all through it, and returns the capacity: what there is to give away.
//
// It is known only from what is done while more is wanted, as a connection's
// bottleneck is (Cardwell et al., "BBR: congestion-based congestion control",
// 2016): a part of the cores goes into what is not a job, such as refusing and
// reading requests.
func (l *ledger) measure(cores float64, worked, elapsed int64, saturated bool) float64 {
	rate := float64(worked-l.worked) / float64(elapsed)
	l.worked = worked
	ticks := float64(elapsed) / float64(tickEvery)
	if l.calm += ticks; saturated {
		l.calm = 0
	}
	if saturated || rate > l.capacity {
		l.capacity += (1 - math.Pow(1-capacityGain, ticks)) * (rate - l.capacity)
	} else {
		l.capacity += capacityGrowth * ticks * (1 + l.calm/calmTicks) * cores
	}
	l.capacity = min(max(l.capacity, leastCapacity*cores), cores)
	return l.capacity
}

// toGive is what is to be given away of a capacity while so much more work waits
// than may: less, so that it is done within drainTime. If it waited on, it would be
// late soon, and earliest deadline first makes those with the longest budgets pay.
func toGive(capacity float64, excess time.Duration) float64 {
	return max(usable*capacity-max(excess, 0).Seconds()/drainTime.Seconds(), leastGiven*capacity)
}

// due reports that a tick is due at time now.
func (l *ledger) due(now int64) bool { return now-l.last.Load() >= int64(tickEvery) }

// tick works out demand and shares of all kinds at time now, of a machine with
// that many cores and those slots.
func (l *ledger) tick(now int64, cores float64, pool *pool, kinds map[string]*kind) {
	if !l.mu.TryLock() {
		return // somebody is at it
	}
	defer l.mu.Unlock()
	if !l.due(now) {
		return
	}
	elapsed := now - l.last.Swap(now)
	l.procs.Store(int64(runtime.GOMAXPROCS(0)))
	asks := make([]ask, 0, len(kinds))
	total, worked, mayWait := 0.0, int64(0), time.Duration(0)
	for _, k := range kinds {
		offered, done := k.offered()
		worked += done
		asked := k.demand.measure(offered, elapsed)
		total += asked
		mayWait += k.demand.mayWait()
		asks = append(asks, ask{&k.demand, asked, k.weight.Load()})
	}
	l.total.Store(total)
	saturated := !pool.spare.Swap(false) && pool.queued.Load() > 0
	capacity := l.measure(cores, worked, elapsed, saturated)
	level := waterFill(asks, toGive(capacity, poolLoad(pool.load.Load()).work()-mayWait))
	l.scarce.Store(!math.IsInf(level, 1))
	for _, a := range asks {
		share := a.weight * level
		a.of.divide(now, min(share, cores), a.demand > share)
	}
}

// ask is one kind's demand in the division of the machine.
type ask struct {
	of             *demand
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

// demand is one kind's account in the ledger: what it asks for, what is its
// due, both in CPU seconds a second, and, while it asks for more than its due, a
// token bucket that is filled at the rate of its share.
type demand struct {
	asked   atomicFloat
	share   atomicFloat
	limited atomic.Bool  // asks for more than its share
	started atomic.Int64 // about when a job last started
	probed  atomic.Int64 // when a job was last let in to heal a wrong estimate
	budget  atomic.Int64 // of the latest job, in ns

	offered int64 // at the last tick; guarded by ledger.mu

	// The bucket has no lock: all who decide on a limited kind use it.
	rate   atomicFloat     // share, while limited; written under ledger.mu
	filled atomic.Int64    // time up to which the buckets have been filled
	saved  atomic.Int64    // CPU ns that may be spent
	floor  [3]atomic.Int64 // CPU ns that Low, Normal and High may spend at least
}

// measure takes in the work offered so far and returns the demand.
func (d *demand) measure(offered, elapsed int64) float64 {
	rate := float64(offered-d.offered) / float64(elapsed)
	d.offered = offered
	// Several ticks may have passed since anybody decided.
	keep := math.Pow(1-demandGain, float64(elapsed)/float64(tickEvery))
	asked := keep*d.asked.Load() + (1-keep)*rate
	d.asked.Store(asked)
	return asked
}

// mayWait is how much of the kind's work may wait without harm: by Little's law, what
// comes of it during the time that each job may wait.
func (d *demand) mayWait() time.Duration {
	return time.Duration(waitPart * min(d.asked.Load(), d.share.Load()) * float64(d.budget.Load()))
}

// divide puts a share in force. It requires ledger.mu.
func (d *demand) divide(now int64, share float64, limited bool) {
	d.share.Store(share)
	switch was := d.limited.Load(); {
	case was && limited:
		d.fill(now)
		d.rate.Store(share)
	case limited: // begins with as much as may wait
		d.rate.Store(share)
		d.filled.Store(now)
		d.saved.Store(int64(waitPart * share * d.burst()))
		for i := range d.floor {
			d.floor[i].Store(0)
		}
		d.limited.Store(true)
	case was:
		d.limited.Store(false)
	}
}

// burst is how many ns of its share the kind may save up.
func (d *demand) burst() float64 { return float64(max(d.budget.Load(), int64(leastBurst))) }

// fill brings the buckets up to date, to within fillEvery.
func (d *demand) fill(now int64) {
	filled := d.filled.Load()
	if now-filled < int64(fillEvery) || !d.filled.CompareAndSwap(filled, now) {
		return
	}
	rate := d.rate.Load()
	fresh, most := rate*float64(now-filled), rate*d.burst()
	pour(&d.saved, fresh, most)
	for i := range d.floor {
		pour(&d.floor[i], tierFloor*fresh, tierFloor*most)
	}
}

// pour fills a bucket that holds so much at the most; the rest runs over. Others
// may spend meanwhile.
func pour(bucket *atomic.Int64, fresh, most float64) {
	if over := bucket.Add(int64(fresh)) - int64(most); over > 0 {
		bucket.Add(-over)
	}
}

// left is what a job of that priority finds in its kind's bucket: above zero, it
// may be admitted. Being admitted on the last of it may overdraw it, so that work
// larger than the bucket gets its share too.
func (d *demand) left(now int64, priority Priority) (limited bool, left time.Duration) {
	if !d.limited.Load() {
		return false, 0
	}
	d.fill(now)
	tier := priority - Low
	saved := d.saved.Load() - int64(tierReserve[tier]*d.rate.Load()*d.burst())
	return true, time.Duration(max(saved, d.floor[tier].Load()))
}

// spend takes the work of an admitted job out of the bucket; a negative amount
// gives back what it did not use.
func (d *demand) spend(work int64, priority Priority) {
	if work == 0 || !d.limited.Load() {
		return
	}
	d.saved.Add(-work)
	d.floor[priority-Low].Add(-work)
}

// patient notes the budget of a job; without one it has patience.
func (d *demand) patient(budget time.Duration) {
	if budget == 0 {
		budget = patience
	}
	if d.budget.Load() != int64(budget) { // the word is shared: write it rarely
		d.budget.Store(int64(budget))
	}
}

// probe reports that nothing of the kind has started for long, and that no other
// job has been let in for that reason.
func (d *demand) probe(now int64) bool {
	return now-d.started.Load() >= int64(probeEvery) && now-d.probed.Load() >= int64(probeEvery)
}

// start notes that a job starts at time now.
func (d *demand) start(now int64) {
	if now-d.started.Load() > int64(probeEvery)/10 { // the word is shared: write it rarely
		d.started.Store(now)
	}
}
