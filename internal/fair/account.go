package fair

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/num"
)

// Account is one kind's account: its demand and its share, both in CPU seconds a second, and
// its virtual queue. Its zero value is that of a kind without jobs so far. It is safe for
// concurrent use.
type Account struct {
	asked   num.Float
	share   num.Float
	limited atomic.Bool // demands more than its share; written under Ledger.mu
	tracked atomic.Bool // queue is kept; written under Ledger.mu
	queue   virtualQueue
	// Turns are the turns promised to its refused jobs.
	Turns Turns
	// overtaken is the part of the capacity that goes to kinds of much tighter budgets.
	overtaken num.Float
	budget    atomic.Int64 // of the latest job, in ns
	least     atomic.Int64 // the shortest budget lately, in ns

	offered int64 // at the last tick; guarded by Ledger.mu
}

// Patience is the time until jobs without a budget are due: they yield to more urgent work,
// but not forever.
const Patience = time.Minute

// trackFrom is the usual work of a job from which its kind's queue is always tracked. For
// kinds with smaller jobs it is tracked only while they exceed their share: their cores
// would contend for that word.
const trackFrom = 20 * time.Microsecond

// Open sets the rate of the queue to that many cores until the first tick.
func (a *Account) Open(cores int) { a.queue.rate.Store(float64(cores)) }

// Asked returns the kind's demand.
func (a *Account) Asked() float64 { return a.asked.Load() }

// Share returns its share of the machine, which may exceed its demand.
func (a *Account) Share() float64 { return a.share.Load() }

// Limited reports whether its demand exceeds its share.
func (a *Account) Limited() bool { return a.limited.Load() }

// Overtaken returns the part of the capacity that goes to kinds of much tighter budgets.
func (a *Account) Overtaken() float64 { return a.overtaken.Load() }

// Turn returns how long work that arrives at time now waits in the virtual queue.
func (a *Account) Turn(now int64) time.Duration { return a.queue.wait(now) }

// Budget returns the budget of the latest job; 0 = none.
func (a *Account) Budget() time.Duration {
	if budget := time.Duration(a.budget.Load()); budget != Patience {
		return budget
	}
	return 0
}

// Tightest returns the shortest recent budget; Patience if there is none.
func (a *Account) Tightest() time.Duration { return time.Duration(a.least.Load()) }

// NoteBudget records the latency budget of the latest job; 0 = none, which counts as
// Patience.
func (a *Account) NoteBudget(budget time.Duration) {
	if budget == 0 {
		budget = Patience
	}
	if a.budget.Load() != int64(budget) { // the word is shared: write it rarely
		a.budget.Store(int64(budget))
	}
	if least := a.least.Load(); least == 0 || int64(budget) < least {
		a.least.Store(int64(budget))
	}
}

// Owe adds work that was admitted at time now.
func (a *Account) Owe(now, work int64) {
	if a.tracked.Load() {
		a.queue.add(now, work)
	}
}

// Correct adds the difference of actual and predicted work of a job; it may be negative.
func (a *Account) Correct(work int64) {
	if work != 0 && a.tracked.Load() {
		a.queue.correct(work)
	}
}

// Place returns the interval at which places for jobs of that work come free.
func (a *Account) Place(work time.Duration) time.Duration {
	if rate := a.queue.rate.Load(); rate > 0 {
		return time.Duration(min(float64(work)/rate, float64(mostRetry)))
	}
	return work
}

// measure updates the moving mean of demand from the work offered so far, and returns it;
// keep is the weight of the old mean. It requires Ledger.mu.
func (a *Account) measure(offered, elapsed int64, keep float64) float64 {
	rate := float64(offered-a.offered) / float64(elapsed)
	a.offered = offered
	asked := max(0, keep*a.asked.Load()+(1-keep)*rate)
	a.asked.Store(asked)
	return asked
}

// mayWait returns how much of the kind's work may wait without harm: by Little's law, what
// its share does in the time that each job may wait. Without budgets all of its work may
// wait.
func (a *Account) mayWait(waits time.Duration) time.Duration {
	if a.least.Load() == int64(Patience) {
		return waits
	}
	return time.Duration(waitPart * min(a.asked.Load(), a.share.Load()) * float64(a.least.Load()))
}

