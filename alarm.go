package helix

import "time"

// alarm calls a function later, with one timer that is used again: setting it anew replaces the time that was
// set before. In a testing/synctest bubble in which the router was not made it is a new timer each time, as one of a
// bubble must not be used outside; there an earlier time stays set, too. The zero alarm is not set. It has no lock.
type alarm struct{ timer *time.Timer }

// set has f called after d; now is by the router's clock.
func (a *alarm) set(now int64, d time.Duration, f func()) {
	// In a bubble a timer that is due when it is set fires on the goroutine that sets it, and with the race detector
	// go1.26 crashes if two of them do that at a time.
	d = max(d, 1)
	switch {
	case inBubble(now):
		time.AfterFunc(d, f)
	case a.timer == nil:
		a.timer = time.AfterFunc(d, f)
	default:
		a.timer.Reset(d)
	}
}

// stop has f called no more, but in a bubble.
func (a *alarm) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}
