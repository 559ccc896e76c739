package helix_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

func nothing(context.Context) (any, error) { return nil, nil }

func TestZeroConfigIsReadyForUse(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	res, err := r.Submit(t.Context(), helix.Job{Run: func(context.Context) (any, error) { return "hello", nil }})
	require.NoError(t, err)
	require.Equal(t, "hello", res.Value)
	require.NotEmpty(t, res.Decision.Reason)
	require.Equal(t, "default", r.Stats().Kinds[0].Name)
}

func TestBadJobsAreErrorsThatCountNowhere(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	task := register(t, r, helix.Kind[float64, int]{
		Name: "costed",
		Run:  func(context.Context, float64) (int, error) { return 0, nil },
		Cost: func(in float64) float64 { return in },
	})
	for _, c := range []struct {
		field, value string
		job          helix.Job
	}{
		{"Job.Run", "nil", helix.Job{}},
		{"Job.Cost", "-1", helix.Job{Run: nothing, Cost: -1}},
		{"Job.Cost", "NaN", helix.Job{Run: nothing, Cost: math.NaN()}},
		{"Job.Cost", "+Inf", helix.Job{Run: nothing, Cost: math.Inf(1)}},
		{"Job.Scaling", "1.5", helix.Job{Run: nothing, Scaling: 1.5}},
		{"Job.Scaling", "-0.5", helix.Job{Run: nothing, Scaling: -.5}},
		{"Job.Scaling", "NaN", helix.Job{Run: nothing, Scaling: math.NaN()}},
		{"Job.Budget", "-1s", helix.Job{Run: nothing, Budget: -time.Second}},
		{"Job.Priority", "2", helix.Job{Run: nothing, Priority: 2}},
	} {
		t.Run(c.field+"="+c.value, func(t *testing.T) {
			check := func(err error) {
				var bad *helix.FieldError
				require.ErrorAs(t, err, &bad)
				require.Equal(t, c.field, bad.Field)
				require.Contains(t, err.Error(), c.field+" is "+c.value)
				require.NotErrorIs(t, err, helix.ErrNotRun, "a mistake is no refusal")
			}
			_, err := r.Submit(t.Context(), c.job)
			check(err)
			_, err = r.Go(t.Context(), c.job)
			check(err)
			if c.job.Run != nil {
				require.Equal(t, helix.Drop, r.Explain(c.job).Strategy)
				require.Contains(t, r.Explain(c.job).Reason, c.field)
			}
		})
	}
	for field, h := range map[string]helix.Hints{
		"Hints.Cost": {Cost: math.NaN()}, "Hints.Budget": {Budget: -1}, "Hints.Priority": {Priority: -2},
	} {
		_, err := task.SubmitWith(t.Context(), 1, h)
		require.ErrorContains(t, err, field)
	}
	_, err := task.Submit(t.Context(), -3)
	require.ErrorContains(t, err, "Kind.Cost() is -3")
	require.Zero(t, r.Stats().Submitted)
}

func TestBadKindsAreErrors(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{MaxKinds: 2})
	ok := doKind("ok")
	register(t, r, ok)
	for _, c := range []struct {
		want string
		edit func(*helix.Kind[do, int])
	}{
		{`Kind.Name is ""`, func(k *helix.Kind[do, int]) { k.Name = "" }},
		{`Kind.Name is "ok": must be the name of no kind registered before`, func(k *helix.Kind[do, int]) { k.Name = "ok" }},
		{`Kind.Name is "other"`, func(k *helix.Kind[do, int]) { k.Name = "other" }},
		{`Kind.Name is "a\nb"`, func(k *helix.Kind[do, int]) { k.Name = "a\nb" }},
		{`Kind.Name is "\xff"`, func(k *helix.Kind[do, int]) { k.Name = "\xff" }},
		{`Kind.Name is "xxx`, func(k *helix.Kind[do, int]) { k.Name = strings.Repeat("x", 65) }},
		{"Kind.Run is nil", func(k *helix.Kind[do, int]) { k.Run, k.Batch = nil, nil }},
		{"Kind.Scaling is 2", func(k *helix.Kind[do, int]) { k.Scaling = 2 }},
		{"Kind.Budget is -1ns", func(k *helix.Kind[do, int]) { k.Budget = -1 }},
		{"Kind.Priority is 5", func(k *helix.Kind[do, int]) { k.Priority = 5 }},
		{"Kind.Weight is -1", func(k *helix.Kind[do, int]) { k.Weight = -1 }},
		{"Kind.BatchMaxSize is -1", func(k *helix.Kind[do, int]) { k.BatchMaxSize = -1 }},
		{"Kind.BatchMaxDelay is -1ns", func(k *helix.Kind[do, int]) { k.BatchMaxDelay = -1 }},
	} {
		k := doKind("new")
		c.edit(&k)
		_, err := helix.Register(r, k)
		require.ErrorContains(t, err, c.want)
	}
	require.Len(t, r.Stats().Kinds, 1, "a kind that was refused is not there")

	register(t, r, doKind("second"))
	_, err := helix.Register(r, doKind("third"))
	require.ErrorContains(t, err, "MaxKinds")
}

