package helix_test

import (
	"fmt"
	"time"

	"github.com/helixrouter/helix"
)

func ExampleHistogram() {
	var h helix.Histogram // ready for use, by any number of goroutines
	for i := range 1000 {
		h.Record(time.Duration(i+1) * time.Millisecond)
	}
	fmt.Println("count", h.Count())
	fmt.Println("mean ", h.Mean())
	fmt.Println("p50  ", h.Quantile(0.50).Round(time.Millisecond)) // within 1.1 % of 500 ms
	fmt.Println("p99  ", h.Quantile(0.99).Round(time.Millisecond)) // of 990 ms
	// Output:
	// count 1000
	// mean  500.5ms
	// p50   495ms
	// p99   989ms
}

func ExampleSnapshot() {
	var h helix.Histogram
	h.Record(3 * time.Millisecond)
	before := h.Snapshot()

	h.Record(40 * time.Millisecond)
	h.Record(250 * time.Millisecond)
	h.Record(250 * time.Millisecond)

	since := h.Snapshot().Sub(before)
	fmt.Println("values", since.Count(), "sum", since.Sum())
	fmt.Println("le 125 ms:", since.CountAtMost(125*time.Millisecond))
	for b, n := range since.Buckets() {
		fmt.Printf("bucket %d, up to %.4f s: %d\n", b.Index, b.Upper, n)
	}
	// Output:
	// values 3 sum 540ms
	// le 125 ms: 1
	// bucket -148, up to 0.0405 s: 1
	// bucket -64, up to 0.2500 s: 2
}

func ExampleWindows() {
	var h helix.Histogram
	w := helix.NewWindows(time.Second, 5*time.Minute)
	now := time.Date(2025, 1, 1, 12, 0, 0, 0, time.UTC)

	w.Observe(now, h.Snapshot())
	for s := 1; s <= 60; s++ { // a value a second, at last slower ones
		d := 2 * time.Millisecond
		if s > 50 {
			d = 80 * time.Millisecond
		}
		h.Record(d)
		now = now.Add(time.Second)
		w.Observe(now, h.Snapshot())
	}

	for _, d := range []time.Duration{10 * time.Second, time.Minute} {
		last := w.Last(now, d)
		fmt.Println(d, "count", last.Count(), "mean", last.Mean())
	}
	// Output:
	// 10s count 10 mean 80ms
	// 1m0s count 60 mean 15ms
}
