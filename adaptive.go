package helix

import (
	"time"

	"github.com/helixrouter/helix/internal/num"
)

// AdaptivePolicy keeps promises: a job it admits finishes inside its budget,
// whatever the load, and what cannot is refused at once. Its zero value is ready
// for use and follows [Router.Update]. First, it does no harm: a job that finds a slot free
// runs, and one that must wait is refused only for one of these:
//
//  1. it would be late itself: what is in the slots, and what is queued and due before it,
//     leaves too little of its budget for the run;
//  2. it would make others late: all kinds together ask for more CPU than there is, its kind for
//     more than its fair share of it (max-min fair by [Kind].Weight), and as much of
//     the kind is admitted as that share can serve in time. Of those, low priorities are refused first;
//  3. work that Waits: no more calls in flight than let its downstream answer in time, as
//     learned for each (see [Kind].Downstream); one that is not the bottleneck has no limit;
//  4. the bounds that the user set, CPUQueueCap and SpawnLimit.
//
// And it chooses the cheapest strategy that serves: inline for runs that keep within
// InlineThreshold on average, and four times that nine times in ten; spawn for work that Waits, and for work from Go predicted
// to keep within SpawnThreshold likewise while a slot is free; batch for kinds whose
// batches have been seen to save at least a tenth (or not been seen yet); inline
// again for runs within SpawnThreshold that find all slots taken while GOMAXPROCS is
// more than CPUParallelism; cpu_pool for the rest. A job that it would refuse, unless it is
// already late, or that would wait longer for a slot than all of it takes elsewhere, goes
// to a strategy that forecasts to serve it: see [Forecaster]. A job that its kind's estimate
// alone refuses is admitted now and then as a probe, so that a wrong one is corrected.
type AdaptivePolicy struct{}

// String returns the policy's name in configuration files and on pages.
func (AdaptivePolicy) String() string { return "adaptive" }

// tierPart is the part of what a job may be promised that Low, Normal and High get.
var tierPart = [3]float64{0.80, 0.95, 1}

// batchPays is the saving from which batching is worth it.
const batchPays = 0.1

// Choose implements [Policy]. It does not allocate and costs about 30 ns.
func (a AdaptivePolicy) Choose(j JobInfo, p Pressure) (d Decision) {
	var c choice
	a.choose(&j, &p, &c)
	c.expandBuiltin(&d, &p)
	return d
}

func (AdaptivePolicy) choose(j *JobInfo, p *Pressure, c *choice) {
	c.run, c.slack, c.demand, c.share = j.Predicted, j.Slack, float32(p.Demand), float32(p.Share)
	adaptiveLane(c, j, p)
	c.contended = p.contended() && !j.Waits
	switch {
	case j.Budget == 0: // nothing can be late
	case j.Slack <= 0:
		c.drop(reasonLate)
	case j.least() > j.Slack && p.Probe:
		c.reason, c.probe = reasonProbe, true
	case j.least() > j.Slack:
		c.drop(reasonBudget)
	case c.contended && c.lane != laneInline && p.Soonest+j.takes(p) > j.Slack:
		c.excess = p.Soonest + j.takes(p) - j.Slack
		c.drop(reasonWait)
	case (c.contended || p.Hidden && !j.Waits) && j.over(p):
		c.excess = p.Turn - j.ahead(p)
		c.drop(reasonShare)
	}
	switch {
	case c.dropped || c.lane == laneInline: // which has no bound
	case j.Waits && p.DownstreamLimit > 0 && p.InFlight >= p.DownstreamLimit && (c.lane == laneSpawn || p.BatchFill == 0):
		c.crowded(j, p)
	case c.lane == laneSpawn && p.Spawned >= p.SpawnLimit:
		c.drop(reasonSpawnLimit)
	case (c.lane == laneCPUPool || c.lane == laneBatch && !j.Waits) && p.full():
		c.excess = p.Wait
		c.drop(reasonQueueFull)
	}
	if p.Offers != nil {
		c.goElsewhere(j, p)
	}
}

// crowded refuses a job that finds its downstream full, unless it is to see whether it is back.
func (c *choice) crowded(j *JobInfo, p *Pressure) {
	if p.Probe {
		c.reason = reasonSeeBack
		return
	}
	over := float64(p.InFlight+1-p.DownstreamLimit) / float64(p.InFlight+1)
	c.excess = max(num.Scale(j.Predicted, over), 1) // by Little's law, until so many have ended
	c.drop(reasonDownstream)
}

// takes returns the run time that must fit into the budget of a job that has to wait: what a run
// is unlikely to exceed while its kind asks for more than its share, because others could use
// the slot, and else what it may just keep within; and, while others wait, what is left for Submit
// to return (see Ticket.needs).
func (j *JobInfo) takes(p *Pressure) time.Duration {
	takes := j.least()
	if p.Limited && j.High > 0 {
		takes = j.High
	}
	if p.Queued > 0 {
		takes += timeToReturn(j.Budget)
	}
	return takes
}

