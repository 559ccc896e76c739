package helix_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// away is a strategy whose jobs are done elsewhere: each takes so long, and its output is
// what do returns.
type away struct {
	forecast helix.Forecast
	takes    time.Duration
	do       func(in []byte) ([]byte, error)
	offer    func(t *helix.Ticket) error // instead of all that
	offered  atomic.Int64
	asked    atomic.Int64
}

func (a *away) Name() string                { return "away" }
func (a *away) Elsewhere() bool             { return true }
func (a *away) Load() helix.Load            { return helix.Load{} }
func (a *away) Close(context.Context) error { return nil }

func (a *away) Forecast(j helix.JobInfo) helix.Forecast {
	a.asked.Add(1)
	f := a.forecast
	f.Room = f.Room && j.Portable
	return f
}

func (a *away) Offer(t *helix.Ticket) error {
	a.offered.Add(1)
	if a.offer != nil {
		return a.offer(t)
	}
	if t.Info().Async {
		go a.run(t)
		return nil
	}
	a.run(t)
	return nil
}

func (a *away) run(t *helix.Ticket) {
	if !t.Claim() {
		return
	}
	in, err := t.AppendInput(nil)
	if err == nil {
		time.Sleep(a.takes)
		if a.do != nil {
			in, err = a.do(in)
		}
	}
	t.Finish(in, err)
}

// registerSleep registers a kind whose items are how many ms they run; the result is the same.
func registerSleep(t testing.TB, r *helix.Router, budget time.Duration) *helix.Task[int, int] {
	task, err := helix.Register(r, helix.Kind[int, int]{
		Name:   "sleep",
		Budget: budget,
		Run: func(_ context.Context, ms int) (int, error) {
			time.Sleep(time.Duration(ms) * time.Millisecond)
			return ms, nil
		},
		Codec: helix.JSON[int, int]{},
	})
	require.NoError(t, err)
	return task
}

// inBubble runs a test in virtual time with a router that has the strategy.
func inBubble(t *testing.T, a *away, policy helix.Policy, f func(t *testing.T, r *helix.Router)) {
	synctest.Test(t, func(t *testing.T) {
		r, err := helix.New(helix.RouterConfig{CPUParallelism: 1, Strategies: []helix.Strategy{a}, Policy: policy})
		require.NoError(t, err)
		f(t, r)
		s := r.Stats()
		require.Zero(t, s.InFlight)
		require.Equal(t, s.Submitted, s.Completed+s.Failed+s.Dropped+s.Withdrawn)
		require.Zero(t, s.Pressure.WorkMs)
		require.NoError(t, r.Close())
	})
}

func TestWorkElsewhereIsNotWorkHere(t *testing.T) {
	a := &away{takes: 40 * time.Millisecond}
	inBubble(t, a, nil, func(t *testing.T, r *helix.Router) {
		task := registerSleep(t, r, 0)
		for range 40 {
			_, err := task.Submit(context.Background(), 2)
			require.NoError(t, err)
		}
		before := r.Explain(helix.Job{Kind: "sleep"}).Run
		require.InEpsilon(t, 2*time.Millisecond, before, 0.05)

		require.NoError(t, r.Update(func(c *helix.RouterConfig) { c.Policy = always("away") }))
		time.Sleep(time.Second)
		var done sync.WaitGroup
		for range 50 {
			done.Go(func() {
				got, err := task.Submit(context.Background(), 7)
				if err != nil || got != 7 {
					t.Errorf("%v, %v", got, err)
				}
			})
			time.Sleep(20 * time.Millisecond)
			require.Less(t, r.Stats().Pressure.Demand, 0.2, "no core of this machine is asked for")
		}
		done.Wait()
		require.EqualValues(t, 50, routed(r.Stats(), "away"))
		require.Equal(t, before, r.Explain(helix.Job{Kind: "sleep"}).Run, "how long jobs run here was not learned from there")

		// But of how long they run there.
		a.forecast = helix.Forecast{Room: true, Wait: time.Millisecond}
		_, p, _ := r.Consider(helix.Job{Kind: "sleep"})
		require.Equal(t, "away", p.Offers[0].Strategy)
		require.InEpsilon(t, 40*time.Millisecond, p.Offers[0].Run, 0.05)
	})
}

