package helix

// AdaptivePolicy keeps promises: a job it admits finishes inside its budget,
// whatever the load, and what cannot is refused at once. Its zero value is ready
// for use and follows [Router.Update]. It admits by three rules:
//
//  1. not already late: what is left of the budget must hold the predicted run;
//  2. fair share: when all kinds together ask for more CPU than there is, the
//     machine is divided among them, max-min fairly by weight, and a kind that asks
//     for more than its share gets its share (see [Kind].Weight; within it,
//     low priorities are refused first, and none is starved);
//  3. the bounds CPUQueueCap and SpawnLimit, as a last resort.
//
// And it chooses the cheapest strategy that serves: inline for runs predicted
// within InlineThreshold; spawn for work that Waits, and for work from Go predicted
// within SpawnThreshold while a slot is free; batch for kinds whose
// batches have been seen to save at least a tenth (or not been seen yet); inline
// again for runs within SpawnThreshold that find all slots taken while GOMAXPROCS is
// more than CPUParallelism; cpu_pool for the rest. A kind of which nothing has started for a second
// gets one job in, so that a wrong estimate heals.
type AdaptivePolicy struct{}

// String returns the policy's name in configuration files and on pages.
func (AdaptivePolicy) String() string { return "adaptive" }

// batchPays is the saving from which batching is worth it.
const batchPays = 0.1

// Choose implements [Policy]. It does not allocate and costs about 30 ns.
func (a AdaptivePolicy) Choose(j JobInfo, p Pressure) (d Decision) {
	a.choose(&j, &p, &d)
	return d
}

func (AdaptivePolicy) choose(j *JobInfo, p *Pressure, d *Decision) {
	d.Run, d.Slack, d.Demand, d.Share = j.Predicted, j.Slack, p.Demand, p.Share
	adaptiveLane(d, j, p)
	switch {
	case j.Budget > 0 && j.Slack <= 0:
		d.drop(reasonLate)
	case j.Budget > 0 && j.Predicted > j.Slack && !p.Probe:
		d.drop(reasonBudget)
	case p.Limited && p.ShareLeft <= 0 && !j.Waits && !p.Probe:
		d.drop(reasonShare)
	case d.Strategy == Spawn && p.Spawned >= p.SpawnLimit:
		d.drop(reasonSpawnLimit)
	case (d.Strategy == CPUPool || d.Strategy == Batch) && p.CPUBusy >= p.Slots && p.Queued >= p.QueueCap:
		d.drop(reasonQueueFull)
	}
}

// What is rejected with each strategy; inline's reason, where it is first, depends.
// They are variables because composite literals would stand on the stack of every
// submitting goroutine, which is often new and small.
var (
	besideWaits   = [4]Alternative{{Inline, notSmallRun}, {CPUPool, notWaits}}
	besideInline  = [4]Alternative{{Spawn, notNeeded}, {CPUPool, notNeeded}, {Batch, notNeeded}}
	besideSpawn   = [4]Alternative{{Inline, notAsync}, {CPUPool, notNeeded}, {Batch, notNeeded}}
	besideBatch   = [4]Alternative{{Inline, notSmallRun}, {CPUPool, notBetter}}
	besideSpare   = [4]Alternative{{Spawn, notNeeded}, {CPUPool, notFree}, {Batch, notBatch}}
	besideCPUPool = [4]Alternative{{Inline, notSmallRun}, {Batch, notBatch}}

	besideCPUPoolNotBatch = [4]Alternative{{Inline, notSmallRun}, {Batch, notPaying}}
)

// adaptiveLane fills in the strategy that suits the job, if it is admitted. One
// assignment to Rejected: each takes a copy on the stack.
func adaptiveLane(d *Decision, j *JobInfo, p *Pressure) {
	known := j.Samples > 0 || j.Cost > 0
	var beside *[4]Alternative
	switch {
	case j.Waits:
		d.Strategy, d.Reason, beside = Spawn, reasonWaits, &besideWaits
	case known && j.Predicted <= p.InlineThreshold && !j.Async:
		d.Strategy, d.Reason, beside = Inline, reasonSmallRun, &besideInline
	case known && j.Async && j.Predicted <= p.SpawnThreshold && p.CPUBusy < p.Slots:
		d.Strategy, d.Reason, beside = Spawn, reasonMediumRun, &besideSpawn
	case j.Batchable && p.BatchGain >= batchPays:
		d.Strategy, d.Reason, beside = Batch, reasonGain, &besideBatch
	case known && !j.Async && p.Spare > 0 && p.CPUBusy >= p.Slots && j.Predicted <= p.SpawnThreshold:
		d.Strategy, d.Reason, beside = Inline, reasonSpare, &besideSpare
	default:
		d.Strategy, d.Reason, beside = CPUPool, reasonSlot, &besideCPUPool
		if j.Batchable {
			beside = &besideCPUPoolNotBatch
		}
		if p.CPUBusy >= p.Slots {
			d.Reason = reasonQueues
		}
	}
	d.Rejected = *beside
	if d.Strategy == Batch || d.Strategy == CPUPool {
		d.Wait = p.Wait
	}
	switch {
	case beside == &besideInline || beside == &besideSpawn || beside == &besideSpare:
	case !known:
		d.Rejected[0].Reason = notUnknown
	case j.Async:
		d.Rejected[0].Reason = notAsync
	}
}
