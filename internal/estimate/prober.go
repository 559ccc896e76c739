package estimate

import (
	"sync/atomic"
	"time"
)

// Prober admits an occasional job that its estimate would refuse, so that a wrong estimate is
// corrected: a kind that never runs is never sampled. It does so only if a job was refused
// since one of the kind last started, later if the estimate rests on many samples, and each
// time after twice the interval, until a job is admitted without a probe.
//
// Its zero value has refused nothing. It is safe for concurrent use and reads no clock.
type Prober struct {
	refused atomic.Int64 // when the estimate first refused a job since one started; 0: it has not
	next    atomic.Int64 // the earliest time of the next probe
	every   atomic.Int64 // ns until the one after that; 0: as for the first
}

const (
	// probeDoubtful and probeCertain are the times from a refusal to the first probe: for an
	// estimate that rests on few samples or varies, and for others.
	probeDoubtful = time.Second
	probeCertain  = 15 * time.Second
	probeMost     = 64 // bounds the interval, in multiples of those
)

// Refuse notes that the estimate refuses a job.
func (p *Prober) Refuse(now int64) {
	if p.refused.Load() == 0 { // the word is shared: write it rarely
		p.refused.Store(now)
	}
}

// Start notes that a job starts.
func (p *Prober) Start(probe bool) {
	if p.refused.Load() != 0 {
		p.refused.Store(0)
	}
	if !probe && p.every.Load() != 0 {
		p.every.Store(0)
		p.next.Store(0)
	}
}

// Due reports whether a probe may be made at time now.
func (p *Prober) Due(now int64, doubtful bool) bool {
	refused := p.refused.Load()
	return refused != 0 && now-refused >= firstProbe(doubtful) && now >= p.next.Load()
}

// Take makes the caller's job the probe, unless another was faster.
func (p *Prober) Take(now int64, doubtful bool) bool {
	next, first := p.next.Load(), firstProbe(doubtful)
	every := min(max(2*p.every.Load(), first), probeMost*first)
	if now < next || !p.next.CompareAndSwap(next, now+every) {
		return false
	}
	p.every.Store(every)
	return true
}

func firstProbe(doubtful bool) int64 {
	if doubtful {
		return int64(probeDoubtful)
	}
	return int64(probeCertain)
}
