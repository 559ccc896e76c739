package helix

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/num"
)

const (
	// tickEvery is how often demand and shares are worked out anew.
	tickEvery = 10 * time.Millisecond
	// usable is the largest part of the capacity that is handed out. With less,
	// work is left undone; with more, what is admitted comes late.
	usable = 0.99
	// capacityGain is the weight of the latest tick, if jobs waited all through it, in
	// the moving mean of what the machine gives to jobs. While none wait it is taken
	// to be more by capacityGrowth of the cores a tick, and again as much for every
	// calmTicks that this has gone on: half of the cores in two thirds of a second.
	capacityGain   = 0.05
	capacityGrowth = 0.001
	calmTicks      = 5
	leastCapacity  = 0.1   // of the cores
	leastShare     = 0.001 // of the capacity
	leastServed    = 0.1   // of its share, while what waits too long is worked off
	leastMemory    = 100 * time.Millisecond
	mostMemory     = time.Second
	mostOvertaken  = 0.9
	// A kind's work may wait for waitPart of its budgets. What waits beyond that is to
	// be done within drainTime, if leastGiven of the capacity can be spared.
	waitPart   = 0.25
	drainTime  = 200 * time.Millisecond
	leastGiven = 0.3
)

// tierPart is the part of what a job may be promised that Low, Normal and High get.
var tierPart = [3]float64{0.80, 0.95, 1}

// ledger knows the work offered, in seconds of CPU, and divides the machine
// among the kinds when they ask for more than there is: weighted max-min fair
// shares. It reads no clock and starts no goroutine: the submitter that first decides after
// a tick is due works it out.
type ledger struct {
	mu    sync.Mutex
	last  atomic.Int64 // time of the last tick, in ns; written under mu
	total num.Float    // demand of all kinds

	// capacity is the CPU seconds a second that jobs get when they want more.
	// Guarded by mu, like worked, the work done at the last tick, that of long runs under
	// way included, and idle, the ticks for which more could have been done.
	capacity float64
	idle     float64
	memory   float64 // ns over which demand is averaged; guarded by mu
	worked   int64
	queueing num.Float   // weights of the kinds that have jobs in the queue
	scarce   atomic.Bool // some kind asks for more than its share; written under mu
	// procs is GOMAXPROCS, which is not to be asked at every decision: that takes a lock
	// of the scheduler's. Written by New and under mu.
	procs atomic.Int64
	cores atomic.Int64 // slots, as of the last tick
	// nextProbe is the earliest time at which a probe of any kind may be made.
	nextProbe atomic.Int64
	hidden    hiddenQueue
}

// measure takes in the work done in the last elapsed ns, and whether jobs waited
// all through it, and returns the capacity: what there is to give away.
//
// It is known only from what is done while more is wanted, as a connection's
// bottleneck is (Cardwell et al., "BBR: congestion-based congestion control",
// 2016): a part of the cores goes into what is not a job, such as refusing and
// reading requests.
func (l *ledger) measure(cores float64, worked, elapsed int64, saturated bool) float64 {
	// Between a job's being paid for and its having ended its time counts twice: once too
	// often, and then once too seldom.
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

// measured is the capacity.
func (l *ledger) measured() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.capacity
}

// allocatable returns the share of capacity that may be handed out as fair shares. It holds back
// enough to drain excess, the backlog beyond what may wait, within drainTime. Otherwise that
// would soon be late, and under earliest deadline first the longest budgets would pay.
func allocatable(capacity float64, excess time.Duration) float64 {
	return max(usable*capacity-max(excess, 0).Seconds()/drainTime.Seconds(), leastGiven*capacity)
}

// due reports that a tick is due at time now.
func (l *ledger) due(now int64) bool {
	elapsed := now - l.last.Load()
	return elapsed >= int64(tickEvery) || elapsed < 0 // see inBubble
}

