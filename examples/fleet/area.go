package main

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/helixrouter/helix"
)

// sample is a job: so many points drawn at random from the square that the Mandelbrot set
// lies in. The fraction of them that is inside estimates its area.
type sample struct {
	Seed   uint64
	Points int
}

const (
	side  = 3.0  // of the square: from -2.25-1.5i to 0.75+1.5i
	depth = 1000 // steps after which a point counts as inside
)

// local makes the router of a process, and the task of the kind that the service and its
// workers have in common.
func local(o options, elsewhere ...helix.Strategy) (*helix.Router, *helix.Task[sample, int], error) {
	router, err := helix.New(helix.RouterConfig{CPUParallelism: o.slots, Strategies: elsewhere})
	if err != nil {
		return nil, nil, err
	}
	task, err := helix.Register(router, helix.Kind[sample, int]{
		Name: "sample", Run: inside, Budget: o.budget, Idempotent: o.again,
		Cost:  func(s sample) float64 { return float64(s.Points) },
		Codec: helix.JSON[sample, int]{},
	})
	if err != nil {
		return nil, nil, errors.Join(err, router.Close())
	}
	return router, task, nil
}

// inside counts the points that are inside the set.
func inside(ctx context.Context, s sample) (n int, err error) {
	rng := rand.New(rand.NewPCG(s.Seed, 0))
	for i := range s.Points {
		if i%1000 == 0 && ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if escapes(rng.Float64()*side-2.25, rng.Float64()*side-1.5) >= depth {
			n++
		}
	}
	return n, nil
}

// escapes returns after how many steps z² + c leaves the circle of radius 2.
func escapes(re, im float64) (steps int) {
	x, y := 0.0, 0.0
	for x*x+y*y <= 4 && steps < depth {
		x, y = x*x-y*y+re, 2*x*y+im
		steps++
	}
	return steps
}
