package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"time"
)

// plan is a run, made before it starts.
type plan struct {
	jobs     []job
	perStep  [kernels]float64 // measured seconds; see service.calibrate
	capacity float64          // jobs of the mix a second, if -load asked for it
	rate     float64          // as asked for, or from capacity; 0 = all at once
}

// meanJobs is how many jobs of the mix its mean work is taken from.
const meanJobs = 10_000

// prepare makes the jobs, unless they came from a trace, and measures what they
// ask for.
func (p *plan) prepare(ctx context.Context, o *options, svc *service) (err error) {
	if p.perStep, err = svc.calibrate(ctx); err != nil {
		return err
	}
	if p.jobs != nil {
		return nil
	}
	a := o.arrivals
	if o.load > 0 {
		sample, err := arrivals{seed: a.seed, jobs: meanJobs}.schedule()
		if err != nil {
			return err
		}
		p.capacity = float64(runtime.GOMAXPROCS(0)) * meanJobs / work(sample, p.perStep)
		a.rate = math.Ceil(o.load * p.capacity) // whole, so that it can be given to -rate
	}
	p.rate = a.rate
	if p.jobs, err = a.schedule(); err != nil {
		return usageError{fmt.Errorf("%w: choose another -rate, -load, -jobs or -duration", err)}
	}
	if len(p.jobs) == 0 {
		return usageError{errors.New("no job arrives within -duration: choose a longer one or another -rate or -load")}
	}
	return nil
}

// print tells what will be run.
func (p *plan) print(w io.Writer, o *options) {
	cpu, span := work(p.jobs, p.perStep), p.jobs[len(p.jobs)-1].at.Seconds()
	fmt.Fprintf(w, "HelixRouter simulator: %d jobs, seed %d, policy %s, %d slots\n",
		len(p.jobs), o.arrivals.seed, o.policy, o.router.CPUParallelism)
	switch {
	case o.trace != "":
		fmt.Fprintf(w, "  trace    %s, %g times as fast, budget %v\n", o.trace, o.traceSpec.speed, o.traceSpec.budget)
	case p.rate == 0:
		fmt.Fprintf(w, "  arrivals all at once\n")
	default:
		bursts := ""
		if o.arrivals.bursts {
			bursts = fmt.Sprintf(" x %g, in bursts x %d", quietRate, burstRate)
		}
		fmt.Fprintf(w, "  arrivals Poisson, %g a second%s", p.rate, bursts)
		if o.load > 0 {
			fmt.Fprintf(w, " (-load %g: capacity measured as %.0f a second; -rate %.0f repeats this run)", o.load, p.capacity, p.rate)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "  work     %.4f s of CPU if each job runs alone", cpu)
	if span > 0 {
		cores := runtime.GOMAXPROCS(0)
		fmt.Fprintf(w, ", over %.4f s: an offered load of %.2f of %d cores", span, cpu/span/float64(cores), cores)
	}
	fmt.Fprintln(w)
}

// run has the service run all jobs, writes about it every second, and the
// summary at the end. When ctx is done it ends early.
func (p *plan) run(ctx context.Context, svc *service, w io.Writer) {
	results := make([]result, len(p.jobs))
	start := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		svc.send(ctx, p.jobs, start, results)
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-tick.C:
			printProgress(w, time.Since(start), len(p.jobs), svc.router.Stats())
		case <-done:
			running = false
		}
	}
	sum, count := checksum(results)
	printSummary(w, time.Since(start), svc.router.Stats(), sum, count)
}
