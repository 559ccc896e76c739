package helix

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// Strategy is an execution path. The built-in ones are strategies like any
// other; RouterConfig.Strategies adds your own.
//
// All methods must be safe for concurrent use. A job may submit to its own
// router and wait: a strategy with a bound of its own whose jobs do that must
// expect that they wait for one another.
type Strategy interface {
	// Name is the word by which a Policy chooses the strategy. It must always
	// be the same.
	Name() string
	// Offer accepts the ticket, and then sees to it that Ticket.Run (or
	// Ticket.Refuse, or Ticket.Claim and then Finish or Decline) is called on it
	// exactly once, or returns an error and never touches it again: the job is then
	// dropped, or if the error is ErrDecline decided on again. It must not block,
	// except to run the job in place. It is called on the submitter's
	// goroutine.
	Offer(t *Ticket) error
	// Load tells how busy the strategy is.
	Load() Load
	// Close ends the strategy: it runs or refuses what it still holds and
	// returns when no goroutine of its own is left, or ctx's error.
	// Tickets offered since it was called must be refused.
	Close(ctx context.Context) error
}

// Load is how busy a [Strategy] is.
type Load struct {
	Running int // jobs that run
	Queued  int // jobs accepted that do not run yet
	Limit   int // the most that run at the same time; 0 = no limit
}

// refusal is the error of a built-in strategy that does not take a ticket. It
// is its reason, so that refusing allocates nothing.
type refusal string

func (r refusal) Error() string { return string(r) }

// The refusals, as errors made once.
var (
	errQueueFull  error = refusal(reasonQueueFull)
	errSpawnLimit error = refusal(reasonSpawnLimit)
	errPoolClosed error = refusal(reasonClosed)
)

// refusalReason returns the reason to count a refused offer under.
func refusalReason(err error) string {
	if r, ok := err.(refusal); ok {
		return string(r)
	}
	if drop := (*DropError)(nil); errors.As(err, &drop) && drop.Decision.Reason != "" {
		return drop.Decision.Reason
	}
	if errors.Is(err, ErrClosed) {
		return reasonClosed
	}
	return reasonRefused
}

// inline runs jobs in place.
type inline struct{}

func (inline) Name() string { return Inline }

func (inline) Offer(t *Ticket) error {
	t.nextAction = actionInline
	return nil
}

func (inline) Load() Load                  { return Load{} }
func (inline) Close(context.Context) error { return nil }

// spawn runs every job on a goroutine of its own.
type spawn struct {
	running atomic.Int64
	runFunc func(*Ticket) // run, bound once instead of for every job

	gatesMu sync.Mutex
	gates   []*gate // of all kinds; guarded by gatesMu
}

func newSpawn() *spawn {
	s := &spawn{}
	s.runFunc = s.run
	return s
}

func (s *spawn) Name() string { return Spawn }

func (s *spawn) Offer(t *Ticket) error {
	if !s.take(t) {
		return errSpawnLimit
	}
	if t.gated() {
		entered, err := t.gate().enter(t)
		if err != nil {
			s.running.Add(-1)
		}
		if err != nil || !entered {
			return err
		}
	}
	// Claimed here, not on the new goroutine: a ticket that could be withdrawn
	// before its goroutine runs might by then be in use for another job.
	t.claim()
	s.start(t)
	return nil
}

// gated reports whether the job must pass the gate of its kind.
func (t *Ticket) gated() bool { return t.job.waits && t.kind.gate.Load() != nil }

// take counts the ticket among those that run, if there may be one more.
func (s *spawn) take(t *Ticket) bool {
	if s.running.Add(1) > int64(t.cfg.SpawnLimit) {
		s.running.Add(-1)
		return false
	}
	return true
}

// start runs a claimed ticket on a goroutine of its own.
func (s *spawn) start(t *Ticket) {
	if t.job.waits {
		t.kind.down().begin(t)
	}
	if t.job.async {
		t.launch(s.runFunc)
		return
	}
	if t.spawned == nil {
		t.spawned = func() { s.run(t) }
	}
	go t.spawned() // its submitter waits for it
}

func (s *spawn) run(t *Ticket) {
	defer func() { // also after runtime.Goexit
		if t.job.waits {
			t.kind.down().end(t)
		}
		s.running.Add(-1)
		if t.place.Gated {
			t.gate().leave()
		}
		t.router().signalIdle()
		t.notifySubmitter()
	}()
	now := t.router().now()
	switch {
	case t.place.Requester != nil: // it waited for its place
		if t.endIfPointless(now) {
			return
		}
	case t.ctx.Err() != nil:
		t.endWithdrawn(withdrawn(t.ctx))
		return
	}
	t.kind.execute(t, now)
}

func (s *spawn) Load() Load { return Load{Running: int(s.running.Load())} }

// Close withdraws what waits for a place in a gate.
func (s *spawn) Close(context.Context) error {
	s.gatesMu.Lock()
	gates := s.gates
	s.gatesMu.Unlock()
	for _, g := range gates {
		g.close()
	}
	return nil
}

// newGate makes a gate that Close will close.
func (s *spawn) newGate(most int, clock func() int64) *gate {
	g := &gate{most: most, spawn: s, clock: clock}
	s.gatesMu.Lock()
	s.gates = append(s.gates, g)
	s.gatesMu.Unlock()
	return g
}
