package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const ms = time.Millisecond

// at is a clock that stands still.
func at(now time.Duration) func() time.Duration { return func() time.Duration { return now } }

// endOf is when r ends, looked for in steps; 0 = not within 10 s.
func endOf(s *service, r *request) time.Duration {
	for now := s.now; now < 10*time.Second; now += ms / 10 {
		if s.look(now); len(r.done) > 0 {
			return now
		}
	}
	return 0
}

func TestServersAndTheQueue(t *testing.T) {
	s := newService(&scene{})
	for range servers {
		s.begin(at(0), 10*ms)
	}
	second := s.begin(at(1*ms), 5*ms) // waits until 10 ms
	third := s.begin(at(40*ms), 5*ms) // finds all idle, and all events before it have happened
	require.Len(t, second.done, 1)
	require.InDelta(t, 45*ms, endOf(s, third), float64(ms/5))
}

func TestQueueIsFirstComeFirstServed(t *testing.T) {
	s := newService(&scene{})
	for range servers {
		s.begin(at(0), 10*ms)
	}
	var last *request
	for range servers + 1 {
		last = s.begin(at(1*ms), 10*ms)
	}
	s.look(29 * ms)
	require.Empty(t, last.done)
	require.InDelta(t, 30*ms, endOf(s, last), float64(ms/5))
}

func TestSharedServers(t *testing.T) {
	s := newService(&scene{downstream: downstream{shared: true}})
	var all []*request
	for range 2 * servers { // at half of the speed
		all = append(all, s.begin(at(0), 10*ms))
	}
	late := s.begin(at(10*ms), ms)
	s.look(11 * ms)
	require.Empty(t, late.done)
	require.InDelta(t, 12*ms, endOf(s, late), float64(ms/5))
	require.InDelta(t, 20*ms, endOf(s, all[0]), float64(ms/5))
	s.look(21 * ms)
	for _, r := range all {
		require.Len(t, r.done, 1)
	}
}

func TestChangesOfADownstream(t *testing.T) {
	from, until := 100*ms, 200*ms
	hangs := newService(&scene{change: change{from: from, until: until, hangs: true}})
	require.InDelta(t, 205*ms, endOf(hangs, hangs.begin(at(95*ms), 10*ms)), float64(ms/5))

	slow := newService(&scene{change: change{from: from, until: until, slower: 3}})
	require.InDelta(t, 105*ms, endOf(slow, slow.begin(at(95*ms), 10*ms)), float64(ms/5))
	require.InDelta(t, 140*ms, endOf(slow, slow.begin(at(110*ms), 10*ms)), float64(ms/5))
	require.InDelta(t, 211*ms, endOf(slow, slow.begin(at(201*ms), 10*ms)), float64(ms/5))

	fewer := newService(&scene{change: change{from: from, until: until, servers: 1}})
	first, second := fewer.begin(at(110*ms), 10*ms), fewer.begin(at(110*ms), 10*ms)
	require.InDelta(t, 120*ms, endOf(fewer, first), float64(ms/5))
	require.InDelta(t, 130*ms, endOf(fewer, second), float64(ms/5))
	waits := fewer.begin(at(190*ms), 500*ms)
	released := fewer.begin(at(191*ms), 10*ms) // gets a server when they are back
	require.InDelta(t, 210*ms, endOf(fewer, released), float64(ms/5))
	require.Empty(t, waits.done)
}

func TestCloseEndsAllCalls(t *testing.T) {
	s := newService(&scene{})
	var all []*request
	for range 3 * servers {
		all = append(all, s.begin(at(0), time.Hour))
	}
	s.close()
	for _, r := range append(all, s.begin(at(0), time.Hour)) {
		require.Len(t, r.done, 1)
	}
}
