package helix

import (
	"context"
	"time"
)

// Hooks are called around jobs, for tracing and the like, on the goroutine that
// runs the job and never under a lock. A panic in Start counts as the job's
// own; one in Done is logged. runtime.Goexit in either, which testing's FailNow calls,
// carries on in the submitter as the job's own would; in a batch, Done's ends the
// goroutine that made the call too. A hook must not wait for other jobs of the router: the
// job may hold its slot meanwhile.
type Hooks struct {
	// Start is called before a job starts; the job gets the ctx it returns
	// (nil: unchanged). In a batch it is called for every member, and the
	// returned ctx reaches only Done, since members share one call.
	Start func(context.Context, JobInfo, Decision) context.Context
	// Done is called when a job that started has ended, before its submitter
	// learns of it.
	Done func(context.Context, JobInfo, Outcome)
}

// Status says how a job ended.
type Status string

// The ways to end; Stats has a counter for each.
const (
	Completed Status = "completed"
	Failed    Status = "failed"
	Dropped   Status = "dropped"
	Withdrawn Status = "withdrawn"
)

// Outcome is how a job ended.
type Outcome struct {
	Status   Status
	Err      error         // nil if Completed; a *PanicError if it panicked
	Wait     time.Duration // from the decision to the start
	Run      time.Duration // how long it ran; in a batch, the whole call
	Latency  time.Duration // from Job.Arrived or, without it, the decision, to the end
	InBudget bool          // ended inside its budget; false without one
	Members  int           // jobs in the same call; 1 outside a batch, 0 if it did not start
	Where    string        // by whom it was done, as Ticket.At says; "" = here, or not told
}

// Event is one decision as seen by [Router.Watch]: what was known, what was
// decided and what came of it. Policy.Choose(Info, Pressure) gives Decision
// again, or Admission if there is one.
type Event struct {
	Seq      uint64    // counts all events of the router; rises in a feed, and gaps show losses
	Time     time.Time // of the decision
	Info     JobInfo   // at that time
	Pressure Pressure  // at that time
	Decision Decision  // of a job refused after it was admitted: the refusal, as in its DropError
	Outcome  Outcome

	// Admission is the decision that admitted a job which was refused after all, as when
	// its slot came too late; nil for all others.
	Admission *Decision
}

// refuse makes the event of an admitted job one of a job that was refused after all.
func (e *Event) refuse(d Decision) {
	admission := e.Decision
	e.Admission, e.Decision = &admission, d
}

// Watch returns a feed of sampled decisions, each sent when its job has ended,
// and a function that ends the feed and closes the channel. A watcher whose
// buffer (at least 1) is full loses events and blocks no job. Of all decisions
// at most 64 in 100 ms are sampled, the first ones (256 after 50 ms without any, so
// that a few are all shown), and as many drops besides. Close ends all feeds.
//
// A decision that is not sampled costs about 1 ns, a sampled one under 1 µs.
func (r *Router) Watch(buffer int) (<-chan Event, func()) {
	return r.watchers.Watch(max(buffer, 1))
}