// least returns the run time that a job may just keep within.
func (j *JobInfo) least() time.Duration {
	if j.Low > 0 {
		return j.Low
	}
	return j.Predicted
}

// contended reports whether a job that needs a slot must wait for one.
func (p *Pressure) contended() bool { return p.CPUBusy >= p.Slots || p.Queued > 0 }

// full reports whether there is neither a slot for the job nor a place in the queue.
func (p *Pressure) full() bool {
	return p.CPUBusy >= p.Slots && p.Queued >= p.QueueCap && p.Room <= 0
}

// leastAhead is the backlog that a kind over its share may have even if its budgets are
// shorter: earliest deadline first serves it faster than its guaranteed rate does.
const leastAhead = 50 * time.Millisecond

// over reports whether the kind, which asks for more than its share, has as much admitted as
// its guaranteed rate can serve in the time that the job has, and the job was not told to come now.
// Of jobs of one kind those with more time are no better off: the tightest budget counts.
func (j *JobInfo) over(p *Pressure) bool {
	return p.Limited && !p.Recalled && p.Turn > j.ahead(p)
}

// ahead returns the backlog that the kind of a job may have before it.
func (j *JobInfo) ahead(p *Pressure) time.Duration {
	return num.Scale(max(min(j.Slack, p.Tightest)-j.Predicted, leastAhead), p.Part)
}

// What is rejected with each strategy. Where inline comes first, it depends on the job
// why: see whyNotInline.
var (
	besideInline = [4]Alternative{{Spawn, notNeeded}, {CPUPool, notNeeded}, {Batch, notNeeded}}
	besideSpawn  = [4]Alternative{{Inline, notAsync}, {CPUPool, notNeeded}, {Batch, notNeeded}}
	besideSpare  = [4]Alternative{{Spawn, notNeeded}, {CPUPool, notFree}, {Batch, notBatch}}

	besideWaits           = notInlineAnd(Alternative{CPUPool, notWaits})
	besideBatch           = notInlineAnd(Alternative{CPUPool, notBetter})
	besideCPUPool         = notInlineAnd(Alternative{Batch, notBatch})
	besideCPUPoolNotBatch = notInlineAnd(Alternative{Batch, notPaying})
)

// inlineReasons are why a job does not run inline.
var inlineReasons = [...]string{notSmallRun, notUnknown, notAsync, notConfirmed}

// whyNotInline returns the place in inlineReasons of why.
func whyNotInline(j *JobInfo, known, confirmed bool) int {
	switch {
	case !known:
		return 1
	case j.Async:
		return 2
	case !confirmed:
		return 3
	}
	return 0
}

// notInlineAnd is inline, rejected for each of those reasons, and another.
func notInlineAnd(other Alternative) (beside [len(inlineReasons)][4]Alternative) {
	for i, why := range inlineReasons {
		beside[i] = [4]Alternative{{Inline, why}, other}
	}
	return beside
}

// keepsWithin reports whether runs like the job's take no longer than most on average, and
// seldom much longer.
func keepsWithin(j *JobInfo, most time.Duration) bool {
	return j.Predicted <= most && j.High/seldomMore <= most
}

// seldomMore is how many times a threshold one run in ten may take for the average to be
// what counts. Of the shortest runs one in ten is easily interrupted.
const seldomMore = 4

// adaptiveLane fills in the strategy that suits the job, if it is admitted. Its frame, the
// last of a decision's, is taken from the stack's reserve.
//
//go:nosplit
func adaptiveLane(c *choice, j *JobInfo, p *Pressure) {
	known := j.Samples > 0 || j.Cost > 0
	confirmed := known && !(j.Samples == 0 && p.Trial)
	if confirmed && !j.Waits && !j.Async && keepsWithin(j, p.InlineThreshold) {
		c.choose(laneInline, reasonSmallRun, &besideInline)
		return
	}
	why := whyNotInline(j, known, confirmed)
	switch {
	case j.Waits && j.Batchable:
		c.choose(laneBatch, reasonGathers, &besideWaits[why])
	case j.Waits:
		c.choose(laneSpawn, reasonWaits, &besideWaits[why])
	case confirmed && j.Async && p.CPUBusy < p.Slots && keepsWithin(j, p.SpawnThreshold):
		c.choose(laneSpawn, reasonMediumRun, &besideSpawn)
	case j.Batchable && p.BatchGain >= batchPays:
		c.choose(laneBatch, reasonGain, &besideBatch[why])
		c.wait = p.Wait
	case p.Spare > 0 && confirmed && !j.Async && p.CPUBusy >= p.Slots && keepsWithin(j, p.SpawnThreshold):
		c.choose(laneInline, reasonSpare, &besideSpare)
	default:
		beside, reason := &besideCPUPool[why], reasonSlot
		if j.Batchable {
			beside = &besideCPUPoolNotBatch[why]
		}
		if p.CPUBusy >= p.Slots {
			reason = reasonQueues
		}
		c.choose(laneCPUPool, reason, beside)
		c.wait = p.Wait
	}
}