func TestKindNamesAreHostile(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{MaxKinds: 8})
	names := []string{"", strings.Repeat("long", 1000), "bad\xffutf8", "new\nline", "<script>", "null\x00"}
	for i := range 2000 {
		names = append(names, fmt.Sprint("kind", i))
	}
	for _, name := range names {
		_, err := r.Submit(t.Context(), helix.Job{Kind: name, Run: nothing})
		require.NoError(t, err)
	}
	kinds := r.Stats().Kinds
	require.Len(t, kinds, 9, "MaxKinds and the one for all others")
	total := uint64(0)
	for _, k := range kinds {
		require.LessOrEqual(t, len(k.Name), 64)
		require.Equal(t, strings.ToValidUTF8(k.Name, ""), k.Name)
		require.NotContains(t, k.Name, "\n")
		require.NotContains(t, k.Name, "\x00")
		total += k.Submitted
	}
	require.EqualValues(t, len(names), total)
	register(t, r, doKind("new\uFFFDline")) // known from a one-off job, not yet registered
}

func TestExplainTellsAndCountsNothing(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	register(t, r, helix.Kind[int, int]{
		Name: "embed", Scaling: .9, Budget: time.Second,
		Batch: func(_ context.Context, ins []int) ([]int, error) { return ins, nil },
	})
	d := r.Explain(helix.Job{Kind: "thumbnail", Cost: 2e6})
	require.Equal(t, helix.CPUPool, d.Strategy)
	require.Equal(t, 2*time.Millisecond, d.Completion())
	require.Equal(t, helix.Alternative{Strategy: helix.Inline, Reason: "predicted above inline_threshold"}, d.Rejected[0])

	d = r.Explain(helix.Job{Kind: "embed", Cost: 2e6})
	require.Equal(t, helix.Batch, d.Strategy, "a job of a registered kind is explained as its Task's")
	require.InDelta(t, time.Second, d.Slack, float64(time.Millisecond))

	d = r.Explain(helix.Job{Kind: "thumbnail", Cost: 2e6, Budget: time.Millisecond})
	require.Equal(t, helix.Drop, d.Strategy)
	require.Equal(t, "budget cannot be met", d.Reason)
	d = r.Explain(helix.Job{Budget: time.Second, Arrived: time.Now().Add(-time.Minute)})
	require.Equal(t, "already late", d.Reason)

	s := r.Stats()
	require.Zero(t, s.Submitted)
	require.Len(t, s.Kinds, 1, "a kind only asked about is not made")
}

func TestRefusalsSayWhy(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	ran := false
	res, err := r.Submit(t.Context(), helix.Job{
		Cost: 5e6, Budget: time.Millisecond,
		Run: func(context.Context) (any, error) { ran = true; return nil, nil },
	})
	require.ErrorIs(t, err, helix.ErrDropped)
	require.ErrorIs(t, err, helix.ErrNotRun)
	var drop *helix.DropError
	require.ErrorAs(t, err, &drop)
	require.Equal(t, "budget cannot be met", drop.Decision.Reason)
	require.Equal(t, helix.Drop, drop.Decision.Strategy)
	require.Equal(t, 5*time.Millisecond, drop.Decision.Run)
	require.Zero(t, drop.RetryAfter, "no wait can help it")
	require.Contains(t, err.Error(), "budget cannot be met")
	require.Equal(t, drop.Decision, res.Decision)
	require.False(t, ran)

	// A different job gets numbers of its own, whenever it comes.
	_, err = r.Submit(t.Context(), helix.Job{Cost: 9e6, Budget: time.Millisecond, Run: nothing})
	require.ErrorAs(t, err, &drop)
	require.Equal(t, 9*time.Millisecond, drop.Decision.Run)
	require.EqualValues(t, 2, droppedFor(r.Stats(), "budget cannot be met"))
	require.EqualValues(t, 2, routed(r.Stats(), helix.Drop))
}

func TestUnknownStrategyIsADrop(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{Policy: always("nowhere")})
	_, err := r.Submit(t.Context(), helix.Job{Run: nothing})
	require.ErrorIs(t, err, helix.ErrDropped)
	require.ErrorContains(t, err, "policy named an unknown strategy")
	require.EqualValues(t, 1, r.Stats().Dropped)
}

