package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"runtime"
	"time"
)

// plan is a run. Its jobs are made as they arrive.
type plan struct {
	jobs     iter.Seq[job]
	count    int              // how many
	sampled  bool             // count, cpu and span are what is to be expected, not exact
	cpu      float64          // seconds, if each job runs alone
	span     float64          // seconds from the first arrival to the last
	perStep  [kernels]float64 // measured seconds; see service.calibrate
	capacity float64          // jobs of the mix a second, if -load asked for it
	rate     float64          // as asked for, or from capacity; 0 = all at once
}

const (
	meanJobs  = 10_000    // of the mix, from which its mean work is taken
	exactJobs = 1_000_000 // at most so many are made beforehand, to count them
)

// prepare says what arrives, unless that came from a trace, and measures what it asks
// for.
func (p *plan) prepare(ctx context.Context, o *options, svc *service) (err error) {
	if p.perStep, err = svc.calibrate(ctx); err != nil {
		return err
	}
	if p.jobs != nil {
		p.measure(p.jobs)
		return nil
	}
	a := o.arrivals
	if o.load > 0 {
		p.capacity = float64(runtime.GOMAXPROCS(0)) / p.meanWork(a.seed)
		a.rate = math.Ceil(o.load * p.capacity) // whole, so that it can be given to -rate
	}
	p.rate = a.rate
	if err := a.validate(); err != nil {
		return usageError{fmt.Errorf("%w: choose another -rate, -load, -jobs or -duration", err)}
	}
	p.jobs = a.all()
	if n := a.expected(); n > exactJobs {
		p.sampled, p.count, p.cpu, p.span = true, int(n), n*p.meanWork(a.seed), n/a.perSecond()
		return nil
	}
	if p.measure(p.jobs); p.count == 0 {
		return usageError{errors.New("no job arrives within -duration: choose a longer one or another -rate or -load")}
	}
	return nil
}

// measure counts jobs and adds up what they ask for.
func (p *plan) measure(jobs iter.Seq[job]) {
	for j := range jobs {
		p.count++
		p.cpu += p.work(&j)
		p.span = j.at.Seconds()
	}
}

// work is the CPU time of a job that runs alone, in seconds.
func (p *plan) work(j *job) float64 { return j.steps() * p.perStep[j.kernel] }

// meanWork is that of the mix, on average.
func (p *plan) meanWork(seed uint64) float64 {
	sum := 0.0
	for j := range (arrivals{seed: seed, jobs: meanJobs}).all() {
		sum += p.work(&j)
	}
	return sum / meanJobs
}

// about marks figures that are not exact.
func (p *plan) about() string {
	if p.sampled {
		return "about "
	}
	return ""
}

// print tells what will be run.
func (p *plan) print(w io.Writer, o *options) {
	about := p.about()
	policy := "policy " + o.policy
	if o.compare {
		policy = fmt.Sprintf("%d ways to run them", len(ways))
	}
	fmt.Fprintf(w, "HelixRouter simulator: %s%d jobs, seed %d, %s, %d slots\n",
		about, p.count, o.arrivals.seed, policy, o.router.CPUParallelism)
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
	fmt.Fprintf(w, "  work     %s%.4f s of CPU if each job runs alone", about, p.cpu)
	if p.span > 0 {
		cores := runtime.GOMAXPROCS(0)
		fmt.Fprintf(w, ", over %.4f s: an offered load of %.2f of %d cores", p.span, p.cpu/p.span/float64(cores), cores)
	}
	fmt.Fprintln(w)
}

// run has the service run all jobs, writes about it every second, and the
// summary at the end. When ctx is done it ends early.
func (p *plan) run(ctx context.Context, svc *service, w io.Writer) {
	var results digest
	start := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		svc.send(ctx, p.jobs, start, &results)
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-tick.C:
			printProgress(w, time.Since(start), fmt.Sprint(p.about(), p.count), svc.router.Stats())
		case <-done:
			running = false
		}
	}
	printSummary(w, time.Since(start), svc.router.Stats(), results.sum.Load(), results.count.Load())
}
