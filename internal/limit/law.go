package limit

import "math"

// law has the learned figures of a downstream, in ns and calls a ns, and the limit that follows
// from them. Limit.mu guards it.
type law struct {
	w window

	x    float64 // calls that end well, while enough are in flight
	last float64 // calls that ended well in the latest window
	mean float64 // latency
	n    float64 // calls that mean rests on
	cv   float64 // coefficient of variation of the latency
	slow float64 // the slowest call of the windows before, fading
	rare float64 // likewise, of some longMean
	fast float64 // the fastest call lately
	low  float64 // the lowest mean latency of a window, lately
	hung int64   // when the downstream last came back: calls that began earlier teach neither latency nor x

	stuck      int64 // calls in flight when the downstream last came back
	stuckSince int64 // when that was; 0 = not known, or one of them has ended since
	lostSince  int64 // when those in Limit.lost were in flight

	base  float64 // latency of calls that find little else in flight
	quiet float64 // calls that began and ended so
	calls float64 // calls that base rests on
	alone spread  // latencies of calls that began and ended so
	vary  float64 // their coefficient of variation
	lone  spread  // latencies of calls that found nothing else in flight, lately

	aim     float64 // T, when the law was last applied
	limit   float64 // how many may be in flight; only if Limit.on
	calm    int64   // when it was last needed
	servers int64   // how many in flight keep the downstream busy; 0 = not known
	idle    float64 // part of its capacity that stands idle, lately
	near    crowd   // calls that began among many

	eased     int64   // since when no more are in flight than may be; 0 = more are
	easedMean float64 // mean then, or when it last fell
	easedFrom float64 // limit then

	drain   int     // windows for which base is still learned anew
	drainTo float64 // how many may be in flight meanwhile
	drained int64   // when base was last learned anew
	leastX  float64 // least x since
	wasBase float64 // base before
	tight   bool    // few calls are too many for it to be alone
	trial   bool    // base is learned anew with fewer than few
	certain bool    // it was, and was the same
	floor   float64 // the lowest limit; 0 = not known
	pause   int64   // how long it is not learned anew again, the longer the more often it proved right
	again   int64   // when that is over

	turned int64 // when Limit.shortest was begun anew
	before int64 // the shortest budget of the time before; 0 = none
}

// window has the counts until the law is next applied.
type window struct {
	opened, latest int64   // latest is when a call last ended
	ended          int     // calls
	stale          int     // those that began before the downstream last came back
	well           int     // those that ended well
	noted, full    int     // those that were looked at, and those of them that found the limit reached when they ended
	timed          int     // with a latency that counts
	sum, squares   float64 // of their latencies
	slowest        float64
	fastest        float64
	near           crowd
	idle           float64 // the part of its capacity that each call left idle when it ended, summed up
	since          int64   // when a call last ended and left enough in flight to keep the downstream busy; 0 = it did not
	working        float64 // time from the ends of calls that left enough to the next ones
	worked         int     // those next ones that ended well
	counted        uint32  // Limit.counted when it was opened
}

// open begins a window.
func (l *Limit) open(now int64) window { return window{opened: now, counted: l.counted()} }

// note records the end of a call; n were in flight, including it.
func (a *law) note(l *Limit, c Call, n, now int64, well bool) {
	w := &a.w
	took := float64(max(now-c.Began, 0))
	fresh := c.Began >= a.hung
	switch wait := l.silence.Load(); {
	case w.opened == 0, c.Among <= 1 && c.Began-w.latest > windowMost:
		// Nothing was in flight before, so what is counted begins with the end of this call.
		if w.opened == 0 {
			if wait > 0 && now-l.busy.Load() >= wait && n >= l.limits[Normal+1].Load() {
				// It did hang, or works at so many at once that none has ended. They show neither how
				// long calls take, nor, as many may end at once, how many can be in flight.
				a.limit, a.calm = float64(l.limits[Normal+1].Load()), now
				a.cameBack(l, c, now, well, true)
				l.on.Store(true)
			}
			// Else it does not hang, and how long its calls take will show.
			l.silence.Store(0)
		}
		*w = l.open(now)
		w.latest = now
		if c.Began >= a.hung {
			a.learnBase(l, c, now, n, took, well)
		}
		return
	case wait > 0 && now-max(w.latest, l.busy.Load()) >= wait:
		// It did hang. Calls in flight then do not show its present speed.
		fresh = false
		most := l.limits[Normal+1].Load()
		a.cameBack(l, c, now, well, n >= most)
		if !l.on.Load() && n >= most && n > few { // nor do they all fit
			a.limit, a.calm, a.eased = float64(most), now, 0
			l.on.Store(true)
		}
		*w = l.open(now)
	}
	w.latest = now
	w.ended++
	w.noted++
	if n >= l.limits[Normal+1].Load() {
		w.full++
	}
	if well {
		w.well++
	}
	if fresh {
		a.learnBase(l, c, now, n, took, well)
		// A failure is no measurement, but bounds the speed of the downstream.
		if well || took > a.aim {
			a.time(l, c, took)
		}
	} else {
		w.stale++
	}
	a.watch(now, n-1, fresh && well)
	if now-w.opened >= windowLeast && a.enough(l, now) {
		a.learn(l, now, n-1)
	}
}

