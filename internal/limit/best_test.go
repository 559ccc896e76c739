package limit_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix/internal/limit"
)

// constantLimit is a limiter that learns nothing.
type constantLimit struct{ most, inflight int }

func (l *constantLimit) Room(int64, limit.Priority) (int, bool) { return l.most, false }
func (l *constantLimit) Refused()                               {}
func (l *constantLimit) Begin(int64, int64) uint16              { l.inflight++; return 1 }
func (l *constantLimit) End(limit.Call, int64, bool)            { l.inflight-- }
func (l *constantLimit) InFlight() int64                        { return int64(l.inflight) }

// keeps returns the part of what can be done in time that is, from two seconds on, and the part that is refused.
func (s scene) keeps(limiter func() limiter) (kept, refused float64) {
	n := float64(*seeds)
	for i := range *seeds {
		s.limit = limiter()
		r := s.run(*first + uint64(i))
		drawn := r.drawn / float64(max(r.admitted, 1)) // how much work was drawn for a call is chance, too
		kept += float64(r.kept) / float64(r.offered) / min(1, s.mean/drawn/s.load) / n
		refused += float64(r.refused) / float64(r.offered) / n
	}
	return kept, refused
}

// What is learned is hardly worse than the constant limit that is best for each downstream and load, of those that
// somebody who knew both could set.
func TestAgainstTheBestConstantLimit(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("a long simulation, of one goroutine")
	}
	lost, more, cells := 0., 0., 0.
	for _, servers := range few([]int{1, 2, 4, 16}, 0, 2) {
		for name, service := range map[string]downstream{
			"fixed": {service: fixed(5e6)}, "exponential": {service: exponential(5e6)},
			"shared": {service: exponential(5e6), shared: true},
		} {
			for _, times := range []float64{10, 100} { // a call's length
				for _, load := range few([]float64{.5, .8, .95, 1, 1.2, 3, 10}, 5, 1, 2, 3) {
					down := service
					down.servers = servers
					s := scene{down: down, mean: 5e6, load: load, budget: int64(times * 5e6), length: 8000 * ms, from: 2000 * ms}
					best, least := 0., 0.
					for _, queue := range []float64{.02, .05, .1, .2, .35, .5, .7, .9} { // of the budget
						most := servers + int(math.Ceil(float64(servers)*times*queue)) - 1
						if kept, refused := s.keeps(func() limiter { return &constantLimit{most: most} }); kept > best {
							best, least = kept, refused
						}
					}
					kept, refused := s.keeps(func() limiter { return new(limit.Limit) })
					cell := fmt.Sprintf("%d servers, %s, budgets of %g times a call, %g×", servers, name, times, load)
					t.Logf("%s: kept %.1f %%, best %.1f; refused %.1f, with that %.1f", cell, 100*kept, 100*best, 100*refused, 100*least)
					require.Greater(t, kept, best-asked(.09, -.09), cell)
					lost += max(0, best-kept)
					more += max(0, refused-least)
					cells++
				}
			}
		}
	}
	t.Logf("on average %.1f points lost and %.1f refused too many", 100*lost/cells, 100*more/cells)
	require.Less(t, lost/cells, asked(.008, -.008))
	require.Less(t, more/cells, asked(.005, -.007))
}
