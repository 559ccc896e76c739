package helix_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

func noDone(context.Context, helix.JobInfo, helix.Outcome) {}

func TestHooksSeeEveryJobThatRuns(t *testing.T) {
	for _, strategy := range []string{helix.Inline, helix.Spawn, helix.CPUPool, helix.Batch} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var outcomes []helix.Outcome
			r := newRouter(t, helix.RouterConfig{Policy: always(strategy), Hooks: helix.Hooks{
				Start: func(ctx context.Context, j helix.JobInfo, d helix.Decision) context.Context {
					require.Equal(t, strategy, d.Strategy)
					require.Equal(t, "do", j.Kind)
					return context.WithValue(ctx, ctxKey{}, "span")
				},
				Done: func(ctx context.Context, j helix.JobInfo, o helix.Outcome) {
					require.Equal(t, "span", ctx.Value(ctxKey{}))
					mu.Lock()
					defer mu.Unlock()
					outcomes = append(outcomes, o)
				},
			}})
			task := register(t, r, doKind("do"))
			_, _ = task.SubmitWith(t.Context(), func(ctx context.Context) (int, error) {
				if strategy != helix.Batch {
					require.Equal(t, "span", ctx.Value(ctxKey{}))
				}
				time.Sleep(time.Second)
				return 0, nil
			}, helix.Hints{Budget: time.Minute})
			mine := errors.New("mine")
			_, _ = task.Submit(t.Context(), func(context.Context) (int, error) { return 0, mine })
			require.Equal(t, helix.Outcome{Status: helix.Completed, Run: time.Second, Latency: time.Second, InBudget: true, Members: 1}, outcomes[0])
			require.Equal(t, helix.Outcome{Status: helix.Failed, Err: mine, Members: 1}, outcomes[1])
		})
	}
}

func TestPanickingHooks(t *testing.T) {
	for _, strategy := range []string{helix.Inline, helix.Spawn, helix.CPUPool, helix.Batch} {
		var log bytes.Buffer
		calls := 0
		r := newRouter(t, helix.RouterConfig{
			Policy: always(strategy),
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Hooks: helix.Hooks{
				Start: func(ctx context.Context, _ helix.JobInfo, _ helix.Decision) context.Context {
					if calls++; calls == 1 {
						panic("start")
					}
					return nil // means unchanged
				},
				Done: func(context.Context, helix.JobInfo, helix.Outcome) { panic("done") },
			},
		})
		task := register(t, r, doKind("do"))
		require.Panics(t, func() { _, _ = task.Submit(t.Context(), func(context.Context) (int, error) { return 0, nil }) })
		n, err := task.Submit(t.Context(), func(ctx context.Context) (int, error) { return 6, ctx.Err() })
		require.NoError(t, err)
		require.Equal(t, 6, n)
		require.Contains(t, log.String(), "panic in Hooks.Done")
		require.EqualValues(t, 1, r.Stats().Failed)
		require.EqualValues(t, 1, r.Stats().Completed)
	}
}

func TestWatchShowsDecisionsThatCanBeReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		events, stop := r.Watch(10)
		_, _ = r.Submit(t.Context(), helix.Job{Cost: 100, Budget: time.Minute, Run: func(context.Context) (any, error) {
			time.Sleep(time.Second / 2)
			return nil, nil
		}})
		_, _ = r.Submit(t.Context(), helix.Job{Cost: 1e6, Budget: 1, Run: nothing})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _ = r.Submit(ctx, helix.Job{Run: nothing}) // never decided on

		ran, refused := <-events, <-events
		require.Equal(t, helix.Completed, ran.Outcome.Status)
		require.Equal(t, time.Second/2, ran.Outcome.Run)
		require.True(t, ran.Outcome.InBudget)
		require.Equal(t, helix.Dropped, refused.Outcome.Status)
		require.ErrorIs(t, refused.Outcome.Err, helix.ErrDropped)
		require.Equal(t, ran.Seq+1, refused.Seq)
		require.Equal(t, time.Now(), refused.Time)
		for _, e := range []helix.Event{ran, refused} {
			require.Equal(t, e.Decision, helix.AdaptivePolicy{}.Choose(e.Info, e.Pressure))
		}
		stop()
		_, open := <-events
		require.False(t, open)
		stop()
	})
}