// time takes in a latency.
func (a *law) time(l *Limit, c Call, took float64) {
	w := &a.w
	if w.timed++; w.timed == 1 || took < w.fastest {
		w.fastest = took
	}
	w.sum += took
	w.squares += took * took
	w.slowest = max(w.slowest, took)
	on := l.on.Load()
	if w.timed == timedMost && !on {
		l.counting.Store(w.opened + windowLeast)
	}
	if a.crowded(on, float64(c.Among)) {
		if b := a.budget(l); b == 0 || took < b+1.5*max(0, a.mean-a.base) { // others cannot be in time
			w.near.add(took, took-max(float64(c.Among)/a.x, a.base))
		}
	}
}

// crowded reports whether a call that began among so many teaches how latencies spread under load: with the limit
// nearly reached, or, while there is none, so many that a queue stands.
func (a *law) crowded(on bool, among float64) bool {
	switch {
	case a.x == 0:
		return false
	case on:
		return a.drain == 0 && among > .75*a.limit
	}
	return a.quiet >= baseSure && among > max(1.5*a.x*a.base, 2*few)
}

// watch looks at how busy the downstream is, when a call has ended and left so many in flight.
func (a *law) watch(now, left int64, counts bool) {
	w := &a.w
	if w.since > 0 {
		w.working += float64(max(0, now-w.since))
		if counts {
			w.worked++
		}
	}
	w.since = 0
	switch {
	case a.servers == 0:
	case left >= a.servers:
		w.since = now
	default:
		w.idle += float64(a.servers-left) / float64(a.servers)
	}
}

// enough reports whether the window can be closed: while there is a limit, calls that began before
// its last change must have ended, so that the window shows its effect.
func (a *law) enough(l *Limit, now int64) bool {
	w, on := &a.w, l.on.Load()
	open := float64(now - w.opened)
	if w.ended < windowCalls && !(on && float64(w.ended) >= 4*a.limit) && open < float64(windowMost) {
		return false
	}
	if !on {
		return true
	}
	wait := max(w.slowest, a.slow/2)
	if w.timed > 0 {
		wait = min(wait, 2*w.sum/float64(w.timed))
	}
	if b := a.budget(l); b > 0 {
		wait = min(wait, b)
	}
	return open >= wait
}

// learn closes the window and applies the law; so many are in flight.
func (a *law) learn(l *Limit, now, inflight int64) {
	w := &a.w
	counted := int(l.counted() - w.counted)
	w.ended += counted
	w.well += counted
	open := float64(now - w.opened)
	a.vary = 1
	if _, deviation, _, calls := a.alone.within(math.Inf(1)); calls > few {
		a.vary = deviation / a.base
	}
	known := 10 * a.base
	if a.quiet < baseSure { // base may be far too low, and what varies look as if it did not
		known, a.vary = math.Inf(1), max(a.vary, a.cv)
	}
	mean := a.mean
	if w.timed > 0 {
		mean = w.sum / float64(w.timed)
		if a.fast == 0 {
			a.fast = w.fastest
		}
		a.fast = min(w.fastest, 1.2*a.fast)
	}
	memory := max(shortMean, min(max(2*mean, a.slow, w.slowest), known))
	rate := a.pace(open, memory)
	if a.mean == 0 {
		a.mean = mean
	}
	gain := 1 - math.Exp(-open/memory)
	a.mean += gain * (mean - a.mean)
	a.n = (1-gain)*a.n + float64(w.timed)
	if w.timed > 0 && mean > 0 {
		cv := math.Sqrt(max(0, w.squares/float64(w.timed)-mean*mean)) / mean
		a.cv += gain * (cv - a.cv)
	}
	if w.timed >= windowCalls/2 {
		if a.low == 0 {
			a.low = mean
		}
		a.low = min(mean, 1.01*a.low)
	}
	a.near.merge(w.near, nearCalls*max(1, .5*a.vary*a.vary))
	a.slow = max(w.slowest, a.slow/2)
	a.rare = max(a.slow, a.rare*math.Exp(-open/longMean))
	if w.timed > 0 && a.slow < a.base { // no recent call took as long, so it cannot be that
		a.base, a.calls = a.slow, min(a.calls, few)
	}

	a.fewAreMany()
	a.apply(l, now, inflight, mean)

	a.last = rate
	since := w.since
	*w = l.open(now)
	w.latest, w.since = now, since
	l.reached.Store(false)
	if now-a.turned >= remember {
		a.turned, a.before = now, l.shortest.Swap(0)
		a.lone.fade(a.lone.total * loneKept)
	}
	l.hopeless.Store(int64(min(a.fast, a.base)))
	l.base.Store(math.Float64bits(a.base))
	l.mean.Store(math.Float64bits(a.mean))
	l.rate.Store(math.Float64bits(a.x * 1e9))
}

