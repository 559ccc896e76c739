package helix

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var noonUTC = time.Date(2025, 1, 1, 12, 0, 0, 0, time.UTC)

// observeAt observes a histogram at each of the times (in ms after noon), with
// one value recorded before each but the first. The value tells the time, so that
// the content of a window shows where it begins and ends.
func observeAt(w *Windows, ms ...int) {
	var h Histogram
	for i, at := range ms {
		if i > 0 {
			h.Record(1 << i * time.Microsecond)
		}
		w.Observe(noonUTC.Add(time.Duration(at)*time.Millisecond), h.Snapshot())
	}
}

// valuesBetween is what observeAt recorded after the i-th time, up to the j-th.
func valuesBetween(i, j int) Snapshot {
	var h Histogram
	for i++; i <= j; i++ {
		h.Record(1 << i * time.Microsecond)
	}
	return h.Snapshot()
}

func TestWindowsLast(t *testing.T) {
	steady := []int{0, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000}
	for _, c := range []struct {
		name     string
		observed []int // ms after noonUTC
		now      int   // likewise
		last     time.Duration
		want     Snapshot
	}{
		{"nothing observed", nil, 0, time.Second, Snapshot{}},
		{"observed once", []int{0}, 0, time.Second, Snapshot{}},
		{"from the start", steady[:3], 2000, 2 * time.Second, valuesBetween(0, 2)},
		{"history shorter than asked for", steady[:3], 2000, time.Minute, valuesBetween(0, 2)},
		{"one step", steady, 8000, time.Second, valuesBetween(7, 8)},
		{"two steps", steady, 8000, 2 * time.Second, valuesBetween(6, 8)},
		{"not younger than asked for", steady, 8000, 1500 * time.Millisecond, valuesBetween(6, 8)},
		{"between observations", steady, 8400, time.Second, valuesBetween(7, 8)},
		{"whole span, four seconds", steady, 8000, 4 * time.Second, valuesBetween(4, 8)},
		{"more than span: the oldest kept, a step more", steady, 8000, time.Hour, valuesBetween(3, 8)},
		{"newest too old", steady, 9000, time.Second, Snapshot{}},
		{"newest too old for any", steady, 1000000, time.Minute, Snapshot{}},
		{"no time", steady, 8000, 0, Snapshot{}},
		{"negative time", steady, 8000, -time.Second, Snapshot{}},
		{"clock went back", steady, 7000, time.Second, valuesBetween(6, 8)},
		{"late and early ticks", []int{0, 1300, 1900, 3400, 3600, 4900}, 4900, 3 * time.Second, valuesBetween(2, 5)},
		{"of one step the latest is kept", []int{0, 1000, 1100, 1200, 2000}, 2000, time.Second, valuesBetween(0, 4)},
		{"of one step the latest is kept, younger", []int{0, 1000, 1100, 1200, 2000}, 2000, 800 * time.Millisecond, valuesBetween(3, 4)},
		{"the newest counts within its step", []int{0, 1000, 1100}, 1100, time.Second, valuesBetween(0, 2)},
		{"the first too", []int{0, 100, 300}, 300, time.Second, valuesBetween(0, 2)},
		{"older than the newest is ignored", []int{0, 1000, 2000, 1500}, 2000, time.Second, valuesBetween(1, 2)},
		{"a gap", []int{0, 1000, 60000, 61000}, 61000, 2 * time.Second, valuesBetween(1, 3)},
		{"a gap, after it", []int{0, 1000, 60000, 61000}, 61000, time.Second, valuesBetween(2, 3)},
	} {
		w := NewWindows(time.Second, 4*time.Second)
		observeAt(w, c.observed...)
		require.Equal(t, c.want, w.Last(noonUTC.Add(time.Duration(c.now)*time.Millisecond), c.last), c.name)
	}
}

// Whatever the history, a window is the difference of two snapshots.
func TestWindowsAreDifferences(t *testing.T) {
	const steps, span = 200, 50
	var h Histogram
	var w Windows
	w.span = span * time.Second
	ds := allMagnitudes(steps*20, 2*time.Hour)
	snapshots := make([]Snapshot, steps)
	for i := range snapshots {
		recordAll(&h, ds[i*20:(i+1)*20]...)
		snapshots[i] = h.Snapshot()
		now := noonUTC.Add(time.Duration(i) * time.Second)
		w.Observe(now, snapshots[i])
		for _, back := range []int{1, 10, span} {
			want := snapshots[i].Sub(snapshots[max(i-back, 0)])
			require.Equal(t, want, w.Last(now, time.Duration(back)*time.Second))
		}
	}
	require.Len(t, w.marks, span+1)
}

func TestWindowsDefaults(t *testing.T) {
	for _, w := range []*Windows{new(Windows), NewWindows(0, -1)} {
		observeAt(w, 0, 1000)
		require.Equal(t, time.Second, w.step)
		require.Equal(t, 5*time.Minute, w.span)
	}
	// A span shorter than a step keeps a step.
	w := NewWindows(time.Second, 1)
	observeAt(w, 0, 1000, 2000, 3000, 4000)
	require.Equal(t, valuesBetween(3, 4), w.Last(noonUTC.Add(4*time.Second), time.Second))
}

// A histogram that began again, which a Windows does not expect, costs
// accuracy but never gives a huge number.
func TestWindowsBegunAgain(t *testing.T) {
	w := NewWindows(time.Second, time.Minute)
	w.Observe(noonUTC, snapshotOf(1, 1, 1))
	w.Observe(noonUTC.Add(time.Second), snapshotOf(1))
	require.Equal(t, Snapshot{}, w.Last(noonUTC.Add(time.Second), time.Minute))
	w.Observe(noonUTC.Add(2*time.Second), snapshotOf(1, 1))
	require.EqualValues(t, 1, w.Last(noonUTC.Add(2*time.Second), time.Minute).Count())
}

// fullWindows has observed 15 minutes with 1000 values a second, in about 100
// buckets.
func fullWindows() (*Windows, time.Time) {
	w, now := NewWindows(time.Second, 15*time.Minute), noonUTC
	ds := allMagnitudes(1000, time.Second)
	for i := range ds {
		ds[i] = time.Millisecond + ds[i]%(8*time.Millisecond)
	}
	var h Histogram
	for range 902 {
		recordAll(&h, ds...)
		w.Observe(now, h.Snapshot())
		now = now.Add(time.Second)
	}
	return w, now.Add(-time.Second)
}

func TestWindowsMemory(t *testing.T) {
	w, _ := fullWindows()
	require.Len(t, w.marks, 901)
	bytes := 40 * cap(w.marks)
	for _, m := range w.marks {
		bytes += cap(m.counts)
	}
	t.Logf("%d buckets a step, %d bytes", len(bucketCounts(w.newest)), bytes)
	require.Less(t, bytes, 350_000)
}

func BenchmarkWindowsObserve(b *testing.B) {
	w, now := fullWindows()
	var h Histogram
	recordAll(&h, allMagnitudes(1000, time.Second)...)
	s := w.newest
	add := h.Snapshot()
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second)
		s = s.Merge(add)
		w.Observe(now, s)
	}
}

func BenchmarkWindowsLast(b *testing.B) {
	w, now := fullWindows()
	for _, d := range []time.Duration{10 * time.Second, 5 * time.Minute, 15 * time.Minute} {
		b.Run(d.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.Last(now, d)
			}
		})
	}
}
