package helix_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// anyStrategy chooses a strategy by the job's cost, so that a test can steer.
type anyStrategy struct{}

var strategies = []string{helix.Inline, helix.Spawn, helix.CPUPool, helix.Batch, helix.Drop, "queueing"}

func (anyStrategy) Choose(j helix.JobInfo, _ helix.Pressure) helix.Decision {
	return helix.Decision{Strategy: strategies[int(j.Cost)%len(strategies)], Reason: "by cost"}
}

// chaos is a script of what callers do to a router at the same time, drawn from
// a seed.
type chaos struct {
	router *helix.Router
	task   *helix.Task[do, int]
	ran    atomic.Int64 // jobs that started
	ended  atomic.Int64 // submissions whose outcome is known
	ranNot atomic.Int64 // of these, those that matched ErrNotRun
}

// step does one random thing and returns once it is over.
func (c *chaos) step(rng *rand.Rand) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	callers := ctx
	what := rng.IntN(12)
	nested := float64(rng.IntN(5))
	started := false
	work := func(ctx context.Context) (int, error) {
		if started {
			panic("ran twice")
		}
		started = true
		switch what {
		case 0:
			panic("chaos")
		case 1:
			runtime.Goexit()
		case 2:
			return 0, errors.New("chaos")
		case 3:
			cancel()
			<-callers.Done() // not the job's: in a batch others may stay
		case 4:
			helix.Yield(ctx)
		case 5:
			// Not to the strategy whose one worker may be running this.
			_, err := c.router.Submit(ctx, helix.Job{Cost: nested, Run: nothing})
			c.count(err)
		case 6:
			runtime.Gosched()
		}
		return 0, nil
	}
	hints := helix.Hints{Cost: 1 + float64(rng.IntN(6))}
	if rng.IntN(3) == 0 {
		hints.Budget = time.Duration(1 + rng.IntN(int(time.Millisecond)))
	}
	hints.Priority = helix.Priority(rng.IntN(3) - 1)
	if rng.IntN(4) == 0 {
		go cancel() // at any moment
	}
	var err error
	counted := false
	defer func() {
		_ = recover() // a panicking job's
		if !counted {
			c.count(nil)
		}
	}()
	switch rng.IntN(4) {
	case 0:
		var f *helix.Future[helix.Result]
		f, err = c.router.Go(ctx, helix.Job{Cost: hints.Cost, Budget: hints.Budget, Priority: hints.Priority, Run: func(ctx context.Context) (any, error) { return work(ctx) }})
		if err == nil {
			if rng.IntN(3) == 0 {
				go f.Cancel()
			}
			defer context.AfterFunc(ctx, f.Cancel)()
			_, err = f.Wait(context.Background())
		}
	case 1:
		_, err = c.router.Submit(ctx, helix.Job{Cost: hints.Cost, Budget: hints.Budget, Priority: hints.Priority, Run: func(ctx context.Context) (any, error) { return work(ctx) }})
	default:
		_, err = c.task.SubmitWith(ctx, work, hints)
	}
	counted = true
	c.count(err)
}

func (c *chaos) count(err error) {
	if errors.Is(err, helix.ErrNotRun) {
		c.ranNot.Add(1)
	}
	c.ended.Add(1)
}

// runChaos runs callers goroutines of steps steps each, with Updates and Stats
// going on, and checks that nothing is lost.
func runChaos(t *testing.T, seed uint64, callers, steps int) {
	c := &chaos{}
	r := newRouter(t, helix.RouterConfig{
		Hooks: helix.Hooks{Start: func(ctx context.Context, _ helix.JobInfo, _ helix.Decision) context.Context {
			c.ran.Add(1)
			return ctx
		}},
		Policy: anyStrategy{}, CPUParallelism: 2, CPUQueueCap: 6, SpawnLimit: 5, BatchMaxSize: 3,
		Strategies: []helix.Strategy{newQueueing()},
	})
	c.router, c.task = r, register(t, r, doKind("do"))
	var group errgroup.Group
	for i := range callers {
		group.Go(func() error {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for range steps {
				done := make(chan struct{})
				go func() { // the step may end its goroutine
					defer close(done)
					c.step(rng)
				}()
				<-done
			}
			return nil
		})
	}
	stop := make(chan struct{})
	var watching errgroup.Group
	watching.Go(func() error {
		events, end := r.Watch(1)
		defer end()
		for n := 1; ; n++ {
			select {
			case <-stop:
				return nil
			case <-events:
			default:
			}
			requireConserved(t, r.Stats())
			_ = r.Update(func(cfg *helix.RouterConfig) { cfg.CPUParallelism = 1 + n%3 })
			r.Explain(helix.Job{Kind: "do", Cost: float64(n % 6)})
			runtime.Gosched()
		}
	})
	if seed%2 == 0 { // half of the time the router ends in the middle
		for c.ended.Load() < int64(callers*steps/2) {
			runtime.Gosched()
		}
		if seed%4 == 0 {
			require.NoError(t, r.Drain(t.Context()))
		}
		require.NoError(t, r.Close())
	}
	require.NoError(t, group.Wait())
	close(stop)
	require.NoError(t, watching.Wait())

	require.NoError(t, r.Drain(t.Context()))
	requireIdle(t, r)
	s := r.Stats()
	require.EqualValues(t, c.ended.Load(), s.Submitted, "every submission counts once")
	require.EqualValues(t, c.ran.Load(), s.Completed+s.Failed, "every run counts once")
	require.EqualValues(t, c.ranNot.Load(), s.Dropped+s.Withdrawn, "every refusal matches ErrNotRun")
}

func TestNothingIsLost(t *testing.T) {
	for seed := range uint64(8) {
		runChaos(t, seed, 8, 150)
	}
}

func FuzzNothingIsLost(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(seed, uint8(4))
	}
	f.Fuzz(func(t *testing.T, seed uint64, callers uint8) { runChaos(t, seed, 1+int(callers%16), 25) })
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 20 {
		r, err := helix.New(helix.RouterConfig{Policy: anyStrategy{}, CPUParallelism: 2})
		require.NoError(t, err)
		for cost := range 5 {
			_, _ = r.Go(t.Context(), helix.Job{Cost: float64(cost), Run: func(ctx context.Context) (any, error) {
				<-ctx.Done()
				return nil, nil
			}})
		}
		require.NoError(t, r.Close())
	}
	// A goroutine that has done its last statement may still be counted.
	for i := 0; runtime.NumGoroutine() > before && i < 1e6; i++ {
		runtime.Gosched()
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), before)
}