// With the only slot taken for a long time, what is refused here, or would wait for longer
// than all of it takes there, goes elsewhere, if there is room in time.
func TestTheAdaptivePolicyGoesElsewhere(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name     string
		forecast helix.Forecast
		budget   time.Duration
		blocked  bool
		strategy string
		reason   string
	}{
		{"free here", helix.Forecast{Room: true}, 50 * ms, false, helix.CPUPool, "slot free"},
		{"refused here", helix.Forecast{Room: true, Wait: ms, Run: 10 * ms}, 50 * ms, true, "away", "cannot be kept here, can elsewhere"},
		{"no room there", helix.Forecast{Wait: ms, Run: 10 * ms}, 50 * ms, true, helix.Drop, "budget would end while it waits for a slot"},
		{"too late there", helix.Forecast{Room: true, Wait: 45 * ms, Run: 10 * ms}, 50 * ms, true, helix.Drop, "budget would end while it waits for a slot"},
		{"never there", helix.Forecast{Room: true, Wait: ms, Run: math.MaxInt64}, 50 * ms, true, helix.Drop, "budget would end while it waits for a slot"},
		{"sooner there", helix.Forecast{Room: true, Wait: ms, Run: 10 * ms}, 0, true, "away", "done sooner elsewhere"},
		{"sooner here", helix.Forecast{Room: true, Wait: time.Minute, Run: 10 * ms}, 0, true, helix.CPUPool, "queued, earliest deadline first"},
		{"nonsense", helix.Forecast{Room: true, Wait: -ms}, 50 * ms, true, helix.Drop, "budget would end while it waits for a slot"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &away{}
			inBubble(t, a, nil, func(t *testing.T, r *helix.Router) {
				task := registerSleep(t, r, 0)
				for range 40 {
					_, err := task.Submit(context.Background(), 10)
					require.NoError(t, err)
				}
				long := register(t, r, sleepKind("long", 0, false))
				_, err := long.Submit(context.Background(), time.Second)
				require.NoError(t, err)
				var done sync.WaitGroup
				if c.blocked {
					for range 2 {
						done.Go(func() { _, _ = long.Submit(context.Background(), time.Second) })
					}
					synctest.Wait()
				}
				a.forecast = c.forecast
				a.takes = 10 * ms
				events, stop := r.Watch(64)
				explained := r.Explain(helix.Job{Kind: "sleep", Budget: c.budget})
				require.Equal(t, c.strategy, explained.Strategy, "%+v", explained)
				require.Equal(t, c.reason, explained.Reason)
				got, err := task.SubmitWith(context.Background(), 10, helix.Hints{Budget: c.budget})
				if c.strategy == helix.Drop {
					require.ErrorIs(t, err, helix.ErrNotRun)
				} else {
					require.NoError(t, err)
					require.Equal(t, 10, got)
				}
				e := <-events
				for e.Info.Kind != "sleep" {
					e = <-events
				}
				stop()
				require.Equal(t, c.strategy, e.Decision.Strategy)
				require.Equal(t, e.Decision, helix.AdaptivePolicy{}.Choose(e.Info, e.Pressure), "it can be replayed")
				if c.strategy == "away" {
					require.Equal(t, helix.CPUPool, e.Decision.Rejected[0].Strategy)
					require.Equal(t, c.forecast.Wait, e.Decision.Wait)
					require.Equal(t, c.forecast.Run, e.Decision.Run)
				}
				done.Wait()
			})
		})
	}
}

// An estimate by which nothing runs here must still heal when all of it goes elsewhere.
func TestAnEstimateHealsAlthoughItsJobsGoElsewhere(t *testing.T) {
	a := &away{forecast: helix.Forecast{Room: true, Run: time.Millisecond}, takes: time.Millisecond}
	inBubble(t, a, nil, func(t *testing.T, r *helix.Router) {
		task := registerSleep(t, r, 0)
		_, err := task.Submit(context.Background(), 200) // a cold start, the others take 1 ms
		require.NoError(t, err)
		for range 400 {
			time.Sleep(20 * time.Millisecond)
			_, err := task.SubmitWith(context.Background(), 1, helix.Hints{Budget: 50 * time.Millisecond})
			require.NoError(t, err)
		}
		require.Greater(t, routed(r.Stats(), "away"), uint64(20))
		require.Less(t, r.Explain(helix.Job{Kind: "sleep"}).Run, 50*time.Millisecond)
	})
}

