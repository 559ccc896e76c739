package slots

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix/internal/num"
)

func TestQueueOrder(t *testing.T) {
	var q Queue
	add := func(due int64, long bool) *Node {
		n := &Node{Due: due, Long: long}
		q.Push(n)
		return n
	}
	a, b, c, d := add(30, false), add(10, true), add(20, false), add(20, false)
	take := func(longMay bool) *Node {
		n := q.First(longMay)
		q.Remove(n)
		require.False(t, n.Queued)
		return n
	}
	require.EqualValues(t, 10, q.FirstDue())
	require.Same(t, c, take(false), "long ones leave the slot to shorter ones")
	require.Same(t, b, take(true))
	require.Same(t, d, take(true))
	require.Same(t, a, take(true))
	require.EqualValues(t, int64(num.Never), q.FirstDue())
	e := add(5, true)
	require.Same(t, e, take(false), "unless there are none")
}

// Whatever comes, goes and changes its due time, the first is the one that sorting
// all of them finds.
func TestQueueAgainstSorting(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var q Queue
	q.arrived = math.MaxUint32 - 1000 // the numbers wrap around
	var in []*Node                    // in order of arrival
	for range 20_000 {
		switch what := rnd.IntN(10); {
		case what < 5 && len(in) < 500 || len(in) == 0:
			n := &Node{Due: rnd.Int64N(200)}
			q.Push(n)
			in = append(in, n)
		case what < 8:
			first := slices.MinFunc(in, func(a, b *Node) int { return cmp.Compare(a.Due, b.Due) })
			require.Same(t, first, q.First(true))
			q.Remove(first)
			in = slices.DeleteFunc(in, func(other *Node) bool { return other == first })
		case what < 9:
			i := rnd.IntN(len(in))
			q.Remove(in[i])
			in = slices.Delete(in, i, i+1)
		default:
			q.SetDue(in[rnd.IntN(len(in))], rnd.Int64N(200))
		}
		if rnd.IntN(100) == 0 {
			n, now := 0, rnd.Int64N(200)
			q.All(func(w *Node) { n++; require.True(t, w.Queued) })
			require.Equal(t, len(in), n)
			due, next := 0, int64(num.Never)
			for _, w := range in {
				if w.Due <= now {
					due++
				} else {
					next = min(next, w.Due)
				}
			}
			require.Equal(t, next, q.Overdue(now, func(w *Node) { due--; require.LessOrEqual(t, w.Due, now) }))
			require.Zero(t, due)
		}
	}
}

// urgent is when a deferred node is due once it is not any more.
type urgent int64

func (u urgent) Urgent() int64 { return int64(u) }

func TestDeferredNodes(t *testing.T) {
	at := func(now int64) func() int64 { return func() int64 { return now } }
	var q Queue
	require.False(t, q.UndeferDue(nil), "nothing is deferred, and the time is not asked for")
	deferred := &Node{Deferred: true, Due: 50, Requester: urgent(60)}
	q.Push(deferred)
	require.EqualValues(t, int64(num.Never-1), q.FirstDue(), "no run gives way for it")
	require.Same(t, deferred, q.First(true), "but a free slot it may have")

	other := &Node{Due: 1000}
	q.Push(other)
	require.True(t, q.UndeferDue(at(49)))
	require.Same(t, other, q.First(true))
	require.EqualValues(t, 1000, q.FirstDue())
	require.True(t, q.UndeferDue(at(50)))
	require.Same(t, deferred, q.First(true), "it has been deferred for long enough")
	require.EqualValues(t, 60, q.FirstDue())
	require.False(t, q.OnlyDeferred())

	full := &Node{Deferred: true, Due: 500, Requester: urgent(20)}
	q.Push(full)
	q.Undefer(full)
	require.Same(t, full, q.First(true), "it has no reason to be deferred any more")
}

// A backlog tells the work of all that is more urgent, to within a class.
func TestBacklog(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var b Backlog
	type job struct {
		node Node
		due  int64
		work Load
	}
	var in []*job
	for range 2000 {
		if len(in) > 0 && rnd.IntN(3) == 0 {
			i := rnd.IntN(len(in))
			b.Remove(&in[i].node, 1, in[i].work.Units())
			require.Zero(t, in[i].node.Work)
			in = slices.Delete(in, i, i+1)
		} else {
			j := &job{due: int64(math.Exp(rnd.Float64() * 30)), work: Work(rnd.Int64N(1e7))}
			j.node.Class = ClassOf(j.due)
			b.Add(&j.node, j.work)
			in = append(in, j)
		}
		due := int64(math.Exp(rnd.Float64() * 30))
		least, most, all := [2]int64{}, [2]int64{}, int64(0)
		for _, j := range in {
			work := int64(j.work.Work())
			all += work
			if j.due <= due {
				least[0]++
				least[1] += work
			}
			if j.due <= max(2*due, 1<<17) {
				most[0]++
				most[1] += work
			}
		}
		jobs, work := b.Before(due)
		require.GreaterOrEqual(t, int64(jobs), least[0])
		require.LessOrEqual(t, int64(jobs), most[0])
		require.GreaterOrEqual(t, work, least[1])
		require.LessOrEqual(t, work, most[1])
		require.Equal(t, all, b.All())
	}
}

