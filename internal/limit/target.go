package limit

import "math"

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
		if l.on.Load() && a.quiet < baseSure { // base may be far too high
			return a.base + patience
		}
		return a.base + a.longest(patience)
	case a.quiet < baseSure && (a.base > b/4 || a.base == 0): // that they take so long must be sure first
		return b / 2
	case a.base > b/2 && !a.certain: // and that few calls are not too many for it
		return max(b/2, min(1.15*a.base, .85*b), 1.05*a.base)
	case b <= a.base: // no call can be in time
		return 1.5 * a.base
	}
	chance := 1.15 + a.vary/math.Sqrt(max(a.quiet, 1))
	return max(a.base+min(a.room(b), a.longest(longQueue)), min(chance*a.base, (a.base+b)/2), 1.05*a.base)
}

// room returns how long calls may queue, given the latencies within the budget b of those that find
// little else in flight. See the package's comment for the formula.
func (a *law) room(b float64) float64 {
	mean, deviation, longest, calls := a.alone.within(b)
	if calls == 0 {
		return 0
	}
	part := max(a.idle, leastLate)
	z := exponentialTail(part)
	late := min(mean+z*deviation, longest)
	return max(0, roomPart*(b-late)/(1+a.growth(mean, deviation, late/mean-1, part)))
}

// exponentialTail and normalTail return by how many standard deviations that part of a distribution exceeds its mean.
func exponentialTail(part float64) float64 { return max(0, -math.Log(part)-1) }
func normalTail(part float64) float64      { return max(0, math.Sqrt2*math.Erfinv(1-2*part)) }

// growth returns by how much the latency that this part of the calls exceeds grows beyond the mean, as the mean grows.
// Until that is measured, it is as with processor sharing, by shared.
func (a *law) growth(mean, deviation, shared, part float64) float64 {
	loaded, spread := a.near.figures()
	if loaded <= mean {
		return shared
	}
	sure := a.near.calls / (a.near.calls + nearSure) * min(1, 5*(loaded/mean-1))
	slope := max(0, (spread-deviation)/(loaded-mean))
	// What many others take, one after the other, is nearly normal, and the slope is small. If all are served at
	// once, it is 1, and the latencies are distributed as alone. Half of it keeps most in simulations (decision 21).
	z, queued := exponentialTail(part), normalTail(part)
	measured := (queued + min(1, slope/2)*(z-queued)) * slope
	return shared + sure*(min(measured, max(z*growthMost, shared))-shared)
}

// longest returns for how long calls may queue whatever the budget, so many ns or more.
func (a *law) longest(least float64) float64 {
	most := max(8*a.base, least) * min(1, .25+.75*a.idle/idleEnough)
	if a.x == 0 {
		return most
	}
	return max(most, places*(.5+.5*min(a.vary*a.vary, 8))/a.x)
}

// small reports whether the downstream works at so few calls at a time that few calls may be too many
// for it to be alone, and that many calls come at once by chance.
func (a *law) small() bool { return a.x*a.base < 1.5*few }

// lowest returns the least limit.
func (a *law) lowest() float64 {
	if a.floor > 0 {
		return a.floor
	}
	return least
}

// crowd has the latencies of calls that began among many and can be in time.
type crowd struct {
	calls   float64
	sum     float64 // of latencies
	off     float64 // of by how much these are off from what the number in flight lets expect
	squares float64 // of that
}

func (c *crowd) add(took, off float64) {
	c.calls++
	c.sum += took
	c.off += off
	c.squares += off * off
}

// merge takes in what another has, and has older calls count the less, so that it rests on at most so many.
func (c *crowd) merge(o crowd, most float64) {
	keep := min(1, most/max(c.calls+o.calls, 1))
	c.calls = keep * (c.calls + o.calls)
	c.sum = keep * (c.sum + o.sum)
	c.off = keep * (c.off + o.off)
	c.squares = keep * (c.squares + o.squares)
}

// figures returns the mean latency, and the standard deviation from what the number in flight lets expect; 0 if nothing is known.
func (c *crowd) figures() (mean, deviation float64) {
	if c.calls == 0 {
		return 0, 0
	}
	off := c.off / c.calls
	return c.sum / c.calls, math.Sqrt(max(0, c.squares/c.calls-off*off))
}
