package helix_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// Both policies that queue keep these promises: the adaptive one, and one that knows nothing.
var queueingPolicies = map[string]helix.Policy{"adaptive": helix.AdaptivePolicy{}, "always cpu_pool": always(helix.CPUPool)}

// Jobs that come one by one and fit into their budgets run, whatever way they come.
func TestAnIdleMachineRunsWhatFits(t *testing.T) {
	for _, fit := range []struct{ run, budget time.Duration }{
		{10 * time.Millisecond, 15 * time.Millisecond},
		{200 * time.Microsecond, 800 * time.Microsecond},
		{100 * time.Millisecond, 190 * time.Millisecond},
	} {
		for _, batched := range []bool{false, true} {
			for _, async := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v in %v, batched %v, Go %v", fit.run, fit.budget, batched, async), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						r := newRouter(t, helix.RouterConfig{CPUParallelism: 3})
						task := register(t, r, sleepKind("alone", fit.budget, batched))
						for n := range 60 {
							var err error
							if async {
								var f *helix.Future[int]
								f, err = task.Go(t.Context(), fit.run)
								require.NoError(t, err, "job %d", n)
								_, err = f.Wait(t.Context())
							} else {
								_, err = task.Submit(t.Context(), fit.run)
							}
							require.NoError(t, err, "job %d", n)
							time.Sleep(7 * time.Millisecond)
						}
						require.EqualValues(t, 60, r.Stats().Kept)
					})
				})
			}
		}
	}
}

// All slots are taken for long. A job that waits for one learns that its budget has ended
// when it has, if it was not refused at once, and not when a slot comes.
func TestWaitingJobsAreToldInTime(t *testing.T) {
	for name, policy := range queueingPolicies {
		for _, batched := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, batched %v", name, batched), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					if batched && name != "adaptive" {
						policy = always(helix.Batch)
					}
					r := newRouter(t, helix.RouterConfig{CPUParallelism: 1, Policy: policy})
					hog := register(t, r, sleepKind("hog", 0, batched))
					short := register(t, r, sleepKind("short", 40*time.Millisecond, batched))
					for range 5 {
						_, err := short.Submit(t.Context(), time.Millisecond)
						require.NoError(t, err)
					}
					_, err := hog.Submit(t.Context(), time.Minute)
					require.NoError(t, err)
					time.Sleep(time.Minute)
					var callers sync.WaitGroup
					callers.Go(func() {
						_, err := hog.Submit(t.Context(), time.Minute)
						require.NoError(t, err)
					})
					synctest.Wait()
					for range 3 {
						callers.Go(func() {
							came := time.Now()
							_, err := short.Submit(t.Context(), time.Millisecond)
							require.ErrorIs(t, err, helix.ErrNotRun)
							require.LessOrEqual(t, time.Since(came), 42*time.Millisecond, "%v", err)
						})
						time.Sleep(10 * time.Millisecond)
					}
					callers.Wait()
				})
			})
		}
	}
}

// A run of an unknown kind that hangs, or takes far longer than expected, is a slot less: what is admitted beside it
// still ends in its budget. It takes some budgets until that is known.
func TestARunThatHangsIsASlotLess(t *testing.T) {
	const budget, run = 50 * time.Millisecond, 5 * time.Millisecond
	for _, slots := range []int{2, 32} {
		for _, load := range []float64{1.2, 2, 5} { // of the slots that are left
			synctest.Test(t, func(t *testing.T) {
				learned, left := load < 5, slots/2
				r := newRouter(t, helix.RouterConfig{CPUParallelism: slots})
				free := make(chan struct{})
				hangs := register(t, r, helix.Kind[bool, int]{Name: "hangs", Run: func(_ context.Context, hangs bool) (int, error) {
					if time.Sleep(time.Millisecond); hangs {
						<-free
					}
					return 0, nil
				}})
				task := register(t, r, sleepKind("task", budget, false))
				for range 20 {
					_, err := task.Submit(t.Context(), run)
					require.NoError(t, err)
					if learned {
						_, err = hangs.Submit(t.Context(), false)
						require.NoError(t, err)
					}
				}
				for range slots - left {
					_, err := hangs.Go(t.Context(), true)
					require.NoError(t, err)
				}
				var sent, kept, refused atomic.Int64
				var jobs sync.WaitGroup
				rnd, start := rand.New(rand.NewPCG(1, 1)), time.Now()
				for at := time.Duration(0); at < 3*time.Second; at += time.Duration(rnd.ExpFloat64() * float64(run) / load / float64(left)) {
					time.Sleep(time.Until(start.Add(at)))
					jobs.Go(func() {
						began := time.Now()
						_, err := task.Submit(t.Context(), run)
						took := time.Since(began)
						if at < time.Second {
							return
						}
						sent.Add(1)
						switch {
						case err == nil && took <= budget:
							kept.Add(1)
						case took == 0:
							refused.Add(1)
						}
					})
				}
				jobs.Wait()
				close(free)
				require.EqualValues(t, sent.Load(), kept.Load()+refused.Load(), "%d slots, at %g times: those admitted are kept", slots, load)
				require.Greater(t, float64(kept.Load())/float64(sent.Load()), .97/load, "%d slots, at %g times", slots, load)
			})
		}
	}
}

