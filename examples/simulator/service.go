package main

import (
	"context"
	"errors"
	"iter"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix"
)

// service is a program that uses a router, as the simulator plays it: three
// kinds of work, and a goroutine for every request, as net/http has.
type service struct {
	router *helix.Router
	market *market
	hash   *helix.Task[hashQuery, uint64]
	primes *helix.Task[int, int]
	risk   *helix.Task[riskQuery, float64]

	// slack is how long before an arrival the sender stops to trust timers: Go's
	// are late by up to a millisecond on an idle machine (epoll counts in
	// milliseconds). For the rest of the wait it gives way to whatever is
	// runnable, again and again. Zero where time is simulated.
	slack time.Duration

	// How requests ended, counted apart from the router to check it by.
	sent, completed, failed, notRun atomic.Uint64
}

// timerSlack is service.slack on a real machine.
const timerSlack = 2 * time.Millisecond

// newService registers the kinds with the router. All costs are in steps of
// the kernels, about a nanosecond or two each, so that the router's default
// UnitTime is a fair first guess.
func newService(router *helix.Router, seed uint64) (*service, error) {
	s := &service{router: router, market: newMarket(seed), slack: timerSlack}
	var errs [kernels]error
	s.hash, errs[hashMixKernel] = helix.Register(router, helix.Kind[hashQuery, uint64]{
		Name:    hashMixKernel.String(),
		Run:     hashMix,
		Cost:    func(q hashQuery) float64 { return float64(q.rounds) }, // rounds
		Scaling: 0.1,                                                    // every round needs the one before
	})
	s.primes, errs[primeCountKernel] = helix.Register(router, helix.Kind[int, int]{
		Name:    primeCountKernel.String(),
		Run:     alone(countPrimes),
		Batch:   countPrimes,
		Cost:    func(n int) float64 { return float64(n) }, // numbers sieved
		Scaling: 0.4,                                       // a batch still sieves to its largest number
	})
	s.risk, errs[riskKernel] = helix.Register(router, helix.Kind[riskQuery, float64]{
		Name:    riskKernel.String(),
		Run:     alone(s.market.valueAtRisk),
		Batch:   s.market.valueAtRisk,
		Cost:    func(q riskQuery) float64 { return float64(q.paths) * (drawSteps + valueSteps) }, // steps along paths
		Scaling: 0.9,                                                                              // drawing the paths is most of it, and is shared
	})
	return s, errors.Join(errs[:]...)
}

// alone makes a function for one item of one for many.
func alone[In, Out any](batch func(context.Context, []In) ([]Out, error)) func(context.Context, In) (Out, error) {
	return func(ctx context.Context, in In) (out Out, err error) {
		outs, err := batch(ctx, []In{in})
		if err != nil {
			return out, err
		}
		return outs[0], nil
	}
}

// compute runs a job without the router and returns its result as bits.
func (s *service) compute(ctx context.Context, j *job) (uint64, error) {
	switch j.kernel {
	case hashMixKernel:
		return hashMix(ctx, hashQuery{j.seed, int(j.size)})
	case primeCountKernel:
		n, err := alone(countPrimes)(ctx, int(j.size))
		return uint64(n), err
	default:
		v, err := alone(s.market.valueAtRisk)(ctx, newRiskQuery(j.seed, int(j.size)))
		return math.Float64bits(v), err
	}
}

// request has the router run a job and returns its result as bits.
func (s *service) request(ctx context.Context, j *job, arrived time.Time) (uint64, error) {
	hints := helix.Hints{Budget: j.budget, Arrived: arrived}
	switch j.kernel {
	case hashMixKernel:
		return s.hash.SubmitWith(ctx, hashQuery{j.seed, int(j.size)}, hints)
	case primeCountKernel:
		n, err := s.primes.SubmitWith(ctx, int(j.size), hints)
		return uint64(n), err
	default:
		v, err := s.risk.SubmitWith(ctx, newRiskQuery(j.seed, int(j.size)), hints)
		return math.Float64bits(v), err
	}
}

// digest is a checksum of results, and how many there are. It is the same for the same
// jobs in whichever order they end, however they were routed, if all complete. Its zero
// value is ready for use, by many goroutines.
type digest struct{ sum, count atomic.Uint64 }

// add takes in the result of a job, the n-th to arrive.
func (d *digest) add(n, value uint64) {
	d.sum.Add(mix64(mix64(n+1) ^ value))
	d.count.Add(1)
}

// send lets the jobs arrive, each at its time after start, until ctx is done,
// and returns once all that arrived have ended. It is an open loop: whatever
// becomes of a job, the next comes as planned, and its latency counts from the
// plan, so that a sender that runs late makes no figure look better. results,
// unless nil, gets those of the jobs that complete.
func (s *service) send(ctx context.Context, jobs iter.Seq[job], start time.Time, results *digest) {
	sendAll(ctx, jobs, start, s.slack, func(n uint64, j *job) {
		s.sent.Add(1)
		value, err := s.request(ctx, j, start.Add(j.at))
		switch {
		case err == nil:
			s.completed.Add(1)
			if results != nil {
				results.add(n, value)
			}
		case errors.Is(err, helix.ErrNotRun):
			s.notRun.Add(1)
		default:
			s.failed.Add(1)
		}
	})
}

// sendAll does each job, of which it is told the number, on a goroutine of its own, see
// service.send.
func sendAll(ctx context.Context, jobs iter.Seq[job], start time.Time, slack time.Duration, do func(n uint64, j *job)) {
	var requests sync.WaitGroup
	defer requests.Wait()
	n := uint64(0)
	for j := range jobs {
		if !waitUntil(ctx, start.Add(j.at), slack) {
			return
		}
		number := n
		n++
		requests.Go(func() { do(number, &j) })
	}
}

// waitUntil reports false if ctx was done before.
func waitUntil(ctx context.Context, at time.Time, slack time.Duration) bool {
	for {
		wait := time.Until(at)
		switch {
		case ctx.Err() != nil:
			return false
		case wait <= 0:
			return true
		case wait <= slack:
			runtime.Gosched()
		default:
			timer := time.NewTimer(wait - slack)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
			}
		}
	}
}

// calibrationTime is how long each kernel is measured, three times.
const calibrationTime = 10 * time.Millisecond

// calibrate measures the seconds a step of each kernel takes on one core that
// does nothing else; the best of three, since whatever disturbs makes it longer.
func (s *service) calibrate(ctx context.Context) (perStep [kernels]float64, err error) {
	for _, j := range []job{
		{kernel: hashMixKernel, size: 20_000},
		{kernel: primeCountKernel, size: 150_000},
		{kernel: riskKernel, size: 1_000},
	} {
		best := math.Inf(1)
		for range 3 {
			start, runs := time.Now(), 0
			for time.Since(start) < calibrationTime {
				if _, err := s.compute(ctx, &j); err != nil {
					return perStep, err
				}
				runs++
			}
			best = min(best, time.Since(start).Seconds()/(float64(runs)*j.steps()))
		}
		perStep[j.kernel] = best
	}
	return perStep, nil
}