// pace learns x, a mean over so long or longer, from a window that was open so long. It returns how
// many calls ended well in that time.
func (a *law) pace(open, memory float64) (rate float64) {
	w := &a.w
	rate = float64(w.well) / open
	able, during := rate, open
	switch {
	case 2*w.stale > w.ended: // as many of those may end at once, that shows nothing
		return rate
	case a.x == 0:
		a.x = rate
	case a.servers > 0 && w.ended <= 2*w.well && 2*w.full <= w.noted: // it is not always busy
		able, during = min(float64(w.worked)/max(w.working, 1), 2*rate), w.working
	}
	// As long as it takes for a standard deviation of a tenth.
	memory = max(memory, min(100*a.vary*a.vary/max(a.x, float64(w.ended)/open), longMean))
	a.x += (1 - math.Exp(-during/memory)) * (able - a.x)
	return rate
}

// sure returns a lower confidence bound of the mean latency.
func (a *law) sure() float64 {
	return a.mean * (1 - 2*max(a.cv, .5)/math.Sqrt(max(a.n, 1)))
}

// apply sets or removes the limit. The mean latency of the window was mean.
func (a *law) apply(l *Limit, now, inflight int64, mean float64) {
	on := l.on.Load()
	if !on {
		a.idle, a.servers = idleFirst, 0
	}
	target := a.target(l)
	a.aim = target
	open := float64(now - a.w.opened)
	if !on {
		if !a.overloaded(l, inflight, float64(a.w.well)/open, target) {
			l.publish(max(a.x*target, a.lowest()), a.base, target, max(2*a.slow, float64(windowMost)))
			return
		}
		a.eased, a.limit, a.mean = 0, math.Inf(1), mean
	}
	a.suspect(l, now, inflight, mean, target)

	reached, timed := l.reached.Load(), a.w.timed > 0
	limit := a.x * target
	switch {
	case !on:
	case !timed: // nothing is known of the latency: no reason for more
		limit = min(limit, a.limit)
	case reached && a.drain == 0 && max(a.mean, mean) < target: // where few calls are in flight, a little more is none
		limit = max(limit, a.limit+1)
	}
	limit = min(limit, 4*a.limit)
	if a.mean > target || reached && (a.mean > .75*target || a.base == 0 || a.drain > 0) {
		a.calm = now
	} else if now-a.calm > remember {
		a.drain = 0
		l.quiet.Store(0)
		l.on.Store(false)
		return
	}
	if on && a.drain == 0 {
		gain := min(1-math.Exp(-open/longMean), float64(a.w.ended)/idleCalls)
		a.idle += gain * (a.w.idle/float64(a.w.ended) - a.idle)
	}
	a.limit = max(limit, a.lowest())
	a.lowerToLearn(l, now, inflight)
	l.publish(a.limit, a.base, target, max(2*target, 1.5*a.rare, float64(windowLeast)))
	l.on.Store(true)
	// Rather too many than too few: were base far too low, a limit that leaves servers idle would look right.
	a.servers = min(int64(math.Ceil(a.x*a.base*(1+a.vary/math.Sqrt(max(a.quiet, 1)))-.25)), l.limits[0].Load()-1)
}

// overloaded reports whether calls take, or will take, much longer than they may.
func (a *law) overloaded(l *Limit, inflight int64, rate, target float64) bool {
	from := 1.5 * target
	if b := a.budget(l); b > a.base {
		from = min(max(from, min((a.base+b)/2, 3*target)), max(target, .8*b)) // later they are late
	}
	sure := a.sure()
	// The queue that stands will take inflight/x, however fast the calls were that have ended.
	ahead := float64(inflight) / max(a.x, rate)
	switch {
	case sure > from:
		return true
	case a.quiet == 0: // a cold start: base is not known, but the rate rises no more
		return ahead > 2*target && rate < 1.2*a.last
	}
	return ahead > from && sure > 2*a.base
}
