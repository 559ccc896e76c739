package helix

import (
	"time"

	"github.com/helixrouter/helix/internal/estimate"
)

// probe reports whether to admit a job although its estimate refuses it; if take is false,
// whether it would.
func (r *Router) probe(q *request, take bool) bool {
	k, now := q.kind, q.decided
	if q.info.Waits { // it takes no CPU time, and those that follow it see at once what it saw
		l := &k.downstream.Load().limit
		return l.Lull(now) && (!take || l.Probe(now))
	}
	doubtful := k.doubtful(&q.info)
	if !k.prober.Due(now, doubtful) || !r.ledger.MayProbe(now) {
		return false
	}
	if !take {
		return true
	}
	if !k.prober.Take(now, doubtful) {
		return false
	}
	r.ledger.Probed(now, min(q.info.Predicted, time.Second))
	return true
}

// retryAfter is in how long a job that was refused is best submitted again: when its turn
// has come; 0 if waiting cannot help.
func (q *request) retryAfter(jobs int64) time.Duration {
	if q.hopeless() || q.choice.excess <= 0 {
		return 0
	}
	account := &q.kind.account
	place := account.Place(q.info.Work)
	if q.choice.reason == reasonDownstream {
		place = estimate.Bounded(1e9 / max(q.kind.downstream.Load().limit.Rate(), 1))
	}
	return account.Turns.After(q.decided, q.choice.excess, place, jobs)
}

// hopeless reports that the job could not end in its budget even if nothing else ran.
func (q *request) hopeless() bool {
	return q.info.Budget > 0 && q.info.least() > max(q.info.Slack, 0)
}
