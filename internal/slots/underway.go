package slots

import "sync"

// UnderWay is the time that long or unlearned runs in slots have taken so far: work that is done
// but charged only at their ends. Without it, runs of half a second would show as no work for
// fifty ticks, and then as all of it at once. Its zero value is ready for use. It is safe for
// concurrent use, and costs such a run some 50 ns.
type UnderWay struct {
	mu     sync.Mutex
	runs   int64 // that are not paused
	begun  int64 // the sum of when they began, later by what they were away
	paused int64 // ns taken before they were paused, of all that are
}

// Stopwatch is what UnderWay keeps of one run. It is guarded by UnderWay.mu.
type Stopwatch struct {
	on           bool
	begun, since int64 // since is when it was paused; 0: it is not
}

// Begin notes that a run begins.
func (u *UnderWay) Begin(w *Stopwatch, now int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	w.on, w.begun = true, now
	u.runs++
	u.begun += now
}

// Pause notes that a run hands its slot over.
func (u *UnderWay) Pause(w *Stopwatch, now int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if w.on && w.since == 0 {
		w.since = now
		u.runs--
		u.begun -= w.begun
		u.paused += now - w.begun
	}
}

// Resume notes that a paused run goes on.
func (u *UnderWay) Resume(w *Stopwatch, now int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if w.on && w.since != 0 {
		u.paused -= w.since - w.begun
		w.begun += now - w.since
		w.since = 0
		u.runs++
		u.begun += w.begun
	}
}

// Lose subtracts time in which a run's slot was used by other jobs.
func (u *UnderWay) Lose(w *Stopwatch, ns int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if w.on && w.since == 0 {
		w.begun += ns
		u.begun += ns
	}
}

// End records that a run has ended and been charged.
func (u *UnderWay) End(w *Stopwatch) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case !w.on:
	case w.since != 0: // a goroutine of the job's own still waits in Yield
		u.paused -= w.since - w.begun
	default:
		u.runs--
		u.begun -= w.begun
	}
	w.on = false
}

// Time returns how long all runs have taken so far, in ns.
func (u *UnderWay) Time(now int64) int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.runs*now - u.begun + u.paused
}
