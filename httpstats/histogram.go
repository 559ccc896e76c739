package httpstats

import (
	"math"

	dto "github.com/prometheus/client_model/go"

	"github.com/helixrouter/helix"
)

// nativeSchema is the resolution of native histograms that the router's own
// buckets have. They keep their indexes; the lowest is the zero bucket.
const nativeSchema = 5

// nativeZero is, in seconds, where native buckets begin: 2^-20, 954 ns.
var nativeZero = math.Exp2(helix.UnderflowBucket / 32)

// classicBounds are in seconds. The router's buckets are narrower by far but
// have no edges there, so what a bound cuts is counted above it: the bounds
// are exact to 2.2 %.
var classicBounds = []float64{
	10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6,
	1e-3, 2.5e-3, 5e-3, 10e-3, 20e-3, 40e-3, 80e-3, 160e-3, 320e-3, 640e-3,
	1.25, 2.5, 5, 10, 30, 60,
}

// readDurations adds one histogram for every strategy that can run jobs.
func readDurations(s *source, m *series) {
	for _, l := range s.LatencyByStrategy {
		if l.Strategy != helix.Drop {
			h := newHistogram(s.router.Latency(l.Strategy))
			m.metrics = append(m.metrics, &dto.Metric{
				Label: []*dto.LabelPair{pair("strategy", l.Strategy)}, Histogram: h,
			})
		}
	}
}

// readKindDurations adds one histogram for every kind.
func readKindDurations(s *source, m *series) {
	for i := range s.Kinds {
		h := newHistogram(s.router.KindLatency(s.Kinds[i].Name))
		m.metrics = append(m.metrics, &dto.Metric{Label: []*dto.LabelPair{s.kinds[i]}, Histogram: h})
	}
}

// newHistogram puts a snapshot into both forms, classic and native. They come
// from the same counts and so agree with each other and with the total.
func newHistogram(s helix.Snapshot) *dto.Histogram {
	count, sum, schema, zeros := s.Count(), s.Sum().Seconds(), int32(nativeSchema), uint64(0)
	h := &dto.Histogram{
		SampleCount: &count, SampleSum: &sum,
		Schema: &schema, ZeroThreshold: &nativeZero, ZeroCount: &zeros,
	}
	within := make([]uint64, len(classicBounds)) // above the bound before
	bound := 0
	for bucket, n := range s.Buckets() {
		for bound < len(classicBounds) && bucket.Upper > classicBounds[bound] {
			bound++
		}
		if bound < len(classicBounds) {
			within[bound] += n
		}
		if bucket.Index == helix.UnderflowBucket {
			zeros = n
		}
	}
	for i := range classicBounds {
		if i > 0 {
			within[i] += within[i-1]
		}
		h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: &classicBounds[i], CumulativeCount: &within[i]})
	}
	h.PositiveSpan, h.PositiveDelta = nativeBuckets(s)
	return h
}

// nativeBuckets lists the buckets as native histograms have them: runs of
// neighbours, each with the distance from the run before, and for each bucket
// the difference from the one before.
func nativeBuckets(s helix.Snapshot) (spans []*dto.BucketSpan, deltas []int64) {
	next, before := int32(0), int64(0) // the index after the latest bucket, and its count
	for bucket, n := range s.Buckets() {
		if bucket.Index == helix.UnderflowBucket {
			continue
		}
		i := int32(bucket.Index)
		if len(spans) == 0 || i != next {
			offset := i - next
			spans = append(spans, &dto.BucketSpan{Offset: &offset, Length: new(uint32)})
		}
		*spans[len(spans)-1].Length++
		deltas = append(deltas, int64(n)-before)
		next, before = i+1, int64(n)
	}
	if len(spans) == 0 {
		// A run of none marks a histogram without samples as native.
		spans = []*dto.BucketSpan{{Offset: new(int32), Length: new(uint32)}}
	}
	return spans, deltas
}
