package helix

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/tally"
)

// lateByOthers is by how much a job may be late because Go did not let it run.
const lateByOthers = 20 * time.Millisecond

// refuse ends a job that was not admitted.
func (r *Router) refuse(q *request) error {
	away := q.kind.counters.Refusals()
	// What could never have been done is no demand. What came a little late may have been kept
	// waiting by this process: it must count as demand, or the kinds that kept it waiting are
	// given its share.
	if !q.hopeless() || q.info.least() <= q.info.Budget && q.info.Slack > -lateByOthers {
		away.Shed.Add(int64(q.info.Work))
	}
	switch q.choice.reason {
	case reasonBudget:
		q.kind.prober.Refuse(q.decided)
	case reasonDownstream:
		q.kind.down().limit.Refused()
	}
	reason := r.reasons.Index(q.choice.reason)
	away.Refused[reason].Add(1)
	return r.turnDown(q, reason)
}

// turnDown returns the error for a refused job, which was counted. Watchers learn of it.
func (r *Router) turnDown(q *request, reason int) error {
	err := r.dropError(q, reason)
	if q.event != nil {
		r.tellRefused(q, err)
	}
	return err
}

// tellRefused passes a refusal on to watchers.
//
//go:noinline
func (r *Router) tellRefused(q *request, err error) {
	q.event.Outcome = Outcome{Status: Dropped, Err: err, Latency: time.Duration(q.decided - q.arrived)}
	r.watchers.Send(q.event, &q.event.Seq)
}

// refuseOffered ends a job that its strategy did not take.
//
//go:noinline
func (r *Router) refuseOffered(t *Ticket, err error) error {
	if errors.Is(err, ErrDecline) {
		return r.again(t)
	}
	reason := refusalReason(err)
	if r.closed() {
		reason = reasonClosed // whatever a strategy says that has been closed
	}
	t.reimburse()
	t.counters().Bounced[r.reasons.Index(reason)].Add(1)
	r.signalIdle()
	t.ended = t.decided
	if t.choice.excess == 0 {
		t.choice.excess = t.choice.wait // that its strategy is full passes as it does
	}
	t.dropChoice(reason)
	q := request{kind: t.kind, info: t.Info(), choice: t.choice, arrived: t.arrived, decided: t.decided}
	if t.watch != nil {
		if q.event = t.watch.event; q.event != nil {
			q.event.refuse(t.Decision())
		}
	}
	return r.turnDown(&q, r.reasons.Index(reason))
}

// dropError returns the error for a refused job, the same for jobs alike
// that are refused within a millisecond, so that refusing a flood allocates
// nothing.
func (r *Router) dropError(q *request, reason int) error {
	last := &q.kind.dropErrors[reason]
	e := last.Load()
	if e != nil && q.decided-e.at < int64(time.Millisecond) && e.priority == q.info.Priority &&
		near(e.budget, q.info.Budget, 0) && near(e.Decision.Run, q.choice.run, 0) &&
		near(e.Decision.Slack, q.choice.slack, time.Millisecond) &&
		(reason < tally.Reasons-1 || e.Decision.Reason == q.choice.reason) {
		if q.choice.excess > 0 {
			e.shared.Add(1)
			q.kind.account.Turns.Share(q.decided, e.RetryAfter)
		}
		return e
	}
	jobs := int64(1)
	if e != nil {
		jobs += e.shared.Load() // as many as before are likely to share this one
	}
	return r.newDropError(q, last, q.retryAfter(jobs))
}

// near reports whether a differs from b by no more than an eighth, and some room.
func near(a, b, room time.Duration) bool { return a == b || abs(a-b) <= room+abs(b)/8 }

func abs(d time.Duration) time.Duration { return max(d, -d) }

// newDropError writes the decision in place: its caller may be at the end of a new stack.
//
//go:noinline
func (r *Router) newDropError(q *request, last *atomic.Pointer[DropError], retry time.Duration) *DropError {
	e := new(DropError)
	name := ""
	if q.choice.lane != laneNone {
		name = r.lanes[q.choice.lane].name
	}
	q.choice.expandInto(&e.Decision, name)
	e.RetryAfter, e.closed = retry, q.choice.reason == reasonClosed
	e.at, e.budget, e.priority = q.decided, q.info.Budget, q.info.Priority
	last.Store(e)
	return e
}

// withdrawn returns the error for a job whose ctx was done before it started.
func withdrawn(ctx context.Context) error {
	return &withdrawnError{ctx.Err(), context.Cause(ctx)}
}

// retryAfter returns in how long a job that was refused is best submitted again: when its turn
// has come; 0 if waiting cannot help.
func (q *request) retryAfter(jobs int64) time.Duration {
	if q.hopeless() || q.choice.excess <= 0 {
		return 0
	}
	account := &q.kind.account
	place := account.Place(q.info.Work)
	if q.choice.reason == reasonDownstream {
		place = q.kind.down().place()
	}
	return account.Turns.After(q.decided, q.choice.excess, place, jobs)
}

// hopeless reports whether the job could not end in its budget even if nothing else ran.
func (q *request) hopeless() bool {
	return q.info.Budget > 0 && q.info.least() > max(q.info.Slack, 0)
}
