package helix_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// followers are the ways to start a job that ends with its submitter's ctx. Each returns how
// to wait for it.
var followers = map[string]func(f *fixture, ctx context.Context, budget time.Duration, work do) (func(context.Context) error, error){
	"Router": func(f *fixture, ctx context.Context, budget time.Duration, work do) (func(context.Context) error, error) {
		future, err := f.Go(ctx, helix.Job{Follow: true, Budget: budget, Run: func(ctx context.Context) (any, error) { return work(ctx) }})
		return func(ctx context.Context) error { _, err := future.Wait(ctx); return err }, err
	},
	"Task": func(f *fixture, ctx context.Context, budget time.Duration, work do) (func(context.Context) error, error) {
		future, err := f.task.GoWith(ctx, work, helix.Hints{Follow: true, Budget: budget})
		return func(ctx context.Context) error { _, err := future.Wait(ctx); return err }, err
	},
}

func eachFollower(t *testing.T, test func(t *testing.T, f *fixture, start func(ctx context.Context, budget time.Duration, work do) (func(context.Context) error, error))) {
	t.Helper()
	for _, strategy := range []string{helix.Inline, helix.Spawn, helix.CPUPool, helix.Batch, "queueing"} {
		for how, follow := range followers {
			t.Run(strategy+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg := helix.RouterConfig{Policy: always(strategy), CPUParallelism: 1, SpawnLimit: 1}
					if strategy == "queueing" {
						cfg.Strategies = []helix.Strategy{newQueueing()}
					}
					r := newRouter(t, cfg)
					f := &fixture{r, register(t, r, doKind("do"))}
					test(t, f, func(ctx context.Context, budget time.Duration, work do) (func(context.Context) error, error) {
						return follow(f, ctx, budget, work)
					})
				})
			})
		}
	}
}

// A running job's ctx ends with its submitter's, by the same cause.
func TestARunningJobFollows(t *testing.T) {
	eachFollower(t, func(t *testing.T, f *fixture, start func(context.Context, time.Duration, do) (func(context.Context) error, error)) {
		why := errors.New("why")
		parent := context.WithValue(t.Context(), ctxKey{}, 42)
		var given context.Context
		var value any
		work := func(ctx context.Context) (int, error) {
			given, value = ctx, ctx.Value(ctxKey{})
			<-ctx.Done()
			return 0, context.Cause(ctx)
		}
		ctx, cancel := context.WithCancelCause(parent)
		wait, err := start(ctx, 0, work)
		require.NoError(t, err)
		synctest.Wait()
		cancel(why)
		require.ErrorIs(t, wait(context.Background()), why)
		require.ErrorIs(t, given.Err(), context.Canceled)
		require.Equal(t, 42, value)

		limited, stop := context.WithTimeout(parent, time.Second)
		defer stop()
		until, _ := limited.Deadline()
		wait, err = start(limited, 0, work)
		require.NoError(t, err)
		require.ErrorIs(t, wait(context.Background()), context.DeadlineExceeded)
		require.ErrorIs(t, given.Err(), context.DeadlineExceeded)
		at, ok := given.Deadline()
		require.True(t, ok)
		require.Equal(t, until, at)
		require.EqualValues(t, 2, f.Stats().Failed)

		wait, err = start(parent, 0, work)
		require.NoError(t, err)
		synctest.Wait()
		go f.Close()
		require.ErrorIs(t, wait(context.Background()), helix.ErrClosed)
	})
}

