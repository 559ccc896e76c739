package main

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHashMixDependsOnSeedAndRounds(t *testing.T) {
	ctx := context.Background()
	seen := map[uint64]hashQuery{}
	for _, seed := range []uint64{0, 1, 2} {
		for _, rounds := range []int{0, 1, 2, yieldEvery, yieldEvery + 1, 3 * yieldEvery} {
			q := hashQuery{seed, rounds}
			got, err := hashMix(ctx, q)
			require.NoError(t, err)
			require.NotContains(t, seen, got, "%+v", q)
			seen[got] = q
			// The same in one piece: pauses must not change the result.
			x := mix64(seed)
			for range rounds {
				x = (x ^ x>>32) * 0xd6e8feb86659fd93
			}
			require.Equal(t, mix64(x), got, "%+v", q)
		}
	}
}

func TestCountPrimes(t *testing.T) {
	// OEIS A006880 and small cases; then the edges of a segment.
	known := map[int]int{
		-5: 0, 0: 0, 1: 0, 2: 1, 3: 2, 4: 2, 8: 4, 9: 4, 10: 4, 25: 9, 100: 25,
		1_000: 168, 10_000: 1_229, 100_000: 9_592, 1_000_000: 78_498, 2_000_000: 148_933,
	}
	const segment = 2 * 64 * sieveWords
	for n := segment - 3; n <= segment+3; n++ {
		known[n] = slowPrimeCount(n)
	}
	var limits []int
	for n := range known {
		limits = append(limits, n) // in no order
	}
	counts, err := countPrimes(context.Background(), limits)
	require.NoError(t, err)
	for i, n := range limits {
		require.Equal(t, known[n], counts[i], "primes up to %d", n)
		alone, err := countPrimes(context.Background(), []int{n})
		require.NoError(t, err)
		require.Equal(t, []int{known[n]}, alone, "primes up to %d, alone", n)
	}
}

// slowPrimeCount is the textbook sieve.
func slowPrimeCount(n int) int {
	composite := make([]bool, n+1)
	count := 0
	for i := 2; i <= n; i++ {
		if !composite[i] {
			count++
			for j := 2 * i; j <= n; j += i {
				composite[j] = true
			}
		}
	}
	return count
}

func TestValueAtRiskIsTheNormalQuantile(t *testing.T) {
	m := newMarket(1)
	const paths, quantile = 100_000, 2.3263478740408408 // of the standard normal distribution at 99 %
	for seed := range uint64(2) {
		q := newRiskQuery(seed, paths)
		variance := 0.0 // of the portfolio: |chol' exposure|²
		for j := range factors {
			v := 0.0
			for i := j; i < factors; i++ {
				v += m.chol[i][j] * q.exposure[i]
			}
			variance += v * v
		}
		want := quantile * math.Sqrt(variance)
		got, err := m.valueAtRisk(context.Background(), []riskQuery{q})
		require.NoError(t, err)
		// The standard error of a quantile q of a density f is √(q(1-q)/paths)/f:
		// here 0.5 % of the quantile, so this allows for four of it.
		require.InEpsilon(t, want, got[0], 0.02)
	}
}

func TestMarketCovariance(t *testing.T) {
	m := newMarket(1)
	for i := range factors {
		for j := range factors {
			cov := 0.0
			for k := range factors {
				cov += m.chol[i][k] * m.chol[j][k]
			}
			vols := (0.008 + 0.002*float64(i)) * (0.008 + 0.002*float64(j))
			require.InEpsilon(t, math.Pow(0.5, math.Abs(float64(i-j))), cov/vols, 1e-9)
		}
	}
}

func TestValueAtRiskOfABatchEqualsEachAlone(t *testing.T) {
	m := newMarket(7)
	var queries []riskQuery
	for i, paths := range []int{1, 64, 5_000, 63, 65, 128, 1_000, 5_000, 99, 100, 101} {
		queries = append(queries, newRiskQuery(uint64(i), paths))
	}
	together, err := m.valueAtRisk(context.Background(), queries)
	require.NoError(t, err)
	for i, q := range queries {
		alone, err := m.valueAtRisk(context.Background(), []riskQuery{q})
		require.NoError(t, err)
		require.Equal(t, alone[0], together[i], "%d paths", q.paths)
	}
	require.NotEqual(t, together[2], together[7], "two portfolios")
}

func TestTailKeepsTheQuantile(t *testing.T) {
	for _, n := range []int{1, 2, 99, 100, 101, 199, 200, 1_000} {
		tail := newTail(n)
		var all []float64
		for i := range n {
			loss := float64(mix64(uint64(i))%1_000) - 500
			all = append(all, loss)
			if len(tail.losses) < tail.keep || loss > tail.losses[0] {
				tail.add(loss)
			}
		}
		slices.Sort(all)
		require.Equal(t, all[int(math.Ceil(0.99*float64(n)))-1], tail.losses[0], "of %d", n)
	}
}

func TestKernelsStopWhenCancelled(t *testing.T) {
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	_, err := hashMix(ctx, hashQuery{1, math.MaxInt})
	require.ErrorIs(t, err, why)
	_, err = countPrimes(ctx, []int{1 << 30})
	require.ErrorIs(t, err, why)
	_, err = newMarket(1).valueAtRisk(ctx, []riskQuery{newRiskQuery(1, 1<<24)})
	require.ErrorIs(t, err, why)
}

func BenchmarkKernels(b *testing.B) {
	ctx := context.Background()
	m := newMarket(1)
	perStep := func(b *testing.B, steps int) {
		b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(steps), "ns/step")
	}
	b.Run("hash_mix", func(b *testing.B) {
		for b.Loop() {
			_, _ = hashMix(ctx, hashQuery{1, 50_000})
		}
		perStep(b, 50_000)
	})
	b.Run("prime_count", func(b *testing.B) {
		for b.Loop() {
			_, _ = countPrimes(ctx, []int{300_000})
		}
		perStep(b, 300_000)
	})
	for _, n := range []int{1, 8} {
		queries := slices.Repeat([]riskQuery{newRiskQuery(1, 2_000)}, n)
		b.Run(map[int]string{1: "risk_alone", 8: "risk_of_8"}[n], func(b *testing.B) {
			for b.Loop() {
				_, _ = m.valueAtRisk(ctx, queries)
			}
			perStep(b, 2_000*(drawSteps+n*valueSteps))
		})
	}
}
