package fair

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWaterFill(t *testing.T) {
	for _, c := range []struct {
		name    string
		demands []float64
		weights []float64
		cores   float64
		want    float64
	}{
		{"nothing asked", nil, nil, 2, math.Inf(1)},
		{"all fits", []float64{.5, 1}, []float64{1, 1}, 2, math.Inf(1)},
		{"all alike", []float64{4, 4}, []float64{1, 1}, 2, 1},
		{"the small ask is met", []float64{.5, 4, 4}, []float64{1, 1, 1}, 2, .75},
		{"two small asks are met", []float64{.1, .2, 9}, []float64{1, 1, 1}, 2, 1.7},
		{"by weight", []float64{4, 4}, []float64{3, 1}, 2, .5},
		{"met by weight", []float64{1.2, 4}, []float64{3, 1}, 2, .8},
	} {
		t.Run(c.name, func(t *testing.T) {
			asks := make([]ask, len(c.demands))
			for i := range asks {
				asks[i] = ask{Kind{Weight: c.weights[i]}, c.demands[i]}
			}
			require.InDelta(t, c.want, waterFill(asks, c.cores), 1e-9)
		})
	}
}

func TestWaterFillUsesAllAndFavoursNobody(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		asks := make([]ask, 1+rng.IntN(10))
		total := 0.0
		for i := range asks {
			asks[i] = ask{Kind{Weight: .1 + rng.Float64()}, rng.ExpFloat64()}
			total += asks[i].demand
		}
		level := waterFill(asks, 2)
		used := 0.0
		for _, a := range asks {
			used += min(a.demand, a.Weight*level)
		}
		require.InDelta(t, min(total, 2), used, 1e-9)
	}
}

func TestLedgerMeasuresDemand(t *testing.T) {
	l, k := NewLedger(), Kind{Account: &Account{}, Weight: 1}
	tick := func(now int64) { l.Tick(now, func() Machine { return Machine{Cores: 1, Kinds: []Kind{k}} }) }
	now := int64(0)
	for range 1000 { // 1.5 ms of work each ms
		now += int64(time.Millisecond)
		k.Offered += int64(1500 * time.Microsecond)
		if l.Due(now) {
			tick(now)
		}
	}
	require.InEpsilon(t, 1.5, k.Account.Asked(), .05)
	require.InEpsilon(t, 1.5, l.Demand(), .05)
	require.InDelta(t, 1, k.Account.Share(), 1e-9)
	require.True(t, k.Account.Limited())
	require.True(t, l.Scarce())
	tick(now + int64(time.Second))
	require.InDelta(t, 0, k.Account.Asked(), 1e-3, "a quiet second is forgotten at once")
	require.False(t, l.Scarce())
}

// What a kind is admitted is served at the rate it is guaranteed.
func TestVirtualQueue(t *testing.T) {
	const ms = int64(time.Millisecond)
	var q virtualQueue
	q.allow(false, 0)
	q.add(0, 10*ms)
	require.Zero(t, q.wait(0), "it has no rate yet")
	q.serve(0, .5)
	q.add(0, 10*ms)
	require.Equal(t, 20*time.Millisecond, q.wait(0))
	require.Equal(t, 5*time.Millisecond, q.wait(15*ms))
	q.add(15*ms, ms)
	require.Equal(t, 7*time.Millisecond, q.wait(15*ms))
	q.correct(-2 * ms)
	require.Equal(t, 3*time.Millisecond, q.wait(15*ms))
	q.serve(15*ms, 2)
	require.Equal(t, 750*time.Microsecond, q.wait(15*ms), "four times as fast")
	require.Zero(t, q.wait(1000*ms))
	q.add(1000*ms, 400*ms)
	require.Zero(t, q.wait(1000*ms), "idle time is saved up for 200 ms")
	q.add(1000*ms, 2*ms)
	require.Equal(t, time.Millisecond, q.wait(1000*ms), "and no longer")
	q.delay(1000*ms, 3*ms)
	require.Equal(t, 4*time.Millisecond, q.wait(1000*ms))
	q.allow(false, 400*time.Millisecond) // at twice the speed of one processor
	q.add(2000*ms, 800*ms)
	require.Zero(t, q.wait(2000*ms), "two usual jobs are saved up for")
	q.add(2000*ms, 2*ms)
	require.Equal(t, time.Millisecond, q.wait(2000*ms), "and no more")
	q.correct(1 << 62)
	require.Less(t, q.wait(2000*ms), 12*24*time.Hour, "nothing overflows")
}

