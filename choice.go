package helix

import "time"

// choice is the internal, 72-byte form of a 208-byte [Decision]: the strategy as an index,
// rejected alternatives as a pointer to a shared array. Each job that waits holds one, and
// each decision clears one.
type choice struct {
	lane      int8 // in Router.lanes, or laneNone
	dropped   bool // refused; lane is the strategy it would have had
	contended bool // had to wait for a slot
	probe     bool // admitted as a probe: to be run even if that seems vain
	bound     bool // its budget is what is left until the deadline of its ctx
	diverted  [2]diversion
	offer     int8 // the place in Pressure.Offers, and one, of what was taken; 0: none
	reason    string

	wait, run, slack time.Duration
	excess           time.Duration // how much too much was before it
	demand, share    float32

	rejected *[4]Alternative // nil: none; never written
}

// The places of the built-in strategies in Router.lanes.
const (
	laneNone   = -1
	laneInline = iota - 1
	laneSpawn
	laneCPUPool
	laneBatch
)

// laneNames are the strategies that the built-in policies choose among.
var laneNames = [...]string{laneInline: Inline, laneSpawn: Spawn, laneCPUPool: CPUPool, laneBatch: Batch}

// diversion is why a strategy that the policy chose cannot be used.
type diversion uint8

const (
	divertUnbatchable diversion = iota + 1
	divertAsync
	divertNestedPool
	divertNestedBatch
)

// diversions are the alternatives that they leave behind.
var diversions = [...]Alternative{
	divertUnbatchable: {Batch, notBatch},
	divertAsync:       {Inline, notAsync},
	divertNestedPool:  {CPUPool, reasonNested},
	divertNestedBatch: {Batch, reasonNested},
}

// drop makes c a refusal.
func (c *choice) drop(reason string) { c.dropped, c.reason = true, reason }

// choose takes a strategy.
func (c *choice) choose(lane int8, reason string, rejected *[4]Alternative) {
	c.lane, c.reason, c.rejected = lane, reason, rejected
}

// reroute replaces the strategy that the policy chose with one that can run the job, and
// records why.
func (c *choice) reroute(why diversion, lane int8, reason string) {
	c.lane, c.reason = lane, reason
	if c.diverted[0] == 0 {
		c.diverted[0] = why
	} else {
		c.diverted[1] = why
	}
}

// decision returns the public form of c; name is its lane's.
func (c *choice) decision(name string) (d Decision) {
	c.expandInto(&d, name)
	return d
}

// expandInto writes the public form of c to *d, which must be zero; name is its lane's.
func (c *choice) expandInto(d *Decision, name string) {
	d.Strategy, d.Reason = name, c.reason
	d.Wait, d.Run, d.Slack, d.Excess = c.wait, c.run, c.slack, c.excess
	d.Demand, d.Share = float64(c.demand), float64(c.share)
	if c.rejected != nil {
		d.Rejected = *c.rejected
	}
	for i := 0; i < len(c.diverted) && c.diverted[i] != 0; i++ {
		why := &diversions[c.diverted[i]]
		d.reject(why.Strategy, why.Reason)
	}
	if c.dropped {
		d.drop(c.reason)
	}
}

// expandBuiltin is expandInto for a choice among the built-in strategies and what others offer.
func (c *choice) expandBuiltin(d *Decision, p *Pressure) {
	name := ""
	switch {
	case c.offer > 0:
		name = p.Offers[c.offer-1].Strategy
	case c.lane != laneNone:
		name = laneNames[c.lane]
	}
	c.expandInto(d, name)
}

// choose asks the policy. Those that come with the library are asked by reference:
// copies of all that a decision takes would make the stack of every submitting goroutine
// grow.
func (r *Router) choose(q *request, p *Pressure) {
	switch policy := q.cfg.Policy.(type) { // not by a method: a type that embeds a policy would inherit it
	case AdaptivePolicy:
		policy.choose(&q.info, p, &q.choice)
	case ThresholdPolicy:
		policy.choose(&q.info, p, &q.choice)
	default:
		r.chooseByValue(policy, q, p)
	}
}

//go:noinline
func (r *Router) chooseByValue(policy Policy, q *request, p *Pressure) {
	c := &q.choice
	d := policy.Choose(q.info, *p)
	*c = choice{lane: laneNone, bound: c.bound, wait: d.Wait, run: d.Run, slack: d.Slack, excess: d.Excess, demand: float32(d.Demand), share: float32(d.Share)}
	if l := r.lane(d.Strategy); l != nil {
		c.lane = int8(l.index)
	} else if c.dropped = true; d.Strategy != Drop {
		d.drop(reasonNoStrategy)
	}
	c.reason = d.Reason
	c.probe = p.Probe && !c.dropped
	// A policy's alternatives are few, and those of one kind mostly the same.
	if d.Rejected == ([4]Alternative{}) {
		return
	}
	if c.rejected = q.kind.rejected.Load(); c.rejected == nil || *c.rejected != d.Rejected {
		c.rejected = new([4]Alternative)
		*c.rejected = d.Rejected
		q.kind.rejected.Store(c.rejected)
	}
}
