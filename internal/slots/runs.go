package slots

import (
	"math"
	"sync/atomic"

	"github.com/helixrouter/helix/internal/num"
)

// Runs has the predicted ends of the runs in slots, for runs that are long enough to matter. Its
// zero value is empty. It has no lock: a run takes a place in the table and returns it.
type Runs struct {
	until [runPlaces]atomic.Int64 // ns since the router was made; 0: the place is free
	more  [runPlaces]atomic.Int64 // ns by which it is nearly sure not to last longer than until
	due   [runPlaces]atomic.Int64 // of a run that yields; else Always
}

const (
	runPlaces = 64
	// exactSlots is up to how many slots Soonest deals work out to one by one.
	exactSlots = 16
	// RunFrom is the predicted run time from which a run may take a place, see NotedFrom.
	RunFrom  = 50_000    // ns
	manyFrom = 1_000_000 // ns
	// handsOverIn is when a run that yields hands its slot over: it calls Yield about every
	// 100 µs.
	handsOverIn = 50_000 // ns
	// NoPlace is the place of a run that has none.
	NoPlace = -1
	// Always is the due time of a run that does not yield: before all others.
	Always = math.MinInt64
)

// NotedFrom returns the predicted run time, in ns, from which a run takes a place, with so many slots: with many,
// only those that may hold a slot for longer than budgets last.
func NotedFrom(slots int64) int64 {
	if slots > exactSlots {
		return manyFrom
	}
	return RunFrom
}

// Begin notes a run that will hold a slot from now on for that long, and is nearly sure not to for longer than
// by more, and returns its place. A run that yields hands its slot over to jobs that are due before it; due is Always
// for others.
func (r *Runs) Begin(now, run, more, due int64) int8 {
	if run < RunFrom {
		return NoPlace
	}
	until := max(num.Add(now, run), 1)
	for i := range r.until {
		if r.until[i].Load() == 0 && r.until[i].CompareAndSwap(0, until) {
			r.more[i].Store(more)
			r.due[i].Store(due)
			return int8(i)
		}
	}
	return NoPlace
}

// More returns by how much the run in that place may last longer, see Begin; 0 for NoPlace.
func (r *Runs) More(place int8) int64 {
	if place == NoPlace {
		return 0
	}
	return r.more[place].Load()
}

// End gives the place of a run back.
func (r *Runs) End(place int8) {
	if place != NoPlace {
		r.until[place].Store(0)
	}
}

// Noted returns how many runs have a place.
func (r *Runs) Noted() (n int) {
	for i := range r.until {
		if r.until[i].Load() != 0 {
			n++
		}
	}
	return n
}

// Soonest returns the time, in ns, until one of that many slots, all taken, is free for a job that is due then,
// behind that many others with that much work in total. A run that is overdue is expected to take half as long
// again as it is overdue, so that one that hangs soon counts as a slot less. With more than exactSlots, those
// whose runs last longer than until due are left out. If sure, runs are expected to last until they are nearly sure to
// have ended. It runs on the stack of a submitter, which may be new. It
// calls no function that grows the stack, so its frame fits into the reserve of every stack.
//
//go:nosplit
func (r *Runs) Soonest(now, due int64, slots, jobs int, work int64, sure bool) int64 {
	if slots > exactSlots {
		return r.soonestOfMany(now, due, int64(slots), int64(jobs), work, sure)
	}
	var free [exactSlots]uint32 // when each slot is, in units of Load, sorted
	n := 0
	for i := range r.until[:exactSlots] {
		until := r.until[i].Load()
		if until == 0 || n == slots {
			continue
		}
		takes := r.stillTakes(i, until, now, due, sure)
		n++
		left := uint32(min(takes/workUnit, 1<<31))
		at := slots - n // those from here on are sorted, and the others 0
		for ; at < slots-1 && free[at+1] < left; at++ {
			free[at] = free[at+1]
		}
		free[at] = left
	}
	return startAfter(free[:slots], jobs, work/workUnit) * workUnit
}

// soonestOfMany is Soonest for many slots: a fluid.
//
//go:nosplit
func (r *Runs) soonestOfMany(now, due, slots, jobs, work int64, sure bool) int64 {
	left, rest := slots, int64(0) // slots that are of use, and the work in them
	for i := range r.until {
		until := r.until[i].Load()
		if until == 0 {
			continue
		}
		takes := r.stillTakes(i, until, now, due, sure)
		if takes > due-now {
			left--
		} else {
			rest += takes
		}
	}
	left = max(left, 1)
	if jobs < left { // the first slots come earlier
		rest = rest / left * jobs
	}
	return (work + rest) / left
}

// stillTakes returns for how long the run in that place will hold its slot, if a job waits that is due then: one that is
// overdue the longer, the longer it is overdue.
//
//go:nosplit
func (r *Runs) stillTakes(place int, until, now, due int64, sure bool) int64 {
	if sure {
		until += r.more[place].Load()
	}
	takes := until - now
	if takes < 0 {
		takes = -takes / 2
	}
	if r.due[place].Load() > due {
		takes = min(takes, handsOverIn)
	}
	return takes
}

// exactJobs is up to how many jobs startAfter deals out one by one.
const exactJobs = 16

// startAfter returns when the next job starts on slots that are free at those times, sorted, after
// that many jobs with that much work in total, each on the slot that is free first (list
// scheduling: Graham, "Bounds for certain multiprocessing anomalies", 1966). Many jobs are
// treated as a fluid instead. It changes free.
func startAfter(free []uint32, jobs int, work int64) int64 {
	if jobs <= 0 || work <= 0 {
		return int64(free[0])
	}
	if jobs <= exactJobs {
		for each := work / int64(jobs); jobs > 0; jobs-- {
			first := uint32(min(int64(free[0])+each, 1<<31))
			i := 1
			for ; i < len(free) && free[i] < first; i++ {
				free[i-1] = free[i]
			}
			free[i-1] = first
		}
		return int64(free[0])
	}
	sum := int64(0)
	for i := range free {
		sum += int64(free[i])
		level := (sum + work) / int64(i+1)
		if i+1 == len(free) || level <= int64(free[i+1]) {
			return level
		}
	}
	return 0 // not reached: the last slot has a level
}
