package helix_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// servers is a downstream that serves so many calls at a time, first come first served.
type servers struct {
	places chan struct{}
	takes  func() time.Duration
}

func newServers(n int, takes time.Duration) *servers {
	return &servers{make(chan struct{}, n), func() time.Duration { return takes }}
}

func (s *servers) call(ctx context.Context, _ int) (int, error) {
	s.places <- struct{}{}
	time.Sleep(s.takes())
	<-s.places
	return 0, nil
}

// offered is what came of a stream of jobs.
type offered struct {
	sent, kept, late, refused, failed atomic.Int64
	reasons                           sync.Map
}

// offer submits items at random times, so many a second, for that long, and counts those sent
// after warm. It must be called in a bubble and returns when all have ended.
func offer[In any](task *helix.Task[In, int], rate float64, length, warm time.Duration, h helix.Hints, seed uint64) *offered {
	var o offered
	var wg sync.WaitGroup
	rnd, start := rand.New(rand.NewPCG(seed, 2)), time.Now()
	for at := time.Duration(0); at < length; at += time.Duration(rnd.ExpFloat64() / rate * 1e9) {
		time.Sleep(time.Until(start.Add(at)))
		wg.Go(func() {
			began := time.Now()
			var in In
			_, err := task.SubmitWith(context.Background(), in, h)
			if at < warm {
				return
			}
			o.sent.Add(1)
			drop := (*helix.DropError)(nil)
			switch took := time.Since(began); {
			case errors.As(err, &drop):
				o.refused.Add(1)
				o.reasons.Store(drop.Decision.Reason, drop)
			case err != nil:
				o.failed.Add(1)
			case took <= 50*time.Millisecond:
				o.kept.Add(1)
			default:
				o.late.Add(1)
			}
		})
	}
	wg.Wait()
	return &o
}

func share(n *atomic.Int64, o *offered) float64 { return float64(n.Load()) / float64(o.sent.Load()) }

// The reference downstream of 32 connections x 5 ms: nothing is refused below its capacity,
// and beyond it as much is kept as can be, for the reason that it is full.
func TestOverloadOfADownstream(t *testing.T) {
	for _, load := range []float64{.8, 1.5, 3} {
		t.Run(fmt.Sprint(load), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, helix.RouterConfig{CPUParallelism: 2})
				down := newServers(32, 5*time.Millisecond)
				task := register(t, r, helix.Kind[int, int]{Name: "query", Waits: true, Budget: 50 * time.Millisecond, Run: down.call})
				o := offer(task, 6400*load, 3*time.Second, time.Second, helix.Hints{}, 1)
				t.Logf("kept %.3f late %.3f refused %.3f", share(&o.kept, o), share(&o.late, o), share(&o.refused, o))
				require.Greater(t, share(&o.kept, o), .97*min(1, 1/load))
				require.Less(t, share(&o.late, o), .01)
				if load < 1 {
					require.Zero(t, o.refused.Load())
					require.Zero(t, r.Stats().Kinds[0].Downstream.Limit)
					return
				}
				d := r.Stats().Kinds[0].Downstream
				require.NotNil(t, d)
				require.Equal(t, "query", d.Name)
				require.Zero(t, d.InFlight)
				require.Greater(t, d.Limit, 32)
				require.InDelta(t, 5, d.BaseMs, 1)
				require.InDelta(t, 6400, d.Rate, 640)
				refused, ok := o.reasons.Load("its downstream is full")
				require.True(t, ok)
				require.Positive(t, refused.(*helix.DropError).RetryAfter)
				require.ErrorIs(t, refused.(*helix.DropError), helix.ErrNotRun)
			})
		})
	}
}

// A downstream that is far too slow, or hangs wholly for a while, costs another nothing: it
// keeps what it keeps alone, here all. Kinds that share one by name share its limit.
func TestDownstreamsApart(t *testing.T) {
	for name, hangs := range map[string]bool{"slow": false, "hangs": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, helix.RouterConfig{CPUParallelism: 2})
				well, sick := newServers(32, 5*time.Millisecond), newServers(4, time.Second)
				call := sick.call
				if hangs {
					start := time.Now() // it hangs from a second on, when good counts
					call = func(context.Context, int) (int, error) {
						if time.Sleep(5 * time.Millisecond); time.Since(start) > time.Second {
							time.Sleep(time.Until(start.Add(3 * time.Second)))
						}
						return 0, nil
					}
				}
				kind := func(name, shares string, run func(context.Context, int) (int, error)) *helix.Task[int, int] {
					return register(t, r, helix.Kind[int, int]{
						Name: name, Downstream: shares, Waits: true, Budget: 50 * time.Millisecond, Run: run})
				}
				good := kind("good", "", well.call)
				read := kind("read", "sick", call)
				kind("write", "sick", call)
				var wg sync.WaitGroup
				var bad *offered
				wg.Go(func() { bad = offer(read, 2000, 3*time.Second, time.Second, helix.Hints{}, 3) })
				o := offer(good, 5000, 3*time.Second, time.Second, helix.Hints{}, 4)
				require.Greater(t, share(&o.kept, o), .99)
				wg.Wait()
				require.Less(t, share(&bad.kept, bad), .1, "the neighbour is sick indeed")
				require.Greater(t, share(&bad.refused, bad), .5)

				stats := map[string]*helix.DownstreamStats{}
				for _, k := range r.Stats().Kinds {
					stats[k.Name] = k.Downstream
				}
				require.Equal(t, stats["read"], stats["write"])
				require.Equal(t, "sick", stats["write"].Name)
				require.Zero(t, stats["good"].Limit)
			})
		})
	}
}

