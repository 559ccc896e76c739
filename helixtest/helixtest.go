// Package helixtest has a router for unit tests of code that submits jobs: the test forces
// strategies and refusals and occupies slots, and time is virtual in a bubble of
// testing/synctest.
//
//	func TestThumbnailOnABusyDay(t *testing.T) {
//		router := helixtest.New(t, helix.RouterConfig{})
//		service := newService(router.Router) // takes a *helix.Router
//		router.Refuse("thumbnail", "over its fair share", 2*time.Second)
//		// ... the service must answer 503 now
//	}
//
// In a bubble, a job that sleeps takes that long by the bubble's clock, and budgets,
// deadlines and waits are exact. Make the router in the bubble too.
package helixtest

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix"
)

// TB has the methods of a testing.TB that the package needs.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Router is a helix.Router whose decisions a test can force. Its methods are safe for
// concurrent use.
type Router struct {
	*helix.Router
	t      TB
	policy *policy
}

// Reason is the reason of decisions forced by Force.
const Reason = "forced by the test"

// New makes a router that decides like one made by helix.New, except for forced decisions. Slots
// default to one, not to GOMAXPROCS, so that a test behaves the same on every machine. At the
// end of the test the router is closed, which waits for running jobs, and the test fails if a
// job is not accounted for.
func New(t TB, cfg helix.RouterConfig) *Router {
	t.Helper()
	if cfg.CPUParallelism == 0 {
		cfg.CPUParallelism = 1
	}
	p := &policy{base: cfg.Policy}
	if p.base == nil {
		p.base = helix.AdaptivePolicy{}
	}
	p.forced.Store(&map[string]helix.Decision{})
	cfg.Policy = p
	router, err := helix.New(cfg)
	if err != nil {
		t.Fatalf("helixtest: %v", err)
		return nil
	}
	t.Cleanup(func() {
		t.Helper()
		if err := router.Close(); err != nil {
			t.Errorf("helixtest: the router closed with %v", err)
		}
		if s := router.Stats(); s.InFlight > 0 || s.Submitted != s.Completed+s.Failed+s.Dropped+s.Withdrawn {
			t.Errorf("helixtest: not all jobs are accounted for: %+v", s)
		}
	})
	return &Router{Router: router, t: t, policy: p}
}

// Force routes jobs of a kind to that strategy from now on, whatever they cost; "" means all
// kinds without a decision of their own. Impossible choices are corrected as usual: a kind
// without a batch function does not batch.
func (r *Router) Force(kind, strategy string) {
	r.t.Helper()
	switch strategy {
	case helix.Inline, helix.Spawn, helix.CPUPool, helix.Batch:
	case helix.Drop:
		r.t.Fatalf("helixtest: Force to drop: use Refuse, which says why and when to retry")
		return
	default:
		for _, own := range r.Config().Strategies {
			if own.Name() == strategy {
				r.policy.set(kind, helix.Decision{Strategy: strategy, Reason: Reason})
				return
			}
		}
		r.t.Fatalf("helixtest: Force: the router has no strategy %q", strategy)
		return
	}
	r.policy.set(kind, helix.Decision{Strategy: strategy, Reason: Reason})
}

// Refuse drops jobs of a kind from now on, with that reason; "" means all kinds without a
// decision of their own. DropError.RetryAfter is at least retryAfter, because it is spread
// over the refused jobs, and 0 if retryAfter is 0.
func (r *Router) Refuse(kind, reason string, retryAfter time.Duration) {
	r.policy.set(kind, helix.Decision{Strategy: helix.Drop, Reason: reason, Excess: retryAfter})
}

// Free undoes Force and Refuse for a kind.
func (r *Router) Free(kind string) { r.policy.unset(kind) }

// Occupy takes n slots, as long jobs would, and returns a function that releases them: when that
// returns they are free, or other jobs have them. Jobs that need a slot queue meanwhile if none
// is left. The test fails if n slots are not free.
func (r *Router) Occupy(n int) (release func()) {
	r.t.Helper()
	end := make(chan struct{})
	var occupants []*helix.Future[helix.Result]
	release = sync.OnceFunc(func() {
		close(end)
		for _, f := range occupants {
			_, _ = f.Wait(context.Background()) // the jobs return no error
		}
	})
	started := make(chan struct{})
	r.policy.set(occupant, helix.Decision{Strategy: helix.CPUPool, Reason: Reason})
	if free := r.Config().CPUParallelism - r.Stats().Pressure.CPUBusy; free < n {
		r.t.Fatalf("helixtest: Occupy(%d): %d slots are free", n, free)
		return release
	}
	for range n {
		f, err := r.Go(context.Background(), helix.Job{Kind: occupant, Run: func(context.Context) (any, error) {
			started <- struct{}{}
			<-end
			return nil, nil
		}})
		if err != nil {
			release()
			r.t.Fatalf("helixtest: Occupy: %v", err)
			return release
		}
		occupants = append(occupants, f)
		<-started
	}
	r.t.Cleanup(release) // before the router is closed
	return release
}

// occupant is the kind of the jobs of Occupy.
const occupant = "helixtest occupant"

// policy decides like base, except for forced kinds.
type policy struct {
	base   helix.Policy
	mu     sync.Mutex // guards replacing forced
	forced atomic.Pointer[map[string]helix.Decision]
}

func (p *policy) Choose(j helix.JobInfo, pressure helix.Pressure) helix.Decision {
	forced := *p.forced.Load()
	d, ok := forced[j.Kind]
	if !ok {
		d, ok = forced[""]
	}
	if !ok {
		return p.base.Choose(j, pressure)
	}
	d.Run, d.Slack = j.Predicted, j.Slack
	return d
}

func (p *policy) set(kind string, d helix.Decision) {
	p.change(func(forced map[string]helix.Decision) { forced[kind] = d })
}

func (p *policy) unset(kind string) {
	p.change(func(forced map[string]helix.Decision) { delete(forced, kind) })
}

func (p *policy) change(edit func(map[string]helix.Decision)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := maps.Clone(*p.forced.Load())
	edit(next)
	p.forced.Store(&next)
}
