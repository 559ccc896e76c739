package limit

import "math"

// learnBase learns from a call with few others in flight, both when it began and when it ended:
// otherwise the downstream was loaded meanwhile. Before the first such call it learns from the
// first call to end.
func (a *law) learnBase(l *Limit, c Call, now, n int64, took float64, well bool) {
	on := l.on.Load()
	little := .75 * a.x * a.base
	if a.quiet < baseCalls && !on { // base may be far too low, and then finds few calls to rest on
		little = .75 * a.x * a.low
	}
	floor := float64(few)
	if a.tight {
		floor = 1
	}
	little = max(little, floor)
	if well && c.Among == 1 && !a.tight {
		a.lone.add(took)
	}
	switch {
	case !well:
		return
	case c.Among == 0: // began while few were admitted
		if !a.asAlone(l, now, n, took) {
			return
		}
		a.found()
	case !on && float64(c.Among) <= little && (float64(n) <= 1.5*little || max(a.vary, a.cv) > varies),
		a.quiet >= few && float64(c.Among) <= floor:
		a.found()
	case a.quiet == 0 && a.calls < few/2 && a.drain == 0:
		a.calls++
	default:
		return
	}
	a.base += (took - a.base) / a.calls
	a.alone.add(took)
}

// fewAreMany has base learned only from calls that find nothing else in flight, if those prove faster
// than calls that find few: then few are not alone.
func (a *law) fewAreMany() {
	mean, deviation, _, n := a.lone.within(math.Inf(1))
	if a.tight || n < max(baseSure, a.need()/2) || mean+2*deviation/math.Sqrt(n) > .75*a.base || !a.small() {
		return
	}
	a.tight, a.certain = true, true
	a.base, a.alone, a.quiet, a.calls = mean, a.lone, n, n
	a.floor = min(max(math.Ceil(a.x*a.base-.5), 1), least)
}

// found counts a call with few others in flight.
func (a *law) found() {
	a.quiet = min(a.quiet+1, baseCalls*min(max(1, .5*a.vary*a.vary), 4))
	a.calls = max(a.calls, a.quiet)
}

// asAlone reports whether a call that began while few were admitted was hardly slowed down by
// later ones: only few came, or late in its time. If calls vary much, all must count, or base
// would be that of the short ones. So must a call that took ten times as long as base; without
// a budget T grows with base, and a call with T.
func (a *law) asAlone(l *Limit, now, n int64, took float64) bool {
	return max(a.vary, a.cv) > varies || took > 10*a.base && a.budget(l) > 0 ||
		float64(n) <= max(2*a.drainTo, 1.5*a.x*a.base) ||
		l.quiet.Load() == 0 && float64(now-a.drained) < took/2
}

// suspect starts to learn base anew if it is not known, or if calls stay too slow although no more
// are in flight than allowed: then the queue is not the cause.
func (a *law) suspect(l *Limit, now, inflight int64, mean, target float64) {
	a.leastX = min(a.leastX, a.x)
	failing := a.w.ended > 2*a.w.well
	more := a.limit + .5
	if a.quiet < baseSure { // then X, and the limit with it, is not steady
		more = 2 * a.limit
	}
	switch {
	case failing, float64(inflight) > more:
		a.eased = 0
		return
	case a.eased == 0, a.limit > a.easedFrom, a.limit < .75*a.easedFrom && a.mean < .9*a.easedMean:
		if a.eased == 0 {
			a.eased = now
		}
		a.easedFrom, a.easedMean = a.limit, a.mean
		return
	case a.w.opened <= a.eased+int64(mean):
		return
	}
	b, soon := a.budget(l), now > a.again-a.pause+remember/4
	switch {
	// Fewer calls are as slow: what was taken for a queue is not. Where T is near base the limit
	// would fall, and the rate with it, without end.
	case soon && target < 1.5*a.base && a.limit < .75*a.easedFrom && a.mean > target,
		// More calls end, of what hardly fits the budget: perhaps they have become faster.
		soon && b > 0 && b < 4*a.base && a.x > 1.8*a.leastX,
		now >= a.again && (a.sure() > 1.3*target || a.quiet < baseSure || now > a.again+10*remember):
		a.startDrain(now, target, false)
	// What was taken for few may have been too many.
	case !a.certain && (a.small() || b > 0 && a.base > b/2) && now >= a.again && a.quiet >= a.need():
		a.startDrain(now, target, true)
	}
}

// startDrain admits so few calls for a while that none queues. In a trial they are half as many as were
// taken to be few: if these are faster, the others were not alone.
func (a *law) startDrain(now int64, target float64, trial bool) {
	a.trial = trial
	if a.wasBase > 0 && a.base < 1.5*a.wasBase && a.base > a.wasBase/1.5 {
		a.pause = min(2*a.pause, 16*remember)
	} else {
		a.pause = remember / 4
	}
	base := a.base
	if a.quiet < baseSure { // the first calls to end are the short ones
		base = max(base, target/8)
	}
	kept := float64(few) // of what is known
	a.drain, a.drainTo = drainWindows, min(a.limit/2, a.x*base)
	switch {
	case a.trial:
		a.drainTo = max(1, math.Floor(max(a.drainTo/2, a.limit/4)))
		kept = 0
	case a.tight:
		a.drainTo = math.Ceil(a.x*base - .25)
	default:
		a.drainTo = max(few, a.drainTo)
	}
	a.wasBase, a.again = a.base, now+max(a.pause, min(int64(5*a.slow), remember))
	a.quiet, a.calls, a.eased = 0, kept/2, 0
	a.alone.fade(float32(kept))
}

// need returns how many calls base must rest on to be known.
func (a *law) need() float64 {
	v := a.vary
	if a.drain == 0 {
		v = max(v, a.cv)
	}
	return min(max(2*baseSure, 25*v*v), baseMost)
}

// lowerToLearn keeps the limit low while base is learned anew.
func (a *law) lowerToLearn(l *Limit, now, inflight int64) {
	if a.drain > 0 && float64(inflight) <= a.drainTo+1 { // what was in flight before has ended
		a.drain--
	}
	if a.drain == 0 || a.quiet >= a.need() {
		a.drain = 0
		if l.quiet.Load() > 0 {
			a.leastX, a.drained = a.x, now
			switch {
			case a.x*a.base > 2.5*few:
				a.tight = false
			case a.trial && a.quiet >= max(few, baseSure*a.vary*a.vary): // slow calls are few, one at a time
				a.certain = a.base > .75*a.wasBase || a.drainTo == 1
				a.tight = a.tight || a.base <= .75*a.wasBase
			case !a.tight && (a.base > 1.5*a.wasBase || a.base < a.wasBase/1.5):
				a.certain = false
			}
			a.floor = min(max(math.Ceil(a.x*a.base-.5), 1), least)
			l.quiet.Store(0)
		}
		return
	}
	a.limit = min(a.limit, a.drainTo)
	l.quiet.Store(int64(math.Ceil(a.limit)))
}
