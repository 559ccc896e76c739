package helix_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// varied is a kind whose runs vary, in an overload, and what is asked for it.
type varied struct {
	run, budget time.Duration
	how         spread
	load        float64 // of all slots
	kept        float64 // of all that came, at least
	broken      float64 // of those admitted, at most
}

// vary has the kinds come for so long, and returns what part of each was kept, and what part of
// those admitted was not.
func vary(t *testing.T, slots int, span time.Duration, kinds []varied) (kept, broken []float64) {
	kept, broken = make([]float64, len(kinds)), make([]float64, len(kinds))
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: slots})
		tasks := sleepKinds(t, r, len(kinds))
		var mu sync.Mutex
		var wg sync.WaitGroup
		begin := time.Now()
		for i, k := range kinds {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(5, uint64(i)))
				came, refused, inTime := 0., 0., 0.
				var jobs sync.WaitGroup
				for time.Since(begin) < span {
					run := time.Duration(float64(k.run) * k.how.draw(rng))
					jobs.Go(func() {
						at := time.Now()
						_, err := tasks[i].SubmitWith(t.Context(), run, helix.Hints{Budget: k.budget})
						var drop *helix.DropError
						mu.Lock()
						defer mu.Unlock()
						switch came++; {
						case errors.As(err, &drop) && drop.Admission == nil:
							refused++
						case err == nil && time.Since(at) <= k.budget:
							inTime++
						}
					})
					time.Sleep(time.Duration(rng.ExpFloat64() * float64(k.run) / (k.load * float64(slots))))
				}
				jobs.Wait()
				kept[i], broken[i] = inTime/came, 1-inTime/(came-refused)
			})
		}
		wg.Wait()
	})
	return kept, broken
}

// In an overload, promises are kept where run times vary too: a job is admitted if it will be in time even should it, and
// what is in the slots, take as long as nine in ten such runs do.
func TestPromisesWhereRunTimesVary(t *testing.T) {
	if testing.Short() {
		t.Skip("a long simulation")
	}
	skipRace(t)
	for _, c := range []struct {
		name  string
		slots int
		kinds []varied
	}{
		{"±50 %, tight", 2, []varied{{5 * ms, 10 * ms, halves, 2, .41, .02}}},
		{"±50 %, tight, 8 slots", 8, []varied{{5 * ms, 10 * ms, halves, 2, .47, .02}}},
		{"heavy-tailed", 8, []varied{{5 * ms, 15 * ms, heavy, 2, .45, .10}}},
		{"short ones beside ±50 %", 2, []varied{{ms, 10 * ms, constant, 1, .47, .02}, {20 * ms, 200 * ms, halves, 1, .47, .04}}},
		{"short ones beside heavy-tailed", 2, []varied{{ms, 10 * ms, constant, 1, .47, .06}, {20 * ms, 50 * ms, heavy, 1, .33, .16}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			kept, broken := vary(t, c.slots, 10*time.Second, c.kinds)
			for i, k := range c.kinds {
				t.Logf("run %v, budget %v: %.1f %% kept, of those admitted %.2f %% broken", k.run, k.budget, 100*kept[i], 100*broken[i])
				require.GreaterOrEqual(t, kept[i], k.kept, "kept")
				require.LessOrEqual(t, broken[i], k.broken, "broken")
			}
		})
	}
}
