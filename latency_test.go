package helix

import (
	"encoding/binary"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
)

// schema5 makes client_golang's native histogram with the buckets of Histogram.
func schema5() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:                         "h",
		NativeHistogramBucketFactor:  1.03, // 2^(1/32) = 1.0219 is the largest factor below; 1.02 would be schema 6
		NativeHistogramZeroThreshold: upperOf(0),
	})
}

// decodeNative returns the counts of a native histogram by index, with the
// zero bucket as UnderflowBucket.
func decodeNative(t testing.TB, m prometheus.Metric) map[int]uint64 {
	var d dto.Metric
	require.NoError(t, m.Write(&d))
	h := d.GetHistogram()
	require.EqualValues(t, 5, h.GetSchema())
	counts := make(map[int]uint64)
	if n := h.GetZeroCount(); n > 0 {
		counts[UnderflowBucket] = n
	}
	index, count, deltas := int32(0), int64(0), h.GetPositiveDelta()
	for _, span := range h.GetPositiveSpan() {
		index += span.GetOffset()
		for range span.GetLength() {
			count, deltas = count+deltas[0], deltas[1:]
			if count > 0 {
				counts[int(index)] = uint64(count)
			}
			index++
		}
	}
	return counts
}

// bucketCounts returns the buckets that are not empty by index.
func bucketCounts(s Snapshot) map[int]uint64 {
	m := make(map[int]uint64)
	for b, n := range s.Buckets() {
		m[b.Index] = n
	}
	return m
}

// allMagnitudes returns n durations of all magnitudes from 1 ns to most, from a fixed seed.
func allMagnitudes(n int, most time.Duration) []time.Duration {
	r := rand.New(rand.NewPCG(1, 2))
	ds := make([]time.Duration, n)
	for i := range ds {
		ds[i] = time.Duration(math.Exp(r.Float64() * math.Log(float64(most))))
	}
	return ds
}

func recordAll(h *Histogram, ds ...time.Duration) *Histogram {
	for _, d := range ds {
		h.Record(d)
	}
	return h
}

func snapshotOf(ds ...time.Duration) Snapshot { return recordAll(new(Histogram), ds...).Snapshot() }

func TestHistogramBucketEdges(t *testing.T) {
	for _, c := range []struct {
		d     time.Duration
		index int
	}{
		{math.MinInt64, UnderflowBucket},
		{-1, UnderflowBucket},
		{0, UnderflowBucket},
		{953, UnderflowBucket},
		{954, UnderflowBucket + 1},
		{974, UnderflowBucket + 1},
		{975, UnderflowBucket + 2},
		{time.Microsecond, -637},
		{1953125, -9 * 32}, // 2^-9 s, the smallest bound that is a whole number of ns
		{1953126, -9*32 + 1},
		{500 * time.Millisecond, -32},
		{500*time.Millisecond + 1, -31},
		{time.Second, 0},
		{time.Second + 1, 1},
		{2 * time.Second, 32},
		{1000 * time.Second, 319},
		{1024 * time.Second, OverflowBucket - 1},
		{1024*time.Second + 1, OverflowBucket},
		{math.MaxInt64, OverflowBucket},
	} {
		require.Equal(t, map[int]uint64{c.index: 1}, bucketCounts(snapshotOf(c.d)), "%d ns", c.d)
	}
}

// The place of a duration never goes back as durations grow, so agreeing on both
// sides of every bound is agreeing everywhere.
func TestHistogramBoundsAreClientGolangs(t *testing.T) {
	theirs, want := schema5(), make(map[int]uint64)
	for place := range places - 1 {
		upper := upperOf(place)
		for d := time.Duration(upper*1e9) - 2; d <= time.Duration(upper*1e9)+3; d++ {
			theirs.Observe(d.Seconds())
			want[min(placeOf(d)+UnderflowBucket, OverflowBucket)]++
			require.Equal(t, d.Seconds() > upper, placeOf(d) > place, "%d ns at bound %d", d, place)
		}
		// The bounds themselves, to the last bit.
		theirs.Observe(upper)
		want[place+UnderflowBucket]++
		theirs.Observe(math.Nextafter(upper, math.Inf(1)))
		want[place+UnderflowBucket+1]++
	}
	require.Equal(t, want, decodeNative(t, theirs))
}

func TestHistogramIsClientGolangsNativeHistogram(t *testing.T) {
	theirs, ours := schema5(), new(Histogram)
	for _, d := range allMagnitudes(5000, 1024*time.Second) {
		theirs.Observe(d.Seconds())
		ours.Record(d)
	}
	s := ours.Snapshot()
	require.Equal(t, decodeNative(t, theirs), bucketCounts(s))

	// What a collector makes of a snapshot is again the same histogram.
	buckets, zero := make(map[int]int64), uint64(0)
	for b, n := range s.Buckets() {
		if b.Index == UnderflowBucket {
			zero = n
			continue
		}
		buckets[b.Index] = int64(n)
	}
	m, err := prometheus.NewConstNativeHistogram(prometheus.NewDesc("h", "", nil, nil), s.Count(),
		s.Sum().Seconds(), buckets, nil, zero, 5, upperOf(0), time.Unix(0, 0))
	require.NoError(t, err)
	require.Equal(t, bucketCounts(s), decodeNative(t, m))
}

