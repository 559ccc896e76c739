package helix

import (
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/num"
)

// prober lets a job of a kind in now and then that its estimate would refuse, so that a
// wrong estimate heals: what is never run is never learned from. It does so only after a
// refusal since a job of the kind last started, after a longer time where the estimate
// rests on much, and each time after twice the time, until a job gets in without it.
type prober struct {
	refused atomic.Int64 // when the estimate first refused a job since one started; 0: it has not
	next    atomic.Int64 // the earliest time of the next probe
	every   atomic.Int64 // ns until the one after that; 0: as for the first
}

const (
	// probeDoubtful and probeCertain are after how long a first probe is made of a kind whose
	// estimate rests on little, or varies, and of others.
	probeDoubtful = time.Second
	probeCertain  = 15 * time.Second
	probeMost     = 64 // at most so many times that
	// probePart is the part of the capacity that all probes together may take.
	probePart = 0.02
)

// refuse notes that the estimate refuses a job.
func (p *prober) refuse(now int64) {
	if p.refused.Load() == 0 { // the word is shared: write it rarely
		p.refused.Store(now)
	}
}

// start notes that a job starts.
func (p *prober) start(probe bool) {
	if p.refused.Load() != 0 {
		p.refused.Store(0)
	}
	if !probe && p.every.Load() != 0 {
		p.every.Store(0)
		p.next.Store(0)
	}
}

// due reports that a probe may be made at time now.
func (p *prober) due(now int64, doubtful bool) bool {
	refused := p.refused.Load()
	return refused != 0 && now-refused >= firstProbe(doubtful) && now >= p.next.Load()
}

// take makes the caller's job the probe, unless another was faster.
func (p *prober) take(now int64, doubtful bool) bool {
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

// probe reports whether to admit a job although its estimate refuses it; if take is false,
// whether it would.
func (r *Router) probe(q *request, take bool) bool {
	k, now := q.kind, q.decided
	if q.info.Waits { // it takes no CPU time, and those that follow it see at once what it saw
		l := &k.downstream.Load().limit
		return l.Lull(now) && (!take || l.Probe(now))
	}
	doubtful := k.doubtful(&q.info)
	if !k.prober.due(now, doubtful) || now < r.ledger.nextProbe.Load() {
		return false
	}
	if !take {
		return true
	}
	if !k.prober.take(now, doubtful) {
		return false
	}
	r.ledger.probed(now, min(q.info.Predicted, time.Second))
	return true
}

// probed notes that a probe takes so much work, from now on or at the end.
func (l *ledger) probed(now int64, work time.Duration) {
	next := num.Add(now, int64(float64(work)/(probePart*max(1, float64(l.cores.Load())))))
	if next > l.nextProbe.Load() {
		l.nextProbe.Store(next)
	}
}
