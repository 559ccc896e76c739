package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"golang.org/x/sync/semaphore"

	"github.com/helixrouter/helix"
)

// contender decides which calls may be made.
type contender interface {
	// do makes the call scheduled for that time, on this goroutine or another, or refuses it.
	do(ctx context.Context, came time.Time, call func()) (ran bool)
	close()
}

// order is that of the contenders in tables.
var order = []string{"nothing", "semaphore", "failsafe", "failsafe-tuned", "gradient2", "vegas", "helix"}

var contenders = map[string]func(*scene) (contender, error){
	"nothing": func(*scene) (contender, error) { return nothing{}, nil },
	"semaphore": func(s *scene) (contender, error) {
		return &permits{sem: semaphore.NewWeighted(servers), budget: s.budget}, nil
	},
	"failsafe": func(*scene) (contender, error) {
		return &failsafe{limit: adaptivelimiter.NewWithDefaults[any]()}, nil
	},
	// The best of six settings; it is configured with the number of servers.
	"failsafe-tuned": func(*scene) (contender, error) {
		return &failsafe{limit: adaptivelimiter.NewBuilder[any]().
			WithLimits(servers, 1000, 2*servers).
			WithRecentWindow(50*time.Millisecond, time.Second, 20).
			WithRecentQuantile(.5).
			Build()}, nil
	},
	"gradient2": func(*scene) (contender, error) { return newPublished(newGradient2()), nil },
	"vegas":     func(*scene) (contender, error) { return newPublished(newVegas()), nil },
	"helix":     newHelix,
}

// nothing makes every call.
type nothing struct{}

func (nothing) do(_ context.Context, _ time.Time, call func()) bool {
	call()
	return true
}

func (nothing) close() {}

// permits makes as many calls at a time as there are servers, a number that the others do not
// know. Calls wait for a permit until their budget ends.
type permits struct {
	sem    *semaphore.Weighted
	budget time.Duration
}

func (p *permits) do(ctx context.Context, came time.Time, call func()) bool {
	if p.budget > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, came.Add(p.budget))
		defer cancel()
	}
	if p.sem.Acquire(ctx, 1) != nil {
		return false
	}
	defer p.sem.Release(1)
	call()
	return true
}

func (*permits) close() {}

// failsafe is failsafe-go's adaptive limiter.
type failsafe struct {
	limit adaptivelimiter.AdaptiveLimiter[any]
}

func (f *failsafe) do(_ context.Context, _ time.Time, call func()) bool {
	permit, ok := f.limit.TryAcquirePermit()
	if !ok {
		return false
	}
	call()
	permit.Record()
	return true
}

func (*failsafe) close() {}

// router is helix with only Waits and the budget set.
type router struct {
	router *helix.Router
	task   *helix.Task[func(), struct{}]
}

func newHelix(s *scene) (contender, error) {
	r, err := helix.New(helix.RouterConfig{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	task, err := helix.Register(r, helix.Kind[func(), struct{}]{
		Name: "call", Waits: true, Budget: s.budget,
		Run: func(_ context.Context, call func()) (none struct{}, err error) {
			call()
			return none, nil
		},
	})
	return &router{r, task}, err
}

func (r *router) do(ctx context.Context, came time.Time, call func()) bool {
	_, err := r.task.SubmitWith(ctx, call, helix.Hints{Arrived: came})
	return !errors.Is(err, helix.ErrNotRun)
}

func (r *router) close() { _ = r.router.Close() }
