package main

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSameSeedSameJobs(t *testing.T) {
	for name, a := range map[string]arrivals{
		"at once": {seed: 7, jobs: 500},
		"poisson": {seed: 7, jobs: 500, rate: 1_000},
		"bursts":  {seed: 7, rate: 1_000, bursts: true, duration: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			first := slices.Collect(a.all())
			again := slices.Collect(a.all())
			require.Equal(t, first, again)

			a.seed++
			other := slices.Collect(a.all())
			require.NotEqual(t, first[0].seed, other[0].seed)
			if a.rate > 0 {
				require.NotEqual(t, first[0].at, other[0].at)
			}
		})
	}
}

// TestDemonstrationStaysTheSame fails when a change makes other jobs of the
// same seed: figures published for a seed could then not be repeated.
func TestDemonstrationStaysTheSame(t *testing.T) {
	jobs := slices.Collect(arrivals{seed: 7, jobs: defaultJobs}.all())
	digest := fnv.New64a()
	for _, j := range jobs {
		require.NoError(t, binary.Write(digest, binary.LittleEndian,
			[]uint64{uint64(j.at), uint64(j.budget), j.seed, uint64(j.size), uint64(j.kernel)}))
	}
	require.Equal(t, uint64(0x428b28d5d69c5d5d), digest.Sum64())
}

func TestTheRateChangesOnlyThePace(t *testing.T) {
	slow := slices.Collect(arrivals{seed: 3, jobs: 1_000, rate: 100}.all())
	fast := slices.Collect(arrivals{seed: 3, jobs: 1_000, rate: 200}.all())
	once := slices.Collect(arrivals{seed: 3, jobs: 1_000}.all())
	for i := range slow {
		require.InDelta(t, slow[i].at, 2*fast[i].at, 4) // ns, rounded twice
		slow[i].at, fast[i].at = 0, 0
	}
	require.Equal(t, once, slow)
	require.Equal(t, once, fast)
}

func TestArrivalsArePoisson(t *testing.T) {
	jobs := slices.Collect(arrivals{seed: 1, jobs: 20_000, rate: 1_000}.all())
	sum, squares, last := 0.0, 0.0, time.Duration(0)
	for _, j := range jobs {
		require.GreaterOrEqual(t, j.at, last)
		gap := (j.at - last).Seconds()
		sum, squares, last = sum+gap, squares+gap*gap, j.at
	}
	n := float64(len(jobs))
	mean := sum / n
	require.InEpsilon(t, 1e-3, mean, 0.03)
	require.InEpsilon(t, 1, math.Sqrt(squares/n-mean*mean)/mean, 0.05, "the gaps of a Poisson process vary as much as their mean")
}

func TestBursts(t *testing.T) {
	jobs := slices.Collect(arrivals{seed: 1, rate: 10_000, bursts: true, duration: 4 * time.Second}.all())
	quiet, burst := 0, 0
	for _, j := range jobs {
		if j.at%time.Second < 800*time.Millisecond {
			quiet++
		} else {
			burst++
		}
	}
	require.InEpsilon(t, 4*0.8*0.6*10_000, quiet, 0.05)
	require.InEpsilon(t, 4*0.2*8*10_000, burst, 0.05)
}

func TestScheduleLimits(t *testing.T) {
	jobs := slices.Collect(arrivals{seed: 1, rate: 1_000, duration: time.Second}.all())
	require.InDelta(t, 1_000, len(jobs), 150)
	require.LessOrEqual(t, jobs[len(jobs)-1].at, time.Second)

	jobs = slices.Collect(arrivals{seed: 1, rate: 1_000, duration: time.Second, jobs: 10}.all())
	require.Len(t, jobs, 10)

	require.ErrorContains(t, arrivals{seed: 1, rate: 1e-6, jobs: 100}.validate(), "longer than")
	require.NoError(t, arrivals{seed: 1, rate: 1e-6, jobs: 100, duration: time.Hour}.validate())
}

func TestMix(t *testing.T) {
	share := 0
	for _, c := range mix {
		share += c.share
	}
	require.Equal(t, 100, share)

	jobs := slices.Collect(arrivals{seed: 7, jobs: 10_000}.all())
	byKernel := [kernels]int{}
	tiny := 0
	for _, j := range jobs {
		byKernel[j.kernel]++
		require.GreaterOrEqual(t, j.budget, 5*time.Millisecond)
		require.LessOrEqual(t, j.budget, 80*time.Millisecond)
		if j.steps() <= 8_000 { // runs inline by the default threshold
			tiny++
		}
	}
	require.InDelta(t, 8_000, byKernel[hashMixKernel], 200)
	require.InDelta(t, 1_000, byKernel[primeCountKernel], 150)
	require.InDelta(t, 1_000, byKernel[riskKernel], 150)
	require.Greater(t, tiny, 5_000, "most jobs are tiny")

	// The demonstration is to fit two cores easily: at 2 ns a step, slower than
	// any machine of the last ten years, 200 jobs are below 25 ms of CPU.
	steps := [kernels]float64{2e-9, 2e-9, 2e-9}
	p := plan{perStep: steps}
	p.measure(slices.Values(jobs))
	require.Less(t, p.cpu/float64(p.count)*defaultJobs, 25e-3)
}

// TestLongRunsAreMadeAsTheyArrive plans days of jobs, billions, and takes a few.
func TestLongRunsAreMadeAsTheyArrive(t *testing.T) {
	a := arrivals{seed: 7, rate: 50_000, duration: 100 * time.Hour}
	require.NoError(t, a.validate())
	first := slices.Collect(arrivals{seed: 7, rate: 50_000, jobs: 1_000}.all())
	n := 0
	for j := range a.all() {
		require.Equal(t, first[n], j)
		if n++; n == len(first) {
			break
		}
	}
	require.Equal(t, 1_000, n)
	require.InEpsilon(t, 1.8e10, a.expected(), 1e-9)
	a.bursts = true
	require.InEpsilon(t, 1.8e10*2.08, a.expected(), 1e-9)
	a.jobs = 5
	require.EqualValues(t, 5, a.expected())
}