// A queue that is not kept takes no work, and begins with what waits once it is.
func TestShortJobsAreTrackedOnlyWhileLimited(t *testing.T) {
	l, k := NewLedger(), Kind{Account: &Account{}, Weight: 1, Typical: time.Microsecond}
	now := int64(0)
	tick := func(offered time.Duration) {
		now += int64(tickEvery)
		k.Offered += int64(offered)
		l.Tick(now, func() Machine { return Machine{Cores: 1, Kinds: []Kind{k}} })
	}
	tick(time.Millisecond)
	k.Account.Owe(now, int64(time.Millisecond))
	require.Zero(t, k.Account.Turn(now))
	k.Queued = 5000
	for range 50 {
		tick(30 * time.Millisecond)
	}
	require.True(t, k.Account.Limited())
	before := k.Account.Turn(now)
	k.Account.Owe(now, int64(mostAhead+10*time.Millisecond))
	require.GreaterOrEqual(t, k.Account.Turn(now), before+10*time.Millisecond)
}

func TestWhatIsGivenAwayFollowsWhatWaits(t *testing.T) {
	none := backlog{may: time.Second}
	require.Zero(t, none.excess(0, 2))
	require.InDelta(t, .5, none.excess(time.Second+mostDrain/2, 2), 1e-9, "half a core does it in time")

	// A core for budgets of 100 ms.
	k := Account{}
	k.NoteBudget(100 * time.Millisecond)
	k.asked.Store(3)
	k.share.Store(1)
	k.limited.Store(true)
	var b backlog
	b.add(&k, time.Hour)
	require.Equal(t, 25*time.Millisecond, b.may)
	require.InDelta(t, .3, b.excess(55*time.Millisecond, 2), 1e-9, "done in 100 ms")
	require.Zero(t, b.excess(25*time.Millisecond, 1), "as much as may wait")
	require.InDelta(t, -.1, b.excess(15*time.Millisecond, 1), 1e-9, "there in 100 ms")
	require.InDelta(t, -mostExtra, b.excess(0, 1), 1e-9, "not too fast")
	b.blocks = true
	require.Zero(t, b.excess(0, 1), "a slot must be free now and then for what cannot wait")

	var d Account
	d.NoteBudget(40 * time.Millisecond)
	d.asked.Store(3)
	d.share.Store(.5)
	require.InDelta(t, waitPart*20e6, float64(d.mayWait(time.Hour)), 1, "half a core for 40 ms")
	d.asked.Store(.1)
	require.InDelta(t, waitPart*4e6, float64(d.mayWait(time.Hour)), 1)
}

func TestCapacityIsWhatJobsGet(t *testing.T) {
	const tick = int64(tickEvery)
	l := Ledger{capacity: math.Inf(1)}
	require.InDelta(t, 2, l.measure(2, 0, tick, false), 1e-9, "all of the machine, until something is known")
	served := int64(0)
	run := func(ticks int, rate float64, saturated bool) (capacity float64) {
		for range ticks {
			served += int64(rate * float64(tick))
			capacity = l.measure(2, served, tick, saturated)
		}
		return capacity
	}
	require.InDelta(t, 2, run(200, .5, false), 1e-9, "no job waits")
	require.InDelta(t, 1.5, run(200, 1.5, true), .01, "jobs wait and get no more than this")
	require.InDelta(t, 1.5, run(1, .1, false), .02, "little was wanted")
	require.InDelta(t, 1.8, run(200, 1.8, false), .01, "more was done than was thought possible")
	require.InDelta(t, 1.8, run(1, 1.8, true), .01)
	require.InDelta(t, 1.8, run(3, .1, false), .01, "it recovers")
	require.InDelta(t, 2, run(40, .1, false), 1e-9, "faster the longer no job waits")
	require.InDelta(t, 2*leastCapacity, run(500, 0, true), 1e-9, "jobs that only wait for one another")
}
