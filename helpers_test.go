package helix_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// always is a policy that knows one strategy.
type always string

func (a always) Choose(j helix.JobInfo, _ helix.Pressure) helix.Decision {
	return helix.Decision{Strategy: string(a), Reason: "always the same", Run: j.Predicted, Slack: j.Slack}
}

// queueing is a strategy as a user might write it: one worker, one queue.
type queueing struct {
	tickets chan *helix.Ticket
	done    sync.WaitGroup
	mu      sync.Mutex
	closed  bool
}

func newQueueing() *queueing {
	q := &queueing{tickets: make(chan *helix.Ticket, 64)}
	q.done.Add(1)
	go q.work()
	return q
}

func (q *queueing) work() {
	exited := true // unless the loop ends: a job may call runtime.Goexit
	defer func() {
		if exited {
			go q.work()
			return
		}
		q.done.Done()
	}()
	for t := range q.tickets {
		t.Run()
	}
	exited = false
}

func (q *queueing) Name() string { return "queueing" }

func (q *queueing) Offer(t *helix.Ticket) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return helix.ErrClosed
	}
	select {
	case q.tickets <- t:
		return nil
	default:
		return &helix.DropError{Decision: helix.Decision{Strategy: helix.Drop, Reason: "queueing is full"}}
	}
}

func (q *queueing) Load() helix.Load { return helix.Load{Queued: len(q.tickets), Limit: 1} }

func (q *queueing) Close(context.Context) error {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.tickets)
	}
	q.mu.Unlock()
	q.done.Wait()
	return nil
}

// offering is a strategy of which only Offer matters.
type offering struct{ offer func(*helix.Ticket) error }

func (offering) Name() string                  { return "offering" }
func (o offering) Offer(t *helix.Ticket) error { return o.offer(t) }
func (offering) Load() helix.Load              { return helix.Load{} }
func (offering) Close(context.Context) error   { return nil }

// do is the item of the kind that tests register: the item is the work.
type do func(context.Context) (int, error)

// doKind runs items alone or in a batch; a batch runs one after the other.
func doKind(name string) helix.Kind[do, int] {
	return helix.Kind[do, int]{
		Name: name,
		Run:  func(ctx context.Context, f do) (int, error) { return f(ctx) },
		Batch: func(ctx context.Context, fs []do) ([]int, error) {
			outs, errs := make([]int, len(fs)), make(helix.ItemErrors, len(fs))
			failed := false
			for i, f := range fs {
				outs[i], errs[i] = f(ctx)
				failed = failed || errs[i] != nil
			}
			if failed {
				return outs, errs
			}
			return outs, nil
		},
	}
}

// newRouter makes a router that is closed, and checked, at the end of the test.
func newRouter(t testing.TB, cfg helix.RouterConfig) *helix.Router {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r, err := helix.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, r.Close())
		requireIdle(t, r)
	})
	return r
}

// requireIdle checks that every account of a router in which nothing runs or waits is
// where it was when the router was made.
func requireIdle(t testing.TB, r *helix.Router) {
	t.Helper()
	s := r.Stats()
	requireConserved(t, s)
	require.Zero(t, s.InFlight, "in flight")
	require.Zero(t, s.Pressure.CPUBusy, "slots in use")
	require.Zero(t, s.Pressure.Queued, "queued")
	require.Zero(t, s.Pressure.Spawned, "spawned")
	require.Zero(t, s.Pressure.WorkMs, "work left")
	decided := uint64(0)
	for _, c := range s.RoutedByStrategy {
		decided += c.Count
	}
	// The rest were withdrawn before a decision.
	require.LessOrEqual(t, decided, s.Submitted)
	require.GreaterOrEqual(t, decided, s.Submitted-s.Withdrawn, "each job decided on is routed once")
	for _, k := range s.Kinds {
		require.Equal(t, k.Completed+k.Failed, k.Latency.Count, "what ran has a latency: %s", k.Name)
	}
	for account, sum := range r.Accounts() {
		require.Zero(t, sum, account)
	}
}

func register[In, Out any](t testing.TB, r *helix.Router, k helix.Kind[In, Out]) *helix.Task[In, Out] {
	t.Helper()
	task, err := helix.Register(r, k)
	require.NoError(t, err)
	return task
}

// requireConserved checks that no job is lost or counted twice.
func requireConserved(t testing.TB, s helix.Stats) {
	t.Helper()
	require.Equal(t, s.Submitted, s.Completed+s.Failed+s.Dropped+s.Withdrawn+s.InFlight)
	require.LessOrEqual(t, s.Kept, s.Promised)
	var sum helix.KindStats
	for _, k := range s.Kinds {
		require.Equal(t, k.Submitted, k.Completed+k.Failed+k.Dropped+k.Withdrawn+k.InFlight, k.Name)
		sum.Submitted += k.Submitted
		sum.Completed += k.Completed
	}
	require.Equal(t, s.Submitted, sum.Submitted)
	require.Equal(t, s.Completed, sum.Completed)
	dropped := uint64(0)
	for _, d := range s.DroppedByReason {
		dropped += d.Count
	}
	require.Equal(t, s.Dropped, dropped)
}

// routed is the number of jobs sent to a strategy.
func routed(s helix.Stats, strategy string) uint64 {
	for _, c := range s.RoutedByStrategy {
		if c.Strategy == strategy {
			return c.Count
		}
	}
	return 0
}

func droppedFor(s helix.Stats, reason string) uint64 {
	for _, c := range s.DroppedByReason {
		if c.Reason == reason {
			return c.Count
		}
	}
	return 0
}

// sleepKind runs for as long as the item says, and can be batched if asked.
func sleepKind(name string, budget time.Duration, batched bool) helix.Kind[time.Duration, int] {
	k := helix.Kind[time.Duration, int]{Name: name, Budget: budget}
	if batched {
		k.Batch = func(_ context.Context, ds []time.Duration) ([]int, error) {
			time.Sleep(ds[0])
			return make([]int, len(ds)), nil
		}
	} else {
		k.Run = func(_ context.Context, d time.Duration) (int, error) { time.Sleep(d); return 0, nil }
	}
	return k
}

// skipRace skips what has nothing to show under the race detector and takes ten times as long there.
func skipRace(t *testing.T) {
	t.Helper()
	if helix.RaceEnabled {
		t.Skip("runs without the race detector")
	}
}
