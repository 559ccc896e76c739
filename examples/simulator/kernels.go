package main

import (
	"cmp"
	"context"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/helixrouter/helix"
)

// The three kernels. Each does real work whose result depends on all of it, is
// deterministic, gives way about every 100 µs and stops when ctx is done. Work
// is counted in steps, each of the order of a nanosecond.

// yieldEvery is how many steps a kernel works before it gives way.
const yieldEvery = 100_000

// pacer gives way now and then on behalf of a kernel.
type pacer struct {
	ctx   context.Context
	steps int
}

// did notes that many steps of work. Its error is why to stop.
func (p *pacer) did(steps int) error {
	if p.steps += steps; p.steps < yieldEvery {
		return nil
	}
	p.steps = 0
	helix.Yield(p.ctx)
	return context.Cause(p.ctx)
}

// mix64 spreads a number over all 64 bits (a step of splitmix64; Steele, Lea
// and Flood, "Fast splittable pseudorandom number generators", 2014).
func mix64(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// hashQuery asks for a seed hashed over and over.
type hashQuery struct {
	seed   uint64
	rounds int
}

// hashMix hashes the seed that many times, each round fed with the one before,
// so that no round can be left out. A round counts as one step.
func hashMix(ctx context.Context, q hashQuery) (uint64, error) {
	pace := pacer{ctx: ctx}
	x := mix64(q.seed)
	for left := q.rounds; left > 0; {
		n := min(left, yieldEvery)
		for range n {
			x = (x ^ x>>32) * 0xd6e8feb86659fd93
		}
		left -= n
		if err := pace.did(n); err != nil {
			return 0, err
		}
	}
	return mix64(x), nil
}

// sieveWords is the size of a sieve segment in words of 64 odd numbers: 8 KiB,
// a part of the first-level cache, and about 100 µs of work.
const sieveWords = 1 << 10

// countPrimes returns the number of primes up to each limit, with one sieve of
// Eratosthenes, in segments, up to the largest. A number sieved counts as one
// step, so the smaller limits are next to free.
func countPrimes(ctx context.Context, limits []int) ([]int, error) {
	counts := make([]int, len(limits))
	order := make([]int, 0, len(limits)) // limits that need sieving, smallest first
	for i, n := range limits {
		if n >= 2 {
			counts[i] = 1 // the one even prime
			order = append(order, i)
		}
	}
	if len(order) == 0 {
		return counts, nil
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(limits[a], limits[b]) })
	largest := limits[order[len(order)-1]]

	// Bit i stands for the odd number 2i+1 and is set if that is no prime.
	const span = sieveWords * 64
	primes := smallOddPrimes(int(math.Sqrt(float64(largest))) + 1)
	next := make([]int, len(primes)) // bit of each prime's next odd multiple
	for i, p := range primes {
		next[i] = (p*p - 1) / 2
	}
	var composite [sieveWords]uint64
	pace := pacer{ctx: ctx}
	sum := 0 // odd primes in the segments before
	for from := 0; len(order) > 0; from += span {
		clear(composite[:])
		if from == 0 {
			composite[0] = 1 // 1 is no prime
		}
		end := min(from+span, (largest+1)/2)
		for i, p := range primes {
			if p*p > 2*end {
				break
			}
			bit := next[i]
			for ; bit < end; bit += p {
				b := uint(bit - from)
				composite[b/64%sieveWords] |= 1 << (b % 64)
			}
			next[i] = bit
		}
		for len(order) > 0 && (limits[order[0]]-1)/2 < from+span {
			counts[order[0]] += sum + clearBits(composite[:], (limits[order[0]]-1)/2-from+1)
			order = order[1:]
		}
		sum += clearBits(composite[:], span)
		if err := pace.did(2 * (end - from)); err != nil {
			return nil, err
		}
	}
	return counts, nil
}

// smallOddPrimes lists the odd primes up to n, by trial division.
func smallOddPrimes(n int) []int {
	var primes []int
next:
	for c := 3; c <= n; c += 2 {
		for _, p := range primes {
			if p*p > c {
				break
			}
			if c%p == 0 {
				continue next
			}
		}
		primes = append(primes, c)
	}
	return primes
}

// clearBits counts those of the first n bits that are not set.
func clearBits(words []uint64, n int) int {
	set := 0
	for _, w := range words[:n/64] {
		set += bits.OnesCount64(w)
	}
	if rest := n % 64; rest > 0 {
		set += bits.OnesCount64(words[n/64] & (1<<uint(rest) - 1))
	}
	return n - set
}

// factors is the number of risk factors in the market (rates, currencies,
// indices).
const factors = 8

// The steps a simulated path costs: drawing it, once for all portfolios that
// share it, and valuing one portfolio along it.
const (
	drawSteps  = 64
	valueSteps = 8
)

// blockPaths is how many paths are drawn at a time: 4 KiB of returns.
const blockPaths = 64

// vector has one number for each risk factor.
type vector [factors]float64