// A kind of which all is known is not let in to learn it anew each time, however seldom its
// jobs come.
func TestRareJobsTooLongForTheirBudgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 2})
		report := register(t, r, sleepKind("report", 0, false))
		for range 100 {
			_, err := report.Submit(t.Context(), 300*time.Millisecond)
			require.NoError(t, err)
			time.Sleep(700 * time.Millisecond)
		}
		ran := 0
		for range 40 {
			_, err := report.SubmitWith(t.Context(), 300*time.Millisecond, helix.Hints{Budget: 50 * time.Millisecond})
			if err == nil {
				ran++
			}
			time.Sleep(2 * time.Second)
		}
		require.LessOrEqual(t, ran, 4, "of 40 that cannot make it, in 80 s")
	})
}

// regardless is a policy that tells how long a job will wait, and heeds no budget.
type regardless struct{}

func (regardless) Choose(j helix.JobInfo, p helix.Pressure) helix.Decision {
	return helix.Decision{Strategy: helix.CPUPool, Wait: p.Wait, Run: j.Predicted, Slack: j.Slack}
}

// RetryAfter is zero where no waiting helps, and else a time at which it does.
func TestRetryAfterTellsWhetherWaitingHelps(t *testing.T) {
	t.Run("the run is longer than the budget", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, helix.RouterConfig{CPUParallelism: 1})
			for range 4 {
				_, err := r.Submit(t.Context(), helix.Job{Kind: "big", Cost: 2e7, Budget: 3 * time.Millisecond, Run: nothing})
				var drop *helix.DropError
				require.ErrorAs(t, err, &drop)
				require.Zero(t, drop.RetryAfter)
			}
		})
	})
	t.Run("it came too late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, helix.RouterConfig{})
			_, err := r.Submit(t.Context(), helix.Job{Budget: time.Minute, Arrived: time.Now().Add(-61 * time.Second), Run: nothing})
			var drop *helix.DropError
			require.ErrorAs(t, err, &drop)
			require.Zero(t, drop.RetryAfter)
		})
	})
	t.Run("the queue is full, but the run is longer than the budget too", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, helix.RouterConfig{CPUParallelism: 1, CPUQueueCap: 1, Policy: regardless{}})
			var s sleepers
			for _, name := range []string{"runs", "waits"} {
				s.submit(t, r, name, helix.Job{Cost: 1e7}, 10*time.Millisecond)
			}
			for _, budget := range []time.Duration{0, time.Millisecond, 3 * time.Millisecond} {
				_, err := r.Submit(t.Context(), helix.Job{Cost: 1e7, Budget: budget, Run: nothing})
				var drop *helix.DropError
				require.ErrorAs(t, err, &drop)
				require.Equal(t, "queue is full", drop.Decision.Reason)
				require.Equal(t, budget == 0, drop.RetryAfter > 0, "%v: %v", budget, drop.RetryAfter)
			}
			s.wg.Wait()
		})
	})
	t.Run("too much waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, helix.RouterConfig{CPUParallelism: 1})
			task := register(t, r, sleepKind("k", 100*time.Millisecond, false))
			var mu sync.Mutex
			var callers sync.WaitGroup
			turns := map[time.Time]int{}
			refused, late := 0, 0
			longest := time.Duration(0)
			for range 1500 { // 2.5 times what can be done
				callers.Go(func() {
					_, err := task.Submit(t.Context(), 5*time.Millisecond)
					var drop *helix.DropError
					if !errors.As(err, &drop) {
						return
					}
					mu.Lock()
					defer mu.Unlock()
					if drop.Admission != nil {
						late++
						return
					}
					refused++
					require.Positive(t, drop.RetryAfter, "%v", drop)
					require.LessOrEqual(t, drop.RetryAfter, time.Minute+1)
					turns[time.Now().Add(drop.RetryAfter)]++
					longest = max(longest, drop.RetryAfter)
				})
				time.Sleep(2 * time.Millisecond)
			}
			callers.Wait()
			require.Greater(t, refused, 500)
			require.Less(t, late, 15)
			most := 0
			for _, n := range turns {
				most = max(most, n)
			}
			require.Less(t, most, refused/20, "they are not all to come at once")
			require.Greater(t, longest, time.Second, "900 places more take as long, besides what has passed")
		})
	})
}

