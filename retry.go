package helix

import (
	"sync/atomic"
	"time"
)

// turns gives refused jobs of a kind turns to come again, like the numbers that a bakery
// hands out: a place for one job comes free when its kind's guaranteed rate has worked off
// what a job adds, and each is promised to one of those refused only. Told only how long it
// takes until some place is free, they would all come at once.
type turns struct {
	latest atomic.Int64 // the time of the latest turn given
}

// mostRetry is the longest time that a refused job is told to wait.
const mostRetry = time.Minute

// after is in how long to come again for a job refused at time now that has excess too much
// before it, when a place comes free every so often, of so many jobs refused at once.
func (t *turns) after(now int64, excess, every time.Duration, jobs int64) time.Duration {
	first := saturate(now, int64(max(excess, 0)))
	for {
		latest := t.latest.Load()
		turn := max(first, min(saturate(latest, jobs*int64(every)), now+int64(mostRetry)))
		if t.latest.CompareAndSwap(latest, turn) {
			return time.Duration(turn-now) + 1
		}
	}
}

// forget ends that turns are kept, because places are free.
func (t *turns) forget() {
	if t.latest.Load() != 0 {
		t.latest.Store(0)
	}
}

// place is how often a place for one more job of that work comes free for the kind.
func (d *demand) place(work time.Duration) time.Duration {
	if rate := d.queue.rate.Load(); rate > 0 {
		return time.Duration(min(float64(work)/rate, float64(mostRetry)))
	}
	return work
}

// retryAfter is in how long a job that was refused is best submitted again: when its turn
// has come; 0 if waiting cannot help.
func (q *request) retryAfter(jobs int64) time.Duration {
	if q.hopeless() || q.choice.excess <= 0 {
		return 0
	}
	d := &q.kind.demand
	if q.choice.reason == reasonDownstream {
		place := bounded(1e9 / max(q.kind.downstream.Load().limit.Rate(), 1))
		return d.turns.after(q.decided, q.choice.excess, place, jobs)
	}
	return d.turns.after(q.decided, q.choice.excess, d.place(q.info.Work), jobs)
}

// hopeless reports that the job could not end in its budget even if nothing else ran.
func (q *request) hopeless() bool {
	return q.info.Budget > 0 && q.info.least() > max(q.info.Slack, 0)
}
