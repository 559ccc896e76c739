package helix

import (
	"iter"
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/shard"
)

// Indexes of the two buckets at the ends of a histogram, see [Bucket].
const (
	UnderflowBucket = -640 // up to 2^-20 s, that is 953 ns
	OverflowBucket  = 321  // above 2^10 s = 1024 s
)

const (
	octaveParts  = 32         // buckets an octave: Prometheus' schema 5
	octaveLowest = -20        // the octave that begins at 2^-20 s
	places       = 962        // 30 octaves of buckets, underflow before them, overflow after
	mostShards   = 16         // of a histogram: 122 KiB
	underflowMax = 953        // ns; 2^-20 s lies between this and the next
	overflowMin  = 1024e9 + 1 // ns
)

// octaveBounds are 2^(j/32), the bounds within an octave, digit for digit
// twice those of client_golang's nativeHistogramBounds: math.Exp2 differs in
// the last bit and on other processors might again.
var octaveBounds = [octaveParts + 1]float64{
	1, 1.0218971486541166, 1.0442737824274138, 1.0671404006768235,
	1.0905077326652577, 1.1143867425958924, 1.1387886347566916, 1.1637248587775775,
	1.189207115002721, 1.2152473599804687, 1.241857812073484, 1.2690509571917332,
	1.2968395546510096, 1.325236643159741, 1.3542555469368927, 1.3839098819638318,
	1.414213562373095, 1.4451808069770464, 1.4768261459394991, 1.5091644275934224,
	1.5422108254079407, 1.5759808451078863, 1.610490331949254, 1.6457554781539645,
	1.6817928305074288, 1.7186192981224775, 1.756252160373299, 1.7947090750031065,
	1.8340080864093422, 1.8741676341102995, 1.915206561397147, 1.9571441241753997,
	2,
}

// octaveGuess[c] is the number of octaveBounds below 1 + c/64. The narrowest
// bucket of an octave is 0.0219 wide, more than 1/64, so at most one more bound
// lies before 1 + (c+1)/64: one comparison corrects the guess.
var octaveGuess = [64]uint8{
	0, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 8, 8, 9, 10, 10,
	11, 11, 12, 13, 13, 14, 14, 15, 15, 16, 16, 17, 17, 18, 18, 19,
	19, 20, 20, 21, 21, 22, 22, 22, 23, 23, 24, 24, 25, 25, 26, 26,
	26, 27, 27, 28, 28, 28, 29, 29, 30, 30, 30, 31, 31, 31, 32, 32,
}

// Histogram counts latencies in exponential buckets, 32 an octave from 1 µs to
// 1000 s, so that a quantile is within 1.1 % of the value it stands for.
//
// The buckets are those of a Prometheus native histogram of schema 5 (see
// https://prometheus.io/docs/specs/native_histograms/), which are those of
// DDSketch (Masson, Rim, Lee, VLDB 2019) with γ = 2^(1/32): bucket i holds the
// values v in seconds with 2^((i-1)/32) < v <= 2^(i/32). Counts only grow; for
// the latencies of a period subtract snapshots, see [Snapshot.Sub] and [Windows].
//
// The zero value is an empty histogram, ready for use, and must not be copied
// after the first Record. It is safe for concurrent use, takes no lock and
// allocates nothing after the first Record: one Record costs about 15 ns, by one
// caller or by many at once (a third of client_golang's native histogram).
//
// It takes 7.6 KiB a shard, and has twice as many shards as GOMAXPROCS at the
// first Record, rounded up to a power of two, at most 16: 31 KiB on two cores,
// 122 KiB on eight and more, and 8 B before the first Record.
type Histogram struct {
	// Written once, by the first Record or Merge; publishes a slice that never
	// changes, of a power of two of shards. That it is built lazily costs about
	// 1 ns a Record, so there is no constructor.
	shards atomic.Pointer[[]histogramShard]
}

// histogramShard is a whole histogram that some of the records go to, so that
// cores rarely write the same cache line at the same time. Every record writes
// the sum, so it has a line of its own. It buys an exact mean and an exact _sum (decision 4).
type histogramShard struct {
	sum    atomic.Uint64 // ns
	used   atomic.Uint64 // bit i: some of counts[i*stretch:][:stretch] may not be 0; spares a reader the rest
	_      [48]byte
	counts [places]atomic.Uint64 // there is no count of all that could disagree
	_      [48]byte              // 61 pairs of lines, as the processor prefetches them
}

// Record counts d. A negative d counts as 0.
func (h *Histogram) Record(d time.Duration) { h.recordAt(shard.Hint(), d) }

// recordAt is Record for callers with a hint for the shard that is cheaper than
// a random number, and better if it stays with the processor. Any hint will do.
func (h *Histogram) recordAt(hint uint32, d time.Duration) {
	h.countAt(hint, d).add(uint64(max(d, 0)))
}