// tick works out demand and shares of all kinds at time now, of a machine with
// that many cores and those slots.
func (l *ledger) tick(now int64, cfg *RouterConfig, pool *pool, kinds map[string]*kind) {
	if !l.mu.TryLock() {
		return // another goroutine is already running this tick
	}
	defer l.mu.Unlock()
	if !l.due(now) {
		return
	}
	cores := float64(cfg.CPUParallelism)
	l.cores.Store(int64(cfg.CPUParallelism))
	elapsed := now - l.last.Swap(now)
	if elapsed <= 0 {
		elapsed = int64(tickEvery)
	}
	l.procs.Store(int64(runtime.GOMAXPROCS(0)))
	asks := make([]ask, 0, len(kinds))
	keep := math.Exp(-float64(elapsed) / l.memory)
	queueing := 0.0
	total, noise, worked, mayWait := 0.0, 0.0, pool.underWay.time(now), time.Duration(0)
	tightest := patience
	for _, k := range kinds {
		offered, done := k.offered()
		worked += done
		asked := k.demand.measure(offered, elapsed, keep)
		total += asked
		typical := k.typical(cfg)
		noise += asked * typical.Seconds()
		mayWait += k.demand.mayWait(time.Duration(k.queued.Load()) * typical)
		if k.queued.Load() > 0 {
			queueing += k.weight.Load()
		}
		if least := time.Duration(k.demand.least.Load()); least > 0 && asked > leastShare {
			tightest = min(tightest, least)
		}
		asks = append(asks, ask{&k.demand, asked, k.weight.Load(), typical, k.queued.Load()})
	}
	l.total.Store(total)
	l.queueing.Store(queueing)
	saturated := !pool.sawIdle.Swap(false) && pool.queued.Load() > 0
	capacity := l.measure(cores, worked, elapsed, saturated)

	given := capacity * l.hidden.look(now, tightest, total/capacity)
	most, level := usable*given, math.Inf(1)
	if l.overloaded(total, noise, most) {
		level = waterFill(asks, most)
	}
	l.scarce.Store(!math.IsInf(level, 1))
	served, modest := 0.0, 0.0 // to all, and to kinds that ask for no more than their share
	for _, a := range asks {
		share := min(a.demand, a.weight*level)
		if served += share; a.demand <= a.weight*level {
			modest += share
		}
	}
	// Kinds that ask for more than their share make up for what waits too long.
	less := 1.0
	if most > modest {
		excess := time.Duration(pool.waiting.all()) - mayWait
		less = max((allocatable(given, excess)-modest)/(most-modest), leastServed)
	}
	for _, a := range asks {
		a.of.divide(now, capacity, most-served, a, level, less)
		tighter := 0.0
		for _, b := range asks {
			if 2*b.of.least.Load() <= a.of.least.Load() {
				tighter += min(b.demand, b.weight*level)
			}
		}
		a.of.overtaken.Store(min(tighter/capacity, mostOvertaken))
	}
}

// overloaded reports that more is asked for than there is: by more than chance explains to
// begin with, and then until it is not. Of jobs that come at random, a moving mean over
// memory has the variance noise / (2 memory), where noise is the sum of demand x work of a
// job (Campbell's theorem). So the more a job is, the longer the memory must be.
func (l *ledger) overloaded(total, noise, most float64) bool {
	margin := 0.0
	if !l.scarce.Load() {
		margin = 2 * math.Sqrt(noise/(2*l.memory/1e9))
	}
	const spread = 0.05 // of the capacity, the standard deviation that is strived for
	wanted := noise / (2 * spread * spread * most * most) * 1e9
	l.memory = min(max(wanted, float64(leastMemory)), float64(mostMemory))
	return total > most+margin
}