// A job that has not started is withdrawn at once; its deadline is a budget.
func TestAQueuedJobFollows(t *testing.T) {
	for how, follow := range followers {
		for _, strategy := range []string{helix.CPUPool, helix.Batch, "queueing"} {
			t.Run(strategy+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg := helix.RouterConfig{Policy: always(strategy), CPUParallelism: 1}
					if strategy == "queueing" {
						cfg.Strategies = []helix.Strategy{newQueueing()}
					}
					r := newRouter(t, cfg)
					f := &fixture{r, register(t, r, doKind("do"))}
					leave := make(chan struct{})
					first, err := f.Go(t.Context(), helix.Job{Run: func(context.Context) (any, error) { <-leave; return nil, nil }})
					require.NoError(t, err)
					synctest.Wait()

					never := func(context.Context) (int, error) { t.Error("ran"); return 0, nil }
					why := errors.New("why")
					ctx, cancel := context.WithCancelCause(t.Context())
					wait, err := follow(f, ctx, 0, never)
					require.NoError(t, err)
					cancel(why)
					err = wait(t.Context()) // while the other runs
					require.ErrorIs(t, err, why)
					require.ErrorIs(t, err, helix.ErrNotRun)

					limited, stop := context.WithTimeout(t.Context(), time.Second)
					defer stop()
					wait, err = follow(f, limited, time.Hour, never)
					require.NoError(t, err)
					begun := time.Now()
					err = wait(t.Context())
					require.ErrorIs(t, err, context.DeadlineExceeded)
					require.ErrorIs(t, err, helix.ErrNotRun)
					require.Equal(t, time.Second, time.Since(begun))

					close(leave)
					_, err = first.Wait(t.Context())
					require.NoError(t, err)
					s := r.Stats()
					require.EqualValues(t, 2, s.Withdrawn)
					require.Zero(t, s.InFlight)
				})
			})
		}
	}
}

// The deadline is the budget that the policy sees, if it is earlier than the job's own.
func TestTheDeadlineOfAFollowerIsItsBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := &seeing{}
		r := newRouter(t, helix.RouterConfig{Policy: seen})
		f := &fixture{r, register(t, r, doKind("do"))}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for budget, want := range map[time.Duration]time.Duration{0: time.Second, time.Hour: time.Second, time.Millisecond: time.Millisecond} {
			for how, follow := range followers {
				wait, err := follow(f, ctx, budget, func(context.Context) (int, error) { return 0, nil })
				require.NoError(t, err)
				require.NoError(t, wait(t.Context()))
				require.Equal(t, want, seen.last.Budget, how)
			}
		}
		_, err := f.task.GoWith(ctx, func(context.Context) (int, error) { return 0, nil }, helix.Hints{})
		require.NoError(t, err)
		require.Zero(t, seen.last.Budget, "it does not follow")
	})
}

// seeing is a policy that keeps what it saw last.
type seeing struct{ last helix.JobInfo }

func (s *seeing) Choose(j helix.JobInfo, _ helix.Pressure) helix.Decision {
	s.last = j
	return helix.Decision{Strategy: helix.Spawn}
}

// A job that has ended leaves nothing with its submitter's ctx or the router's, and what
// ends while the other begins is seen.
func TestAFollowerLeavesNothingBehind(t *testing.T) {
	for _, strategy := range []string{helix.Spawn, helix.CPUPool} {
		r := newRouter(t, helix.RouterConfig{Policy: always(strategy)})
		task := register(t, r, doKind("do"))
		for range 300 {
			ctx, cancel := context.WithCancel(t.Context())
			g := helix.NewGroup(task)
			for range 3 {
				g.Go(ctx, func(ctx context.Context) (int, error) { return 0, ctx.Err() })
			}
			go cancel()
			_, err := g.Wait(t.Context())
			if err != nil {
				require.ErrorIs(t, err, context.Canceled)
			}
		}
	}
}

// Inside a job a follower ends with the job's ctx, and holds no slot of it.
func TestAFollowerInsideAJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1})
		f := &fixture{r, register(t, r, doKind("do"))}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for how, follow := range followers {
			_, err := f.task.Submit(t.Context(), func(context.Context) (int, error) {
				return f.task.Submit(ctx, func(ctx context.Context) (int, error) {
					wait, err := follow(f, ctx, 0, func(ctx context.Context) (int, error) {
						<-ctx.Done()
						return 0, context.Cause(ctx)
					})
					if err != nil {
						return 0, err
					}
					return 0, wait(ctx)
				})
			})
			require.Error(t, err, how)
		}
	})
}
