package main

import (
	"container/heap"
	"sync"
	"time"
)

// request is a call as the downstream sees it.
type request struct {
	work time.Duration // how long it takes alone
	done chan struct{} // of one element
	ends time.Duration // by the downstream's own clock
}

// service simulates a downstream: so many servers with a queue, or processor sharing. It works
// out when each request ends and is not slowed down by being looked at late.
type service struct {
	shared bool // all requests at once, together as fast as the servers
	change change

	mu      sync.Mutex // guards the rest
	now     time.Duration
	own     time.Duration // time during which requests were worked at, at full speed
	servers int
	slower  float64 // what the work of requests that come is multiplied by
	hangs   bool
	working byEnd
	queue   []*request
	closed  bool
}

// change is what becomes of a downstream for a while.
type change struct {
	from, until time.Duration
	servers     int     // how many are left; 0 = all
	slower      float64 // what service times are multiplied by; 0 = by 1
	hangs       bool    // nothing ends
}

func newService(sc *scene) *service {
	return &service{shared: sc.shared, change: sc.change, servers: servers, slower: 1}
}

// call has the downstream do work and returns when it is done, or when the downstream is closed.
func (s *service) call(now func() time.Duration, work time.Duration) {
	<-s.begin(now, work).done
}

// begin hands in work.
func (s *service) begin(now func() time.Duration, work time.Duration) *request {
	r := &request{done: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		r.done <- struct{}{}
		return r
	}
	s.advance(now()) // read under the lock, or it might be before s.now
	r.work = time.Duration(float64(work) * s.slower)
	if s.shared || len(s.working) < s.servers {
		s.start(r)
	} else {
		s.queue = append(s.queue, r)
	}
	return r
}

// look ends the requests that have ended by now.
func (s *service) look(now time.Duration) {
	s.mu.Lock()
	s.advance(now)
	s.mu.Unlock()
}

// close ends all requests, those to come as well.
func (s *service) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, r := range s.working {
		r.done <- struct{}{}
	}
	for _, r := range s.queue {
		r.done <- struct{}{}
	}
	s.working, s.queue = nil, nil
}

func (s *service) start(r *request) {
	r.ends = s.own + r.work
	heap.Push(&s.working, r)
}

// advance takes the downstream to that time, through all that happens until then. It requires s.mu.
func (s *service) advance(to time.Duration) {
	for s.now < to {
		next := to
		for _, at := range []time.Duration{s.change.from, s.change.until} {
			if s.now < at && at < next {
				next = at
			}
		}
		speed := s.speed()
		ends := false
		if len(s.working) > 0 && speed > 0 {
			// Rounded up, so that what has ended has ended by its own clock, too.
			left := time.Duration(float64(s.working[0].ends-s.own)/speed) + 1
			if at := s.now + max(left, 0); at <= next {
				next, ends = at, true
			}
		}
		if ends {
			s.own = max(s.own, s.working[0].ends)
		} else {
			s.own += time.Duration(float64(next-s.now) * speed)
		}
		s.now = next
		s.applyChange()
		if ends {
			heap.Pop(&s.working).(*request).done <- struct{}{}
		}
		for !s.shared && len(s.queue) > 0 && len(s.working) < s.servers {
			r := s.queue[0]
			s.queue = s.queue[1:]
			s.start(r)
		}
	}
}

// speed is that of each request which is worked at, 1 being that of a server.
func (s *service) speed() float64 {
	switch {
	case s.hangs:
		return 0
	case s.shared && len(s.working) > s.servers:
		return float64(s.servers) / float64(len(s.working))
	}
	return 1
}

func (s *service) applyChange() {
	s.servers, s.slower, s.hangs = servers, 1, false
	if c := s.change; c.from <= s.now && s.now < c.until {
		s.hangs = c.hangs
		if c.servers > 0 {
			s.servers = c.servers
		}
		if c.slower > 0 {
			s.slower = c.slower
		}
	}
}

// byEnd is a heap of requests.
type byEnd []*request

func (h byEnd) Len() int           { return len(h) }
func (h byEnd) Less(i, j int) bool { return h[i].ends < h[j].ends }
func (h byEnd) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byEnd) Push(v any)        { *h = append(*h, v.(*request)) }
func (h *byEnd) Pop() any {
	old := *h
	r := old[len(old)-1]
	*h = old[:len(old)-1]
	return r
}