// Nor must one by which they are late everywhere be for ever.
func TestAnEstimateOfElsewhereHeals(t *testing.T) {
	a := &away{forecast: helix.Forecast{Room: true}, takes: 300 * time.Millisecond} // a cold start there
	inBubble(t, a, nil, func(t *testing.T, r *helix.Router) {
		task := registerSleep(t, r, 0)
		_, err := task.Submit(context.Background(), 10)
		require.NoError(t, err)
		long := register(t, r, sleepKind("long", 0, false))
		_, err = long.Submit(context.Background(), time.Minute)
		require.NoError(t, err)
		var done sync.WaitGroup
		for range 2 {
			done.Go(func() { _, _ = long.Submit(context.Background(), time.Minute) })
		}
		synctest.Wait()
		submit := func() error {
			_, err := task.SubmitWith(context.Background(), 10, helix.Hints{Budget: 50 * time.Millisecond})
			return err
		}
		require.NoError(t, submit(), "nothing is known of how long it takes there: late")
		for range 90 {
			require.ErrorIs(t, submit(), helix.ErrNotRun)
			time.Sleep(10 * time.Millisecond)
		}
		require.EqualValues(t, 1, a.offered.Load(), "it would be late there too")

		a.takes = time.Millisecond
		for range 100 {
			_ = submit()
			time.Sleep(10 * time.Millisecond)
		}
		for range 10 {
			require.NoError(t, submit(), "it is tried again after a second, and then known to be quick")
		}

		a.takes = 300 * time.Millisecond // it is slow for good
		offered := func(lasts time.Duration) int64 {
			before := a.offered.Load()
			for begin := time.Now(); time.Since(begin) < lasts; time.Sleep(20 * time.Millisecond) {
				_ = submit()
			}
			return a.offered.Load() - before
		}
		offered(10 * time.Second) // until that is learned
		require.LessOrEqual(t, offered(time.Minute), int64(6), "tried ever more seldom")
		done.Wait()
	})
}

func TestAStrategyMayDecline(t *testing.T) {
	for name, offer := range map[string]func(*helix.Ticket) error{
		"at once":          func(*helix.Ticket) error { return helix.ErrDecline },
		"with more to say": func(*helix.Ticket) error { return fmt.Errorf("%w: it is full", helix.ErrDecline) },
		"having claimed it": func(t *helix.Ticket) error {
			t.Claim()
			time.Sleep(time.Millisecond)
			return helix.ErrDecline
		},
		"later": func(t *helix.Ticket) error {
			go func() {
				time.Sleep(time.Millisecond)
				if t.Claim() {
					t.Decline()
				}
			}()
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := &away{offer: offer, forecast: helix.Forecast{Room: true, Run: time.Microsecond}}
			inBubble(t, a, firstThen{"away", helix.CPUPool}, func(t *testing.T, r *helix.Router) {
				task := registerSleep(t, r, 0)
				events, stop := r.Watch(8)
				for range 3 {
					got, err := task.Submit(context.Background(), 3)
					require.NoError(t, err)
					require.Equal(t, 3, got)
					f, err := task.Go(context.Background(), 4)
					require.NoError(t, err)
					got, err = f.Wait(context.Background())
					require.NoError(t, err)
					require.Equal(t, 4, got)
				}
				require.EqualValues(t, 6, a.offered.Load())
				if name != "later" { // which counts as routed to both
					require.EqualValues(t, 0, routed(r.Stats(), "away"), "it was not done there")
				}
				require.EqualValues(t, 6, routed(r.Stats(), helix.CPUPool))
				require.EqualValues(t, 6, r.Stats().Submitted)
				e := <-events
				require.Equal(t, helix.CPUPool, e.Decision.Strategy)
				require.Nil(t, e.Pressure.Offers, "it was decided again as if the strategy were not there")
				stop()
			})
			inBubble(t, a, always("away"), func(t *testing.T, r *helix.Router) {
				task := registerSleep(t, r, 0)
				_, err := task.Submit(context.Background(), 3)
				require.ErrorIs(t, err, helix.ErrNotRun)
				require.ErrorContains(t, err, "strategy declined it")
				f, err := task.Go(context.Background(), 3)
				if err == nil {
					_, err = f.Wait(context.Background())
				}
				require.ErrorIs(t, err, helix.ErrNotRun)
				require.EqualValues(t, 2, r.Stats().Dropped)
			})
			inBubble(t, a, firstThen{"away", helix.CPUPool}, func(t *testing.T, r *helix.Router) {
				task := registerSleep(t, r, 0)
				outer, err := helix.Register(r, helix.Kind[int, int]{Name: "outer", Run: func(ctx context.Context, _ int) (int, error) {
					got, err := task.Submit(ctx, 3)
					require.NoError(t, err)
					require.Equal(t, 3, got)
					var all sync.WaitGroup
					for i := range 3 { // siblings, of which one can have the slot
						all.Go(func() {
							got, err := task.Submit(ctx, i)
							assert.NoError(t, err)
							assert.Equal(t, i, got)
						})
					}
					all.Wait()
					f, err := task.Go(ctx, 4)
					require.NoError(t, err)
					return f.Wait(ctx)
				}})
				require.NoError(t, err)
				for range 3 { // with one slot: it comes back each time
					got, err := outer.Submit(context.Background(), 0)
					require.NoError(t, err)
					require.Equal(t, 4, got)
				}
				s := r.Stats()
				require.EqualValues(t, 18, s.Submitted)
				require.EqualValues(t, 18, s.Completed)
				require.Zero(t, s.Pressure.CPUBusy)
			})
			inBubble(t, a, insideAway{}, func(t *testing.T, r *helix.Router) {
				task := registerSleep(t, r, 0)
				outer, err := helix.Register(r, helix.Kind[int, int]{Name: "outer", Run: func(ctx context.Context, _ int) (int, error) { return task.Submit(ctx, 3) }})
				require.NoError(t, err)
				_, err = outer.Submit(context.Background(), 0)
				require.ErrorIs(t, err, helix.ErrNotRun, "nothing else is chosen")
				require.ErrorContains(t, err, "strategy declined it")
			})
			inBubble(t, a, firstThen{"away", helix.CPUPool}, func(t *testing.T, r *helix.Router) {
				task := registerSleep(t, r, 0)
				f, err := task.Go(context.Background(), 3)
				require.NoError(t, err)
				require.NoError(t, r.Drain(context.Background()))
				got, err := f.Wait(context.Background())
				require.NoError(t, err, "it was admitted before")
				require.Equal(t, 3, got)
			})
		})
	}
}