// When the submitter leaves is by when the job must end, if it is the earlier.
func TestTheDeadlineOfTheCtxIsABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 1})
		task := register(t, r, sleepKind("k", time.Second, false))
		for range 30 {
			_, err := task.Submit(t.Context(), 50*time.Millisecond)
			require.NoError(t, err)
		}
		for within, want := range map[time.Duration]error{20 * time.Millisecond: helix.ErrDropped, 200 * time.Millisecond: nil, time.Hour: nil} {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			came := time.Now()
			_, err := task.Submit(ctx, 50*time.Millisecond)
			cancel()
			require.ErrorIs(t, err, want, within)
			if want != nil {
				require.Equal(t, came, time.Now(), "refused at once")
			}
		}
		require.EqualValues(t, 32, r.Stats().Kept, "the kind's own budget counts too")
	})
}

// A full queue is no bound for what is more urgent than all that waits: the last to be
// served of the lowest priority makes room, and is told why.
func TestHighAtAQueueFullOfLow(t *testing.T) {
	for name, policy := range queueingPolicies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, helix.RouterConfig{CPUParallelism: 1, CPUQueueCap: 4, Policy: policy})
				submit := func(s *sleepers, name string, priority helix.Priority) {
					s.submit(t, r, name, helix.Job{Cost: 1e9, Priority: priority}, time.Second)
				}
				var s sleepers
				submit(&s, "runs", helix.High)
				submit(&s, "normal", helix.Normal)
				for _, name := range []string{"low 1", "low 2", "low 3"} {
					submit(&s, name, helix.Low)
					time.Sleep(time.Millisecond)
				}
				submit(&s, "one low too many", helix.Low)
				require.Equal(t, 4, r.Stats().Pressure.Queued)
				for _, name := range []string{"high 1", "high 2", "high 3"} {
					submit(&s, name, helix.High)
				}
				require.NotContains(t, s.errs, "normal", "as long as there is a lower one")
				submit(&s, "high 4", helix.High)
				submit(&s, "one high too many", helix.High)
				require.Equal(t, 4, r.Stats().Pressure.Queued)
				s.wg.Wait()
				for _, out := range []string{"low 1", "low 2", "low 3", "normal"} {
					require.ErrorIs(t, s.errs[out], helix.ErrDropped, out)
					require.ErrorContains(t, s.errs[out], "gave its place in the full queue to another", out)
				}
				require.ErrorContains(t, s.errs["one low too many"], "queue is full")
				require.ErrorContains(t, s.errs["one high too many"], "queue is full")
				for _, in := range []string{"runs", "high 1", "high 2", "high 3", "high 4"} {
					require.NoError(t, s.errs[in], in)
				}
			})
		})
	}
}

// Those without a budget stand back for those with one, but not for a patient one until its
// end: it would have been in time in order of arrival.
func TestAPatientJobAmongWorkWithoutBudgets(t *testing.T) {
	for name, policy := range queueingPolicies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, helix.RouterConfig{CPUParallelism: 2, Policy: policy})
				crawl := register(t, r, sleepKind("crawl", 0, false))
				export := register(t, r, sleepKind("export", 8*time.Second, false))
				ctx, cancel := context.WithCancel(t.Context())
				var crawlers sync.WaitGroup
				for range 40 { // each waits for 2 s
					crawlers.Go(func() {
						for ctx.Err() == nil {
							_, _ = crawl.Submit(ctx, 100*time.Millisecond)
							time.Sleep(time.Millisecond)
						}
					})
				}
				time.Sleep(6 * time.Second)
				came := time.Now()
				_, err := export.Submit(t.Context(), 100*time.Millisecond)
				require.NoError(t, err)
				require.Less(t, time.Since(came), 8*time.Second)
				cancel()
				crawlers.Wait()
			})
		})
	}
}

// Weights are relative: as huge or as tiny as they may be, alike they are as good as 1, and
// nobody is refused while there is room for all.
func TestWeightsAsHugeAndAsTinyAsTheyMayBe(t *testing.T) {
	for _, weight := range []float64{math.MaxFloat64, 1e300, 1e-300, math.SmallestNonzeroFloat64} {
		synctest.Test(t, func(t *testing.T) {
			r, err := helix.New(helix.RouterConfig{CPUParallelism: 2})
			require.NoError(t, err)
			defer r.Close()
			var tasks []*helix.Task[time.Duration, int]
			for _, name := range []string{"a", "b"} {
				k := sleepKind(name, 50*time.Millisecond, false)
				k.Weight = weight
				task, err := helix.Register(r, k)
				if err != nil {
					require.ErrorContains(t, err, "Kind.Weight", "it is refused by name")
					return
				}
				tasks = append(tasks, task)
			}
			for range 500 {
				for _, task := range tasks {
					_, err := task.Submit(t.Context(), time.Millisecond)
					require.NoError(t, err, "weight %g", weight)
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
}