// panicky is a policy with a bug.
type panicky struct{}

func (panicky) Choose(helix.JobInfo, helix.Pressure) helix.Decision { panic("policy bug") }

func TestAPanickingPolicyChangesNoCount(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{Policy: panicky{}})
	require.PanicsWithValue(t, "policy bug", func() { _, _ = r.Submit(t.Context(), helix.Job{Run: nothing}) })
	require.Zero(t, r.Stats().Submitted)
}

// broken is a strategy with a bug.
type broken struct{ offer func(*helix.Ticket) error }

func (broken) Name() string                    { return "broken" }
func (b broken) Offer(t *helix.Ticket) error   { return b.offer(t) }
func (broken) Load() helix.Load                { return helix.Load{} }
func (broken) Close(ctx context.Context) error { return errors.New("cannot close") }

func TestBrokenStrategiesLoseNoJob(t *testing.T) {
	run := func(offer func(*helix.Ticket) error) (s helix.Stats, panicked any, err error) {
		r, err := helix.New(helix.RouterConfig{Policy: always("broken"), Strategies: []helix.Strategy{broken{offer}}})
		require.NoError(t, err)
		func() {
			defer func() { panicked = recover() }()
			_, err = r.Submit(t.Context(), helix.Job{Run: nothing})
		}()
		require.EqualError(t, r.Close(), "cannot close")
		require.EqualError(t, r.Close(), "cannot close")
		s = r.Stats()
		requireConserved(t, s)
		require.Zero(t, s.InFlight)
		return s, panicked, err
	}

	s, panicked, _ := run(func(*helix.Ticket) error { panic("oops") })
	require.Equal(t, "oops", panicked.(*helix.PanicError).Value)
	require.EqualValues(t, 1, s.Dropped)

	s, panicked, _ = run(func(tk *helix.Ticket) error { tk.Run(); panic("after the run") })
	require.Nil(t, panicked, "the job ran; its submitter gets its result")
	require.EqualValues(t, 1, s.Completed)

	s, _, err := run(func(*helix.Ticket) error { return errors.New("no") })
	require.ErrorIs(t, err, helix.ErrDropped)
	require.EqualValues(t, 1, droppedFor(s, "strategy refused it"))
	require.EqualValues(t, 1, routed(s, helix.Drop))

	s, _, err = run(func(tk *helix.Ticket) error { tk.Run(); return errors.New("no, but it ran") })
	require.NoError(t, err)
	require.EqualValues(t, 1, s.Completed)

	s, _, err = run(func(tk *helix.Ticket) error {
		require.True(t, tk.Run())
		require.False(t, tk.Run(), "twice")
		require.False(t, tk.Refuse("too late"))
		return nil
	})
	require.NoError(t, err)
	require.EqualValues(t, 1, s.Completed)

	s, _, err = run(func(tk *helix.Ticket) error { tk.Refuse("mine"); return nil })
	require.ErrorIs(t, err, helix.ErrDropped)
	require.EqualValues(t, 1, droppedFor(s, "mine"))
}

func TestDrainRefusesNewAndWaitsForTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1})
		for range 3 {
			go func() {
				_, err := r.Submit(t.Context(), helix.Job{Run: func(context.Context) (any, error) {
					time.Sleep(time.Second)
					return nil, nil
				}})
				require.NoError(t, err)
			}()
		}
		synctest.Wait()
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.ErrorIs(t, r.Drain(short), context.DeadlineExceeded)

		_, err := r.Submit(t.Context(), helix.Job{Run: nothing})
		require.ErrorIs(t, err, helix.ErrClosed)
		require.ErrorIs(t, err, helix.ErrNotRun)
		_, err = r.Go(t.Context(), helix.Job{Run: nothing})
		require.ErrorIs(t, err, helix.ErrClosed)

		start := time.Now()
		require.NoError(t, r.Drain(t.Context()))
		require.InDelta(t, 3*time.Second, time.Since(start), float64(2*time.Millisecond))
		s := r.Stats()
		require.EqualValues(t, 3, s.Completed)
		require.EqualValues(t, 2, droppedFor(s, "router is closed"))
	})
}

