package main

import (
	"encoding/binary"
	"hash/fnv"
	"math"
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
			first, err := a.schedule()
			require.NoError(t, err)
			again, err := a.schedule()
			require.NoError(t, err)
			require.Equal(t, first, again)

			a.seed++
			other, err := a.schedule()
			require.NoError(t, err)
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
	jobs, err := arrivals{seed: 7, jobs: defaultJobs}.schedule()
	require.NoError(t, err)
	digest := fnv.New64a()
	for _, j := range jobs {
		require.NoError(t, binary.Write(digest, binary.LittleEndian,
			[]uint64{uint64(j.at), uint64(j.budget), j.seed, uint64(j.size), uint64(j.kernel)}))
	}
	require.Equal(t, uint64(0x428b28d5d69c5d5d), digest.Sum64())
}

func TestTheRateChangesOnlyThePace(t *testing.T) {
	slow, err := arrivals{seed: 3, jobs: 1_000, rate: 100}.schedule()
	require.NoError(t, err)
	fast, err := arrivals{seed: 3, jobs: 1_000, rate: 200}.schedule()
	require.NoError(t, err)
	once, err := arrivals{seed: 3, jobs: 1_000}.schedule()
	require.NoError(t, err)
	for i := range slow {
		require.InDelta(t, slow[i].at, 2*fast[i].at, 4) // ns, rounded twice
		slow[i].at, fast[i].at = 0, 0
	}
	require.Equal(t, once, slow)
	require.Equal(t, once, fast)
}

func TestArrivalsArePoisson(t *testing.T) {
	jobs, err := arrivals{seed: 1, jobs: 20_000, rate: 1_000}.schedule()
	require.NoError(t, err)
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
	jobs, err := arrivals{seed: 1, rate: 10_000, bursts: true, duration: 4 * time.Second}.schedule()
	require.NoError(t, err)
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
	jobs, err := arrivals{seed: 1, rate: 1_000, duration: time.Second}.schedule()
	require.NoError(t, err)
	require.InDelta(t, 1_000, len(jobs), 150)
	require.LessOrEqual(t, jobs[len(jobs)-1].at, time.Second)

	jobs, err = arrivals{seed: 1, rate: 1_000, duration: time.Second, jobs: 10}.schedule()
	require.NoError(t, err)
	require.Len(t, jobs, 10)

	_, err = arrivals{seed: 1, rate: 1e-6, jobs: 100}.schedule()
	require.ErrorContains(t, err, "longer than")
}

func TestMix(t *testing.T) {
	share := 0
	for _, c := range mix {
		share += c.share
	}
	require.Equal(t, 100, share)

	jobs, err := arrivals{seed: 7, jobs: 10_000}.schedule()
	require.NoError(t, err)
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
	require.Less(t, work(jobs, steps)/float64(len(jobs))*defaultJobs, 25e-3)
}