// A downstream that hangs from the very first call on costs neither memory nor another downstream.
func TestHangFromTheFirstCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 2})
		start := time.Now()
		kind := func(name string, run func(context.Context, int) (int, error)) *helix.Task[int, int] {
			return register(t, r, helix.Kind[int, int]{Name: name, Waits: true, Budget: 50 * time.Millisecond, Run: run})
		}
		hung := kind("hung", func(context.Context, int) (int, error) {
			time.Sleep(max(time.Until(start.Add(2*time.Second)), 5*time.Millisecond))
			return 0, nil
		})
		good := kind("good", newServers(32, 5*time.Millisecond).call)
		var wg sync.WaitGroup
		var bad *offered
		wg.Go(func() { bad = offer(hung, 2000, 3*time.Second, 2250*time.Millisecond, helix.Hints{}, 6) })
		wg.Go(func() {
			time.Sleep(1900 * time.Millisecond)
			s := r.Stats()
			require.Less(t, s.Pressure.Spawned, 500)
			require.Equal(t, 8, s.Kinds[1].Downstream.Limit)
			require.Equal(t, "its downstream is full", r.Explain(helix.Job{Kind: "hung"}).Reason)
		})
		o := offer(good, 5000, 2*time.Second, 0, helix.Hints{}, 7)
		require.Equal(t, o.sent.Load(), o.kept.Load())
		wg.Wait()
		require.Equal(t, bad.sent.Load(), bad.kept.Load(), "from a quarter of a second after it is back")
	})
}

// Calls that never return, as on a connection that is dead, do not keep others out, with budgets or without. They
// are shown, and forgotten when they return after all.
func TestLostCallsKeepNothingOut(t *testing.T) {
	for _, budget := range []time.Duration{0, 50 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, helix.RouterConfig{})
			dead, revive := atomic.Bool{}, make(chan struct{})
			task := register(t, r, helix.Kind[int, int]{Name: "query", Waits: true, Budget: budget, Run: func(context.Context, int) (int, error) {
				if time.Sleep(5 * time.Millisecond); dead.Load() {
					<-revive
				}
				return 0, nil
			}})
			o := offer(task, 1000, time.Second, 0, helix.Hints{}, 1)
			require.Zero(t, o.refused.Load())
			dead.Store(true)
			var lost sync.WaitGroup
			lost.Go(func() { offer(task, 1000, time.Second, 0, helix.Hints{}, 2) })
			time.Sleep(time.Second)
			dead.Store(false)
			time.Sleep(time.Second / 2)
			o = offer(task, 1000, time.Second, time.Second/2, helix.Hints{}, 3)
			require.Zero(t, o.refused.Load())
			require.Equal(t, o.sent.Load(), o.kept.Load())
			stats := r.Stats().Kinds[0]
			require.Positive(t, stats.Downstream.Lost)
			require.Zero(t, stats.Downstream.InFlight)
			require.EqualValues(t, stats.Downstream.Lost, r.Stats().InFlight, "nothing else runs")
			close(revive)
			lost.Wait()
			require.Zero(t, r.Stats().Kinds[0].Downstream.Lost)
		})
	}
}

// A job of a kind that is not known may wait too, also one that cannot end in its budget.
func TestExplainOfAnUnknownKindThatWaits(t *testing.T) {
	d := newRouter(t, helix.RouterConfig{}).Explain(helix.Job{Waits: true, Cost: 1e9, Budget: time.Millisecond})
	require.Equal(t, helix.Drop, d.Strategy)
	require.Equal(t, "budget cannot be met", d.Reason)
}

// Of a downstream that is full, Explain says so and counts nothing; ThresholdPolicy keeps to
// the hard bounds.
func TestExplainOfAFullDownstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 2})
		down := newServers(8, 5*time.Millisecond)
		task := register(t, r, helix.Kind[int, int]{Name: "query", Waits: true, Budget: 50 * time.Millisecond, Run: down.call})
		var wg sync.WaitGroup
		wg.Go(func() { offer(task, 16000, 2*time.Second, 0, helix.Hints{}, 5) })
		full := 0
		for range 50 {
			time.Sleep(20 * time.Millisecond)
			if d := r.Explain(helix.Job{Kind: "query"}); d.Strategy == helix.Drop && d.Reason == "its downstream is full" {
				full++
				require.Equal(t, helix.Spawn, d.Rejected[2].Strategy)
			}
		}
		require.Greater(t, full, 25)
		require.NoError(t, r.Update(func(c *helix.RouterConfig) { c.Policy = helix.ThresholdPolicy{} }))
		for range 50 {
			time.Sleep(time.Millisecond)
			require.NotEqual(t, "its downstream is full", r.Explain(helix.Job{Kind: "query"}).Reason)
		}
		wg.Wait()
	})
}

func TestDownstreamName(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	run := func(context.Context, int) (int, error) { return 0, nil }
	for name, k := range map[string]helix.Kind[int, int]{
		"not a name":    {Name: "a", Run: run, Waits: true, Downstream: "\x00"},
		"does not wait": {Name: "a", Run: run, Downstream: "db"},
	} {
		_, err := helix.Register(r, k)
		require.ErrorContains(t, err, "Kind.Downstream", name)
	}
}
