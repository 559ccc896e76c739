package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/VictoriaMetrics/metrics"
	"github.com/helixrouter/helix"
	"github.com/prometheus/client_golang/prometheus"
)

// histograms record one latency; note says how they are set up.
var histograms = []contender{
	recording("HdrHistogram", "mutex, 3 digits, 1 h", hdr),
	recording("DDSketch", "mutex, 1 %", sketch),
	recording("VictoriaMetrics", "", victoria),
	recording("client_golang classic", "DefBuckets", classic),
	recording("client_golang native", "factor 1.1", native),
	recording("helix.Histogram", "", helixHistogram),
}

// recorder is a histogram as a contender sets it up.
type recorder struct {
	record func(time.Duration)
	p99    func() float64 // in seconds
}

// recording makes a contender of a histogram. Its error is that of the p99 over
// all latencies.
func recording(name, note string, start func() recorder) contender {
	return contender{
		group: histogramGroup, name: name, note: note,
		start: func() (operation, func()) {
			h, ds := start(), latencies()
			ds = ds[:1<<14] // a mask costs less than a division
			return func(in int) (int, error) {
				h.record(ds[in&(1<<14-1)])
				return in + 1, nil
			}, nothingToStop
		},
		errorOf: func() float64 {
			h, ds := start(), slices.Clone(latencies())
			for _, d := range ds {
				h.record(d)
			}
			slices.Sort(ds)
			exact := ds[int(math.Ceil(0.99*float64(len(ds))))-1].Seconds()
			return math.Abs(h.p99()-exact) / exact
		},
	}
}

// latencies are the same log-normal ones at every call: the median is 5 ms,
// sigma is 1, so that the p99 is about 51 ms.
var latencies = sync.OnceValue(func() []time.Duration {
	rnd := rand.New(rand.NewPCG(1, 2))
	ds := make([]time.Duration, 100_000)
	for i := range ds {
		ds[i] = time.Duration(5e6 * math.Exp(rnd.NormFloat64()))
	}
	return ds
})

func helixHistogram() recorder {
	var h helix.Histogram
	return recorder{h.Record, func() float64 { return h.Quantile(0.99).Seconds() }}
}

func hdr() recorder {
	var mu sync.Mutex
	h := hdrhistogram.New(1, int64(time.Hour), 3)
	return recorder{func(d time.Duration) {
		mu.Lock()
		_ = h.RecordValue(int64(d))
		mu.Unlock()
	}, func() float64 { return time.Duration(h.ValueAtQuantile(99)).Seconds() }}
}

func sketch() recorder {
	var mu sync.Mutex
	s, err := ddsketch.NewDefaultDDSketch(0.01)
	must(err)
	return recorder{func(d time.Duration) {
		mu.Lock()
		_ = s.Add(d.Seconds())
		mu.Unlock()
	}, func() float64 {
		v, err := s.GetValueAtQuantile(0.99)
		must(err)
		return v
	}}
}

func victoria() recorder {
	h := metrics.NewSet().NewHistogram("latency_seconds")
	return recorder{func(d time.Duration) { h.Update(d.Seconds()) }, func() float64 { return victoriaQuantile(h, 0.99) }}
}

func classic() recorder {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "latency_seconds"})
	return recorder{func(d time.Duration) { h.Observe(d.Seconds()) }, func() float64 { return classicQuantile(h, 0.99) }}
}

func native() recorder {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "latency_seconds", NativeHistogramBucketFactor: 1.1})
	return recorder{func(d time.Duration) { h.Observe(d.Seconds()) }, func() float64 { return nativeQuantile(h, 0.99) }}
}
