package main

import (
	"slices"
	"sync"
	"time"
)

// spin does n iterations of work that cannot be shortened: each needs the
// result of the one before.
//
//go:noinline
func spin(x uint64, n int64) uint64 {
	for range n {
		x = (x ^ x>>32) * 0xd6e8feb86659fd93
	}
	return x
}

// calibration is how long the speed of the machine is measured.
type calibration struct {
	Rounds int           `json:"rounds"`
	Round  time.Duration `json:"round"`
}

// measure returns the iterations a second of one core while all cores work: on
// cores that share execution units that is less than a core does alone. It is
// the median of the rounds, so that a disturbance in one of them is left out.
func (c calibration) measure(cores int) float64 {
	rounds := make([]float64, c.Rounds)
	for i := range rounds {
		rounds[i] = spinFor(cores, c.Round)
	}
	slices.Sort(rounds)
	return rounds[len(rounds)/2]
}

// spinFor spins on all cores for about that long.
func spinFor(cores int, d time.Duration) float64 {
	const chunk = 20_000 // some 20 µs: little beside a look at the clock
	var wg sync.WaitGroup
	rates := make([]float64, cores)
	for i := range rates {
		wg.Go(func() {
			start, x, n := time.Now(), uint64(i)+1, int64(0)
			for time.Since(start) < d {
				x = spin(x, chunk)
				n += chunk
			}
			rates[i] = float64(n) / time.Since(start).Seconds()
			if x == 0 { // never, but the compiler cannot know
				rates[i] = 0
			}
		})
	}
	wg.Wait()
	sum := 0.0
	for _, r := range rates {
		sum += r
	}
	return sum / float64(cores)
}
