package main

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"time"
)

// kernel tells which of the three kernels a job runs.
type kernel uint8

const (
	hashMixKernel kernel = iota
	primeCountKernel
	riskKernel
	kernels // how many there are
)

// String returns the name of the kernel's kind.
func (k kernel) String() string {
	return [kernels]string{"hash_mix", "prime_count", "monte_carlo_risk"}[k]
}

// job is one arrival: what to compute, when, and how soon it must be done.
type job struct {
	at     time.Duration // scheduled arrival, from the start of the run
	budget time.Duration // from at; 0 = none
	seed   uint64        // of the data to work on
	size   int32         // rounds, largest number or paths
	kernel kernel
}

// maxJobs bounds what is kept in memory, 32 bytes a job: the requests of a trace.
const maxJobs = 4_000_000

// steps is the job's work if it runs alone, in steps of its kernel: what the
// router is told as its cost.
func (j *job) steps() float64 {
	if j.kernel == riskKernel {
		return float64(j.size) * (drawSteps + valueSteps)
	}
	return float64(j.size)
}

// class is one sort of job in the mix; sizes and budgets are drawn evenly from
// their ranges, ends included.
type class struct {
	share    int // of all jobs, in percent
	kernel   kernel
	size     [2]int
	budgetMs [2]int
}

// mix is the mix of the burst: mostly tiny jobs beside some that are a
// hundred times larger. 200 of it are about 10 ms of CPU.
var mix = [...]class{
	{52, hashMixKernel, [2]int{500, 6_000}, [2]int{5, 20}},
	{28, hashMixKernel, [2]int{9_000, 40_000}, [2]int{10, 40}},
	{10, primeCountKernel, [2]int{61_000, 240_000}, [2]int{20, 80}},
	{10, riskKernel, [2]int{500, 2_000}, [2]int{20, 80}},
}

// The bursts of -bursts: in the last part of every second the rate is many
// times what it is else.
const (
	quietRate = 0.6 // times the rate asked for
	burstRate = 8   // likewise
	burstLen  = 0.2 // seconds
	quietLen  = 1 - burstLen
	burstMean = quietLen*quietRate + burstLen*burstRate // times the rate asked for, all in all
)

// arrivals is how jobs are spread over time: rate a second, by a Poisson
// process, or all at once if rate is 0.
type arrivals struct {
	seed     uint64
	rate     float64       // jobs a second; with bursts, what they are multiples of
	bursts   bool          // see quietRate
	jobs     int           // stop after that many; 0 = none
	duration time.Duration // stop after that time; 0 = none
}

// validate reports arrivals that do not end within maxSpan.
func (a arrivals) validate() error {
	if a.duration == 0 && a.rate > 0 && a.expected() > a.perSecond()*maxSpan.Seconds() {
		return fmt.Errorf("the run would last longer than %v", maxSpan)
	}
	return nil
}

// perSecond is the mean rate, bursts and all.
func (a arrivals) perSecond() float64 {
	if a.bursts {
		return a.rate * burstMean
	}
	return a.rate
}

// expected is how many jobs there will be, on average.
func (a arrivals) expected() float64 {
	n := math.Inf(1)
	if a.jobs > 0 {
		n = float64(a.jobs)
	}
	if a.duration > 0 {
		n = min(n, a.perSecond()*a.duration.Seconds())
	}
	return n
}

// all makes the jobs one after the other, as they are asked for, so that a run may last
// for hours. The same arrivals give the same jobs always, and another rate changes
// nothing but the pace: the jobs stay what they are and so do the gaps between them, in
// units of their mean.
func (a arrivals) all() iter.Seq[job] {
	return func(yield func(job) bool) {
		// Two streams, so that what arrives does not depend on when.
		what := rand.New(rand.NewPCG(a.seed, 1))
		when := rand.New(rand.NewPCG(a.seed, 2))
		due := 0.0 // expected number of arrivals so far, were the rate steady
		for n := 0; a.jobs == 0 || n < a.jobs; n++ {
			at := time.Duration(0)
			if a.rate > 0 {
				due += when.ExpFloat64()
				seconds := due / a.rate
				if a.bursts {
					seconds = burstTime(seconds)
				}
				if seconds > maxSpan.Seconds() || a.duration > 0 && seconds > a.duration.Seconds() {
					return
				}
				at = time.Duration(seconds * float64(time.Second))
			}
			j := draw(what)
			j.at = at
			if !yield(j) {
				return
			}
		}
	}
}

// maxSpan is the longest that a run may take.
const maxSpan = 30 * 24 * time.Hour

// burstTime says when as much has arrived, with bursts, as has without them
// after that many seconds.
func burstTime(steady float64) float64 {
	whole := float64(int64(steady / burstMean))
	rest := steady - whole*burstMean
	if rest < quietLen*quietRate {
		return whole + rest/quietRate
	}
	return whole + quietLen + (rest-quietLen*quietRate)/burstRate
}

// draw makes up the next job of the mix.
func draw(rng *rand.Rand) job {
	pick := rng.IntN(100)
	c := mix[0]
	for _, c = range mix {
		if pick -= c.share; pick < 0 {
			break
		}
	}
	between := func(r [2]int) int { return r[0] + rng.IntN(r[1]-r[0]+1) }
	return job{
		kernel: c.kernel,
		size:   int32(between(c.size)),
		budget: time.Duration(between(c.budgetMs)) * time.Millisecond,
		seed:   rng.Uint64(),
	}
}