// divide puts the share of a kind in force that asks for so much while so much is spare. Of
// a share that does not cover the demand it was served only the part less since the last tick.
// It requires Ledger.mu.
func (a *Account) divide(now, elapsed int64, capacity, spare float64, of *ask, level, less float64) {
	share := of.Weight * level
	a.least.Store(min(a.least.Load()*51/50, a.budget.Load()))
	a.share.Store(min(share, capacity))
	limited := of.demand > share
	if !limited {
		a.Turns.forget()
	}
	// The rest that other kinds leave, but at least its share.
	rate := spare + of.share(level)
	switch {
	case limited: // not by another rate: what is in the queue must not be stretched, too
		a.queue.delay(now, int64((1-less)*float64(min(elapsed, int64(time.Second)))))
	case !math.IsInf(share, 1):
		rate = max(rate, share)
	}
	a.queue.serve(now, max(rate, leastShare*capacity))
	a.limited.Store(limited)
	tracked := limited || of.Typical >= trackFrom
	if tracked && !a.tracked.Load() { // begins with the waiting work
		a.queue.empty.Store(now)
		a.queue.add(now, of.Queued*int64(of.Typical))
	}
	a.tracked.Store(tracked)
}

// virtualQueue is a queue of work that is served at a constant rate; it stores the time when it
// will be empty. It has no lock, because every goroutine that admits a job uses it.
type virtualQueue struct {
	rate  num.Float    // CPU seconds a second; written under Ledger.mu
	empty atomic.Int64 // ns
	// ahead is how far the queue may be ahead of its work, in ns: what a kind did not use of its
	// rate lately because by chance few came it may make up for. Without it those that ask for
	// little more than their share would not get it. Written under Ledger.mu.
	ahead atomic.Int64
}

// A queue may be ahead of its work by mostAhead, or by jobsAhead usual jobs if those take longer.
const (
	mostAhead = 200 * time.Millisecond
	jobsAhead = 2
)

// allow lets the queue be ahead of its work, unless long runs block tight budgets. A usual job of
// its kind takes the time typical.
func (q *virtualQueue) allow(blocks bool, typical time.Duration) {
	ahead := int64(mostAhead)
	if rate := q.rate.Load(); rate > 0 {
		ahead = max(ahead, int64(min(jobsAhead*float64(typical)/rate, longestTurn)))
	}
	if blocks {
		ahead = 0
	}
	if q.ahead.Load() != ahead {
		q.ahead.Store(ahead)
	}
}

// longestTurn bounds what one job adds to a queue: 11 days.
const longestTurn = 1e15 // ns

// wait returns how long work that arrives now waits.
func (q *virtualQueue) wait(now int64) time.Duration {
	return time.Duration(max(q.empty.Load()-now, 0))
}

// add adds work that arrives at time now.
func (q *virtualQueue) add(now, work int64) {
	rate := q.rate.Load()
	if rate <= 0 {
		return
	}
	takes := int64(min(float64(work)/rate, longestTurn))
	for {
		was := q.empty.Load()
		if q.empty.CompareAndSwap(was, max(was, now-q.ahead.Load())+takes) {
			return
		}
	}
}

// delay has all that is in the queue wait longer, or less long if by is negative.
func (q *virtualQueue) delay(now, by int64) {
	if q.empty.Load() > now-q.ahead.Load() {
		q.empty.Add(by)
	}
}

// correct adds what admitted work took more, or less, than was thought.
func (q *virtualQueue) correct(work int64) {
	if rate := q.rate.Load(); rate > 0 {
		q.empty.Add(int64(max(min(float64(work)/rate, longestTurn), -longestTurn)))
	}
}

// serve sets a new rate. It requires Ledger.mu.
func (q *virtualQueue) serve(now int64, rate float64) {
	was := q.rate.Load()
	q.rate.Store(rate)
	if empty := q.empty.Load(); was > 0 && empty > now {
		q.empty.CompareAndSwap(empty, now+int64(min(float64(empty-now)*was/rate, longestTurn)))
	}
}
