package limit

// Calls may never end: their connection is dead, nothing tells them, and they heed no ctx. If all that a limit lets
// in are such, it would be reached for ever, and only probes would get through, although the downstream is well. So
// calls that were in flight when a probe ended well, and of which none has ended until another one did, do not
// count any longer: they are lost. One that does end is one less.

// cameBack records the end of a call after a hang. full tells whether the limit was reached.
func (a *law) cameBack(l *Limit, c Call, now int64, well, full bool) {
	a.hung = now
	switch {
	case !full: // there is room
		a.stuckSince = 0
	case well && a.stuckSince > 0 && c.Began >= a.stuckSince:
		l.lost.Store(a.stuck)
		a.lostSince, a.stuckSince = a.stuckSince, 0
	default:
		a.stuck, a.stuckSince = inFlight(l.calls.Load()), now
	}
}

// unlose records the end of a call that left so many in flight, and returns how many of these are lost.
func (a *law) unlose(l *Limit, c Call, left int64) int64 {
	if c.Began < a.stuckSince { // those in flight with it will end, too
		a.stuckSince = 0
	}
	was := l.lost.Load()
	if was == 0 {
		return 0
	}
	lost := was
	if c.Began < a.lostSince {
		lost--
	}
	lost = min(lost, left)
	l.lost.Store(lost)
	return lost
}
