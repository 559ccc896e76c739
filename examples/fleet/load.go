package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix"
)

// load submits jobs, and counts what becomes of them.
type load struct {
	task   *helix.Task[sample, int]
	points int
	seed   atomic.Uint64
	jobs   sync.WaitGroup

	submitted, done, refused, lost, failed atomic.Int64
	inside, tried                          atomic.Int64 // points of those done
}

// send submits jobs at random moments, so many a second, until ctx is done. Jobs that it
// has submitted go on.
func (l *load) send(ctx context.Context, rate float64) {
	if rate <= 0 {
		<-ctx.Done()
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for next := time.Now(); ; next = next.Add(time.Duration(rand.ExpFloat64() / rate * float64(time.Second))) {
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			l.jobs.Go(l.submit)
		}
	}
}

func (l *load) submit() {
	l.submitted.Add(1)
	n, err := l.task.Submit(context.Background(), sample{l.seed.Add(1), l.points})
	switch {
	case err == nil:
		l.inside.Add(int64(n))
		l.tried.Add(int64(l.points))
		l.done.Add(1)
	case errors.Is(err, helix.ErrNotRun):
		l.refused.Add(1)
	case errors.Is(err, helix.ErrLost):
		l.lost.Add(1)
	default:
		l.failed.Add(1)
	}
}

// String is the account, and the area of the Mandelbrot set as estimated so far.
func (l *load) String() string {
	area := side * side * float64(l.inside.Load()) / float64(max(l.tried.Load(), 1))
	return fmt.Sprintf("%d submitted = %d done + %d refused + %d lost + %d failed; area %.3f",
		l.submitted.Load(), l.done.Load(), l.refused.Load(), l.lost.Load(), l.failed.Load(), area)
}