// ask is one kind's demand in the division of the machine.
type ask struct {
	of             *demand
	demand, weight float64
	typical        time.Duration // work of a job
	queued         int64         // jobs that wait
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
// due, both in CPU seconds a second, and its virtual queue, which is served at the rate
// that it is guaranteed.
type demand struct {
	asked   num.Float
	share   num.Float
	limited atomic.Bool // asks for more than its share; written under ledger.mu
	tracked atomic.Bool // queue is kept; written under ledger.mu
	queue   account
	turns   turns
	// overtaken is the part of the capacity that goes to kinds of much tighter budgets.
	overtaken num.Float
	budget    atomic.Int64 // of the latest job, in ns
	least     atomic.Int64 // the shortest budget lately, in ns

	offered int64 // at the last tick; guarded by ledger.mu
}

// measure updates the moving mean of demand from the work offered so far, and returns it;
// keep is the weight of what was before.
func (d *demand) measure(offered, elapsed int64, keep float64) float64 {
	rate := float64(offered-d.offered) / float64(elapsed)
	d.offered = offered
	asked := max(0, keep*d.asked.Load()+(1-keep)*rate)
	d.asked.Store(asked)
	return asked
}

// divide puts the share of a kind in force that asks for so much while so much is spare.
func (d *demand) divide(now int64, capacity, spare float64, a ask, level, less float64) {
	share := a.weight * level
	d.least.Store(min(d.least.Load()*51/50, d.budget.Load()))
	d.share.Store(min(share, capacity))
	limited := a.demand > share
	if !limited {
		d.turns.forget()
	}
	// What the others leave it, but at least its share.
	rate := spare + min(a.demand, share)
	switch {
	case a.demand > share:
		rate *= less
	case !math.IsInf(share, 1):
		rate = max(rate, share)
	}
	d.queue.serve(now, max(rate, leastShare*capacity))
	d.limited.Store(limited)
	tracked := limited || a.typical >= trackFrom
	if tracked && !d.tracked.Load() { // begins with what waits
		d.queue.empty.Store(now)
		d.queue.add(now, a.queued*int64(a.typical))
	}
	d.tracked.Store(tracked)
}

// trackFrom is the usual work of a job from which its kind's queue is always kept. Of kinds
// of smaller jobs it is kept only while they ask for more than their share: their cores
// would do little else than share that word.
const trackFrom = 20 * time.Microsecond

// owe notes admitted work of the kind.
func (d *demand) owe(now, work int64) {
	if d.tracked.Load() {
		d.queue.add(now, work)
	}
}

// correct notes what admitted work took more, or less, than was thought.
func (d *demand) correct(work int64) {
	if work != 0 && d.tracked.Load() {
		d.queue.correct(work)
	}
}

// mayWait is how much of the kind's work may wait without harm: by Little's law, what
// comes of it during the time that each job may wait.
func (d *demand) mayWait(waits time.Duration) time.Duration {
	if d.least.Load() == int64(patience) {
		return waits
	}
	return time.Duration(waitPart * min(d.asked.Load(), d.share.Load()) * float64(d.least.Load()))
}

// account is a queue of work that is served at a steady rate: when it will be empty.
// It has no lock: every goroutine that admits a job uses it.
type account struct {
	rate  num.Float    // CPU seconds a second; written under ledger.mu
	empty atomic.Int64 // ns since the router was made
}

// wait is how long work that comes now must wait.
func (a *account) wait(now int64) time.Duration { return time.Duration(max(a.empty.Load()-now, 0)) }

// add adds work that comes at time now.
func (a *account) add(now, work int64) {
	rate := a.rate.Load()
	if rate <= 0 {
		return
	}
	takes := int64(min(float64(work)/rate, 1e15))
	for {
		was := a.empty.Load()
		if a.empty.CompareAndSwap(was, max(was, now)+takes) {
			return
		}
	}
}

// correct adds what admitted work took more, or less, than was thought.
func (a *account) correct(work int64) {
	if rate := a.rate.Load(); rate > 0 && work != 0 {
		a.empty.Add(int64(max(min(float64(work)/rate, 1e15), -1e15)))
	}
}

// serve puts a new rate in force.
func (a *account) serve(now int64, rate float64) {
	was := a.rate.Load()
	a.rate.Store(rate)
	if empty := a.empty.Load(); was > 0 && empty > now {
		a.empty.CompareAndSwap(empty, now+int64(min(float64(empty-now)*was/rate, 1e15)))
	}
}

// noteBudget records the latency budget of the latest job; jobs without one count as patience.
func (d *demand) noteBudget(budget time.Duration) {
	if budget == 0 {
		budget = patience
	}
	if d.budget.Load() != int64(budget) { // the word is shared: write it rarely
		d.budget.Store(int64(budget))
	}
	if least := d.least.Load(); least == 0 || int64(budget) < least {
		d.least.Store(int64(budget))
	}
}