// countAt is recordAt but for the sum, to which the caller adds, or which it keeps itself.
func (h *Histogram) countAt(hint uint32, d time.Duration) *histogramShard {
	shards := h.shards.Load()
	if shards == nil {
		shards = h.build()
	}
	s := &(*shards)[hint&uint32(len(*shards)-1)]
	s.count(placeOf(max(d, 0)), 1)
	return s
}

// stretch is how many buckets share a bit of histogramShard.used: half an octave, two cache lines.
const stretch = 16

func (s *histogramShard) count(place int, n uint64) {
	s.counts[place].Add(n)
	if bit := uint64(1) << (uint(place) / stretch % 64); s.used.Load()&bit == 0 {
		s.used.Or(bit)
	}
}

// add adds to the sum, which stops instead of wrapping around: a sum must never fall.
func (s *histogramShard) add(sum uint64) {
	if s.sum.Add(sum) < sum {
		s.sum.Store(math.MaxUint64)
	}
}

// addSums returns the sum of two sums, which stops likewise.
func addSums(a, b uint64) uint64 {
	if a+b < a {
		return math.MaxUint64
	}
	return a + b
}

// build makes the shards. Of several callers one wins, and all return its shards.
func (h *Histogram) build() *[]histogramShard {
	n := 1
	for n < 2*runtime.GOMAXPROCS(0) && n < mostShards {
		n *= 2
	}
	shards := make([]histogramShard, n)
	h.shards.CompareAndSwap(nil, &shards)
	return h.shards.Load()
}

// Merge adds all that other has counted; other does not change. It costs as
// much as a snapshot of other.
func (h *Histogram) Merge(other *Histogram) {
	from := other.Snapshot()
	if from.count == 0 {
		return
	}
	shards := h.shards.Load()
	if shards == nil {
		shards = h.build()
	}
	s := &(*shards)[0]
	for i, n := range from.counts {
		if n > 0 {
			s.count(from.first+i, n)
		}
	}
	s.add(from.sum)
}

// Snapshot returns what has been counted so far. It costs 1 µs a shard, less
// where latencies are alike, and one allocation. Records that are under way may be missing, or be in the sum
// and not yet in the buckets, or the reverse.
func (h *Histogram) Snapshot() Snapshot {
	var all placeCounts
	return all.snapshot(all.count(h))
}

// Count returns that figure of a new [Snapshot]; to read several take one.
func (h *Histogram) Count() uint64 { return h.Snapshot().Count() }

// Mean returns that figure of a new [Snapshot]; to read several take one.
func (h *Histogram) Mean() time.Duration { return h.Snapshot().Mean() }

// Quantile returns that figure of a new [Snapshot]; to read several take one.
func (h *Histogram) Quantile(q float64) time.Duration { return h.Snapshot().Quantile(q) }

// Buckets are those of a new [Snapshot], taken by this call.
func (h *Histogram) Buckets() iter.Seq2[Bucket, uint64] { return h.Snapshot().Buckets() }

// placeOf returns the place of d's bucket. The octave is the exponent of d in
// seconds as a floating-point number, the bucket within it comes from the top
// six bits of the mantissa and one comparison, made without a branch that the
// processor would mispredict for every other latency.
//
// The product differs from d.Seconds() in the last bit now and then. That never
// changes the bucket: the tests try both sides of every bound.
func placeOf(d time.Duration) int {
	if d <= underflowMax {
		return 0
	}
	if d >= overflowMin {
		return places - 1
	}
	const mantissa, one = 1<<52 - 1, 1023 << 52
	float := math.Float64bits(float64(d) * 1e-9)
	fraction := float&mantissa | one // of 1 <= x < 2
	part := int(octaveGuess[fraction>>46&63])
	part += int((math.Float64bits(octaveBounds[part]) - fraction) >> 63) // 1 if the bound is below
	return (int(float>>52)-1023-octaveLowest)*octaveParts + part
}

// upperOf returns the upper bound of a place in seconds.
func upperOf(place int) float64 {
	if place == places-1 {
		return math.Inf(1)
	}
	return math.Ldexp(octaveBounds[place%octaveParts], place/octaveParts+octaveLowest)
}

// middleOf returns the duration that stands for all in a place: the harmonic
// mean of the smallest and the largest of them, because its relative error is the
// same at both ends and so the least at worst, (γ-1)/(γ+1) = 1.08 %. (The
// geometric mean errs by 1.09 %.) Near 1 µs, where a bucket is 22 ns wide, rounding
// adds up to half a nanosecond: 1.105 % for 1086 ns, under 1.1 % for all others.
func middleOf(place int) time.Duration {
	upper := upperOf(place)
	switch place {
	case 0:
		return time.Duration(math.Round(upper / 2 * 1e9))
	case places - 1:
		return overflowMin - 1
	}
	smallest := math.Floor(upperOf(place-1)*1e9) + 1
	largest := math.Floor(upper * 1e9)
	return time.Duration(math.Round(2 * smallest * largest / (smallest + largest)))
}
