package remote

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/num"
)

// The constants of a fleet.
const (
	// goneAfter is how long a worker may be silent until it counts as gone. It sends its load
	// once a second.
	goneAfter = 3500 * time.Millisecond
	// A report is fresh for an eighth of a run: within it, the other clients have changed
	// little (decision 11). Within these bounds:
	freshLeast = 500 * time.Microsecond
	freshMost  = 5 * time.Millisecond
	// A worker that refused is avoided for its RetryAfter, within these bounds.
	avoidLeast = time.Millisecond
	avoidMost  = time.Second
	// rttGain is the weight of the newest round trip in the mean, which never falls below
	// leastRTT.
	rttGain  = 0.1
	leastRTT = time.Microsecond
	// firstRTT is the assumed round trip to a worker before the first measurement.
	firstRTT = 500 * time.Microsecond
	// tryEvery is the interval at which a server with too long a predicted run is tried.
	tryEvery = time.Second
	// drawTries is how often workers are drawn at random before all are searched.
	drawTries = 8
	// longest is the most that a prediction may be, 36 years, so that sums do not overflow.
	longest time.Duration = 1 << 60
)

// fleet has the state of the workers of a client. It takes the time as an argument and reads no
// clock.
type fleet struct {
	mu      sync.Mutex
	workers map[string]*worker // guarded by mu
	rng     *rand.Rand         // guarded by mu
	total   WorkerStats        // counters of all workers, including former ones; guarded by mu

	kindsMu sync.Mutex // guards replacing kinds
	kinds   atomic.Pointer[map[string]*kind]
}

// kind has the servers of one kind of job.
type kind struct {
	servers []*server // guarded by fleet.mu

	// The result of forecast, cached for decisions, which are frequent.
	refreshAt  atomic.Int64 // Unix ns from which it is computed anew
	wait, run  atomic.Int64
	cost       num.Float    // that run is for; 0 = run does not depend on it
	room       atomic.Int64 // workers that would take a job
	avoidBelow atomic.Int64 // jobs with at most that much time left avoid all of them
}

// worker is one process that serves jobs. Its fields are guarded by fleet.mu.
type worker struct {
	id      string
	servers map[string]*server
	heard   time.Time // time of its last message
	owes    time.Time // since when an answer of it is overdue; zero: none is
	rtt     time.Duration
	stats   WorkerStats // its counters
}

// server is a worker's state for one kind. Its fields are guarded by fleet.mu.
type server struct {
	worker     *worker
	load       Load
	at         time.Time     // of load
	sent       int           // jobs sent to it since then
	avoid      time.Time     // until when it is avoided, because it refused
	avoidBelow time.Duration // only jobs with at most that much time left avoid it; 0: all do
	tried      time.Time     // when it was last sent a job, or added
}

func newFleet(seed1, seed2 uint64) *fleet {
	f := &fleet{workers: map[string]*worker{}, rng: rand.New(rand.NewPCG(seed1, seed2))}
	f.kinds.Store(&map[string]*kind{})
	return f
}

// report records a worker's load for a kind. An unknown worker is added for a presence message,
// but not for a late answer, which may be from one that has left.
func (f *fleet) report(id, kindName string, load Load, now time.Time, present bool) {
	k := f.kind(kindName, present)
	if k == nil {
		return
	}
	room, had := f.take(id, kindName, k, load, now, present), k.room.Load() > 0
	if room || had { // else nothing is new, and a forecast looks at all workers if they are full
		k.refreshAt.Store(0)
	}
	if room && !had { // or concurrent decisions would still see no room
		f.refresh(k, now, load.Cost)
	}
}

// take is report for a kind that is known. It reports whether the worker may now be sent jobs.
func (f *fleet) take(id, kindName string, k *kind, load Load, now time.Time, present bool) (room bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.workers[id]
	if w == nil {
		if !present {
			return false
		}
		f.sweep(now)
		w = &worker{id: id, servers: map[string]*server{}, rtt: firstRTT, stats: WorkerStats{Worker: id}}
		f.workers[id] = w
	}
	w.hear(now)
	s := w.servers[kindName]
	if s == nil {
		if !present {
			return false
		}
		s = &server{worker: w, tried: now}
		w.servers[kindName] = s
		k.servers = append(k.servers, s)
	}
	load.Wait, load.Run = min(load.Wait, longest), min(load.Run, longest)
	s.load, s.at, s.sent = load, now, 0
	if until := now.Add(avoidLeast); load.Refuses && until.After(s.avoid) {
		s.avoid, s.avoidBelow = until, 0
	}
	return s.usable(now, 0, 0)
}

