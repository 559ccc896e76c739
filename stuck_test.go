package helix_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Jobs that wait for others with a ctx that is not theirs keep their slots, and none ever ends.
// That is logged, once, with the names of the kinds.
func TestWaitingWithAnotherCtxIsLogged(t *testing.T) {
	type waits func(inner *helix.Task[do, int], outside context.Context) error
	submit := func(inner *helix.Task[do, int], outside context.Context) error {
		_, err := inner.Submit(outside, nothingToDo)
		return err
	}
	goAndWait := func(inner *helix.Task[do, int], outside context.Context) error {
		future, err := inner.Go(outside, nothingToDo)
		if err == nil {
			_, err = future.Wait(outside)
		}
		return err
	}
	for name, c := range map[string]struct {
		strategy string
		slots    int
		waits    waits
	}{
		"Submit":             {helix.CPUPool, 2, submit},
		"Go and Wait":        {helix.CPUPool, 2, goAndWait},
		"Submit in a batch":  {helix.Batch, 1, submit},
		"Go from a batch":    {helix.Batch, 1, goAndWait},
		"one slot, adaptive": {"adaptive", 1, submit},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log lines
				cfg := helix.RouterConfig{CPUParallelism: c.slots, InlineThreshold: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))}
				if c.strategy != "adaptive" {
					cfg.Policy = always(c.strategy)
				}
				r := newRouter(t, cfg)
				outer, inner := register(t, r, doKind("outer")), register(t, r, doKind("inner"))
				outside, cancel := context.WithCancel(t.Context())
				var all sync.WaitGroup
				for range c.slots {
					all.Go(func() {
						_, _ = outer.Submit(t.Context(), func(context.Context) (int, error) {
							time.Sleep(time.Millisecond) // until all have a slot
							return 0, c.waits(inner, outside)
						})
					})
				}
				time.Sleep(10 * time.Minute)
				require.Contains(t, log.String(), "kind=outer waits_for=inner")
				require.Equal(t, 1, bytes.Count([]byte(log.String()), []byte("\n")), log.String())
				cancel()
				all.Wait()
			})
		})
	}
}

// What will end by itself is not logged: long runs, work inside work with its own ctx, and
// jobs that keep some of the slots.
func TestWaitingThatEndsIsNotLogged(t *testing.T) {
	long := func(context.Context) (int, error) { time.Sleep(10 * time.Minute); return 0, nil }
	for name, run := range map[string]func(inner *helix.Task[do, int], ctx context.Context) (int, error){
		"long runs": func(_ *helix.Task[do, int], ctx context.Context) (int, error) { return long(ctx) },
		"Submit":    func(inner *helix.Task[do, int], ctx context.Context) (int, error) { return inner.Submit(ctx, long) },
		"Go and Wait": func(inner *helix.Task[do, int], ctx context.Context) (int, error) {
			future, err := inner.Go(ctx, long)
			if err != nil {
				return 0, err
			}
			return future.Wait(ctx)
		},
		"one of two by another ctx": func(inner *helix.Task[do, int], ctx context.Context) (int, error) {
			if first := ctx.Value(firstOfTwo{}).(bool); first {
				return inner.Submit(context.Background(), nothingToDo)
			}
			return long(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log lines
				r := newRouter(t, helix.RouterConfig{CPUParallelism: 2, Policy: always(helix.CPUPool), Logger: slog.New(slog.NewTextHandler(&log, nil))})
				outer, inner := register(t, r, doKind("outer")), register(t, r, doKind("inner"))
				require.NoError(t, each(t.Context(), 4, func(i int) error {
					ctx := context.WithValue(t.Context(), firstOfTwo{}, i == 0)
					_, err := outer.Submit(ctx, func(ctx context.Context) (int, error) {
						time.Sleep(time.Millisecond)
						return run(inner, ctx)
					})
					return err
				}))
				require.Empty(t, log.String())
			})
		})
	}
}

type firstOfTwo struct{}

func nothingToDo(context.Context) (int, error) { return 0, nil }
