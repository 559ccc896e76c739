package remote

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestForecastIsTheMedianOfTheBetterOfTwo(t *testing.T) {
	f := newFleet(1, 2)
	now := time.Unix(1000, 0)
	_, _, ok := f.forecast("k", 0, 0, now)
	require.False(t, ok, "no worker is known")
	for i := range 10 {
		f.report(fmt.Sprint("w", i), "k", Load{Slots: 1, Busy: 1, Wait: time.Duration(i) * 10 * time.Millisecond, Run: time.Millisecond}, now, true)
	}
	wait, run, ok := f.forecast("k", 0, 0, now)
	require.True(t, ok)
	require.Equal(t, time.Millisecond, run)
	require.Equal(t, 20*time.Millisecond+firstRTT, wait, "of ten, the third best")

	_, _, ok = f.forecast("other", 0, 0, now)
	require.False(t, ok)
	require.Zero(t, testing.AllocsPerRun(100, func() { f.forecast("k", 0, 0, now) }))

	// What is new is seen at once, what has left not any more.
	for i := range 10 {
		f.report(fmt.Sprint("w", i), "k", Load{Slots: 1, Run: time.Millisecond, Leaves: i > 0, Refuses: i > 0}, now, true)
	}
	wait, _, ok = f.forecast("k", 0, 0, now)
	require.True(t, ok)
	require.Equal(t, firstRTT, wait)
	f.forget("w0", "")
	_, _, ok = f.forecast("k", 0, 0, now)
	require.False(t, ok)
}

func TestWhoIsSilentIsForgotten(t *testing.T) {
	f := newFleet(1, 2)
	now := time.Unix(1000, 0)
	f.report("w", "k", Load{Slots: 1}, now, true)
	now = now.Add(goneAfter)
	_, _, ok := f.forecast("k", 0, 0, now)
	require.False(t, ok)
	require.Empty(t, f.workers)
	f.report("w", "k", Load{Slots: 1}, now, false)
	require.Empty(t, f.workers, "a late answer does not make it known again")
	f.report("w", "k", Load{Slots: 1}, now, true)
	require.Len(t, f.workers, 1)
}

// Workers come and go, each start with a name of its own: those of a kind that no job is
// submitted of are forgotten too.
func TestWorkersOfOtherKindsAreForgotten(t *testing.T) {
	f := newFleet(1, 2)
	now := time.Unix(1000, 0)
	for i := range 100 {
		f.report(fmt.Sprint("w", i), "unused", Load{Slots: 1}, now, true)
		now = now.Add(goneAfter)
	}
	require.Len(t, f.workers, 1)
	require.Len(t, f.kind("unused", false).servers, 1)
}

func TestPredictionScalesWithCostAndCountsWhatWasSent(t *testing.T) {
	f := newFleet(1, 2)
	now := time.Unix(1000, 0)
	f.report("w", "k", Load{Slots: 2, Busy: 1, Run: 10 * time.Millisecond, Cost: 4}, now, true)
	s := f.workers["w"].servers["k"]
	require.Equal(t, 5*time.Millisecond+firstRTT, s.completion(now, 2))
	require.Equal(t, 10*time.Millisecond+firstRTT, s.completion(now, 0))
	require.Equal(t, 10*time.Millisecond+firstRTT, f.sent(s, now, 4), "one slot is free")
	require.Equal(t, 15*time.Millisecond+firstRTT, f.sent(s, now, 4), "now that one is on its way to it")
	f.report("w", "k", Load{Slots: 2, Busy: 2, Run: 10 * time.Millisecond, Cost: 4}, now, false)
	require.Equal(t, 10*time.Millisecond+firstRTT, s.completion(now, 4), "a report has it all")
}

// A worker that refused a job for its short budget is avoided by such jobs, and not by those
// that have time.
func TestOnlyTightJobsAvoidAWorkerThatRefusedOne(t *testing.T) {
	f := newFleet(1, 2)
	now := time.Unix(1000, 0)
	f.report("w", "k", Load{Slots: 1, Busy: 1, Run: time.Millisecond}, now, true)
	k := f.kind("k", false)
	room := func(slack time.Duration) bool {
		a, _ := f.draw(k, now, slack, 0, nil)
		_, _, ok := f.forecast("k", 0, slack, now)
		require.Equal(t, a != nil, ok, "%v", slack)
		return ok
	}
	f.refused(k.servers[0], now, time.Second, 20*time.Millisecond)
	f.report("w", "k", Load{Slots: 1, Busy: 1, Run: time.Millisecond, Refuses: true}, now, false)
	require.False(t, room(10*time.Millisecond))
	require.False(t, room(40*time.Millisecond), "twice as much may be too little as well")
	require.True(t, room(time.Second))
	require.True(t, room(0))
	now = now.Add(time.Second)
	require.True(t, room(10*time.Millisecond), "it may have room again")

	f.refused(k.servers[0], now, time.Second, 20*time.Millisecond)
	f.report("other", "k", Load{Slots: 1, Wait: time.Millisecond, Run: time.Millisecond}, now, true)
	wait, _, ok := f.forecast("k", 0, 10*time.Millisecond, now)
	require.True(t, ok)
	require.Equal(t, time.Millisecond+firstRTT, wait, "of those that would take any job, if there are some")
	f.forget("other", "")

	f.refused(k.servers[0], now, time.Second, 0)
	f.report("w", "k", Load{Slots: 1, Busy: 1, Run: time.Millisecond}, now, false)
	require.False(t, room(time.Hour), "it refused a job that had all the time")
	require.False(t, room(0))
}

