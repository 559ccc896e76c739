package helix_test

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// arrival is one job of a stream: when it comes, of which kind, how long it really runs, and
// its budget (0: none).
type arrival struct {
	at, run, budget time.Duration
	kind            int
}

// spread is how run times vary around their mean of 1.
type spread struct {
	name string
	draw func(*rand.Rand) float64
}

var (
	constant = spread{"constant", func(*rand.Rand) float64 { return 1 }}
	halves   = spread{"±50 %", func(rng *rand.Rand) float64 { return .5 + rng.Float64() }}
	// A log-normal of sigma 1: one in a hundred runs for six times the mean.
	heavy = spread{"heavy-tailed", func(rng *rand.Rand) float64 { return math.Exp(rng.NormFloat64() - .5) }}
)

// stream is a cell of the sweep.
type stream struct {
	slots, kinds int
	run          time.Duration // mean of every kind
	times        float64       // budget, in mean runs; 0: none
	load         float64       // of all slots
	spread       spread
}

func (s stream) String() string {
	budget := "no budget"
	if s.times > 0 {
		budget = fmt.Sprintf("budget %gx", s.times)
	}
	return fmt.Sprintf("slots %d kinds %d run %v %s, %s, load %g", s.slots, s.kinds, s.run, s.spread.name, budget, s.load)
}

// arrivals is n jobs in the order in which they come: Poisson, from a seed.
func (s stream) arrivals(n int, seed uint64) []arrival {
	rng := rand.New(rand.NewPCG(seed, 1))
	rate := s.load * float64(s.slots) / float64(s.run)
	jobs, at := make([]arrival, n), 0.0
	for i := range jobs {
		at += rng.ExpFloat64() / rate
		jobs[i] = arrival{
			at: time.Duration(at), run: max(1, time.Duration(float64(s.run)*s.spread.draw(rng))),
			budget: time.Duration(s.times * float64(s.run)), kind: rng.IntN(s.kinds),
		}
	}
	return jobs
}

// oracle is how many of the jobs end in their budgets on that many slots when the queue for
// them is served earliest deadline first by a scheduler that knows all run times and refuses
// only what cannot end in time when its slot has come.
func oracle(jobs []arrival, slots int) (kept int) {
	var queue byDeadline
	free := make([]time.Duration, slots) // when each slot will be
	start := func(until time.Duration) { // what can start before then
		for queue.Len() > 0 {
			first := 0
			for i := range free {
				if free[i] < free[first] {
					first = i
				}
			}
			if free[first] >= until {
				return
			}
			j := heap.Pop(&queue).(arrival)
			at := max(free[first], j.at)
			if j.budget == 0 || at+j.run <= j.at+j.budget {
				free[first] = at + j.run
				kept++
			}
		}
	}
	for _, j := range jobs {
		start(j.at)
		for i := range free { // an idle slot has been so until now
			free[i] = max(free[i], j.at)
		}
		heap.Push(&queue, j)
	}
	start(math.MaxInt64)
	return kept
}

// byDeadline is a container/heap of jobs, the earliest deadline on top.
type byDeadline []arrival

func (q byDeadline) Len() int { return len(q) }
func (q byDeadline) Less(i, j int) bool {
	if a, b := q[i].deadline(), q[j].deadline(); a != b {
		return a < b
	}
	return q[i].at < q[j].at
}
func (q byDeadline) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *byDeadline) Push(x any)   { *q = append(*q, x.(arrival)) }
func (q *byDeadline) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}

func (a arrival) deadline() time.Duration {
	if a.budget == 0 {
		return math.MaxInt64
	}
	return a.at + a.budget
}

// tally is what became of a stream.
type tally struct {
	kept, late, refused int
	reasons             []helix.ReasonCount
}

// sleepKinds registers n kinds whose jobs run for as long as the item says.
func sleepKinds(t *testing.T, r *helix.Router, n int) []*helix.Task[time.Duration, int] {
	tasks := make([]*helix.Task[time.Duration, int], n)
	for i := range tasks {
		tasks[i] = register(t, r, sleepKind(fmt.Sprint("kind ", i), 0, false))
	}
	return tasks
}

// replay submits the jobs to a router that knows nothing yet, in virtual time.
func replay(t *testing.T, jobs []arrival, slots, kinds int) (sum tally) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: slots})
		tasks := sleepKinds(t, r, kinds)
		var mu sync.Mutex
		var wg sync.WaitGroup
		begin := time.Now()
		for _, j := range jobs {
			time.Sleep(j.at - time.Since(begin))
			wg.Go(func() {
				came := time.Now()
				_, err := tasks[j.kind].SubmitWith(t.Context(), j.run, helix.Hints{Budget: j.budget})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					sum.refused++
				case j.budget > 0 && time.Since(came) > j.budget:
					sum.late++
				default:
					sum.kept++
				}
			})
		}
		wg.Wait()
		sum.reasons = r.Stats().DroppedByReason
	})
	return sum
}

// blind is how many of the jobs end in their budgets on a scheduler that knows how run times
// are distributed, but not how long which job takes: first come, first served, and a job
// whose slot has come is refused if less is left of its budget than a part of the mean run,
// for the best of some parts. All budgets are alike.
func blind(jobs []arrival, slots int, mean time.Duration) (most int) {
	for _, part := range []float64{.3, .5, .7, .9, 1.1, 1.3, 1.6, 2} {
		free, kept := make([]time.Duration, slots), 0
		for _, j := range jobs {
			first := 0
			for i := range free {
				if free[i] < free[first] {
					first = i
				}
			}
			start := max(free[first], j.at)
			left, least := j.at+j.budget-start, mean/5
			if start > j.at {
				least = time.Duration(part * float64(mean))
			}
			if left < least {
				continue
			}
			if free[first] = start + j.run; j.run <= left {
				kept++
			}
		}
		most = max(most, kept)
	}
	return most
}

