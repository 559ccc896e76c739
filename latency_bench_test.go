package helix

import (
	"sync/atomic"
	"testing"
	"time"
)

// benchmarkRecord runs one caller, then one for each P, over latencies of all
// magnitudes from 1 µs to 1 s. Each caller has a hint of its own.
func benchmarkRecord(b *testing.B, record func(hint uint32, d time.Duration)) {
	ds := allMagnitudes(1<<10, time.Second) // 1<<10: masking an index costs less than a division
	for i := range ds {
		ds[i] += time.Microsecond
	}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			record(0, ds[i&(len(ds)-1)])
		}
	})
	b.Run("many", func(b *testing.B) {
		var callers atomic.Uint32
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			hint := callers.Add(1)
			for i := int(hint) * 100; pb.Next(); i++ {
				record(hint, ds[i&(len(ds)-1)])
			}
		})
	})
}

func BenchmarkHistogramRecord(b *testing.B) {
	var h Histogram
	benchmarkRecord(b, func(_ uint32, d time.Duration) { h.Record(d) })
}

// As a router records: the hint costs nothing and stays with the caller.
func BenchmarkHistogramRecordAt(b *testing.B) {
	var h Histogram
	benchmarkRecord(b, h.recordAt)
}

// The same by client_golang, in the same buckets, to compare with.
func BenchmarkClientGolangObserve(b *testing.B) {
	h := schema5()
	benchmarkRecord(b, func(_ uint32, d time.Duration) { h.Observe(d.Seconds()) })
}

func BenchmarkHistogramSnapshot(b *testing.B) {
	h := recordAll(new(Histogram), allMagnitudes(10000, time.Second)...)
	b.ReportAllocs()
	for b.Loop() {
		h.Snapshot()
	}
}

func BenchmarkClientGolangSnapshot(b *testing.B) {
	h := schema5()
	for _, d := range allMagnitudes(10000, time.Second) {
		h.Observe(d.Seconds())
	}
	b.ReportAllocs()
	for b.Loop() {
		decodeNative(b, h)
	}
}

func BenchmarkSnapshotQuantile(b *testing.B) {
	s := snapshotOf(allMagnitudes(10000, time.Second)...)
	b.ReportAllocs()
	for b.Loop() {
		s.Quantile(0.99)
	}
}

func BenchmarkSnapshotSub(b *testing.B) {
	ds := allMagnitudes(10000, time.Second)
	s, earlier := snapshotOf(ds...), snapshotOf(ds[:9000]...)
	b.ReportAllocs()
	for b.Loop() {
		s.Sub(earlier)
	}
}
