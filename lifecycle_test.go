package helix_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// loud is a slog handler that panics, or calls runtime.Goexit.
type loud struct{ how func() }

func (loud) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }
func (l loud) Handle(context.Context, slog.Record) error      { l.how(); return nil }
func (l loud) WithAttrs([]slog.Attr) slog.Handler             { return l }
func (l loud) WithGroup(string) slog.Handler                  { return l }

// User code around a job may end its goroutine or panic at any place: slots, counters and
// other jobs are none the worse, and the job's own outcome stays as it was.
func TestEveryLaneSurvivesItsHooks(t *testing.T) {
	ways := map[string]func(){"panics": func() { panic("hook") }, "exits": runtime.Goexit}
	for name, how := range ways {
		for place, cfg := range map[string]helix.RouterConfig{
			"Start": {Hooks: helix.Hooks{Start: func(ctx context.Context, _ helix.JobInfo, _ helix.Decision) context.Context {
				how()
				return ctx
			}}},
			"Done":   {Hooks: helix.Hooks{Done: func(context.Context, helix.JobInfo, helix.Outcome) { how() }}},
			"Logger": {Logger: slog.New(loud{how})},
			"Done and Logger": {
				Logger: slog.New(loud{how}),
				Hooks:  helix.Hooks{Done: func(context.Context, helix.JobInfo, helix.Outcome) { how() }},
			},
		} {
			t.Run(place+" "+name, func(t *testing.T) {
				eachLaneOf(t, cfg, func(t *testing.T, f *fixture, d door) {
					for _, work := range []do{
						func(context.Context) (int, error) { return 1, nil },
						func(context.Context) (int, error) { return 0, errors.New("mine") },
						func(context.Context) (int, error) { panic("job") },
						func(context.Context) (int, error) { runtime.Goexit(); return 0, nil },
					} {
						var callers sync.WaitGroup
						for range 3 { // so that there are batches of several
							callers.Go(func() {
								defer func() { _ = recover() }()
								_, _ = d.submit(f, t.Context(), work)
							})
						}
						callers.Wait()
						synctest.Wait()
						requireIdle(t, f.Router)
					}
				})
			})
		}
	}
}

func TestGoexitInDoneCarriesOnInTheSubmitter(t *testing.T) {
	exit := helix.Hooks{Done: func(context.Context, helix.JobInfo, helix.Outcome) { runtime.Goexit() }}
	eachLaneOf(t, helix.RouterConfig{Hooks: exit}, func(t *testing.T, f *fixture, d door) {
		var n int
		var err error
		returned, done := false, make(chan struct{})
		go func() {
			defer close(done)
			n, err = d.submit(f, t.Context(), func(context.Context) (int, error) { return 7, nil })
			returned = true
		}()
		<-done
		if strings.HasSuffix(d.name, "Go") {
			require.NoError(t, err)
			require.Equal(t, 7, n)
		} else {
			require.False(t, returned)
		}
		require.EqualValues(t, 1, f.Stats().Completed)
	})
}

// ending is a strategy whose Close does what it is told.
type ending struct {
	name  string
	close func(context.Context) error
}

func (e ending) Name() string                  { return e.name }
func (ending) Offer(t *helix.Ticket) error     { t.Run(); return nil }
func (ending) Load() helix.Load                { return helix.Load{} }
func (e ending) Close(c context.Context) error { return e.close(c) }

func TestCloseSurvivesStrategies(t *testing.T) {
	mine := errors.New("mine")
	closed := 0
	r, err := helix.New(helix.RouterConfig{Strategies: []helix.Strategy{
		ending{"panics", func(context.Context) error { panic(mine) }},
		ending{"exits", func(context.Context) error { runtime.Goexit(); return nil }},
		ending{"fails", func(context.Context) error { return errors.New("cannot close") }},
		ending{"closes", func(context.Context) error { closed++; return nil }},
	}})
	require.NoError(t, err)
	feed, _ := r.Watch(1)
	for range 2 { // the second says the same
		err = r.Close()
		var p *helix.PanicError
		require.ErrorAs(t, err, &p)
		require.ErrorIs(t, err, mine)
		require.ErrorContains(t, err, `"panics" panicked in Close`)
		require.ErrorContains(t, err, `"exits" called runtime.Goexit in Close`)
		require.ErrorContains(t, err, "cannot close")
	}
	require.Equal(t, 1, closed)
	_, open := <-feed
	require.False(t, open, "all feeds end")
}

