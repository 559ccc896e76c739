package helix

import (
	"time"

	"github.com/helixrouter/helix/internal/estimate"
	"github.com/helixrouter/helix/internal/limit"
)

// downstream is what the jobs of one or more kinds wait for: a database, another service, a
// disk. Its limit is learned; see internal/limit.
type downstream struct {
	name  string // as said with Kind.Downstream, or the kind's own
	limit limit.Limit
}

// downstreamNamed returns the downstream of that name, which is k's own if the name is empty.
// It requires r.kindsMu.
func (r *Router) downstreamNamed(name string, k *kind) *downstream {
	if name == "" {
		return k.downstream.Load()
	}
	d := r.downstreams[name]
	if d == nil {
		d = &downstream{name: name}
		if r.downstreams == nil {
			r.downstreams = map[string]*downstream{}
		}
		r.downstreams[name] = d
	}
	return d
}

// down returns what the kind's jobs wait for.
func (k *kind) down() *downstream { return k.downstream.Load() }

// place returns how often a place for one more call comes free.
func (d *downstream) place() time.Duration {
	return estimate.Bounded(1e9 / max(d.limit.Rate(), 1))
}

// lookDown fills in the state of what a job that waits will wait for. Before predict, j has
// what the kind's runs say; how long they took when the downstream was full tells nothing of
// how long this one will take, so they do not count for more than what is in flight now.
//
//go:noinline
func (d *downstream) lookDown(j *JobInfo, p *Pressure) {
	l := &d.limit
	p.InFlight = int(l.InFlight())
	// Seldom: if all in flight are served before the job might end, nothing is to be put right.
	if base := time.Duration(l.Base()); base > 0 && (j.Predicted > base || j.High > 2*base) &&
		(float64(j.High)*l.Rate() > float64(p.InFlight+1)*1e9 || l.Limit(limit.Normal) != limit.None) {
		d.expect(j, base)
	}
	p.DownstreamLimit, p.Probe = l.Room(int64(p.Now), limit.Priority(j.Priority))
}

// expect has a job that is predicted to take longer than a call that finds little else in
// flight take no longer than what is in flight does.
func (d *downstream) expect(j *JobInfo, base time.Duration) {
	l := &d.limit
	rate := l.Rate()
	if rate <= 0 {
		return
	}
	expected := max(base, estimate.Bounded(float64(l.InFlight()+1)/rate*1e9))
	if l.Limit(limit.Normal) != limit.None {
		expected = min(expected, max(time.Duration(l.Latency()), base))
	}
	j.Predicted = min(j.Predicted, expected)
	j.High = max(min(j.High, 2*expected), j.Predicted)
}

// begin notes that the ticket's call is about to start.
func (d *downstream) begin(t *Ticket) {
	t.job.among = d.limit.Begin(t.decided, int64(t.job.budget))
}

// end notes that the ticket's call has ended, or never began.
func (d *downstream) end(t *Ticket) {
	if t.exit == exitNotRun {
		d.limit.Abandon()
		return
	}
	d.limit.End(limit.Call{Began: t.started, Among: t.job.among}, t.ended, t.succeeded())
}

// DownstreamStats is what is known of what a kind's jobs wait for.
type DownstreamStats struct {
	Name     string  `json:"name"`      // Kind.Downstream, or the kind's own
	InFlight int     `json:"in_flight"` // calls, of all kinds that share it, without those lost
	Lost     int     `json:"lost"`      // calls in flight that stay there while later ones end: none counts against Limit
	Limit    int     `json:"limit"`     // the most that may be in flight, as learned; 0 = it is not the bottleneck
	BaseMs   float64 `json:"base_ms"`   // learned latency of a call that finds little else in flight; 0 = not known
	MeanMs   float64 `json:"mean_ms"`   // mean latency lately
	Rate     float64 `json:"rate"`      // calls that ended well a second, lately
}

// known reports whether a call was ever made.
func (d *downstream) known() bool { return d.limit.InFlight()+d.limit.Lost() > 0 || d.limit.Base() > 0 }

// waiting reports whether the kind was registered as one that waits.
func (k *kind) waiting() bool {
	of := k.template.Load()
	return of != nil && of.Waits
}

// stats describes d.
func (d *downstream) stats() *DownstreamStats {
	l := &d.limit
	s := &DownstreamStats{
		Name: d.name, InFlight: int(l.InFlight()), Lost: int(l.Lost()),
		BaseMs: milliseconds(time.Duration(l.Base())), MeanMs: milliseconds(time.Duration(l.Latency())), Rate: l.Rate(),
	}
	if most := l.Limit(limit.Normal); most != limit.None {
		s.Limit = int(most)
	}
	return s
}