// The soonest that a slot comes is when list scheduling has dealt out what goes before.
func TestSoonest(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	const now, us = int64(time.Hour), int64(time.Microsecond)
	for range 3000 {
		var r Runs
		slots, sure := 1+rnd.IntN(exactSlots), rnd.IntN(2) == 0
		free := make([]int64, slots) // in how many ns each is
		for i := range rnd.IntN(slots + 1) {
			free[i] = RunFrom + rnd.Int64N(100_000)*us
			gives, began := []int64{Always, now, now + 10}[rnd.IntN(3)], now
			if rnd.IntN(4) == 0 { // it is overdue by twice that
				began -= 3 * free[i]
			}
			run, more := free[i], rnd.Int64N(free[i]-RunFrom+1)
			if sure {
				run -= more
			}
			place := r.Begin(began, run, more, gives)
			require.NotEqual(t, int8(NoPlace), place)
			require.Equal(t, more, r.More(place))
			if gives > now+5 { // the job is due before, and gets the slot
				free[i] = handsOverIn
			}
		}
		jobs, each := rnd.IntN(60), rnd.Int64N(5000)*us
		for range jobs {
			*first(free) += each
		}
		want, unit := *first(free), float64(workUnit)
		got := r.Soonest(now, now+5, slots, jobs, int64(jobs)*each, sure)
		if jobs <= exactJobs {
			require.InDelta(t, want, got, unit*float64(2+jobs), "%d slots, %d jobs of %d", slots, jobs, each)
		} else {
			require.InDelta(t, want, got, float64(each)+3*unit, "%d slots, %d jobs of %d", slots, jobs, each)
		}
	}
}

// With many slots, those that are taken until the job is due are no use to it.
func TestSoonestOfManySlots(t *testing.T) {
	var r Runs
	const work = 320e6
	require.EqualValues(t, work/32, r.Soonest(0, 1e9, 32, 8, work, false))
	for range 24 {
		r.Begin(0, 2e9, 0, Always)
	}
	r.Begin(0, 1e6, 0, Always)
	require.EqualValues(t, (work+1e6)/8, r.Soonest(0, 1e9, 32, 8, work, false))
	require.Zero(t, r.Soonest(0, 1e9, 32, 0, 0, false), "the others are assumed to be free soon")
	require.InDelta(t, (work+(24*2e9+1e6)*8/32)/32, r.Soonest(0, 3e9, 32, 8, work, false), 10, "all end before")
	require.EqualValues(t, (320_000_000)/7, r.Soonest(4e9, 4e9+5e8, 32, 8, work, false), "all 25 are overdue by more than a second")
	for range runPlaces {
		r.Begin(0, 1e12, 0, Always)
	}
	require.EqualValues(t, work+1e6, r.Soonest(0, 1e9, 32, 8, work, false))
}

// first is the slot that is free first.
func first(free []int64) *int64 {
	at := 0
	for i := range free {
		if free[i] < free[at] {
			at = i
		}
	}
	return &free[at]
}

func TestRunsGiveTheirPlacesBack(t *testing.T) {
	var r Runs
	require.Equal(t, int8(NoPlace), r.Begin(0, RunFrom-1, 0, Always), "too short to matter")
	var places []int8
	for range runPlaces {
		places = append(places, r.Begin(0, 1e9, 0, Always))
	}
	require.Equal(t, runPlaces, r.Noted())
	require.Equal(t, int8(NoPlace), r.Begin(0, 1e9, 0, Always), "there is no place left")
	for _, p := range append(places, NoPlace) {
		r.End(p)
	}
	require.Zero(t, r.Noted())
}

func TestLoad(t *testing.T) {
	var l Load
	l += One + Work(1)
	require.EqualValues(t, 1, l.Busy())
	require.EqualValues(t, workUnit, l.Work(), "rounded up")
	require.EqualValues(t, 1, l.Units())
	l += 3*One + Work(10*int64(time.Millisecond))
	require.EqualValues(t, 4, l.Busy())
	require.InDelta(t, 10*time.Millisecond, l.Work(), 2*workUnit)
	require.Equal(t, Work(math.MaxInt64/2), Work(math.MaxInt64/4), "as much as there can be")
	l -= Work(1) + Work(10*int64(time.Millisecond)) + 4*One
	require.Zero(t, l)
}