func TestSlowWatchersLoseEventsAndBlockNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		slow, _ := r.Watch(0)
		fast, _ := r.Watch(1000)
		for range 1000 {
			_, err := r.Submit(t.Context(), helix.Job{Cost: 1, Run: nothing})
			require.NoError(t, err)
		}
		require.Len(t, slow, 1)
		require.Len(t, fast, 64, "sampled")
		time.Sleep(time.Second)
		_, _ = r.Submit(t.Context(), helix.Job{Cost: 1, Run: nothing})
		require.Len(t, fast, 65)
		require.NoError(t, r.Close())
		for range fast { // Close ends all feeds
		}
		late, stop := r.Watch(1)
		_, open := <-late
		require.False(t, open)
		stop()
	})
}

func TestOneDebugLineADecision(t *testing.T) {
	var log bytes.Buffer
	r := newRouter(t, helix.RouterConfig{Logger: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	_, err := r.Submit(t.Context(), helix.Job{Kind: "quote", Cost: 100, Scaling: .5, Budget: time.Second, Run: nothing})
	require.NoError(t, err)
	var line map[string]any
	require.NoError(t, json.Unmarshal(log.Bytes(), &line), "one line")
	delete(line, "time")
	require.Equal(t, map[string]any{
		"level": "DEBUG", "msg": "helix: decision", "kind": "quote", "cost": 100., "scaling": .5, "budget": 1e9,
		"strategy": "inline", "reason": "predicted within inline_threshold", "cpu_busy": 0.,
	}, line)
}

func TestStatsAreCompleteFromTheStart(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{CPUParallelism: 8})
	out, err := json.Marshal(r.Stats())
	require.NoError(t, err)
	var s map[string]any
	require.NoError(t, json.Unmarshal(out, &s))
	for _, key := range []string{"completed", "dropped", "routed_by_strategy", "latency_by_strategy", "dropped_by_reason"} {
		require.Contains(t, s, key)
	}
	require.Equal(t, []helix.StrategyCount{{"batch", 0}, {"cpu_pool", 0}, {"drop", 0}, {"inline", 0}, {"spawn", 0}}, r.Stats().RoutedByStrategy)
	require.Contains(t, string(out), `{"strategy":"cpu_pool","count":0,"avg_ms":0,"p50_ms":0,"p95_ms":0,"p99_ms":0}`)
	require.Contains(t, string(out), `"dropped_by_reason":[]`)
	require.Contains(t, string(out), `"kinds":[]`)
}

func TestKindsLearn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		task := register(t, r, helix.Kind[int, int]{
			Name: "sleep",
			Cost: func(in int) float64 { return float64(in) },
			Run: func(_ context.Context, in int) (int, error) {
				time.Sleep(time.Duration(in) * time.Millisecond)
				return 0, nil
			},
		})
		for in := range 100 {
			_, err := task.Submit(t.Context(), 1+in%10)
			require.NoError(t, err)
		}
		k := r.Stats().Kinds[0]
		require.EqualValues(t, 100, k.Samples)
		require.InEpsilon(t, 1e6, k.NsPerUnit, .01)
		d := r.Explain(helix.Job{Kind: "sleep", Cost: 20})
		require.InEpsilon(t, 20*time.Millisecond, d.Run, .01)
		d = r.Explain(helix.Job{Kind: "sleep"})
		require.InEpsilon(t, 5500*time.Microsecond, d.Run, .5, "without a hint, the mean")
		require.Greater(t, k.Demand, .1)
	})
}

// declining is a strategy that takes a job and refuses it later, or does not take it.
type declining struct {
	offer  error
	reason string
}

func (declining) Name() string                { return "declining" }
func (declining) Load() helix.Load            { return helix.Load{} }
func (declining) Close(context.Context) error { return nil }
func (d declining) Offer(t *helix.Ticket) error {
	if d.offer == nil {
		go func() {
			time.Sleep(time.Second)
			t.Refuse(d.reason)
		}()
	}
	return d.offer
}