func TestCloseWithdrawsTheQueuedAndCancelsWhatGoStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, strategy := range []string{helix.Spawn, helix.CPUPool, helix.Batch, "queueing"} {
			cfg := helix.RouterConfig{Policy: always(strategy), CPUParallelism: 1}
			if strategy == "queueing" {
				cfg.Strategies = []helix.Strategy{newQueueing()}
			}
			r := newRouter(t, cfg)
			task := register(t, r, doKind("do"))
			running, err := task.Go(t.Context(), func(ctx context.Context) (int, error) {
				<-ctx.Done()
				return 1, context.Cause(ctx)
			})
			require.NoError(t, err)
			synctest.Wait()
			queued, err := task.Go(t.Context(), func(ctx context.Context) (int, error) { return 2, ctx.Err() })
			require.NoError(t, err)
			errs := make(chan error, 1)
			go func() {
				_, err := task.Submit(t.Context(), func(ctx context.Context) (int, error) { return 3, nil })
				errs <- err
			}()
			synctest.Wait()
			go func() { require.NoError(t, r.Close()) }()
			require.NoError(t, r.Close())

			n, err := running.Wait(t.Context())
			require.ErrorIs(t, err, helix.ErrClosed, strategy)
			require.Equal(t, 1, n)
			_, _ = queued.Wait(t.Context())
			<-errs
			s := r.Stats()
			requireConserved(t, s)
			require.EqualValues(t, 3, s.Submitted)
			if strategy == helix.CPUPool || strategy == helix.Batch {
				require.EqualValues(t, 2, s.Withdrawn, strategy)
			}
			_, err = r.Submit(t.Context(), helix.Job{Run: nothing})
			require.ErrorIs(t, err, helix.ErrClosed)
		}
	})
}

func TestFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1})
		task := register(t, r, doKind("do"))
		ctx, leave := context.WithCancel(t.Context())
		f, err := task.Go(ctx, func(ctx context.Context) (int, error) {
			time.Sleep(time.Second)
			return 8, ctx.Err()
		})
		require.NoError(t, err)
		queued, err := task.Go(ctx, func(ctx context.Context) (int, error) { t.Error("ran"); return 0, nil })
		require.NoError(t, err)

		leave() // the caller leaves; its jobs stay
		_, err = f.Wait(ctx)
		require.ErrorIs(t, err, context.Canceled)

		queued.Cancel()
		<-queued.Done() // at once: no time passes in this bubble
		_, err = queued.Wait(t.Context())
		require.ErrorIs(t, err, helix.ErrNotRun)
		queued.Cancel()

		for range 2 {
			n, err := f.Wait(t.Context())
			require.NoError(t, err)
			require.Equal(t, 8, n)
		}
		f.Cancel()
	})
}

func TestResultTellsWaitAndRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1})
		sleep := helix.Job{Run: func(context.Context) (any, error) { time.Sleep(time.Second); return nil, nil }}
		go func() { _, _ = r.Submit(t.Context(), sleep) }()
		synctest.Wait()
		res, err := r.Submit(t.Context(), sleep)
		require.NoError(t, err)
		require.Equal(t, time.Second, res.Wait)
		require.Equal(t, time.Second, res.Run)
		require.Equal(t, helix.CPUPool, res.Decision.Strategy)
	})
}

func TestStartedTellsTheDecisionBeforeTheJobRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 1, Policy: always(helix.CPUPool)})
		release := make(chan struct{})
		first, err := r.Go(t.Context(), helix.Job{Run: func(context.Context) (any, error) { <-release; return nil, nil }})
		require.NoError(t, err)
		synctest.Wait()

		var order []string
		job := helix.Job{
			Started: func(d helix.Decision, wait time.Duration) {
				require.Equal(t, helix.CPUPool, d.Strategy)
				require.Equal(t, 5*time.Millisecond, wait)
				order = append(order, "started")
			},
			Run: func(context.Context) (any, error) { order = append(order, "run"); return nil, nil },
		}
		go func() {
			time.Sleep(5 * time.Millisecond)
			close(release)
		}()
		res, err := r.Submit(t.Context(), job)
		require.NoError(t, err)
		require.Equal(t, 5*time.Millisecond, res.Wait)
		require.Equal(t, []string{"started", "run"}, order)
		_, err = first.Wait(t.Context())
		require.NoError(t, err)

		order = nil
		f, err := r.Go(t.Context(), helix.Job{
			Started: func(d helix.Decision, _ time.Duration) { order = append(order, d.Strategy) },
			Run:     func(context.Context) (any, error) { order = append(order, "run"); return nil, nil },
		})
		require.NoError(t, err)
		_, err = f.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{helix.CPUPool, "run"}, order)

		require.Panics(t, func() {
			_, _ = r.Submit(t.Context(), helix.Job{
				Started: func(helix.Decision, time.Duration) { panic("in Started") },
				Run:     nothing,
			})
		})
		require.EqualValues(t, 1, r.Stats().Failed, "a panic in Started is the job's")
	})
}
