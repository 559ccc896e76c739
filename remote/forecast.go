package remote

import (
	"cmp"
	"slices"
	"time"

	"github.com/helixrouter/helix/internal/num"
)

const (
	// forecastMost is how many workers with room a forecast looks at.
	forecastMost = 32
	// forecastEvery is how long a forecast holds.
	forecastEvery = time.Millisecond
	// medianOfTwo is the quantile of a population that is the median of the lesser of two
	// drawn from it: 1-(1-q)² = 1/2.
	medianOfTwo = 0.293
)

// forecast returns the expected wait and run of a job of the kind, with that cost (0: not known)
// and that much time left (0: no end): the median of the better of two workers drawn at random.
// It takes no lock and does not allocate, unless a millisecond has passed or a worker has sent a
// report. ok is false if no worker would accept the job.
func (f *fleet) forecast(name string, cost float64, slack time.Duration, now time.Time) (wait, run time.Duration, ok bool) {
	k := (*f.kinds.Load())[name]
	if k == nil {
		return 0, 0, false
	}
	if at := k.refreshAt.Load(); now.UnixNano() >= at && k.refreshAt.CompareAndSwap(at, now.Add(forecastEvery).UnixNano()) {
		f.refresh(k, now, cost)
	}
	run = time.Duration(k.run.Load())
	if of := k.cost.Load(); cost > 0 && of > 0 {
		run = scale(run, cost/of)
	}
	ok = k.room.Load() > 0 && (slack == 0 || int64(slack) > k.avoidBelow.Load())
	return time.Duration(k.wait.Load()), run, ok
}

// refresh computes a new forecast, for a job of that cost, and removes workers that have been
// silent for long.
func (f *fleet) refresh(k *kind, now time.Time, cost float64) {
	var buf [forecastMost]promise
	var gone []string
	f.mu.Lock()
	promises, at := buf[:0], f.rng.IntN(max(len(k.servers), 1))
	for i := 0; i < len(k.servers) && len(promises) < forecastMost; i++ {
		s := k.servers[(at+i)%len(k.servers)]
		if now.Sub(s.worker.heard) >= goneAfter && s.worker.stats.Flying == 0 {
			gone = append(gone, s.worker.id)
		} else if s.worker.owes.IsZero() && !now.Before(s.avoid) {
			promises = s.promise(promises, now, cost)
		}
	}
	if len(promises) == 0 {
		for _, s := range k.servers { // those that are silent, or refused a tighter job: the last resort
			promises = s.promise(promises, now, cost)
		}
	}
	f.mu.Unlock()
	for _, id := range gone {
		f.forget(id, "")
	}
	if len(promises) > 0 {
		slices.SortFunc(promises, func(a, b promise) int { return cmp.Compare(a.wait+a.run, b.wait+b.run) })
		p := promises[0]
		if len(promises) > 2 {
			p = promises[int(medianOfTwo*float64(len(promises)))]
		}
		k.wait.Store(int64(p.wait))
		k.run.Store(int64(p.run))
		k.cost.Store(p.cost)
	}
	avoidBelow := longest
	for _, p := range promises {
		avoidBelow = min(avoidBelow, p.avoidBelow)
	}
	k.avoidBelow.Store(int64(avoidBelow))
	k.room.Store(int64(len(promises)))
}

// promise is the predicted wait and run of a job at a server.
type promise struct {
	wait, run  time.Duration
	cost       float64       // that run is for; 0 = run does not depend on it
	avoidBelow time.Duration // jobs with at most that much time left avoid it
}

// promise adds the server's, if it may be chosen and there is room for it. It requires fleet.mu.
func (s *server) promise(to []promise, now time.Time, cost float64) []promise {
	if len(to) == cap(to) || !s.usable(now, 0, 0) {
		return to
	}
	p := promise{cost: s.load.Cost}
	if cost > 0 && p.cost > 0 {
		p.cost = cost
	}
	if now.Before(s.avoid) {
		p.avoidBelow = s.avoidBelow
	}
	p.wait, p.run = s.predict(now, cost)
	return append(to, p)
}

// scale returns d × f, at most longest.
func scale(d time.Duration, f float64) time.Duration { return min(num.Scale(d, f), longest) }
