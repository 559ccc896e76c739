package helix

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
				asks[i] = ask{demand: c.demands[i], weight: c.weights[i]}
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
			asks[i] = ask{demand: rng.ExpFloat64(), weight: .1 + rng.Float64()}
			total += asks[i].demand
		}
		level := waterFill(asks, 2)
		used := 0.0
		for _, a := range asks {
			used += min(a.demand, a.weight*level)
		}
		require.InDelta(t, min(total, 2), used, 1e-9)
	}
}

func TestLedgerMeasuresDemand(t *testing.T) {
	k := &kind{name: "k", cells: make([]cell, 2)}
	k.weight.Store(1)
	kinds := map[string]*kind{"k": k}
	l := ledger{capacity: 1, memory: float64(leastMemory)}
	now := int64(0)
	for range 1000 { // 1.5 ms of work each ms
		now += int64(time.Millisecond)
		k.cells[now%2].shed.Add(int64(1500 * time.Microsecond))
		if l.due(now) {
			l.tick(now, &RouterConfig{CPUParallelism: 1}, newPool(1, nil, nil), kinds)
		}
	}
	require.InEpsilon(t, 1.5, k.demand.asked.Load(), .05)
	require.InEpsilon(t, 1.5, l.total.Load(), .05)
	require.InDelta(t, usable, k.demand.share.Load(), 1e-9)
	require.True(t, k.demand.limited.Load())
	l.tick(now+int64(time.Second), &RouterConfig{CPUParallelism: 1}, newPool(1, nil, nil), kinds)
	require.InDelta(t, 0, k.demand.asked.Load(), 1e-3, "a quiet second is forgotten at once")
}

func TestLessIsGivenAwayWhileTooMuchWaits(t *testing.T) {
	require.InDelta(t, 2*usable, allocatable(2, -time.Second), 1e-9)
	require.InDelta(t, 2*usable, allocatable(2, 0), 1e-9)
	require.InDelta(t, 2*usable-.5, allocatable(2, drainTime/2), 1e-9, "half a core does it in time")
	require.InDelta(t, 2*leastGiven, allocatable(2, time.Hour), 1e-9)

	var d demand
	d.noteBudget(40 * time.Millisecond)
	d.asked.Store(3)
	d.share.Store(.5)
	require.InDelta(t, waitPart*20e6, float64(d.mayWait(time.Hour)), 1, "half a core for 40 ms")
	d.asked.Store(.1)
	require.InDelta(t, waitPart*4e6, float64(d.mayWait(time.Hour)), 1)
}

func TestCapacityIsWhatJobsGet(t *testing.T) {
	const tick = int64(tickEvery)
	l := ledger{capacity: math.Inf(1)}
	require.InDelta(t, 2, l.measure(2, 0, tick, false), 1e-9, "all of the machine, until something is known")
	served := int64(0)
	run := func(ticks int, rate float64, saturated bool) (capacity float64) {
		for range ticks {
			served += int64(rate * float64(tick))
			capacity = l.measure(2, served, tick, saturated)
		}
		return capacity
	}
	require.InDelta(t, 2, run(200, .5, false), 1e-9, "nobody waits")
	require.InDelta(t, 1.5, run(200, 1.5, true), .01, "jobs wait and get no more than this")
	require.InDelta(t, 1.5, run(1, .1, false), .02, "little was wanted")
	require.InDelta(t, 1.8, run(200, 1.8, false), .01, "more was done than was thought possible")
	require.InDelta(t, 1.8, run(1, 1.8, true), .01)
	require.InDelta(t, 1.8, run(3, .1, false), .01, "it heals")
	require.InDelta(t, 2, run(40, .1, false), 1e-9, "the faster the longer nobody waits")
	require.InDelta(t, 2*leastCapacity, run(500, 0, true), 1e-9, "jobs that only wait for one another")
}

func TestPreemptedJobsAreNotTakenForOverload(t *testing.T) {
	for name, c := range map[string]struct {
		predicted, run, counted time.Duration
		slot                    bool
	}{
		"preempted":          {time.Microsecond, 70 * time.Millisecond, 4 * time.Microsecond, false},
		"long, in a slot":    {time.Microsecond, 70 * time.Millisecond, 70 * time.Millisecond, true},
		"below Go's quantum": {time.Microsecond, 9 * time.Millisecond, 9 * time.Millisecond, false},
		"nothing is known":   {0, 70 * time.Millisecond, 70 * time.Millisecond, false},
		"long as predicted":  {50 * time.Millisecond, 70 * time.Millisecond, 70 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			k := &kind{cells: make([]cell, 1)}
			ticket := &Ticket{kind: k, ctx: t.Context(), fate: fateReturned, ended: int64(c.run),
				job: jobFacts{predicted: c.predicted, work: c.predicted}, choice: choice{lane: laneCPUPool}}
			if c.slot {
				ticket.slot = &slot{bounded: true}
			}
			k.cells[0].admitted.Add(ticket.charge())
			k.learn(ticket)
			require.Equal(t, c.counted, time.Duration(k.cells[0].served.Load()))
			require.Zero(t, k.cells[0].admitted.Load())
		})
	}
}
