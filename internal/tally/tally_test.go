package tally

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Whatever happens to jobs, each is counted once, in any shard.
func TestNothingIsLost(t *testing.T) {
	c := New(4)
	var want Sums
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		s, budget := c.Shard(uint8(rng.IntN(256))), time.Duration(rng.IntN(2))*time.Second
		want.Submitted++
		switch lane := rng.IntN(AtOnce); rng.IntN(8) {
		case 0:
			c.Refusals().Refused[3].Add(1)
			want.Dropped[3]++
			want.Refused++
		case 1:
			c.Refusals().Withdrawn.Add(1)
			want.Withdrawn++
		case 2:
			s.Submitted.Add(1)
			s.Bounced[4].Add(1)
			want.Dropped[4]++
			want.Refused++
		case 3:
			s.Submitted.Add(1)
			s.Routed[lane].Add(1)
			s.DropLate(5, budget)
			want.Routed[lane]++
			want.Dropped[5]++
			if budget > 0 {
				want.Promised++
			}
		case 4:
			s.Submitted.Add(1)
			s.Withdrawn.Add(1)
			want.Withdrawn++
		default:
			s.Taken[lane].Add(1)
			want.Routed[lane]++
			latency := time.Duration(rng.IntN(4)) * 500 * time.Millisecond
			failed := rng.IntN(2) == 0
			s.End(failed, budget, latency)
			if failed {
				want.Failed++
			} else {
				want.Completed++
			}
			if budget > 0 {
				want.Promised++
				if latency <= budget {
					want.Kept++
				}
			}
		}
		got := c.Sum()
		require.Zero(t, got.InFlight())
		require.Zero(t, got.Running())
		got.admitted, got.away = 0, 0
		require.Equal(t, want, got)
	}
}

func TestJobsInFlight(t *testing.T) {
	c := New(1)
	c.Shard(7).Submitted.Add(1)
	c.Shard(0).Taken[1].Add(1)
	c.Refusals().Withdrawn.Add(1)
	sum := c.Sum()
	require.EqualValues(t, 2, sum.InFlight())
	require.EqualValues(t, 2, sum.Running())
	require.EqualValues(t, 3, sum.Submitted)
}

// What is offered never falls when predicted work is replaced by what it took.
func TestWork(t *testing.T) {
	c := New(2)
	c.Shard(0).Admitted.Add(10)
	c.Refusals().Shed.Add(5)
	require.EqualValues(t, 10, c.Charged())
	offered, worked := c.Work()
	require.EqualValues(t, []int64{15, 0}, []int64{offered, worked})
	c.Shard(1).Served.Add(12)
	c.Shard(1).Unfilled.Add(3)
	c.Shard(0).Admitted.Add(-10)
	offered, worked = c.Work()
	require.EqualValues(t, []int64{17, 15}, []int64{offered, worked})
	require.Zero(t, c.Charged())
}

func TestReasonTable(t *testing.T) {
	table := NewReasonTable([]string{"late", "full"})
	require.Equal(t, 1, table.Index("full"))
	require.Equal(t, 2, table.Index("made up"))
	require.Equal(t, 2, table.Index("made up"))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 100 {
				table.Index(fmt.Sprintf("made up, %d", (i*7+g)%100))
			}
		})
	}
	wg.Wait()
	require.Len(t, table.Names(), Reasons)
	require.Equal(t, []string{"late", "full", "made up"}, table.Names()[:3], "none loses its place")
	require.Equal(t, reasonOther, table.Names()[Reasons-1])
	require.Equal(t, Reasons-1, table.Index("one more"))
	seen := map[string]bool{}
	for i, name := range table.Names() {
		require.False(t, seen[name])
		seen[name] = true
		require.Equal(t, i, table.Index(name))
	}
}
