package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/benchmarks/internal/pace"
)

// lookEvery is how often the downstreams are looked at, at least.
const lookEvery = 100 * time.Microsecond

// result is what became of the calls that count.
type result struct {
	offered, refused, admitted, kept, late int64
	bound                                  float64
}

func (r result) String() string {
	part := func(n, of int64) float64 { return 100 * float64(n) / float64(max(of, 1)) }
	return fmt.Sprintf("%.0f/%.1f/%.0f", 100*float64(r.kept)/max(r.bound, 1), part(r.late, r.admitted), part(r.refused, r.offered))
}

// trial is one contender in a scene.
type trial struct {
	scene *scene
	start time.Time
	down  *service
	who   contender
	ctx   context.Context // ends when all is over

	offered, refused, admitted, kept, late atomic.Int64
	over                                   atomic.Bool
}

func (t *trial) now() time.Duration { return time.Since(t.start) }

// serve makes the call of one arrival. Its time is from when it was to come.
func (t *trial) serve(a arrival) {
	s := t.scene
	ran := t.who.do(t.ctx, t.start.Add(a.at), func() { t.down.call(t.now, a.work) })
	ended := t.now()
	if t.over.Load() {
		ended = s.until // and perhaps it never would have
	}
	counted := s.counted(a.at)
	if counted {
		t.offered.Add(1)
		if ran {
			t.admitted.Add(1)
		} else {
			t.refused.Add(1)
		}
	}
	switch {
	case !ran:
	case s.budget == 0:
		if s.counted(ended) {
			t.kept.Add(1)
		}
	case !counted:
	case ended-a.at <= s.budget && !t.over.Load():
		t.kept.Add(1)
	default:
		t.late.Add(1)
	}
}

// run puts these contenders to the scene, all at the same time, each with a downstream of its
// own. lag is how much later than it was to come a call came, of a hundred all but the worst.
func run(s *scene, names []string) (results []result, lag time.Duration, err error) {
	runtime.GC() // what the scene before has left
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var trials []*trial
	for _, name := range names {
		who, err := contenders[name](s)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", name, err)
		}
		defer who.close()
		trials = append(trials, &trial{scene: s, down: newService(s), who: who, ctx: ctx})
	}
	start := time.Now()
	for _, t := range trials {
		t.start = start
	}
	pacer := pace.New()
	defer pacer.Close()
	lags := make([]time.Duration, 0, len(s.calls))
	var pending sync.WaitGroup
	next := 0
	for {
		now := time.Since(start)
		if now >= s.until {
			break
		}
		for _, t := range trials {
			t.down.look(now)
		}
		for next < len(s.calls) && s.calls[next].at <= now {
			a := s.calls[next]
			next++
			lags = append(lags, now-a.at)
			for _, t := range trials {
				pending.Go(func() { t.serve(a) })
			}
		}
		wait := lookEvery
		if next < len(s.calls) {
			wait = min(wait, s.calls[next].at-time.Since(start))
		}
		if wait > 0 {
			pacer.Sleep(max(wait, lookEvery/2))
		}
	}
	for _, t := range trials {
		t.over.Store(true)
	}
	cancel()
	for _, a := range s.calls[next:] { // this goroutine did not get to run in time
		for _, t := range trials {
			pending.Go(func() { t.serve(a) })
		}
	}
	for _, t := range trials {
		t.down.close()
	}
	pending.Wait()
	bound := s.bound()
	for _, t := range trials {
		results = append(results, result{
			t.offered.Load(), t.refused.Load(), t.admitted.Load(), t.kept.Load(), t.late.Load(), bound})
	}
	slices.Sort(lags)
	if len(lags) > 0 {
		lag = lags[len(lags)*99/100]
	}
	return results, lag, nil
}
