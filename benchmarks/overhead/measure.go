package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"sync/atomic"
	"testing"
)

// The groups, in the order they are printed.
const (
	submitGroup    = "submit"
	batchGroup     = "batch"
	workGroup      = "batch-work"
	histogramGroup = "histogram"
	chooseGroup    = "choose"
)

// operation is what is measured. It returns in+1 if it did its work.
type operation func(in int) (int, error)

// contender is one line of the table.
type contender struct {
	group, name string
	note        string // how it is set up
	refuses     bool   // on purpose

	start   func() (op operation, stop func())
	errorOf func() float64 // relative, of its p99; nil = has none
}

// contenders returns all, group by group.
func contenders() []contender {
	return slices.Concat(submitPeers, submitHelix, batchers, histograms, chooseHelix)
}

// parallelism is how many goroutines a P "many" means: 8, but 64 in all for
// what makes batches.
func (c contender) parallelism() int {
	if c.group == batchGroup || c.group == workGroup {
		return max(1, 64/workers())
	}
	return 8
}

// one is a single caller. Its b.Loop keeps op from being optimised away.
func one(b *testing.B, op operation) {
	b.ReportAllocs()
	notRun := 0
	for i := 0; b.Loop(); i++ {
		if out, err := op(i); err != nil || out != i+1 {
			notRun++
		}
	}
	b.ReportMetric(100*float64(notRun)/float64(b.N), "not-run-%")
}

// many is parallelism goroutines a P.
func many(b *testing.B, op operation, parallelism int) {
	b.ReportAllocs()
	b.SetParallelism(parallelism)
	var callers, notRun atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		missed := int64(0)
		for i := int(callers.Add(1)) * 1000; pb.Next(); i++ {
			if out, err := op(i); err != nil || out != i+1 {
				missed++
			}
		}
		notRun.Add(missed)
	})
	b.ReportMetric(100*float64(notRun.Load())/float64(b.N), "not-run-%")
}

// sample is what rounds measured of a contender.
type sample struct {
	contender
	one, many []testing.BenchmarkResult
}

// measure takes the rounds outermost, so that what else the machine does hits
// all contenders alike. Every measurement has a contender of its own.
func measure(cs []contender, rounds int, progress io.Writer) []sample {
	samples := make([]sample, len(cs))
	for round := range rounds {
		for i, c := range cs {
			_, _ = fmt.Fprintf(progress, "\r\033[Kround %d of %d: %s %s", round+1, rounds, c.group, c.name)
			s := &samples[i]
			s.contender = c
			op, stop := c.start()
			s.one = append(s.one, testing.Benchmark(func(b *testing.B) { one(b, op) }))
			stop()
			op, stop = c.start()
			s.many = append(s.many, testing.Benchmark(func(b *testing.B) { many(b, op, c.parallelism()) }))
			stop()
		}
	}
	_, _ = fmt.Fprint(progress, "\r\033[K")
	return samples
}

// median of one figure of the results.
func median(rs []testing.BenchmarkResult, of func(testing.BenchmarkResult) float64) float64 {
	if len(rs) == 0 {
		return math.NaN()
	}
	var vs []float64
	for _, r := range rs {
		vs = append(vs, of(r))
	}
	slices.Sort(vs)
	return (vs[(len(vs)-1)/2] + vs[len(vs)/2]) / 2
}

func nanoseconds(r testing.BenchmarkResult) float64 { return float64(r.T.Nanoseconds()) / float64(r.N) }
func bytesPerOp(r testing.BenchmarkResult) float64  { return float64(r.AllocedBytesPerOp()) }
func allocs(r testing.BenchmarkResult) float64      { return float64(r.AllocsPerOp()) }
func notRun(r testing.BenchmarkResult) float64      { return r.Extra["not-run-%"] }
