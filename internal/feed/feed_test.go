package feed

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type event struct {
	seq uint64
	id  int
}

func TestEventsAreNumberedInOrder(t *testing.T) {
	var f Feed[event]
	feed, end := f.Watch(8 * 2000)
	defer end()
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			for range 2000 {
				var e event
				f.Send(&e, &e.seq)
			}
		})
	}
	senders.Wait()
	for seq := uint64(1); seq <= 8*2000; seq++ {
		require.Equal(t, seq, (<-feed).seq)
	}
}

// sampled is how many of so many events, one each step, are sampled.
func sampled(f *Feed[event], from time.Duration, events int, step time.Duration, second bool) (n int) {
	for i := range events {
		if f.Sample(int64(from+time.Duration(i)*step), second) {
			n++
		}
	}
	return n
}

func TestSampling(t *testing.T) {
	for name, c := range map[string]struct {
		events     int
		step       time.Duration
		least, max int
	}{
		"a few":                      {50, 20 * time.Millisecond, 50, 50},
		"a burst after a quiet time": {1000, 0, mostFirst, mostFirst},
		"200 within a millisecond":   {200, 5 * time.Microsecond, 200, 200},
		"a flood for a second":       {100_000, 10 * time.Microsecond, 9 * most, mostFirst + 10*most},
	} {
		t.Run(name, func(t *testing.T) {
			var f Feed[event]
			_, end := f.Watch(1)
			defer end()
			n := sampled(&f, time.Hour, c.events, c.step, false)
			require.GreaterOrEqual(t, n, c.least)
			require.LessOrEqual(t, n, c.max)
		})
	}
}

func TestAFloodOfOneClassDoesNotHideTheOther(t *testing.T) {
	var f Feed[event]
	_, end := f.Watch(1)
	defer end()
	require.Equal(t, mostFirst, sampled(&f, time.Hour, 10_000, 0, false))
	require.Equal(t, 10, sampled(&f, time.Hour, 10, 0, true))
}

func TestNothingIsSampledForNobody(t *testing.T) {
	var f Feed[event]
	require.Zero(t, sampled(&f, 0, 10, 0, false))
	_, end := f.Watch(1)
	require.Equal(t, 10, sampled(&f, 0, 10, 0, false))
	end()
	end() // may be called again
	require.Zero(t, sampled(&f, time.Hour, 10, 0, false))
}

func TestASlowWatcherLosesEvents(t *testing.T) {
	var f Feed[event]
	slow, end := f.Watch(1)
	defer end()
	quick, endQuick := f.Watch(3)
	defer endQuick()
	for id := range 3 {
		e := event{id: id}
		f.Send(&e, &e.seq)
	}
	require.Equal(t, event{1, 0}, <-slow)
	require.Empty(t, slow)
	for id := range 3 {
		require.Equal(t, event{uint64(id + 1), id}, <-quick)
	}
}

func TestClose(t *testing.T) {
	var f Feed[event]
	before, end := f.Watch(1)
	f.Close()
	f.Close()
	end()
	_, open := <-before
	require.False(t, open)
	after, end := f.Watch(1)
	end()
	_, open = <-after
	require.False(t, open)
	require.False(t, f.Sample(1, false))
	var e event
	f.Send(&e, &e.seq)
}

func BenchmarkSampleForNobody(b *testing.B) {
	var f Feed[event]
	for b.Loop() {
		f.Sample(1, false)
	}
}
