package remote

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// share runs clients that together send jobs of 10 ms with budgets of 50 ms to workers
// at a load, for so long, and returns how many of them ended in budget. send does one
// job. Arrivals are Poisson.
func share(t *testing.T, clients int, perSecond float64, lasts time.Duration, send func(client int, job Job) error) (inBudget float64) {
	const budget = 50 * time.Millisecond
	var mu sync.Mutex
	var jobs, kept int
	var all sync.WaitGroup
	for i := range clients {
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		all.Go(func() {
			begun := time.Now()
			for time.Since(begun) < lasts {
				time.Sleep(time.Duration(rng.ExpFloat64() / perSecond * float64(clients) * float64(time.Second)))
				all.Go(func() {
					at := time.Now()
					err := send(i, Job{Kind: "k", Deadline: at.Add(budget)})
					mu.Lock()
					defer mu.Unlock()
					if jobs++; err == nil && time.Since(at) <= budget {
						kept++
					}
				})
			}
		})
	}
	all.Wait()
	return float64(kept) / float64(jobs)
}

// What part of jobs ends in budget when clients choose, and beside it when a queue group
// does, which deals jobs out at random.
func TestChoiceKeepsBudgetsWhereAQueueGroupDoesNot(t *testing.T) {
	if testing.Short() {
		t.Skip("a long simulation")
	}
	const cost = 10 * time.Millisecond
	for _, f := range []struct {
		name   string
		speeds []float64
		load   float64
	}{
		{"six equal workers at 75 %", []float64{1, 1, 1, 1, 1, 1}, 0.75},
		{"two fast and one five times slower at 70 %", []float64{1, 1, 0.2}, 0.70},
	} {
		for _, slots := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s, %d slots", f.name, slots), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					capacity := 0.0
					for _, speed := range f.speeds {
						capacity += speed * float64(slots) / cost.Seconds()
					}
					run := func(choose bool) float64 {
						n := newNetwork()
						var machines []*machine
						for i, speed := range f.speeds {
							m := &machine{kind: "k", slots: slots, cost: time.Duration(float64(cost) / speed)}
							machines = append(machines, m)
							n.add(fmt.Sprint("w", i), m)
						}
						var clients []*Client
						for range 16 {
							c, _ := newTestClient(t, n, Config{})
							clients = append(clients, c)
						}
						rng := rand.New(rand.NewPCG(7, 7))
						var mu sync.Mutex
						got := share(t, 16, f.load*capacity, 10*time.Second, func(i int, job Job) error {
							if choose {
								_, err := clients[i].Do(context.Background(), job)
								return err
							}
							mu.Lock()
							m := machines[rng.IntN(len(machines))]
							mu.Unlock()
							time.Sleep(oneWay)
							_, err := m.Do(context.Background(), &Request{}, time.Now())
							time.Sleep(oneWay)
							return err
						})
						n.end(t)
						return got
					}
					chosen, group := run(true), run(false)
					t.Logf("in budget: chosen %.2f %%, queue group %.2f %%", 100*chosen, 100*group)
					require.GreaterOrEqual(t, chosen, 0.99)
					require.Greater(t, chosen, group)
				})
			})
		}
	}
}
