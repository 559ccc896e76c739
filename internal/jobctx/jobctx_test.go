package jobctx

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

type key struct{}

var errWhy = errors.New("why")

// detached returns a ctx, how to end its parent, and how to end the ctx that it has its
// values from.
func detached(t *testing.T) (c *Detached, parent, values context.CancelCauseFunc) {
	p, parent := context.WithCancelCause(t.Context())
	v, values := context.WithCancelCause(context.WithValue(context.WithValue(t.Context(), key{}, 7), Mark{}, "a job"))
	c = &Detached{}
	c.Init(&p, v)
	return c, parent, values
}

func TestDetachedEnds(t *testing.T) {
	for name, c := range map[string]struct {
		follow bool
		end    func(c *Detached, parent, values context.CancelCauseFunc)
		err    error
		cause  error
	}{
		"nothing ended":                      {false, func(*Detached, context.CancelCauseFunc, context.CancelCauseFunc) {}, nil, nil},
		"it was cancelled":                   {false, func(c *Detached, _, _ context.CancelCauseFunc) { c.Cancel(errWhy) }, context.Canceled, errWhy},
		"it ended":                           {false, func(c *Detached, _, _ context.CancelCauseFunc) { c.End() }, context.Canceled, context.Canceled},
		"the first cause stays":              {false, func(c *Detached, _, _ context.CancelCauseFunc) { c.Cancel(errWhy); c.End() }, context.Canceled, errWhy},
		"the parent ended":                   {false, func(_ *Detached, p, _ context.CancelCauseFunc) { p(errWhy) }, context.Canceled, errWhy},
		"the submitter left":                 {false, func(_ *Detached, _, v context.CancelCauseFunc) { v(errWhy) }, nil, nil},
		"it follows, and nothing ended":      {true, func(*Detached, context.CancelCauseFunc, context.CancelCauseFunc) {}, nil, nil},
		"it follows, and was cancelled":      {true, func(c *Detached, _, _ context.CancelCauseFunc) { c.Cancel(errWhy) }, context.Canceled, errWhy},
		"it follows, and the parent ended":   {true, func(_ *Detached, p, _ context.CancelCauseFunc) { p(errWhy) }, context.Canceled, errWhy},
		"it follows, and the submitter left": {true, func(_ *Detached, _, v context.CancelCauseFunc) { v(errWhy) }, context.Canceled, errWhy},
	} {
		for _, used := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, parent, values := detached(t)
					defer parent(nil)
					defer values(nil)
					defer ctx.End()
					if c.follow {
						ctx.Follow()
					}
					if used {
						ctx.Done()
					}
					c.end(ctx, parent, values)
					synctest.Wait()
					require.Equal(t, c.err, ctx.Err())
					require.Equal(t, c.cause, context.Cause(ctx))
					require.Equal(t, 7, ctx.Value(key{}))
					require.Nil(t, ctx.Value(Mark{}))
					select {
					case <-ctx.Done():
						require.Error(t, c.err)
					default:
						require.NoError(t, c.err)
					}
					_, has := ctx.Deadline()
					require.False(t, has)
				})
			})
		}
	}
}

func TestDetachedHasADeadlineOnlyIfItFollows(t *testing.T) {
	at := time.Now().Add(time.Hour)
	values, cancel := context.WithDeadline(t.Context(), at)
	defer cancel()
	parent := t.Context()
	for _, follow := range []bool{false, true} {
		var c Detached
		c.Init(&parent, values)
		if follow {
			c.Follow()
		}
		got, has := c.Deadline()
		require.Equal(t, follow, has)
		require.Equal(t, follow, got.Equal(at))
		c.End()
	}
}

func TestOnEnd(t *testing.T) {
	for name, c := range map[string]struct {
		end   func(c *Detached, values context.CancelCauseFunc)
		calls int
	}{
		"nothing ended":      {func(*Detached, context.CancelCauseFunc) {}, 0},
		"the submitter left": {func(_ *Detached, values context.CancelCauseFunc) { values(nil) }, 1},
		"it ended before":    {func(c *Detached, values context.CancelCauseFunc) { c.End(); values(nil) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, parent, values := detached(t)
				defer parent(nil)
				defer values(nil)
				calls := 0
				ctx.Follow()
				ctx.OnEnd(func() { calls++ })
				c.end(ctx, values)
				synctest.Wait()
				require.Equal(t, c.calls, calls)
				ctx.End()
			})
		})
	}
}

// Children of a ctx are cancelled with it, without a goroutine for each.
func TestChildrenEndWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, parent, values := detached(t)
		defer parent(nil)
		defer values(nil)
		child, cancel := context.WithCancel(c)
		defer cancel()
		c.Cancel(errWhy)
		require.Equal(t, errWhy, context.Cause(child))
	})
}

func TestDetachedAllocatesOnlyWhenUsed(t *testing.T) {
	parent, values := t.Context(), t.Context()
	require.EqualValues(t, 1, testing.AllocsPerRun(100, func() {
		c := &Detached{} // the one
		c.Init(&parent, values)
		if c.Err() != nil || c.Value(key{}) != nil {
			panic("ended")
		}
		c.End()
	}))
}

func TestAllDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 4
		for _, order := range [][n]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}} {
			var callers [n]context.Context
			var leave [n]context.CancelFunc
			for i := range callers {
				callers[i], leave[i] = context.WithCancel(context.WithValue(t.Context(), key{}, i))
			}
			ctx, stop := AllDone(callers[:])
			for _, i := range order {
				synctest.Wait()
				require.NoError(t, ctx.Err())
				require.Nil(t, ctx.Value(key{}), "no caller's values")
				leave[i]()
			}
			synctest.Wait()
			require.ErrorIs(t, ctx.Err(), context.Canceled)
			stop()
		}
	})
}

// registering is a ctx that counts what is registered with it.
type registering struct {
	context.Context
	registered *int
}

// Value hides the ctx of package context that it is made from, which would be registered with.
func (registering) Value(any) any { return nil }

func (r registering) AfterFunc(f func()) func() bool {
	*r.registered++
	stop := context.AfterFunc(r.Context, f)
	return func() bool { *r.registered--; return stop() }
}

func TestAllDoneLeavesNothingBehind(t *testing.T) {
	caller, leave := context.WithCancel(t.Context())
	defer leave()
	registered := 0
	_, stop := AllDone([]context.Context{registering{caller, &registered}, caller})
	require.Equal(t, 1, registered)
	stop()
	require.Zero(t, registered)
}

func TestAllDoneStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		caller, leave := context.WithCancel(t.Context())
		defer leave()
		ctx, stop := AllDone([]context.Context{caller, caller})
		stop()
		require.ErrorIs(t, ctx.Err(), context.Canceled)
		leave()
		synctest.Wait()
	})
}
