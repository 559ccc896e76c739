package slots

import (
	"sync/atomic"

	"github.com/helixrouter/helix/internal/num"
)

// Runs knows until when the slots are taken, as far as can be told: of runs that are
// predicted to be long enough to matter. Its zero value knows none. It has no lock: a run
// takes a place for itself and gives it back.
type Runs struct {
	until [runPlaces]atomic.Int64 // ns since the router was made; 0: the place is free
}

const (
	runPlaces = 16
	// runFrom is the predicted run time from which a run takes a place.
	runFrom = 50_000 // ns
	// NoPlace is the place of a run that has none.
	NoPlace = -1
)

// Begin notes a run that will hold a slot from now on for that long, and returns its place.
// One that yields hands its slot over as soon as it is asked for.
func (r *Runs) Begin(now, run int64, yields bool) int8 {
	if run < runFrom || yields {
		return NoPlace
	}
	until := max(num.Add(now, run), 1)
	for i := range r.until {
		if r.until[i].Load() == 0 && r.until[i].CompareAndSwap(0, until) {
			return int8(i)
		}
	}
	return NoPlace
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

// Soonest returns in how many ns a slot comes, of that many, all taken, to a job that must let
// so many others of so much work in all go first. With more slots than there are places
// what is in them is not known, and one will be free soon. It runs on the stack of a
// submitter, which may be new: its frame, as it calls nothing that splits, is taken from what
// every stack keeps in reserve.
//
//go:nosplit
func (r *Runs) Soonest(now int64, slots, jobs int, work int64) int64 {
	if slots > runPlaces {
		return work / int64(slots)
	}
	var free [runPlaces]uint32 // when each slot is, in units of Load, sorted
	n := 0
	for i := range r.until {
		until := r.until[i].Load()
		if until <= now || n == slots {
			continue
		}
		n++
		left := uint32(min((until-now)/workUnit, 1<<31))
		at := slots - n // those from here on are sorted, and the others 0
		for ; at < slots-1 && free[at+1] < left; at++ {
			free[at] = free[at+1]
		}
		free[at] = left
	}
	return startAfter(free[:slots], jobs, work/workUnit) * workUnit
}

// exactJobs is up to how many jobs startAfter deals out one by one.
const exactJobs = 16

// startAfter is when the next job starts on slots that are free at those times, sorted, if so
// many jobs of so much work in all are dealt out before it, each to the slot that is free
// first (list scheduling: Graham, "Bounds for certain multiprocessing anomalies", 1966).
// Many jobs are poured out like water instead. It changes free.
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