// sweep removes workers that have been silent for long and have no job, for all kinds: a kind
// without jobs would otherwise keep all its former workers. It requires fleet.mu.
func (f *fleet) sweep(now time.Time) {
	for id, w := range f.workers {
		if now.Sub(w.heard) >= goneAfter && w.stats.Flying == 0 {
			f.remove(id, "")
		}
	}
}

// hear records a message of the worker. It requires fleet.mu.
func (w *worker) hear(now time.Time) { w.heard, w.owes = now, time.Time{} }

// silent returns for how long an answer of the worker has been overdue; 0: none is. It requires fleet.mu.
func (w *worker) silent(now time.Time) time.Duration {
	if w.owes.IsZero() {
		return 0
	}
	return now.Sub(w.owes)
}

// way predicts the round trip: at least the worker's silence. So jobs with short budgets avoid a
// worker that answers slowly, as on a busy machine, and jobs with long ones use it last. It requires fleet.mu.
func (w *worker) way(now time.Time) time.Duration { return max(w.rtt, w.silent(now)) }

// kind returns the servers of a kind; nil if there are none, unless add is set.
func (f *fleet) kind(name string, add bool) *kind {
	if k := (*f.kinds.Load())[name]; k != nil || !add {
		return k
	}
	f.kindsMu.Lock()
	defer f.kindsMu.Unlock()
	old := *f.kinds.Load()
	if k := old[name]; k != nil {
		return k
	}
	kinds := map[string]*kind{name: {}}
	for n, k := range old {
		kinds[n] = k
	}
	f.kinds.Store(&kinds)
	return kinds[name]
}

// usable reports whether the worker may be chosen for a job with that much time left (0:
// no end). It requires fleet.mu.
func (s *server) usable(now time.Time, slack time.Duration, cost float64) bool {
	w := s.worker
	return !s.load.Leaves && now.Sub(w.heard) < goneAfter && !s.avoided(now, slack) &&
		(slack == 0 || s.run(cost)+w.way(now) <= slack)
}

// avoided reports whether jobs with that much time left (0: no end) avoid the server, because
// it refused one. It requires fleet.mu.
func (s *server) avoided(now time.Time, slack time.Duration) bool {
	return now.Before(s.avoid) && (s.avoidBelow == 0 || slack > 0 && slack <= s.avoidBelow)
}

// run predicts the run time of a job of that cost; 0 if it is not known. It requires fleet.mu.
func (s *server) run(cost float64) time.Duration {
	if cost > 0 && s.load.Cost > 0 {
		return scale(s.load.Run, cost/s.load.Cost)
	}
	return s.load.Run
}

// completion predicts the time from sending a job now to its answer. It requires fleet.mu.
func (s *server) completion(now time.Time, cost float64) time.Duration {
	wait, run := s.predict(now, cost)
	return wait + run
}

// predict is completion in its parts: until the job starts, the way there and back
// included, and its run. It requires fleet.mu.
func (s *server) predict(now time.Time, cost float64) (wait, run time.Duration) {
	run = s.run(cost)
	mine := scale(s.load.Run, float64(s.sent)/float64(max(s.load.Slots, 1))) // which its report does not include
	if free := s.load.Slots - s.load.Busy; s.sent < free {
		mine = 0
	}
	return s.load.Wait + mine + s.worker.way(now), run
}

// fresh reports whether the last report of the server is still fresh. It requires fleet.mu.
func (s *server) fresh(now time.Time) bool {
	return now.Sub(s.at) <= min(max(s.load.Run/8, freshLeast), freshMost)
}

// draw returns two different usable servers at random, or as many as there are. It does not draw
// tried ones, and silent ones only if there are no others.
func (f *fleet) draw(k *kind, now time.Time, slack time.Duration, cost float64, tried []string) (a, b *server) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(k.servers) == 0 {
		return nil, nil
	}
	a, b = f.drawFrom(k, func(s *server) bool {
		return s.worker.owes.IsZero() && s.usable(now, slack, cost) && !slices.Contains(tried, s.worker.id)
	})
	if a == nil {
		a, b = f.drawFrom(k, func(s *server) bool {
			return s.usable(now, slack, cost) && !slices.Contains(tried, s.worker.id)
		})
	}
	return a, b
}

// drawFrom returns two different servers at random for which may returns true, or as many as
// there are. It requires f.mu.
func (f *fleet) drawFrom(k *kind, may func(*server) bool) (a, b *server) {
	n := len(k.servers)
	for range drawTries {
		if s := k.servers[f.rng.IntN(n)]; s != a && may(s) {
			if a != nil {
				return a, s
			}
			a = s
		}
	}
	at := f.rng.IntN(n) // few may be chosen: look at all, from anywhere
	for i := range n {
		if s := k.servers[(at+i)%n]; s != a && may(s) {
			if a != nil {
				return a, s
			}
			a = s
		}
	}
	return a, nil
}

