package helix_test

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// front is a server with one processor, which nothing interrupts: it reads requests in the
// order in which they come, each for so long, and runs what is admitted before it
// reads the next. Those that it has not read yet wait where the router does not see them.
type front struct {
	read    time.Duration
	classes []frontClass
	tells   bool // the router how long they waited
}

type frontClass struct {
	name         string
	cost, budget time.Duration
	share        float64 // of the work
}

// run offers so many times the work that the processor can do, and returns the parts of the
// requests of the second half that were answered in their budgets, and late.
func (f front) run(t *testing.T, load float64, lasts time.Duration) (inBudget, late float64) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 1})
		rng := rand.New(rand.NewPCG(1, 2))
		type arrival struct {
			at    time.Duration
			class frontClass
		}
		var arrivals []arrival
		for _, c := range f.classes {
			rate := load * c.share / c.cost.Seconds()
			for at := time.Duration(0); at < lasts; at += time.Duration(rng.ExpFloat64() / rate * 1e9) {
				arrivals = append(arrivals, arrival{at, c})
			}
		}
		slices.SortFunc(arrivals, func(a, b arrival) int { return cmp.Compare(a.at, b.at) })
		start, offered, kept, broken := time.Now(), 0, 0, 0
		for _, a := range arrivals {
			arrived := start.Add(a.at)
			time.Sleep(max(time.Until(arrived), 0) + f.read)
			if f.tells {
				r.Waited(time.Since(arrived))
			}
			_, err := r.Submit(t.Context(), helix.Job{Kind: a.class.name, Budget: a.class.budget, Arrived: arrived,
				Run: func(context.Context) (any, error) { time.Sleep(a.class.cost); return nil, nil }})
			if a.at < lasts/2 {
				continue
			}
			offered++
			if err == nil && time.Since(arrived) <= a.class.budget {
				kept++
			} else if err == nil {
				broken++
			}
		}
		inBudget, late = float64(kept)/float64(offered), float64(broken)/float64(offered)
	})
	return inBudget, late
}

var frontMix = []frontClass{
	{"short", 50 * time.Microsecond, 20 * time.Millisecond, 0.15},
	{"medium", 2 * time.Millisecond, 80 * time.Millisecond, 0.50},
	{"long", 15 * time.Millisecond, 400 * time.Millisecond, 0.35},
}

func TestTheHiddenQueueIsWorkedOff(t *testing.T) {
	for _, c := range []struct{ load, least float64 }{{1.5, 0.75}, {6, 0.1}} {
		f := front{read: 27 * time.Microsecond, classes: frontMix}
		blind, _ := f.run(t, c.load, 4*time.Second)
		f.tells = true
		told, late := f.run(t, c.load, 4*time.Second)
		t.Logf("%.3g times the load: in budget %.3f blind, %.3f told, %.4f late", c.load, blind, told, late)
		require.Less(t, blind, 0.15, "the queue is there")
		require.Greater(t, told, c.least)
		require.LessOrEqual(t, late, 0.005)
	}
}

func TestWhereNoQueueStandsWaitsThatAreToldChangeNothing(t *testing.T) {
	f := front{read: 27 * time.Microsecond, classes: frontMix}
	blind, _ := f.run(t, 0.5, 2*time.Second)
	f.tells = true
	told, _ := f.run(t, 0.5, 2*time.Second)
	require.InDelta(t, blind, told, 0.001)
}

// Long waits that refusing does not shorten must not make an idle machine refuse.
func TestWaitsThatNothingShortensRefuseNobodyOnAnIdleMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 1})
		for range 2000 {
			r.Waited(10 * time.Millisecond)
			_, err := r.Submit(t.Context(), helix.Job{Budget: 20 * time.Millisecond, Arrived: time.Now().Add(-10 * time.Millisecond),
				Run: func(context.Context) (any, error) { time.Sleep(time.Millisecond); return nil, nil }})
			require.NoError(t, err)
			time.Sleep(2 * time.Millisecond)
		}
	})
}

func TestToldWaitsAllocateNothing(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	require.Zero(t, testing.AllocsPerRun(100, func() { r.Waited(time.Millisecond) }))
}