// insideAway runs outer jobs here, and chooses away for all others.
type insideAway struct{}

func (insideAway) Choose(j helix.JobInfo, _ helix.Pressure) helix.Decision {
	if j.Kind == "outer" {
		return helix.Decision{Strategy: helix.CPUPool, Reason: "here"}
	}
	return helix.Decision{Strategy: "away", Reason: "there"}
}

// firstThen chooses the first strategy if it offers something, else the other.
type firstThen struct{ first, other string }

func (f firstThen) Choose(j helix.JobInfo, p helix.Pressure) helix.Decision {
	if p.Offers != nil && p.Offers[0].Strategy == f.first {
		return helix.Decision{Strategy: f.first, Reason: "first"}
	}
	return helix.Decision{Strategy: f.other, Reason: "other"}
}

func TestHowJobsEndElsewhere(t *testing.T) {
	failure := errors.New("disk is full")
	for name, c := range map[string]struct {
		do    func([]byte) ([]byte, error)
		check func(t *testing.T, err error, panicked any, exited bool)
	}{
		"error": {func([]byte) ([]byte, error) { return nil, failure },
			func(t *testing.T, err error, _ any, _ bool) { require.Equal(t, failure, err) }},
		"lost": {func([]byte) ([]byte, error) { return nil, fmt.Errorf("%w: worker died", helix.ErrLost) },
			func(t *testing.T, err error, _ any, _ bool) {
				require.ErrorIs(t, err, helix.ErrLost)
				require.NotErrorIs(t, err, helix.ErrNotRun)
			}},
		"panic": {func([]byte) ([]byte, error) { return nil, &helix.PanicError{Value: "boom"} },
			func(t *testing.T, _ error, v any, _ bool) { require.Equal(t, "boom", v.(*helix.PanicError).Value) }},
		"Goexit": {func([]byte) ([]byte, error) { return nil, helix.ErrGoexit },
			func(t *testing.T, _ error, _ any, exited bool) { require.True(t, exited) }},
		"garbage": {func([]byte) ([]byte, error) { return []byte("{"), nil },
			func(t *testing.T, err error, _ any, _ bool) {
				var codec *helix.CodecError
				require.ErrorAs(t, err, &codec)
				require.NotErrorIs(t, err, helix.ErrNotRun, "it was done")
			}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, &away{do: c.do, takes: time.Millisecond}, always("away"), func(t *testing.T, r *helix.Router) {
				task := registerSleep(t, r, 0)
				var err error
				var panicked any
				exited := true
				var done sync.WaitGroup
				done.Add(1)
				go func() {
					defer done.Done()
					defer func() {
						if panicked = recover(); panicked != nil {
							exited = false
						}
					}()
					_, err = task.Submit(context.Background(), 1)
					exited = false
				}()
				done.Wait()
				c.check(t, err, panicked, exited)
				require.EqualValues(t, 1, r.Stats().Failed)
			})
		})
	}
}