// doubtful returns a random server that gets no jobs with that much time left only because of
// its predicted run time, and that has been sent none for a while: a prediction that is never
// tried is never corrected. It returns nil if there is none.
func (f *fleet) doubtful(k *kind, now time.Time, slack time.Duration, cost float64, tried []string) *server {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(k.servers) == 0 || slack <= 0 {
		return nil
	}
	s, _ := f.drawFrom(k, func(s *server) bool {
		w := s.worker
		return w.owes.IsZero() && !s.load.Leaves && now.Sub(w.heard) < goneAfter && now.Sub(s.tried) >= tryEvery &&
			w.rtt < slack && s.run(cost)+w.rtt > slack && !slices.Contains(tried, w.id)
	})
	return s
}

// better returns the server with the earlier predicted completion; b may be nil. It returns nil
// if neither may be chosen, or if by fresh reports the job would be late.
func (f *fleet) better(a, b *server, now time.Time, slack time.Duration, cost float64) (best *server) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range [...]*server{a, b} {
		if s == nil || slack < 0 || !s.usable(now, slack, cost) ||
			slack > 0 && s.fresh(now) && s.completion(now, cost) > slack {
			continue
		}
		if best == nil || s.completion(now, cost) < best.completion(now, cost) {
			best = s
		}
	}
	return best
}

// known reports whether probing a and b first is useless: there is only one, both reports are
// fresh, or a job with that slack has no time for it. ask is how long answers may take.
func (f *fleet) known(a, b *server, now time.Time, slack time.Duration, cost float64) (known bool, ask time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b == nil || a.fresh(now) && b.fresh(now) {
		return true, 0
	}
	rtt, run := max(a.worker.rtt, b.worker.rtt), min(a.run(cost), b.run(cost))
	ask = min(max(4*rtt, 5*time.Millisecond), 20*time.Millisecond)
	if slack > 0 {
		ask = min(ask, (slack-run-rtt)/2)
	}
	return ask < rtt, ask
}

// asked counts a probe.
func (f *fleet) asked(s *server) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.worker.stats.Probed++
	f.total.Probed++
}

// unanswered records that a worker has not answered a probe of that time in time.
func (f *fleet) unanswered(s *server, then time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w := s.worker; !w.heard.After(then) && (w.owes.IsZero() || then.Before(w.owes)) {
		w.owes = then
	}
}

// sent records that a job is on its way, and returns its predicted time.
func (f *fleet) sent(s *server, now time.Time, cost float64) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	predicted := s.completion(now, cost)
	s.sent++
	s.tried = now
	s.worker.stats.Flying++
	f.total.Flying++
	s.worker.stats.Sent++
	f.total.Sent++
	return predicted
}

// landed records the end of an attempt, and counts its outcome.
func (f *fleet) landed(s *server, as landing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, stats := range [...]*WorkerStats{&s.worker.stats, &f.total} {
		stats.Flying--
		stats.count(as)
	}
}

// refused records that a worker refused a job with that much time left (0: no end), and for
// how long to avoid it. It may well take one with more than twice as much.
func (f *fleet) refused(s *server, now time.Time, retry, slack time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.avoid, s.avoidBelow = now.Add(min(max(retry, avoidLeast), avoidMost)), 2*min(slack, longest)
}

// tripped updates the mean round trip, which excludes wait and run. A very long one, as of a
// worker that was stopped meanwhile, counts as four times the mean.
func (f *fleet) tripped(s *server, rtt time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := s.worker
	w.rtt += time.Duration(rttGain * float64(min(max(rtt, leastRTT), 4*w.rtt)-w.rtt))
}

// forget removes a worker that is gone, or only what it serves of one kind, if named.
func (f *fleet) forget(id, kindName string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.remove(id, kindName)
}

// remove is forget with fleet.mu held.
func (f *fleet) remove(id, kindName string) {
	w := f.workers[id]
	if w == nil {
		return
	}
	for name, s := range w.servers {
		if kindName == "" || name == kindName {
			delete(w.servers, name)
			k := f.kind(name, true)
			k.servers = slices.DeleteFunc(k.servers, func(other *server) bool { return other == s })
			k.refreshAt.Store(0)
		}
	}
	if len(w.servers) == 0 {
		delete(f.workers, id)
	}
}