// streams are the cells of a sweep.
func streams(slots, kinds []int, runs []time.Duration, times, loads []float64, spreads ...spread) (all []stream) {
	for _, m := range slots {
		for _, k := range kinds {
			for _, run := range runs {
				for _, x := range times {
					for _, load := range loads {
						for _, how := range spreads {
							all = append(all, stream{m, k, run, x, load, how})
						}
					}
				}
			}
		}
	}
	return all
}

// While the machine is not overloaded, next to nothing is refused that could have ended in
// its budget: in points of all jobs, against a scheduler that knows everything, and, where
// run times vary much, against one that knows no more than can be known.
func TestNoHarm(t *testing.T) {
	if testing.Short() {
		t.Skip("a long simulation")
	}
	skipRace(t)
	us, ms := time.Microsecond, time.Millisecond
	loads := []float64{.5, .75, .9}
	all := func(jobs []arrival, c stream) int { return oracle(jobs, c.slots) }
	unseeing := func(jobs []arrival, c stream) int { return blind(jobs, c.slots, c.run) }
	for _, sweep := range []struct {
		name        string
		against     func([]arrival, stream) int
		mean, worst float64 // points lost, at most
		cells       []stream
	}{
		{"one kind", all, .5, 5, streams([]int{2}, []int{1}, []time.Duration{50 * us, ms, 10 * ms, 50 * ms, 500 * ms}, []float64{1.2, 1.5, 2, 3, 10, 0}, loads, constant)},
		{"one kind, other slots", all, .5, 5, streams([]int{1, 8}, []int{1}, []time.Duration{ms, 50 * ms}, []float64{1.2, 2, 3, 10, 0}, loads, constant)},
		{"many kinds", all, 2, 6, streams([]int{2, 8}, []int{1, 5, 20}, []time.Duration{20 * ms}, []float64{2, 3, 10}, loads[1:], halves)},
		{"run times vary", unseeing, 1.5, 9, streams([]int{1, 2, 8}, []int{1, 8}, []time.Duration{500 * us, 50 * ms}, []float64{1.2, 2, 3, 10}, []float64{.5, .9}, halves, heavy)},
		{"run times vary, no budgets", all, 0, 0, streams([]int{1, 8}, []int{1, 8}, []time.Duration{500 * us, 50 * ms}, []float64{0}, []float64{.9}, halves, heavy)},
	} {
		t.Run(sweep.name, func(t *testing.T) {
			const n = 3000
			sum, most := 0.0, math.Inf(-1)
			for _, c := range sweep.cells {
				jobs := c.arrivals(n, 7)
				got, best := replay(t, jobs, c.slots, c.kinds), sweep.against(jobs, c)
				lost := 100 * float64(best-got.kept) / n
				sum, most = sum+lost, max(most, lost)
				if lost > sweep.mean {
					t.Logf("lost %5.2f of %6.2f, late %5.2f: %v %v", lost, 100*float64(best)/n, 100*float64(got.late)/n, c, got.reasons)
				}
				if c.times == 0 {
					require.Zero(t, got.refused, "without budgets: %v", c)
				}
			}
			t.Logf("lost: mean %.2f, worst %.2f of %d", sum/float64(len(sweep.cells)), most, len(sweep.cells))
			require.LessOrEqual(t, sum/float64(len(sweep.cells)), sweep.mean, "points lost on average")
			require.LessOrEqual(t, most, sweep.worst, "points lost in the worst cell")
		})
	}
}

// A job so small that it runs inline waits for no slot: it is not refused because runs longer than its budget have
// all of them.
func TestInlineJobsNeedNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 2})
		long := register(t, r, sleepKind("long", 0, false))
		small := register(t, r, sleepKind("small", 3*time.Millisecond, false))
		for range 100 {
			_, err := small.Submit(t.Context(), 2*time.Microsecond)
			require.NoError(t, err)
		}
		_, err := long.Submit(t.Context(), 100*time.Millisecond)
		require.NoError(t, err)
		var jobs sync.WaitGroup
		for range 2 {
			jobs.Go(func() {
				_, err := long.Submit(t.Context(), 100*time.Millisecond)
				require.NoError(t, err)
			})
		}
		synctest.Wait()
		for range 20 {
			time.Sleep(time.Millisecond)
			_, err := small.Submit(t.Context(), 2*time.Microsecond)
			require.NoError(t, err)
		}
		jobs.Wait()
	})
}

// Callers that wait for one another are no overload, and neither is a burst that fits into
// the queue: without budgets nothing is refused.
func TestNothingIsRefusedBelowTheQueueCapWithoutBudgets(t *testing.T) {
	if testing.Short() {
		t.Skip("a long simulation")
	}
	skipRace(t)
	for _, slots := range []int{1, 2, 8} {
		for _, run := range []time.Duration{50 * time.Microsecond, 10 * time.Millisecond, 500 * time.Millisecond} {
			for _, callers := range []int{1, 8, 64, 512} {
				for _, kinds := range []int{1, 4} {
					synctest.Test(t, func(t *testing.T) {
						r := newRouter(t, helix.RouterConfig{CPUParallelism: slots})
						tasks := sleepKinds(t, r, kinds)
						var wg sync.WaitGroup
						for i := range callers {
							wg.Go(func() {
								for range 2000 / callers {
									_, _ = tasks[i%kinds].Submit(t.Context(), run)
								}
							})
						}
						wg.Wait()
						s := r.Stats()
						require.Zero(t, s.Dropped, "%d slots, runs of %v, %d callers, %d kinds: %v", slots, run, callers, kinds, s.DroppedByReason)
					})
				}
			}
		}
	}
}
