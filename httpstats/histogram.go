package httpstats

import (
	"math"
	"slices"

	dto "github.com/prometheus/client_model/go"

	"github.com/helixrouter/helix"
)

// nativeSchema is the resolution of native histograms that the router's own
// buckets have. They keep their indexes; the lowest is the zero bucket.
const nativeSchema = 5

// nativeZero is the lower bound of the native buckets, in seconds: 2^-20, 954 ns.
var nativeZero = math.Exp2(helix.UnderflowBucket / 32)

// classicBounds are in seconds. The router's buckets are much narrower but have no edges
// there, so a bucket with a bound inside counts above it: the bounds are exact to 2.2 %.
var classicBounds = [...]float64{
	10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6,
	1e-3, 2.5e-3, 5e-3, 10e-3, 20e-3, 40e-3, 80e-3, 160e-3, 320e-3, 640e-3,
	1.25, 2.5, 5, 10, 30, 60,
}

// readDurations adds one histogram for every strategy that can run jobs.
func readDurations(s *source, m *series) {
	for _, l := range s.LatencyByStrategy {
		if l.Strategy != helix.Drop {
			m.addHistogram(s.router.Latency(l.Strategy), pair("strategy", l.Strategy))
		}
	}
}

// readKindDurations adds one histogram for every kind.
func readKindDurations(s *source, m *series) {
	m.metrics = slices.Grow(m.metrics, len(s.Kinds))
	for i := range s.Kinds {
		m.addHistogram(s.router.KindLatency(s.Kinds[i].Name), s.kind(i)...)
	}
}

// histogram is a metric with everything that it points to except its native buckets, in one
// allocation.
type histogram struct {
	dto.Histogram
	count, zeros uint64
	sum          float64
	schema       int32
	within       [len(classicBounds)]uint64
	buckets      [len(classicBounds)]dto.Bucket
	list         [len(classicBounds)]*dto.Bucket
}

// newHistogram puts a snapshot into both forms, classic and native. They come
// from the same counts and so agree with each other and with the total.
func newHistogram(s helix.Snapshot) *dto.Histogram {
	h := &histogram{count: s.Count(), sum: s.Sum().Seconds(), schema: nativeSchema}
	h.SampleCount, h.SampleSum = &h.count, &h.sum
	h.Schema, h.ZeroThreshold, h.ZeroCount = &h.schema, &nativeZero, &h.zeros
	var native nativeBuckets
	bound := 0
	for bucket, n := range s.Buckets() {
		for bound < len(classicBounds) && bucket.Upper > classicBounds[bound] {
			bound++
		}
		if bound < len(classicBounds) {
			h.within[bound] += n // above the bound before
		}
		if bucket.Index == helix.UnderflowBucket {
			h.zeros = n
		} else {
			native.add(int32(bucket.Index), int64(n))
		}
	}
	for i := range classicBounds {
		if i > 0 {
			h.within[i] += h.within[i-1]
		}
		h.buckets[i].UpperBound, h.buckets[i].CumulativeCount = &classicBounds[i], &h.within[i]
		h.list[i] = &h.buckets[i]
	}
	h.Bucket = h.list[:]
	h.PositiveSpan, h.PositiveDelta = native.spans, native.deltas
	if len(native.spans) == 0 {
		// A run of none marks a histogram without samples as native.
		h.PositiveSpan = []*dto.BucketSpan{{Offset: new(int32), Length: new(uint32)}}
	}
	return &h.Histogram
}

// nativeBuckets are buckets as native histograms have them: runs of neighbours, each with
// the distance from the run before, and for each bucket the difference from the one before.
type nativeBuckets struct {
	spans  []*dto.BucketSpan
	deltas []int64
	next   int32 // the index after the latest bucket
	before int64 // its count
}

func (b *nativeBuckets) add(index int32, n int64) {
	if len(b.spans) == 0 || index != b.next {
		offset := index - b.next
		b.spans = append(b.spans, &dto.BucketSpan{Offset: &offset, Length: new(uint32)})
	}
	*b.spans[len(b.spans)-1].Length++
	b.deltas = append(b.deltas, n-b.before)
	b.next, b.before = index+1, n
}
