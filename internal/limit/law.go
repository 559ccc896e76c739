package limit

import "math"

// law has the learned figures of a downstream, in ns and calls a ns, and the limit that follows
// from them. Limit.mu guards it.
type law struct {
	w window

	x    float64 // calls that end well
	last float64 // likewise, in the latest window alone
	mean float64 // latency
	n    float64 // calls that mean rests on
	cv   float64 // coefficient of variation of the latency
	slow float64 // the slowest call of the windows before, fading
	rare float64 // likewise, of some longMean
	hung int64   // when the downstream last came back: calls that began earlier teach no latency

	base  float64 // latency of calls that find little else in flight
	quiet float64 // calls that began and ended so
	calls float64 // calls that base rests on
	alone spread  // latencies of calls that began and ended so
	vary  float64 // their coefficient of variation

	aim     float64 // T, when the law was last applied
	limit   float64 // how many may be in flight; only if Limit.on
	calm    int64   // when it was last needed
	pressed float64 // part of the time in which it was reached, lately
	beyond  float64 // how often calls filled the limit, lately, by how often they would by chance if just as many came as fit

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
	well           int     // those that ended well
	noted, full    int     // those that were looked at, and those of them that found the limit reached when they ended
	timed          int     // with a latency that counts
	sum, squares   float64 // of their latencies
	slowest        float64
	counted        uint32 // Limit.counted when it was opened
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
				a.limit, a.calm, a.hung = float64(l.limits[Normal+1].Load()), now, now
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
		a.hung, fresh = now, false
		if most := l.limits[Normal+1].Load(); !l.on.Load() && n >= most && n > few { // nor do they all fit
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
			w.timed++
			w.sum += took
			w.squares += took * took
			w.slowest = max(w.slowest, took)
		}
		if w.timed == timedMost && !l.on.Load() {
			l.counting.Store(w.opened + windowLeast)
		}
	}
	if now-w.opened >= windowLeast && a.enough(l, now) {
		a.learn(l, now, n-1)
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

// budget returns the shortest recent budget; 0 = none.
func (a *law) budget(l *Limit) float64 {
	b := l.shortest.Load()
	if b == 0 || a.before > 0 && a.before < b {
		b = a.before
	}
	return float64(b)
}

// target returns T, how long calls may take.
func (a *law) target(l *Limit) float64 {
	b := a.budget(l)
	switch {
	case b == 0:
		return max(8*a.base, patience)
	case a.quiet < baseSure && (a.base > b/4 || a.base == 0): // that they take so long must be sure first
		return b / 2
	case a.base > b/2 && !a.certain && a.small(): // and that few calls are not too many for it
		return max(b/2, min(a.base, .85*b))
	case b <= a.base: // no call can be in time
		return 1.5 * a.base
	}
	chance := 1.15 + a.vary/math.Sqrt(max(a.quiet, 1))
	return max(a.base+min(a.room(b), max(8*a.base, longQueue)), min(chance*a.base, (a.base+b)/2), 1.05*a.base)
}

// room returns how long calls may queue so that less than one in a hundred of those that can be
// in time is late, given the latencies within the budget b. It holds for downstreams with a
// queue and for those with processor sharing.
func (a *law) room(b float64) float64 {
	mean, deviation, calls := a.alone.within(b)
	if calls == 0 {
		return 0
	}
	full := a.full()
	share, queued, slowed := share0, tail0, tail0
	if a.small() {
		share, queued, slowed = smallShare, smallQueued, smallSlowed
	}
	share += (share1 - share) * full
	queued += (tail1 - queued) * full
	slowed += (tail1 - slowed) * full
	return max(0, min(share*(b-mean-queued*deviation), a.base*(b/(mean+slowed*deviation)-1)))
}

// small reports whether the downstream works at so few calls at a time that few calls may be too many
// for it to be alone, and that many calls come at once by chance.
func (a *law) small() bool { return a.x*a.base < 1.5*few }

// full returns how much speaks for more calls than fit, from 0 to 1.
func (a *law) full() float64 {
	if a.small() {
		return min(max((a.beyond-1.5)/1.5, 0), 1)
	}
	return min(max(2*a.pressed-.6, 0), 1)
}

// lowest returns the least limit.
func (a *law) lowest() float64 {
	if a.floor > 0 {
		return a.floor
	}
	return least
}

// learn closes the window and applies the law; so many are in flight.
func (a *law) learn(l *Limit, now, inflight int64) {
	w := &a.w
	counted := int(l.counted() - w.counted)
	w.ended += counted
	w.well += counted
	open := float64(now - w.opened)
	rate := float64(w.well) / open
	mean := a.mean
	if w.timed > 0 {
		mean = w.sum / float64(w.timed)
	}
	a.vary = 1
	if _, deviation, calls := a.alone.within(math.Inf(1)); calls > few {
		a.vary = deviation / a.base
	}
	known := 10 * a.base
	if a.quiet < baseSure { // base may be far too low, and what varies look as if it did not
		known, a.vary = math.Inf(1), max(a.vary, a.cv)
	}
	memory := max(shortMean, min(max(2*mean, a.slow, w.slowest), known))
	gain := 1 - math.Exp(-open/memory)
	if a.x == 0 {
		a.x, a.mean = rate, mean
	}
	if a.drain == 0 || rate > a.x { // while few are admitted, that lowers the rate
		// As long as it takes for a standard deviation of a tenth.
		memory = max(memory, min(100*a.vary*a.vary/max(a.x, float64(w.ended)/open), longMean))
		a.x += (1 - math.Exp(-open/memory)) * (rate - a.x)
	}
	a.mean += gain * (mean - a.mean)
	a.n = (1-gain)*a.n + float64(w.timed)
	if w.timed > 0 && mean > 0 {
		cv := math.Sqrt(max(0, w.squares/float64(w.timed)-mean*mean)) / mean
		a.cv += gain * (cv - a.cv)
	}
	a.slow = max(w.slowest, a.slow/2)
	a.rare = max(a.slow, a.rare*math.Exp(-open/longMean))
	if w.timed > 0 && a.slow < a.base { // no recent call took as long, so it cannot be that
		a.base, a.calls = a.slow, min(a.calls, few)
	}

	a.apply(l, now, inflight, mean)

	a.last = rate
	a.w = l.open(now)
	a.w.latest = now
	l.reached.Store(false)
	if now-a.turned >= remember {
		a.turned, a.before = now, l.shortest.Swap(0)
	}
	l.base.Store(math.Float64bits(a.base))
	l.mean.Store(math.Float64bits(a.mean))
	l.rate.Store(math.Float64bits(a.x * 1e9))
}

// sure returns a lower confidence bound of the mean latency.
func (a *law) sure() float64 {
	return a.mean * (1 - 2*max(a.cv, .5)/math.Sqrt(max(a.n, 1)))
}

// apply sets or removes the limit. The mean latency of the window was mean.
func (a *law) apply(l *Limit, now, inflight int64, mean float64) {
	target := a.target(l)
	a.aim = target
	on, reached, timed := l.on.Load(), l.reached.Load(), a.w.timed > 0
	rate := float64(a.w.well) / float64(now-a.w.opened)
	if !on {
		if !a.overloaded(l, inflight, rate, target) {
			l.publish(max(a.x*target, a.lowest()), a.base, target, max(2*a.slow, float64(windowMost)))
			return
		}
		a.eased, a.limit, a.mean = 0, math.Inf(1), mean
	}
	a.suspect(l, now, inflight, mean, target)

	x, slack := a.x, timed && a.mean < .85*target
	if slack && mean < .85*target {
		x = max(x, rate*(1-max(a.cv, .5)/math.Sqrt(float64(max(a.w.well, 1))))) // but for chance
	}
	limit := x * target
	if on {
		switch {
		case !timed: // nothing is known of the latency: no reason for more
			limit = min(limit, a.limit)
		case a.mean < target && mean < target: // nor for less
			limit = max(limit, a.limit)
		}
		if slack && reached && a.sure() < .85*target {
			limit = max(limit, 1.25*a.limit)
		}
		limit = min(limit, 4*a.limit)
	}
	if a.mean > target || reached && (a.mean > .75*target || a.base == 0) {
		a.calm = now
	} else if now-a.calm > remember {
		a.drain = 0
		l.quiet.Store(0)
		l.on.Store(false)
		return
	}
	gain := 1 - math.Exp(-float64(now-a.w.opened)/longMean)
	a.pressed -= gain * a.pressed
	if reached {
		a.pressed += gain
	}
	if on && a.w.noted > 0 {
		// As many calls as fit, and no more, find k places of a queue taken once in k+1 times if they
		// vary as an exponential distribution does.
		often := float64(a.w.full) / float64(a.w.noted) * (max(a.limit-a.x*a.base, 0) + 1)
		a.beyond += gain * (often/(.5+.5*min(a.vary*a.vary, 8)) - a.beyond)
	}
	a.limit = max(limit, a.lowest())
	a.lowerToLearn(l, now, inflight)
	l.publish(a.limit, a.base, target, max(2*target, 1.5*a.rare, float64(windowLeast)))
	l.on.Store(true)
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
