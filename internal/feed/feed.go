// Package feed sends a sample of events to watchers. It costs next to nothing without
// watchers: an event that is not sampled costs 1 ns, a sampled one less than 1 µs. A slow
// watcher loses events and never delays the sender.
//
// The first 64 events of every 100 ms are sampled, or 256 after 50 ms without any, so that
// rare events are all shown (the first n of each window, like the
// sampler of go.uber.org/zap). Events of two classes are counted separately, so that a flood of
// one does not hide the other.
package feed

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	window = 100 * time.Millisecond
	most   = 64 // samples in a window

	// The same when there were no events for two whole slices.
	slice     = 25 * time.Millisecond
	mostFirst = 256
)

// Feed is the channels of all watchers. Its zero value is ready for use. It is safe for
// concurrent use and reads no clock.
type Feed[E any] struct {
	any    atomic.Bool     // there are watchers; written under mu
	slice  atomic.Int64    // number of the latest slice of time with an event
	window atomic.Int64    // number of the current window
	room   [2]atomic.Int64 // samples still to be taken in it, by class

	mu     sync.Mutex
	seq    uint64   // of the latest event; guarded by mu
	feeds  []chan E // guarded by mu
	closed bool     // guarded by mu
}

// Watch returns a channel of that many events for the sampled ones, and a function that
// closes it. After Close the channel is closed.
func (f *Feed[E]) Watch(buffer int) (<-chan E, func()) {
	feed := make(chan E, buffer)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		close(feed)
		return feed, func() {}
	}
	if len(f.feeds) == 0 {
		f.fill(f.window.Load(), most)
	}
	f.feeds = append(f.feeds, feed)
	f.any.Store(true)
	return feed, func() { f.end(feed) }
}

func (f *Feed[E]) end(feed chan E) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.feeds, feed); i >= 0 {
		f.feeds = slices.Delete(f.feeds, i, i+1)
		f.any.Store(len(f.feeds) > 0)
		close(feed)
	}
}

// Close closes all channels.
func (f *Feed[E]) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, feed := range f.feeds {
		close(feed)
	}
	f.feeds, f.closed = nil, true
	f.any.Store(false)
}

// Sample reports whether to send an event of that class at time now, in ns.
func (f *Feed[E]) Sample(now int64, second bool) bool { return f.any.Load() && f.sample(now, second) }

//go:noinline
func (f *Feed[E]) sample(now int64, second bool) bool {
	if at := now / int64(slice); f.slice.Load() != at {
		f.turn(at)
	}
	room := &f.room[0]
	if second {
		room = &f.room[1]
	}
	return room.Load() > 0 && room.Add(-1) >= 0
}

// turn moves on to another slice, and to another window if the slice is in one.
func (f *Feed[E]) turn(to int64) {
	quiet := to-f.slice.Swap(to) > 2
	w := to / int64(window/slice)
	switch {
	case quiet:
		f.fill(w, mostFirst)
	case f.window.Load() != w:
		f.fill(w, most)
	}
}

// fill allows so many samples in a window, or more if more are left from the first window after
// a quiet time: a few events are all shown, however slowly they come.
func (f *Feed[E]) fill(w, samples int64) {
	f.window.Store(w)
	for i := range f.room {
		if f.room[i].Load() < samples {
			f.room[i].Store(samples)
		}
	}
}

// Send numbers the event in its field *seq and sends it to all watchers. The numbers in each
// channel ascend.
func (f *Feed[E]) Send(e *E, seq *uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	*seq = f.seq
	for _, feed := range f.feeds {
		select {
		case feed <- *e:
		default: // the watcher is slow and loses this event
		}
	}
}