func TestOfferMayExit(t *testing.T) {
	var offered *helix.Ticket
	exits := offering{func(t *helix.Ticket) error { offered = t; runtime.Goexit(); return nil }}
	r := newRouter(t, helix.RouterConfig{Policy: always("offering"), Strategies: []helix.Strategy{exits}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = r.Submit(t.Context(), helix.Job{Run: nothing})
	}()
	<-done
	require.False(t, offered.Run(), "its submitter is gone")
	require.NoError(t, r.Drain(t.Context()))
	requireIdle(t, r)
}

// refusing is a strategy that holds tickets and refuses all of them when it is closed.
type refusing struct {
	mu     sync.Mutex
	held   []*helix.Ticket
	closed bool
}

func (*refusing) Name() string     { return "refusing" }
func (*refusing) Load() helix.Load { return helix.Load{} }
func (s *refusing) Offer(t *helix.Ticket) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("some error of its own")
	}
	s.held = append(s.held, t)
	return nil
}

func (s *refusing) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, t := range s.held {
		t.Refuse("the strategy is going away")
	}
	return nil
}

// Whatever part of the router refuses a job while it closes, the error says that it does.
func TestRefusalsDuringCloseMatchErrClosed(t *testing.T) {
	t.Run("held by a strategy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, helix.RouterConfig{Policy: always("refusing"), Strategies: []helix.Strategy{&refusing{}}})
			var err error
			var caller sync.WaitGroup
			caller.Go(func() { _, err = r.Submit(t.Context(), helix.Job{Run: nothing}) })
			synctest.Wait()
			require.NoError(t, r.Close())
			caller.Wait()
			require.ErrorIs(t, err, helix.ErrClosed)
			require.ErrorIs(t, err, helix.ErrDropped)
			require.ErrorContains(t, err, "the strategy is going away")
		})
	})
	for _, strategy := range []string{helix.Inline, helix.Spawn, helix.CPUPool, helix.Batch, "refusing", "queueing"} {
		t.Run(strategy, func(t *testing.T) {
			r, err := helix.New(helix.RouterConfig{
				Policy: always(strategy), CPUParallelism: 1, CPUQueueCap: 1 << 20, SpawnLimit: 1 << 20,
				Strategies: []helix.Strategy{&refusing{}, newQueueing()},
			})
			require.NoError(t, err)
			task := register(t, r, doKind("do"))
			work := func(context.Context) (int, error) { runtime.Gosched(); return 0, nil }
			var callers sync.WaitGroup
			errs := make([]error, 16)
			for i := range errs {
				callers.Go(func() {
					for n := 0; errs[i] == nil || errors.Is(errs[i], helix.ErrDropped) && !errors.Is(errs[i], helix.ErrClosed); n++ {
						if strategy == "queueing" && errs[i] != nil && !strings.Contains(errs[i].Error(), "queueing is full") {
							return
						}
						if n%2 == 0 {
							_, errs[i] = task.Submit(context.Background(), work)
						} else if f, err := task.Go(context.Background(), work); err != nil {
							errs[i] = err
						} else if strategy != "refusing" {
							_, errs[i] = f.Wait(context.Background())
						}
					}
				})
			}
			for r.Stats().Submitted < 200 && strategy != "refusing" {
				runtime.Gosched()
			}
			require.NoError(t, r.Close())
			callers.Wait()
			for _, err := range errs {
				require.ErrorIs(t, err, helix.ErrClosed)
			}
			requireIdle(t, r)
		})
	}
}

func TestClosingFromInsideAJobIsAnError(t *testing.T) {
	ends := map[string]func(*helix.Router) error{
		"Close":    func(r *helix.Router) error { return r.Close() },
		"Drain":    func(r *helix.Router) error { return r.Drain(context.Background()) },
		"Shutdown": func(r *helix.Router) error { return r.Shutdown(context.Background()) },
	}
	eachLane(t, func(t *testing.T, f *fixture, d door) {
		other := newRouter(t, helix.RouterConfig{})
		for name, end := range ends {
			_, err := d.submit(f, t.Context(), func(ctx context.Context) (int, error) {
				deep := func() (int, error) { return 0, end(f.Router) }
				return deep()
			})
			require.ErrorIs(t, err, helix.ErrInsideJob, name)
			_, err = other.Submit(t.Context(), helix.Job{Run: func(ctx context.Context) (any, error) {
				_, err := d.submit(f, ctx, func(ctx context.Context) (int, error) { return 0, nil })
				return nil, err
			}})
			require.NoError(t, err, "nothing has changed")
		}
		_, err := d.submit(f, t.Context(), func(ctx context.Context) (int, error) { return 0, other.Close() })
		require.NoError(t, err)
	})
}

