package helix

import (
	"iter"
	"math"
	"math/bits"
	"slices"
	"time"
)

// Snapshot is the content of a [Histogram] at one moment, or of a period or of
// several histograms. It is a plain value that never changes, safe for
// concurrent use; the zero value is empty. It takes 8 B for each bucket from the
// lowest that is not empty to the highest: at most 7.7 KB, 2.6 KB for 10 µs to 10 ms.
type Snapshot struct {
	first  int      // place of counts[0]
	counts []uint64 // shared by copies, never written; neither end is 0
	count  uint64   // the sum of counts
	sum    uint64   // ns
}

// Bucket is one bucket of a histogram.
type Bucket struct {
	// Index is the bucket's number in Prometheus' schema 5: it holds values
	// above 2^((Index-1)/32) s and up to 2^(Index/32) s. [UnderflowBucket] holds
	// everything from 0 up to its bound, so it is the zero bucket of a native
	// histogram whose zero threshold is Upper. [OverflowBucket] holds everything
	// above 1024 s, so a native histogram that takes it as it stands shows such
	// values as 1024 to 1046 s.
	Index int
	// Upper is the largest value the bucket holds, in seconds: 2^(Index/32), and
	// +Inf for the overflow bucket.
	Upper float64
}

// Count returns the number of values, which is the sum of all buckets.
func (s Snapshot) Count() uint64 { return s.count }

// Sum returns the exact sum of all values. It stops at the longest Duration, 292
// years, and begins again at 0 after 584 years, which 1000 jobs always in flight
// reach in seven months.
func (s Snapshot) Sum() time.Duration { return time.Duration(min(s.sum, math.MaxInt64)) }

// Mean returns the exact mean, rounded down to the nanosecond; 0 if there are no
// values.
func (s Snapshot) Mean() time.Duration {
	if s.count == 0 {
		return 0
	}
	return time.Duration(s.sum / s.count)
}

// Quantile returns the value that the share q of all values does not exceed:
// the ceil(q·Count)-th smallest, the smallest for q = 0, the largest for q = 1;
// 0 if there are no values. A q outside 0..1 counts as the nearer end, NaN as 0.
// It costs under 1 µs and allocates nothing.
//
// From 1 µs to 1000 s the result, in whole nanoseconds, is within 1.1 % of the
// value. In the underflow bucket it is the middle, 477 ns, in the overflow bucket
// the lower bound, 1024 s.
func (s Snapshot) Quantile(q float64) time.Duration {
	if s.count == 0 {
		return 0
	}
	rank := uint64(1)
	if q > 0 {
		rank = uint64(max(math.Ceil(min(q, 1)*float64(s.count)), 1))
		rank = min(rank, s.count) // a count above 2^53 may have been rounded up
	}
	i := 0
	for ; s.counts[i] < rank; i++ {
		rank -= s.counts[i]
	}
	return middleOf(s.first + i)
}

// CountAtMost returns the number of values in buckets that end at or below d, as a
// classic Prometheus bucket le=d wants it. It leaves out the bucket that d lies
// inside, so it may miss values less than 2.2 % below d. Where d is a power of
// two of a second (1.953125 ms, 125 ms) it is exact. It costs as much as Quantile.
func (s Snapshot) CountAtMost(d time.Duration) uint64 {
	end := placeOf(d)
	if upperOf(end) <= d.Seconds() {
		end++
	}
	var n uint64
	for _, c := range s.counts[:min(max(end-s.first, 0), len(s.counts))] {
		n += c
	}
	return n
}

// Buckets returns the buckets that are not empty in ascending order, with the
// number of values in each (not cumulative).
func (s Snapshot) Buckets() iter.Seq2[Bucket, uint64] {
	return func(yield func(Bucket, uint64) bool) {
		for i, n := range s.counts {
			p := s.first + i
			if n > 0 && !yield(Bucket{Index: UnderflowBucket + p, Upper: upperOf(p)}, n) {
				return
			}
		}
	}
}

// Merge returns a snapshot of the values of both. It costs about 3 µs and one
// allocation.
func (s Snapshot) Merge(other Snapshot) Snapshot {
	var all placeCounts
	all.add(s)
	all.add(other)
	return all.snapshot(addSums(s.sum, other.sum))
}

// Sub returns a snapshot of what was counted between earlier and s, both of the
// same histogram. Where earlier has more than s the result has 0, never a
// huge number. It costs about 3 µs and one allocation.
func (s Snapshot) Sub(earlier Snapshot) Snapshot {
	var all placeCounts
	all.add(s)
	all.sub(earlier)
	return all.snapshot(s.sum - min(earlier.sum, s.sum))
}

// placeCounts is a count for each place. The place of a bucket is its index counted
// from the underflow bucket.
type placeCounts [places]uint64

func (t *placeCounts) add(s Snapshot) {
	to := t[s.first:]
	for i, n := range s.counts {
		to[i] += n
	}
}

// count adds all that h has counted, and returns its sum.
func (t *placeCounts) count(h *Histogram) (sum uint64) {
	shards := h.shards.Load()
	if shards == nil {
		return 0
	}
	for i := range *shards {
		s := &(*shards)[i]
		sum = addSums(sum, s.sum.Load())
		for used := s.used.Load(); used != 0; used &= used - 1 {
			at := bits.TrailingZeros64(used) * stretch
			for p := at; p < min(at+stretch, places); p++ {
				t[p] += s.counts[p].Load()
			}
		}
	}
	return sum
}

// sub subtracts, and stops at 0.
func (t *placeCounts) sub(s Snapshot) {
	from := t[s.first:]
	for i, n := range s.counts {
		from[i] -= min(n, from[i])
	}
}

// snapshot copies the part of t that is not empty. Without values there is no
// sum either.
func (t *placeCounts) snapshot(sum uint64) Snapshot {
	first, end := 0, places
	for first < end && t[first] == 0 {
		first++
	}
	for first < end && t[end-1] == 0 {
		end--
	}
	if first == end {
		return Snapshot{}
	}
	var count uint64
	for _, n := range t[first:end] {
		count += n
	}
	return Snapshot{first: first, counts: slices.Clone(t[first:end]), count: count, sum: sum}
}
