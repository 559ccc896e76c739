package helix_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
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
	group  *helix.Task[do, int] // of kind "group", whose submissions only its groups see
	ran    atomic.Int64         // jobs that started
	ended  atomic.Int64         // submissions whose outcome is known
	ranNot atomic.Int64         // of these, those that matched ErrNotRun
}

// step does one random thing and returns once it is over.
func (c *chaos) step(rng *rand.Rand) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer func() { _ = recover() }() // a panicking job's
	if rng.IntN(4) == 0 {
		go cancel() // at any moment
	}
	c.submit(ctx, rng, 1+rng.IntN(6), c.work(rng, ctx, cancel, 3))
}

// submit has one job done in one way or another. It lets panics and runtime.Goexit through.
func (c *chaos) submit(ctx context.Context, rng *rand.Rand, cost int, work do) {
	hints := helix.Hints{Cost: float64(cost), Priority: helix.Priority(rng.IntN(3) - 1), Follow: rng.IntN(2) == 0}
	if rng.IntN(3) == 0 {
		hints.Budget = time.Duration(1 + rng.IntN(int(time.Millisecond)))
	}
	job := helix.Job{Cost: hints.Cost, Budget: hints.Budget, Priority: hints.Priority, Follow: hints.Follow,
		Run: func(ctx context.Context) (any, error) { return work(ctx) }}
	var err error
	counted := false
	defer func() {
		if !counted {
			c.count(nil)
		}
	}()
	switch how := rng.IntN(6); how {
	case 0:
		var f *helix.Future[helix.Result]
		if f, err = c.router.Go(ctx, job); err == nil {
			err = join(ctx, rng, f)
		}
	case 1:
		var f *helix.Future[int]
		if f, err = c.task.GoWith(ctx, work, hints); err == nil {
			err = join(ctx, rng, f)
		}
	case 2:
		_, err = c.router.Submit(ctx, job)
	default:
		_, err = c.task.SubmitWith(ctx, work, hints)
	}
	counted = true
	c.count(err)
}

// join waits for a job from Go, which it may cancel, and which is cancelled when ctx is done.
func join[T any](ctx context.Context, rng *rand.Rand, f *helix.Future[T]) error {
	if rng.IntN(3) == 0 {
		go f.Cancel()
	}
	defer context.AfterFunc(ctx, f.Cancel)()
	if rng.IntN(2) == 0 {
		helix.Block(ctx, func() { <-f.Done() })
	}
	_, err := f.Wait(context.WithoutCancel(ctx))
	return err
}

// work is a job that does one random thing, maybe with jobs inside itself, down to that depth.
// callers is the ctx of the step, which leave ends.
func (c *chaos) work(rng *rand.Rand, callers context.Context, leave func(), depth int) do {
	what := rng.IntN(16)
	rng = rand.New(rand.NewPCG(rng.Uint64(), 0)) // of its own: it may run on another goroutine
	started := false
	return func(ctx context.Context) (int, error) {
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
			leave()
			<-callers.Done() // not the job's: in a batch others may stay
		case 4:
			helix.Yield(ctx)
		case 5, 6, 7, 8:
			c.inside(ctx, rng, callers, leave, depth)
		case 9, 10:
			c.fanOut(ctx, rng, callers, leave, depth)
		case 11:
			c.groupInside(ctx, rng, callers, leave, depth)
		case 12:
			helix.Block(ctx, func() { c.inside(ctx, rng, callers, leave, depth) })
		case 13:
			runtime.Gosched()
		}
		return 0, nil
	}
}

// inside submits a job inside another. It goes not to the strategy whose one worker may be
// running that.
func (c *chaos) inside(ctx context.Context, rng *rand.Rand, callers context.Context, leave func(), depth int) {
	if depth > 0 {
		c.submit(ctx, rng, rng.IntN(5), c.work(rng, callers, leave, depth-1))
	}
}

// fanOut submits jobs from goroutines of another.
func (c *chaos) fanOut(ctx context.Context, rng *rand.Rand, callers context.Context, leave func(), depth int) {
	var wg sync.WaitGroup
	for range 3 {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 0))
		wg.Go(func() {
			defer func() { _ = recover() }()
			c.inside(ctx, rng, callers, leave, depth)
		})
	}
	wg.Wait()
}

// groupInside has a group of jobs done inside another.
func (c *chaos) groupInside(ctx context.Context, rng *rand.Rand, callers context.Context, leave func(), depth int) {
	if depth == 0 {
		return
	}
	g := helix.NewGroup(c.group)
	for range 1 + rng.IntN(4) {
		g.GoWith(ctx, c.work(rng, callers, leave, depth-1), helix.Hints{Cost: float64(rng.IntN(5))})
	}
	_, _ = g.Wait(ctx)
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
	c.router, c.task, c.group = r, register(t, r, doKind("do")), register(t, r, doKind("group"))
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
	groups := kindStats(t, r, "group")
	require.EqualValues(t, c.ended.Load(), s.Submitted-groups.Submitted, "every submission counts once")
	require.EqualValues(t, c.ran.Load(), s.Completed+s.Failed, "every run counts once")
	require.EqualValues(t, c.ranNot.Load(), s.Dropped+s.Withdrawn-groups.Dropped-groups.Withdrawn, "every refusal matches ErrNotRun")
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
	require.Zero(t, goroutinesBeyond(before))
}