func TestClosingFromAHookIsAnError(t *testing.T) {
	var f *fixture
	var err error
	hooks := helix.Hooks{Done: func(context.Context, helix.JobInfo, helix.Outcome) { err = f.Close() }}
	eachLaneOf(t, helix.RouterConfig{Hooks: hooks}, func(t *testing.T, fresh *fixture, d door) {
		f, err = fresh, nil
		_, failed := d.submit(f, t.Context(), func(context.Context) (int, error) { return 0, nil })
		require.NoError(t, failed)
		require.ErrorIs(t, err, helix.ErrInsideJob)
	})
}

func TestShutdown(t *testing.T) {
	t.Run("waits for all that was accepted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool), CPUParallelism: 1})
			var s sleepers
			for i := range 3 {
				s.submit(t, r, fmt.Sprint(i), helix.Job{}, time.Second)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			start := time.Now()
			refused := make(chan error, 1)
			time.AfterFunc(time.Second/2, func() {
				_, err := r.Submit(t.Context(), helix.Job{Run: nothing})
				refused <- err
			})
			require.NoError(t, r.Shutdown(ctx))
			require.Equal(t, 3*time.Second, time.Since(start))
			require.ErrorIs(t, <-refused, helix.ErrClosed)
			s.wg.Wait()
			for name, err := range s.errs {
				require.NoError(t, err, name)
			}
			require.NoError(t, r.Shutdown(ctx), "again")
		})
	})
	t.Run("withdraws and cancels at the end of ctx", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			slow := newQueueing()
			r := newRouter(t, helix.RouterConfig{
				CPUParallelism: 1, Strategies: []helix.Strategy{slow}, Policy: anyStrategy{},
			})
			pool, elsewhere := float64(2), float64(5) // as anyStrategy has them
			var s sleepers
			s.submit(t, r, "running", helix.Job{Cost: pool}, 10*time.Second)
			s.submit(t, r, "queued", helix.Job{Cost: pool}, time.Second)
			s.submit(t, r, "elsewhere", helix.Job{Cost: elsewhere}, 5*time.Second)
			started, err := r.Go(t.Context(), helix.Job{Cost: 1, Run: func(ctx context.Context) (any, error) {
				<-ctx.Done()
				return nil, context.Cause(ctx)
			}})
			require.NoError(t, err)
			why := errors.New("why")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(why) })
			start := time.Now()
			require.ErrorIs(t, r.Shutdown(ctx), why)
			require.Equal(t, time.Second, time.Since(start), "it waits for nothing more")
			synctest.Wait()
			require.ErrorIs(t, s.errs["queued"], helix.ErrClosed)
			_, err = started.Wait(t.Context())
			require.ErrorIs(t, err, helix.ErrClosed, "its ctx was cancelled for that reason")
			require.EqualValues(t, 2, r.Stats().InFlight, "they cannot be stopped")
			require.NoError(t, r.Close())
			require.Equal(t, 10*time.Second, time.Since(start), "Close waits for what runs")
			s.wg.Wait()
			require.NoError(t, s.errs["running"])
			require.NoError(t, s.errs["elsewhere"])
		})
	})
	t.Run("of a router that is idle, with a ctx that is over", func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, r.Shutdown(ctx), "as net/http's")
	})
}

// errAbort is like net/http's ErrAbortHandler: a server knows it by identity.
var errAbort = errors.New("net/http: abort Handler")

func TestAPanicThroughNestedJobsIsWrappedOnce(t *testing.T) {
	var log strings.Builder
	cfg := helix.RouterConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	eachLaneOf(t, cfg, func(t *testing.T, f *fixture, d door) {
		outer := newRouter(t, cfg)
		raised := func(v any) (raised any) {
			defer func() { raised = recover() }()
			_, _ = outer.Submit(t.Context(), helix.Job{Run: func(ctx context.Context) (any, error) {
				return outer.Submit(ctx, helix.Job{Run: func(ctx context.Context) (any, error) {
					_, err := d.submit(f, ctx, func(context.Context) (int, error) { panic(v) })
					return nil, err
				}})
			}})
			return nil
		}
		require.Equal(t, "boom", raised("boom").(*helix.PanicError).Value)
		log.Reset()
		require.Same(t, errAbort, raised(errAbort), "as itself")
		require.Same(t, errAbort, raised(fmt.Errorf("handler: %w", errAbort)))
		require.Empty(t, log.String())
	})
}