func TestHooksSeeJobsElsewhere(t *testing.T) {
	type key struct{}
	var seen []string
	a := &away{}
	a.offer = func(t *helix.Ticket) error {
		if t.Claim() {
			seen = append(seen, fmt.Sprint("sent with ", t.Context().Value(key{})))
			t.At("there")
			t.Finish([]byte("5"), nil)
		}
		return nil
	}
	r, err := helix.New(helix.RouterConfig{Strategies: []helix.Strategy{a}, Policy: always("away"), Hooks: helix.Hooks{
		Start: func(ctx context.Context, j helix.JobInfo, d helix.Decision) context.Context {
			seen = append(seen, "start "+d.Strategy)
			return context.WithValue(ctx, key{}, "span")
		},
		Done: func(ctx context.Context, j helix.JobInfo, o helix.Outcome) {
			seen = append(seen, fmt.Sprint("done ", ctx.Value(key{}), " ", o.Where, " ", o.Status))
		},
	}})
	require.NoError(t, err)
	defer r.Close()
	task := registerSleep(t, r, 0)
	got, err := task.Submit(context.Background(), 1)
	require.NoError(t, err)
	require.Equal(t, 5, got)
	require.Equal(t, []string{"start away", "sent with span", "done span there completed"}, seen)
}

func TestAJobWithoutACodecStaysHere(t *testing.T) {
	inBubble(t, &away{}, always("away"), func(t *testing.T, r *helix.Router) {
		_, err := r.Submit(context.Background(), helix.Job{Run: func(context.Context) (any, error) { return nil, nil }})
		var codec *helix.CodecError
		require.ErrorAs(t, err, &codec)
		require.Equal(t, "writing input", codec.Doing)
	})
}

func TestForecastsAreAskedWithoutAllocating(t *testing.T) {
	if helix.RaceEnabled {
		t.Skip("the race detector has pools forget")
	}
	a := &away{forecast: helix.Forecast{Room: true, Run: time.Microsecond}}
	r, err := helix.New(helix.RouterConfig{Strategies: []helix.Strategy{a}})
	require.NoError(t, err)
	defer r.Close()
	task, err := helix.Register(r, helix.Kind[int, int]{Name: "quick", Codec: helix.JSON[int, int]{},
		Run: func(_ context.Context, i int) (int, error) { return i, nil }})
	require.NoError(t, err)
	do := func() { _, _ = task.Submit(context.Background(), 1) }
	for range 100 {
		do()
	}
	before := a.asked.Load()
	require.Zero(t, testing.AllocsPerRun(1000, do))
	require.GreaterOrEqual(t, a.asked.Load()-before, int64(1000))
}

func TestSubmitBytes(t *testing.T) {
	r, err := helix.New(helix.RouterConfig{})
	require.NoError(t, err)
	defer r.Close()
	_, err = helix.Register(r, helix.Kind[string, int]{Name: "atoi", Codec: helix.JSON[string, int]{},
		Run: func(_ context.Context, s string) (int, error) {
			if s == "exit" {
				runtime.Goexit()
			}
			return strconv.Atoi(s)
		}})
	require.NoError(t, err)
	_, err = helix.Register(r, helix.Kind[string, int]{Name: "private", Run: func(_ context.Context, s string) (int, error) { return 0, nil }})
	require.NoError(t, err)
	require.Equal(t, []string{"atoi"}, r.PortableKinds())

	result, err := r.SubmitBytes(context.Background(), "atoi", []byte(`"41"`), helix.Hints{Budget: time.Minute})
	require.NoError(t, err)
	require.Equal(t, []byte("41"), result.Value)
	require.NotEmpty(t, result.Decision.Strategy)

	_, err = r.SubmitBytes(context.Background(), "atoi", []byte(`"x"`), helix.Hints{})
	require.ErrorIs(t, err, strconv.ErrSyntax)

	for _, kind := range []string{"private", "unknown"} {
		_, err = r.SubmitBytes(context.Background(), kind, []byte(`"41"`), helix.Hints{})
		require.ErrorIs(t, err, helix.ErrNotRun, kind)
	}
	_, err = r.SubmitBytes(context.Background(), "atoi", []byte(`{`), helix.Hints{})
	require.ErrorIs(t, err, helix.ErrNotRun)
	var codec *helix.CodecError
	require.ErrorAs(t, err, &codec)
	require.Equal(t, "reading input", codec.Doing)
	require.EqualValues(t, 2, r.Stats().Submitted, "what cannot be read counts nowhere")
}