// market says how the risk factors move from one day to the next: jointly
// normal, with a covariance given by its Cholesky factor.
type market struct {
	seed uint64
	chol [factors]vector // lower triangle
}

// newMarket makes a market of factors with volatilities from 0.8 to 2.2 % a
// day, of which neighbours are correlated by a half. Its paths follow from the
// seed alone.
func newMarket(seed uint64) *market {
	var cov [factors]vector
	for i := range cov {
		for j := range cov[i] {
			vol := (0.008 + 0.002*float64(i)) * (0.008 + 0.002*float64(j))
			cov[i][j] = vol * math.Pow(0.5, math.Abs(float64(i-j)))
		}
	}
	m := &market{seed: seed}
	for i := range factors {
		for j := 0; j <= i; j++ {
			v := cov[i][j]
			for k := range j {
				v -= m.chol[i][k] * m.chol[j][k]
			}
			if i == j {
				m.chol[i][i] = math.Sqrt(v)
			} else {
				m.chol[i][j] = v / m.chol[j][j]
			}
		}
	}
	return m
}

// draw simulates the next paths: one day's returns of all factors each.
func (m *market) draw(rng *rand.Rand, paths []vector) {
	for p := range paths {
		var z vector
		for i := range z {
			z[i] = rng.NormFloat64()
		}
		for i := range z {
			r := 0.0
			for j, c := range m.chol[i][:i+1] {
				r += c * z[j]
			}
			paths[p][i] = r
		}
	}
}

// riskQuery asks for a portfolio's value at risk, estimated from that many
// paths.
type riskQuery struct {
	exposure vector // money lost for each unit by which a factor falls
	paths    int    // at least 1
}

// newRiskQuery makes up a portfolio: between 1 short and 1 long of every
// factor.
func newRiskQuery(seed uint64, paths int) riskQuery {
	q := riskQuery{paths: paths}
	for i := range q.exposure {
		const unit = 1 << 53
		q.exposure[i] = 2*float64(mix64(mix64(seed)+uint64(i))>>11)/unit - 1
	}
	return q
}

// valueAtRisk returns each portfolio's one-day value at risk: the least loss
// that is not exceeded on 99 % of its paths. All portfolios are valued along
// the same paths, each along as many of them as it asks for, so a portfolio's
// result does not depend on what else is in the call. The paths are drawn anew
// by every call, as they must be where the market has moved since the last.
func (m *market) valueAtRisk(ctx context.Context, queries []riskQuery) ([]float64, error) {
	rng := rand.New(rand.NewPCG(m.seed, 0))
	order := make([]int, len(queries)) // most paths first
	tails := make([]tail, len(queries))
	for i, q := range queries {
		order[i] = i
		tails[i] = newTail(q.paths)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(queries[b].paths, queries[a].paths) })

	pace := pacer{ctx: ctx}
	var block [blockPaths]vector
	for done := 0; len(order) > 0; done += blockPaths {
		drawn := min(blockPaths, queries[order[0]].paths-done)
		m.draw(rng, block[:drawn])
		steps := drawSteps * drawn
		for _, i := range order {
			n := min(blockPaths, queries[i].paths-done)
			tails[i].addLosses(&queries[i].exposure, block[:n])
			steps += valueSteps * n
		}
		for len(order) > 0 && queries[order[len(order)-1]].paths <= done+blockPaths {
			order = order[:len(order)-1]
		}
		if err := pace.did(steps); err != nil {
			return nil, err
		}
	}
	risks := make([]float64, len(queries))
	for i := range tails {
		risks[i] = tails[i].losses[0]
	}
	return risks, nil
}

// tail keeps the largest losses, the least of them on top: a heap, because
// nearly every loss is below its top and costs one comparison.
type tail struct {
	losses []float64
	keep   int
}

// newTail makes a tail whose top will be the 99 % quantile of n losses.
func newTail(n int) tail {
	keep := n - (99*n+99)/100 + 1
	return tail{losses: make([]float64, 0, keep), keep: keep}
}

// addLosses values a portfolio along the paths.
func (t *tail) addLosses(exposure *vector, paths []vector) {
	for p := range paths {
		loss := 0.0
		for i, r := range paths[p] {
			loss -= exposure[i] * r
		}
		if len(t.losses) < t.keep || loss > t.losses[0] {
			t.add(loss)
		}
	}
}

func (t *tail) add(loss float64) {
	if len(t.losses) < t.keep {
		t.losses = append(t.losses, loss)
		for i := len(t.losses) - 1; i > 0; {
			parent := (i - 1) / 2
			if t.losses[parent] <= t.losses[i] {
				break
			}
			t.losses[parent], t.losses[i] = t.losses[i], t.losses[parent]
			i = parent
		}
		return
	}
	t.losses[0] = loss
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(t.losses); child++ {
			if t.losses[child] < t.losses[least] {
				least = child
			}
		}
		if least == i {
			return
		}
		t.losses[i], t.losses[least] = t.losses[least], t.losses[i]
		i = least
	}
}