func TestBucketUpper(t *testing.T) {
	var all placeCounts
	for p := range all {
		all[p] = 1
	}
	last, index := 0.0, UnderflowBucket
	for b, n := range all.snapshot(0).Buckets() {
		require.EqualValues(t, 1, n)
		require.Equal(t, index, b.Index)
		if b.Index < OverflowBucket {
			require.InEpsilon(t, math.Exp2(float64(b.Index)/32), b.Upper, 1e-15)
		}
		require.Greater(t, b.Upper, last)
		last, index = b.Upper, index+1
	}
	require.Equal(t, OverflowBucket+1, index)
	require.True(t, math.IsInf(last, 1))
	for range all.snapshot(0).Buckets() {
		break // is allowed
	}
}

// requireNear checks what Quantile promises of values from 1 µs to 1000 s.
func requireNear(t *testing.T, want, got time.Duration) {
	if want == 1086 { // no whole number is within 1.1 % of both ends of 1063..1086
		require.EqualValues(t, 1074, got)
		return
	}
	require.InEpsilon(t, want, got, 0.011, "%d ns", want)
}

// Every duration from 1 µs to 1000 s lies in one of these buckets, and no
// other one errs as much as the smallest and the largest of its bucket.
func TestQuantileError(t *testing.T) {
	for p := placeOf(time.Microsecond); p <= placeOf(1000*time.Second); p++ {
		smallest := max(time.Duration(upperOf(p-1)*1e9)+1, time.Microsecond)
		largest := time.Duration(upperOf(p) * 1e9)
		for _, d := range []time.Duration{smallest, largest} {
			require.Equal(t, p, placeOf(d), "%d ns", d)
			requireNear(t, d, middleOf(p))
		}
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i+1) * time.Millisecond
	}
	for _, c := range []struct {
		values []time.Duration
		q      float64
		want   time.Duration
		error  float64
	}{
		{nil, 0.5, 0, 0},
		{hundred, 0.5, 50 * time.Millisecond, 0.011},
		{hundred, 0.95, 95 * time.Millisecond, 0.011},
		{hundred, 0.999, 100 * time.Millisecond, 0.011},
		{hundred, 0, time.Millisecond, 0.011},
		{hundred, 1, 100 * time.Millisecond, 0.011},
		{hundred, -1, time.Millisecond, 0.011},
		{hundred, 2, 100 * time.Millisecond, 0.011},
		{hundred, math.Inf(1), 100 * time.Millisecond, 0.011},
		{hundred, math.NaN(), time.Millisecond, 0.011},
		{[]time.Duration{0}, 0.5, 477, 0},
		{[]time.Duration{time.Hour}, 0.5, 1024 * time.Second, 0},
	} {
		got := snapshotOf(c.values...).Quantile(c.q)
		require.InDelta(t, c.want, got, c.error*float64(c.want), "q %v", c.q)
		require.Equal(t, got, recordAll(new(Histogram), c.values...).Quantile(c.q))
	}
}

func TestHistogramEmpty(t *testing.T) {
	var h Histogram
	for _, s := range []Snapshot{{}, h.Snapshot(), snapshotOf(1).Sub(snapshotOf(1)), Snapshot{}.Merge(Snapshot{})} {
		require.Equal(t, Snapshot{}, s)
		require.Zero(t, s.Count())
		require.Zero(t, s.Sum())
		require.Zero(t, s.Mean())
		require.Zero(t, s.Quantile(0.99))
		require.Zero(t, s.CountAtMost(math.MaxInt64))
		require.Empty(t, bucketCounts(s))
	}
	h.Merge(new(Histogram))
	require.Zero(t, h.Count())
	require.Nil(t, h.shards.Load(), "empty costs nothing")
}

func TestSumAndMean(t *testing.T) {
	s := snapshotOf(time.Second, 2*time.Second, -time.Hour, 4)
	require.Equal(t, 3*time.Second+4, s.Sum())
	require.Equal(t, 750*time.Millisecond+1, s.Mean())
	require.Equal(t, s.Mean(), recordAll(new(Histogram), time.Second, 2*time.Second, 0, 4).Mean())

	s = snapshotOf(math.MaxInt64, math.MaxInt64)
	require.EqualValues(t, int64(math.MaxInt64), s.Sum(), "stops there")
	require.EqualValues(t, int64(math.MaxInt64), s.Mean())
}

func TestCountAtMost(t *testing.T) {
	s := snapshotOf(0, time.Microsecond, 10*time.Millisecond, 125*time.Millisecond, time.Second, time.Hour)
	for _, c := range []struct {
		d    time.Duration
		want uint64
	}{
		{math.MinInt64, 0},
		{0, 0}, // shares the underflow bucket with all up to 953 ns
		{954, 1},
		{time.Microsecond, 1}, // shares the bucket that ends at 1.018 µs
		{1019, 2},
		{10 * time.Millisecond, 2},
		{10300 * time.Microsecond, 3},
		{125 * time.Millisecond, 4}, // a bound
		{125*time.Millisecond - 1, 3},
		{time.Second - 1, 4},
		{time.Second, 5},
		{1024 * time.Second, 5},
		{math.MaxInt64, 5}, // the overflow bucket has no end
	} {
		require.Equal(t, c.want, s.CountAtMost(c.d), "%v", c.d)
	}
	require.Zero(t, snapshotOf(time.Second).CountAtMost(time.Millisecond))
}

