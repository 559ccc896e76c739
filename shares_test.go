package helix

import (
	"cmp"
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// randomMix draws 2 to 8 classes: runs of 50 µs to 200 ms, budgets of 1.5 to 20 of them, any
// shares. All but the shortest yield.
func randomMix(seed uint64) []simClass {
	rng := rand.New(rand.NewPCG(seed, 99))
	mix, sum := make([]simClass, 2+rng.IntN(7)), 0.
	for i := range mix {
		c := &mix[i]
		c.name = fmt.Sprint("class ", i)
		c.cost = time.Duration(50e3 * math.Pow(4000, rng.Float64()))
		c.budget = time.Duration(float64(c.cost) * 1.5 * math.Pow(20/1.5, rng.Float64()))
		c.share = rng.ExpFloat64() + .05
		c.yields = c.cost > 200*time.Microsecond
		sum += c.share
	}
	for i := range mix {
		mix[i].share /= sum
	}
	return mix
}

// guarded is a scheduler to compare with, written apart from the library: it knows all run times and
// the share of each class, admits a job only if the schedule has all that it has admitted
// end in time, and serves the earliest of the latest starts first, in turns of 100 µs. A class that
// asks for more than its share has a bucket of two runs, or of what its share is in 50 ms.
type guarded struct {
	events  simEvents
	now     int64
	classes []simClass
	running []*guardedJob // by slot
	queue   []*guardedJob // by start
	shares  []float64     // of classes that ask for more; else +Inf
	tokens  []float64
	since   []int64 // when the tokens were counted
	kept    []int
}

type guardedJob struct {
	class            int
	left, start, due int64 // start is the latest
}

const guardedTurn = int64(100 * time.Microsecond)

func (g *guarded) at(when int64, do func()) { heap.Push(&g.events, simEvent{when, len(g.events), do}) }

func byStart(a, b *guardedJob) int { return cmp.Compare(a.start, b.start) }

// fits reports whether j, and all that would be served after it, end in time if nothing else comes.
func (g *guarded) fits(j *guardedJob) bool {
	free := slices.Repeat([]int64{g.now}, len(g.running))
	todo := append(slices.Clone(g.queue), j)
	for slot, r := range g.running {
		switch {
		case r == nil:
			return true
		case g.classes[r.class].yields:
			todo = append(todo, r)
		default:
			free[slot] += r.left
		}
	}
	slices.SortStableFunc(todo, byStart)
	after := false
	for _, r := range todo {
		first := &free[0]
		for i := range free {
			if free[i] < *first {
				first = &free[i]
			}
		}
		*first += r.left
		after = after || r == j
		if after && *first > r.due {
			return false
		}
	}
	return true
}

func (g *guarded) arrive(class int) {
	c := &g.classes[class]
	depth := max(g.shares[class]*50e6, 2*float64(c.cost))
	g.tokens[class] = min(g.tokens[class]+float64(g.now-g.since[class])*g.shares[class], depth)
	g.since[class] = g.now
	due := g.now + int64(c.budget)
	j := &guardedJob{class, int64(c.cost), due - int64(c.cost), due}
	if g.tokens[class] < 0 || !g.fits(j) {
		return
	}
	g.tokens[class] -= float64(c.cost)
	g.insert(j)
	if slot := slices.Index(g.running, nil); slot >= 0 {
		g.next(slot)
	}
}

func (g *guarded) insert(j *guardedJob) {
	at, _ := slices.BinarySearchFunc(g.queue, j.start+1, func(r *guardedJob, start int64) int { return cmp.Compare(r.start, start) })
	g.queue = slices.Insert(g.queue, at, j)
}

// next has the slot serve the first of the queue.
func (g *guarded) next(slot int) {
	if g.running[slot] = nil; len(g.queue) > 0 {
		g.running[slot] = g.queue[0]
		g.queue = slices.Delete(g.queue, 0, 1)
		g.turn(slot)
	}
}

func (g *guarded) turn(slot int) {
	j, length := g.running[slot], guardedTurn
	if length = min(length, j.left); !g.classes[j.class].yields {
		length = j.left
	}
	g.at(g.now+length, func() {
		switch j.left -= length; {
		case j.left == 0:
			if g.now <= j.due {
				g.kept[j.class]++
			}
			g.next(slot)
		case len(g.queue) > 0 && g.queue[0].start < j.start:
			g.insert(j)
			g.next(slot)
		default:
			g.turn(slot)
		}
	})
}

// guard serves what simulate has offered, as the guarded scheduler does, and returns what of its fair
// share each class gets.
func guard(classes []simClass, slots int, load float64, span time.Duration) []float64 {
	n := len(classes)
	g := &guarded{
		classes: classes, running: make([]*guardedJob, slots), shares: make([]float64, n),
		tokens: make([]float64, n), since: make([]int64, n), kept: make([]int, n),
	}
	fair := fairWork(classes, slots, span)
	for i, c := range classes {
		if g.shares[i] = fair[i] / span.Seconds(); fair[i] > .999*float64(c.offered)*c.cost.Seconds() {
			g.shares[i] = math.Inf(1)
		}
		rng := rand.New(rand.NewPCG(7, uint64(i)))
		rate := load * float64(slots) * c.share / c.cost.Seconds()
		var next func()
		next = func() {
			if g.now > 0 {
				g.arrive(i)
			}
			if gap := rng.ExpFloat64() / rate * 1e9; time.Duration(g.now)+time.Duration(gap) < span {
				g.at(g.now+int64(gap)+1, next)
			}
		}
		g.at(0, next)
	}
	for len(g.events) > 0 {
		e := heap.Pop(&g.events).(simEvent)
		g.now = e.at
		e.do()
	}
	got := make([]float64, n)
	for i, c := range classes {
		got[i] = float64(g.kept[i]) * c.cost.Seconds() / fair[i]
	}
	return got
}

// Of random mixes, in which few jobs of a class may fit into its budget, the worst class gets about
// what a scheduler gives it that knows all run times and shares. None runs in vain.
func TestRandomMixesGetTheirShares(t *testing.T) {
	if testing.Short() {
		t.Skip("a long simulation")
	}
	skipIfRace(t)
	const span, mixes = 20 * time.Second, 12
	for _, load := range []float64{1.2, 2} {
		t.Run(fmt.Sprintf("%gx", load), func(t *testing.T) {
			sum, best := 0., 0.
			for seed := range uint64(mixes) {
				classes := simulate(t, randomMix(seed+1), 2, load, span, simScenario{})
				fair := fairWork(classes, 2, span)
				worst := math.Inf(1)
				for i, c := range classes {
					worst = min(worst, float64(c.inBudget)*c.cost.Seconds()/fair[i])
				}
				guarded := slices.Min(guard(classes, 2, load, span))
				_, _, late, _ := simTotals(classes, fair)
				t.Logf("mix %d: the worst class gets %5.1f %%, at best %5.1f; late %.2f %% of the CPU", seed, 100*worst, 100*guarded, 100*late/2/span.Seconds())
				require.LessOrEqual(t, late, .01*2*span.Seconds(), "mix %d: CPU spent on late work", seed)
				sum, best = sum+worst/mixes, best+guarded/mixes
			}
			t.Logf("on average %.1f %%, at best %.1f", 100*sum, 100*best)
			require.GreaterOrEqual(t, sum, best-.07)
		})
	}
}
