package helix_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// started is a job from Go that runs until it is let go, and the ctx it was given.
type started struct {
	ctx    context.Context
	future *helix.Future[helix.Result]
	finish func()
}

func startJob(t *testing.T, r *helix.Router, ctx context.Context) started {
	t.Helper()
	given, leave := make(chan context.Context, 1), make(chan struct{})
	future, err := r.Go(ctx, helix.Job{Run: func(ctx context.Context) (any, error) {
		given <- ctx
		<-leave
		return nil, nil
	}})
	require.NoError(t, err)
	return started{<-given, future, sync.OnceFunc(func() { close(leave) })}
}

type asyncKey struct{}

// Nothing of a ctx from Go is made before somebody asks, and nobody can tell.
func TestTheContextOfGo(t *testing.T) {
	for name, ask := range map[string]func(context.Context){
		"asked before": func(ctx context.Context) { ctx.Done() },
		"asked after":  func(context.Context) {},
	} {
		ends := map[string]struct {
			end   func(r *helix.Router, s started)
			cause error
		}{
			"ended":     {func(_ *helix.Router, s started) { s.finish(); _, _ = s.future.Wait(context.Background()) }, context.Canceled},
			"cancelled": {func(_ *helix.Router, s started) { s.future.Cancel() }, context.Canceled},
			"closed":    {func(r *helix.Router, _ started) { go r.Close() }, helix.ErrClosed},
		}
		for how, c := range ends {
			t.Run(name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRouter(t, helix.RouterConfig{})
					submitter, leave := context.WithCancel(context.WithValue(t.Context(), asyncKey{}, "value"))
					s := startJob(t, r, submitter)
					defer s.finish()
					leave()
					require.NoError(t, s.ctx.Err(), "the submitter's end is not the job's")
					require.NoError(t, context.Cause(s.ctx))
					require.Equal(t, "value", s.ctx.Value(asyncKey{}))
					_, limited := s.ctx.Deadline()
					require.False(t, limited)

					ask(s.ctx)
					c.end(r, s)
					synctest.Wait()
					require.ErrorIs(t, s.ctx.Err(), context.Canceled)
					require.ErrorIs(t, context.Cause(s.ctx), c.cause)
					require.Equal(t, "value", s.ctx.Value(asyncKey{}))
					<-s.ctx.Done()
				})
			})
		}
	}
}

// Contexts derived from it end with it, without a goroutine that watches.
func TestChildrenOfTheContextOfGo(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	s := startJob(t, r, t.Context())
	before := runtime.NumGoroutine()
	child, stop := context.WithCancel(s.ctx)
	defer stop()
	called := make(chan struct{})
	context.AfterFunc(s.ctx, func() { close(called) })
	require.Zero(t, goroutinesBeyond(before))
	s.future.Cancel()
	<-child.Done()
	<-called
	s.finish()
	_, err := s.future.Wait(t.Context())
	require.NoError(t, err)
}

// Whoever asks while the ctx or the future ends sees the end.
func TestAskingWhileItEnds(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	for range 500 {
		s := startJob(t, r, t.Context())
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { <-s.ctx.Done() })
			wg.Go(func() { <-s.future.Done() })
			wg.Go(func() {
				_, err := s.future.Wait(t.Context())
				if err != nil {
					t.Error(err)
				}
			})
		}
		s.finish()
		wg.Wait()
		require.ErrorIs(t, s.ctx.Err(), context.Canceled)
		<-s.future.Done()
	}
}

func TestWaitPrefersTheResult(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	s := startJob(t, r, t.Context())
	gone, leave := context.WithCancelCause(t.Context())
	why := errors.New("gone")
	leave(why)
	_, err := s.future.Wait(gone)
	require.ErrorIs(t, err, why)
	s.finish()
	<-s.future.Done()
	for range 100 {
		_, err = s.future.Wait(gone)
		require.NoError(t, err)
	}
}

// What a job from Go leaves behind takes no part in the slot of the job that started it.
func TestWhatAJobFromGoLeavesBehindAsksForASlot(t *testing.T) {
	for _, follow := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1})
			var left sync.WaitGroup
			_, err := r.Submit(t.Context(), helix.Job{Run: func(ctx context.Context) (any, error) {
				var kept context.Context
				child, err := r.Go(ctx, helix.Job{Follow: follow, Run: func(ctx context.Context) (any, error) {
					kept = context.WithoutCancel(ctx)
					return nil, nil
				}})
				require.NoError(t, err)
				_, err = child.Wait(ctx)
				require.NoError(t, err)
				left.Go(func() {
					_, err := r.Submit(kept, helix.Job{Run: nothing})
					require.NoError(t, err)
				})
				synctest.Wait()
				require.Equal(t, 1, r.Stats().Pressure.Queued, "follow %v", follow)
				return nil, nil
			}})
			require.NoError(t, err)
			left.Wait()
		})
	}
}
