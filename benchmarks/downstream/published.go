package main

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// published limits calls by one of the published laws: those of Netflix's concurrency-limits and
// its ports to Go, reimplemented from their descriptions, with the defaults of
// platinummonkey/go-concurrency-limits.
type published struct {
	mu       sync.Mutex // guards the rest
	law      law
	inflight int
	window   window
}

// law computes how many calls may be in flight.
type law interface {
	limit() float64
	// sample takes in a window: its mean and shortest latency in ns, and the most calls that
	// were in flight.
	sample(mean, shortest float64, most int)
}

// window is a second's calls: one in which ten or fewer ended goes on.
type window struct {
	opened        time.Time
	n, most       int
	sum, shortest float64
}

func newPublished(l law) *published { return &published{law: l, window: window{shortest: math.Inf(1)}} }

func (p *published) do(_ context.Context, _ time.Time, call func()) bool {
	p.mu.Lock()
	if p.inflight >= int(p.law.limit()) {
		p.mu.Unlock()
		return false
	}
	p.inflight++
	among := p.inflight
	p.mu.Unlock()
	began := time.Now()
	call()
	ended := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inflight--
	w := &p.window
	if w.opened.IsZero() {
		w.opened = began
	}
	took := float64(ended.Sub(began))
	w.n++
	w.sum += took
	w.shortest = min(w.shortest, took)
	w.most = max(w.most, among)
	if ended.Sub(w.opened) >= time.Second && w.n > 10 {
		p.law.sample(w.sum/float64(w.n), w.shortest, w.most)
		*w = window{opened: ended, shortest: math.Inf(1)}
	}
	return true
}

func (*published) close() {}

// gradient2 lowers the limit by how much the latency has grown over a long mean of it.
type gradient2 struct {
	now  float64
	long float64 // mean latency, over some 600 windows
	n    float64 // windows seen, while they are few
}

func newGradient2() *gradient2 { return &gradient2{now: 20} }

func (g *gradient2) limit() float64 { return g.now }

func (g *gradient2) sample(mean, _ float64, most int) {
	const queue, smooth, lowest, highest, few, memory = 4, .2, 20, 200, 10, 600
	if g.n < few { // a plain mean, first
		g.n++
		g.long += (mean - g.long) / g.n
	} else {
		g.long += (mean - g.long) * 2 / (memory + 1)
	}
	if g.long > 2*mean {
		g.long *= .9
	}
	if float64(most) < g.now/2 {
		return // it was not used
	}
	gradient := max(.5, min(1, g.long/mean))
	g.now = min(max((1-smooth)*g.now+smooth*(g.now*gradient+queue), lowest), highest)
}

// vegas raises the limit while few calls seem to queue, and lowers it when many do (Brakmo and
// Peterson, "TCP Vegas", 1995).
type vegas struct {
	now      float64
	unloaded float64 // shortest latency, ns
	seen     float64 // windows since it was learned anew
	jitter   float64
}

func newVegas() *vegas { return &vegas{now: 20, unloaded: math.Inf(1), jitter: .5 + rand.Float64()/2} }

func (v *vegas) limit() float64 { return v.now }

func (v *vegas) sample(_, shortest float64, most int) {
	const relearn, highest = 30, 1000
	if v.seen++; v.seen >= v.jitter*relearn*v.now {
		v.seen, v.unloaded, v.jitter = 0, shortest, .5+rand.Float64()/2
		return
	}
	if shortest < v.unloaded {
		v.unloaded = shortest
		return
	}
	if float64(most) < v.now/2 {
		return // it was not used
	}
	step := max(1, math.Floor(math.Log10(v.now)))
	switch queue := math.Ceil(v.now * (1 - v.unloaded/shortest)); {
	case queue < step:
		v.now += 6 * step
	case queue < 3*step:
		v.now += step
	case queue > 6*step:
		v.now -= step
	}
	v.now = min(max(v.now, 1), highest)
}