func TestEventsOfJobsRefusedAfterAdmission(t *testing.T) {
	refusal := &helix.DropError{Decision: helix.Decision{Strategy: helix.Drop, Reason: "no room"}}
	for name, test := range map[string]struct {
		cfg    helix.RouterConfig
		waited time.Duration
		reason string // "": that of Stats
	}{
		"in the queue":  {helix.RouterConfig{CPUParallelism: 1, Policy: always(helix.CPUPool)}, 0, ""},
		"by a strategy": {helix.RouterConfig{Policy: always("declining"), Strategies: []helix.Strategy{declining{nil, "gave up"}}}, time.Second, "gave up"},
		"by Offer":      {helix.RouterConfig{Policy: always("declining"), Strategies: []helix.Strategy{declining{refusal, ""}}}, 0, "no room"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, test.cfg)
				events, stop := r.Watch(10)
				defer stop()
				if test.reason == "" {
					go func() {
						_, _ = r.Submit(context.Background(), helix.Job{Kind: "long", Run: func(context.Context) (any, error) {
							time.Sleep(20 * time.Second)
							return nil, nil
						}})
					}()
					synctest.Wait()
				}
				const budget = 3 * time.Second
				_, err := r.Submit(t.Context(), helix.Job{Kind: "short", Budget: budget, Run: nothing})
				var drop *helix.DropError
				require.ErrorAs(t, err, &drop)
				e := <-events
				for e.Info.Kind != "short" {
					e = <-events
				}
				if test.reason == "" {
					require.Len(t, r.Stats().DroppedByReason, 1)
					test.reason = r.Stats().DroppedByReason[0].Reason
					test.waited = e.Outcome.Wait
					require.GreaterOrEqual(t, test.waited, time.Second)
				}
				require.Equal(t, helix.Dropped, e.Outcome.Status)
				require.Equal(t, test.waited, e.Outcome.Latency)

				require.Equal(t, helix.Drop, e.Decision.Strategy)
				require.Equal(t, test.reason, e.Decision.Reason)
				require.Equal(t, budget-test.waited, e.Decision.Slack, "what was left when it was refused")
				require.Zero(t, e.Decision.Wait, "it waits no more")
				require.Equal(t, drop.Decision, e.Decision)
				require.NotNil(t, e.Admission)
				require.Equal(t, "always the same", e.Admission.Reason)
				require.Equal(t, budget, e.Admission.Slack)
				require.Contains(t, e.Decision.Rejected, helix.Alternative{Strategy: e.Admission.Strategy, Reason: test.reason})
			})
		})
	}
}

func TestFewDecisionsAreAllShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		events, stop := r.Watch(1000)
		defer stop()
		submit := func(n int) {
			for range n {
				_, err := r.Submit(t.Context(), helix.Job{Cost: 1, Run: nothing})
				require.NoError(t, err)
			}
		}
		time.Sleep(time.Second)
		submit(200)
		require.Len(t, events, 200, "after a quiet spell")
		submit(200)
		require.Len(t, events, 256)
		for range 5 { // never quiet
			time.Sleep(20 * time.Millisecond)
			submit(200)
		}
		require.Len(t, events, 256+64, "a flood is sampled")

		time.Sleep(time.Second)
		for _, n := range []int{10, 5, 5, 180} { // as by a busy machine
			submit(n)
			time.Sleep(40 * time.Millisecond)
		}
		require.Len(t, events, 256+64+200, "however long they take to come")
	})
}

func TestDemandFadesToNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 2})
		for range 20 {
			_, err := r.Submit(t.Context(), helix.Job{Kind: "sleep", Budget: time.Minute, Run: func(context.Context) (any, error) {
				time.Sleep(50 * time.Millisecond)
				return nil, nil
			}})
			require.NoError(t, err)
		}
		s := r.Stats()
		require.Positive(t, s.Pressure.Demand)
		require.Positive(t, s.Kinds[0].Demand)
		require.Positive(t, s.Pressure.Capacity)
		require.LessOrEqual(t, s.Pressure.Capacity, 2.)
		for range 30 {
			time.Sleep(time.Second)
			s = r.Stats()
		}
		require.Zero(t, s.Pressure.Demand)
		require.Zero(t, s.Kinds[0].Demand)
		require.Zero(t, s.Kinds[0].TurnMs)
	})
}

// What a scraper takes for a counter never falls, also when a strategy does not take what
// it was offered.
func TestRoutedNeverFalls(t *testing.T) {
	var r *helix.Router
	before := uint64(0)
	full := offering{func(*helix.Ticket) error {
		before = routed(r.Stats(), "offering")
		return errors.New("full")
	}}
	r = newRouter(t, helix.RouterConfig{Policy: always("offering"), Strategies: []helix.Strategy{full}})
	for n := range uint64(3) {
		_, err := r.Submit(t.Context(), helix.Job{Budget: time.Hour, Run: nothing})
		require.ErrorIs(t, err, helix.ErrDropped)
		s := r.Stats()
		require.Equal(t, before, routed(s, "offering"))
		require.Equal(t, n+1, routed(s, helix.Drop))
		require.Equal(t, n+1, s.Dropped)
		require.Zero(t, s.Promised, "it was never admitted")
	}
}