func TestMergeAndSub(t *testing.T) {
	a, b, c := time.Millisecond, time.Second, time.Hour
	for _, test := range []struct {
		name      string
		got, want Snapshot
	}{
		{"merge", snapshotOf(a, b).Merge(snapshotOf(b, c)), snapshotOf(a, b, b, c)},
		{"merge empty", snapshotOf(a).Merge(Snapshot{}), snapshotOf(a)},
		{"merge into empty", Snapshot{}.Merge(snapshotOf(a)), snapshotOf(a)},
		{"sub", snapshotOf(a, a, b, c).Sub(snapshotOf(a, b)), snapshotOf(a, c)},
		{"sub empty", snapshotOf(a).Sub(Snapshot{}), snapshotOf(a)},
		{"sub all", snapshotOf(a, b).Sub(snapshotOf(a, b)), Snapshot{}},
		{"sub more", snapshotOf(a).Sub(snapshotOf(a, a, b, c)), Snapshot{}},
	} {
		require.Equal(t, test.want, test.got, test.name)
	}
	// Buckets and sum each stop at 0.
	s := snapshotOf(a, c).Sub(snapshotOf(b, b))
	require.Equal(t, bucketCounts(snapshotOf(a, c)), bucketCounts(s))
	require.Equal(t, a+c-2*b, s.Sum())
	require.Zero(t, snapshotOf(a).Sub(snapshotOf(b)).Sum())

	h := recordAll(new(Histogram), a, b)
	h.Merge(recordAll(new(Histogram), b, c))
	require.Equal(t, snapshotOf(a, b, b, c), h.Snapshot())
	h.Merge(h)
	require.EqualValues(t, 8, h.Count(), "with itself doubles")
	empty := new(Histogram)
	empty.Merge(h)
	require.Equal(t, h.Snapshot(), empty.Snapshot())
	require.Equal(t, bucketCounts(h.Snapshot()), maps.Collect(func(yield func(int, uint64) bool) {
		for b, n := range empty.Buckets() {
			yield(b.Index, n)
		}
	}))
}

func TestHistogramConcurrent(t *testing.T) {
	const callers, each = 8, 2000
	var h Histogram
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				if d := time.Duration(i+1) * time.Microsecond; i%2 == 0 {
					h.Record(d)
				} else {
					h.recordAt(uint32(c), d)
				}
			}
		})
	}
	var before Snapshot
	for range 20 { // meanwhile no bucket goes back
		now := h.Snapshot()
		require.Equal(t, now.Count()-before.Count(), now.Sub(before).Count())
		before = now
	}
	wg.Wait()
	require.EqualValues(t, callers*each, h.Count())
	require.Equal(t, callers*each*(each+1)/2*time.Microsecond, h.Snapshot().Sum())
}

func TestHistogramAllocations(t *testing.T) {
	h := recordAll(new(Histogram), 1)
	s := snapshotOf(allMagnitudes(100, time.Second)...)
	require.Zero(t, testing.AllocsPerRun(100, func() { h.Record(time.Millisecond) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Quantile(0.99) }))
	require.EqualValues(t, 1, testing.AllocsPerRun(100, func() { h.Snapshot() }))
}

func FuzzHistogram(f *testing.F) {
	seed := rand.NewChaCha8([32]byte{1})
	for _, n := range []int{0, 1, 2, 7, 100} {
		b := make([]byte, 8*n)
		_, _ = seed.Read(b)
		f.Add(b, uint16(n*600))
	}
	f.Fuzz(func(t *testing.T, b []byte, q16 uint16) {
		var h Histogram
		var values []time.Duration
		var sum time.Duration
		for ; len(b) >= 8; b = b[8:] {
			bits := binary.LittleEndian.Uint64(b)
			d := time.Duration(int64(bits) >> (20 + bits%44)) // of every magnitude and sign, up to 2 h
			h.Record(d)
			d = max(d, 0)
			values, sum = append(values, d), sum+d
		}
		slices.Sort(values)
		s, q := h.Snapshot(), float64(q16)/math.MaxUint16
		require.EqualValues(t, len(values), s.Count())
		require.Equal(t, sum, s.Sum())
		got := s.Quantile(q)
		if len(values) == 0 {
			require.Zero(t, got)
			return
		}
		switch want := values[max(int(math.Ceil(q*float64(len(values)))), 1)-1]; {
		case want <= underflowMax:
			require.EqualValues(t, 477, got)
		case want < time.Microsecond:
			require.InDelta(t, want, got, 12)
		case want >= overflowMin:
			require.Equal(t, 1024*time.Second, got)
		default:
			requireNear(t, want, got)
		}
	})
}