// The forecast is for a job of its cost, also if the last report was made for a dear one.
func TestForecastScalesWithCost(t *testing.T) {
	f := newFleet(1, 2)
	now := time.Unix(1000, 0)
	forecast := func(cost float64) time.Duration {
		_, run, ok := f.forecast("k", cost, 0, now)
		require.True(t, ok)
		return run
	}
	report := func(cost float64) {
		f.report("w", "k", Load{Slots: 1, Run: time.Second, Cost: cost}, now, true)
	}
	report(100)
	require.Equal(t, 10*time.Millisecond, forecast(1), "computed")
	require.Equal(t, 2*time.Second, forecast(200), "from the one before")
	report(100)
	require.Equal(t, time.Second, forecast(0))
	report(0)
	require.Equal(t, time.Second, forecast(1))
	require.Equal(t, time.Second, forecast(200), "what does not depend on the cost")
}

// A worker whose queue does not end, or whose runs do not, is the last to be chosen.
func TestEndlessPredictionsAreTheLongest(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, endless := range []Load{
		{Slots: 1, Busy: 1, Wait: math.MaxInt64, Run: time.Millisecond},
		{Slots: 1, Busy: 1, Run: math.MaxInt64, Cost: 1},
		{Slots: 1, Busy: 1, Wait: math.MaxInt64, Run: math.MaxInt64, Cost: 1},
	} {
		f := newFleet(1, 2)
		f.report("endless", "k", endless, now, true)
		wait, run, ok := f.forecast("k", 0, 0, now)
		require.True(t, ok)
		require.Greater(t, wait+run, longest-1)
		f.report("quick", "k", Load{Slots: 1, Run: time.Millisecond}, now, true)
		s, quick := f.workers["endless"].servers["k"], f.workers["quick"].servers["k"]
		f.sent(s, now, 1e300)
		require.Same(t, quick, f.better(s, quick, now, 0, 1e300), "%+v", endless)
	}
}

func TestDrawTakesTwoDifferentOnesThatMayBeChosen(t *testing.T) {
	f := newFleet(1, 2)
	now := time.Unix(1000, 0)
	for i := range 50 { // two in fifty are fast enough
		run := time.Second
		if i%25 == 7 {
			run = time.Millisecond
		}
		f.report(fmt.Sprint("w", i), "k", Load{Slots: 1, Run: run}, now, true)
	}
	k := f.kind("k", false)
	for range 100 {
		a, b := f.draw(k, now, 10*time.Millisecond, 0, nil)
		require.NotNil(t, b)
		require.NotSame(t, a, b)
		require.ElementsMatch(t, []string{"w7", "w32"}, []string{a.worker.id, b.worker.id})
	}
	a, b := f.draw(k, now, 10*time.Millisecond, 0, []string{"w7"})
	require.Equal(t, "w32", a.worker.id)
	require.Nil(t, b)
	a, _ = f.draw(k, now, time.Microsecond, 0, nil)
	require.Nil(t, a)
}

// A worker that would be too slow for the jobs there are is tried once a second.
func TestWhatWouldBeTooSlowIsTriedAgain(t *testing.T) {
	f := newFleet(1, 2)
	now := time.Unix(1000, 0)
	f.report("w", "k", Load{Slots: 1, Run: time.Second}, now, true)
	k := f.kind("k", false)
	const slack = 50 * time.Millisecond
	require.Nil(t, f.doubtful(k, now, slack, 0, nil), "it is new")
	now = now.Add(tryEvery)
	require.Nil(t, f.doubtful(k, now, firstRTT/2, 0, nil), "too far away")
	require.Nil(t, f.doubtful(k, now, 2*time.Second, 0, nil), "quick enough")
	require.Nil(t, f.doubtful(k, now, slack, 0, []string{"w"}))
	s := f.doubtful(k, now, slack, 0, nil)
	require.NotNil(t, s)
	f.sent(s, now, 0)
	require.Nil(t, f.doubtful(k, now, slack, 0, nil), "one at a time")
	require.NotNil(t, f.doubtful(k, now.Add(tryEvery), slack, 0, nil))
}

func BenchmarkForecast(b *testing.B) {
	f := newFleet(1, 2)
	now := time.Now()
	for i := range 6 {
		f.report(fmt.Sprint("w", i), "k", Load{Slots: 2, Run: time.Millisecond}, now, true)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			f.forecast("k", 0, 0, now)
		}
	})
}

// A forecast looks at no more workers than it needs, and none is computed because a full worker
// reports that it is full: of a thousand workers, each reports every second.
func TestForecastsOfManyWorkersAreCheap(t *testing.T) {
	f := newFleet(1, 2)
	now := time.Unix(1000, 0)
	report := func(i int, full bool) {
		f.report(fmt.Sprint("w", i), "k", Load{Slots: 1, Leaves: full}, now, true)
	}
	for i := range forecastMost {
		report(i, true)
	}
	k := f.kind("k", false)
	_, _, ok := f.forecast("k", 0, 0, now)
	require.False(t, ok)
	at := k.refreshAt.Load()
	require.NotZero(t, at)
	report(0, true)
	require.Equal(t, at, k.refreshAt.Load())
	report(0, false)
	_, _, ok = f.forecast("k", 0, 0, now)
	require.True(t, ok, "the first with room is seen at once")
	for i := range forecastMost {
		report(i, false)
	}

	f.rng = rand.New(rand.NewPCG(3, 4))
	many := make([]*server, 1000) // those that are not looked at are nil
	from := rand.New(rand.NewPCG(3, 4)).IntN(len(many))
	for i, s := range k.servers {
		many[(from+i)%len(many)] = s
	}
	k.servers = many
	f.refresh(k, now, 0)
	require.EqualValues(t, forecastMost, k.room.Load())
}
