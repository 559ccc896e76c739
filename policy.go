package helix

import (
	"time"

	"github.com/helixrouter/helix/internal/num"
)

// The five strategies, by the words used in code, JSON, labels and pages.
const (
	Inline  = "inline"   // on the caller's goroutine, at once
	Spawn   = "spawn"    // on a goroutine of its own, under RouterConfig.SpawnLimit
	CPUPool = "cpu_pool" // in one of RouterConfig.CPUParallelism slots, queued by deadline
	Batch   = "batch"    // together with others of its kind, in one call and one slot
	Drop    = "drop"     // not at all
)

// Policy chooses how a job runs. Choose is called on every submitting
// goroutine: it must be fast, pure (the same arguments give the same decision,
// so that recorded decisions can be replayed) and safe for concurrent use.
//
// A Decision whose Strategy is neither one of the five nor the Name of one in
// RouterConfig.Strategies counts as Drop.
type Policy interface {
	Choose(JobInfo, Pressure) Decision
}

// JobInfo is what a [Policy] knows of a job.
type JobInfo struct {
	Kind      string
	Cost      float64       // as hinted, in the kind's own unit; 0 = not known
	Scaling   float64       // 0..1
	Predicted time.Duration // run time alone as learned, or Cost x UnitTime before that; 0 = not known
	Low       time.Duration // run time that one in ten such jobs keeps within, as learned
	Likely    time.Duration // run time that four in five keep within
	High      time.Duration // run time that nine in ten keep within; at least Predicted
	Work      time.Duration // CPU time it adds: Predicted, less what a batch saves; 0 if it Waits
	Spread    time.Duration // mean deviation of Predicted; 0 = not known
	Samples   uint64        // finished runs that Predicted rests on
	Budget    time.Duration // 0 = none
	Slack     time.Duration // what is left of Budget, negative when late; only if Budget > 0
	Deadline  time.Duration // Pressure.Now + Slack; only if Budget > 0
	Priority  Priority
	Batchable bool // the kind has a batch function
	Waits     bool // mostly waits, needs no CPU slot
	Async     bool // came through Go: there is no caller's goroutine to run on

	Portable   bool // its input and output can be bytes: the kind has a Codec
	Idempotent bool // may be done twice; see Kind.Idempotent
}

// Pressure is the state of the router at the moment of a decision.
type Pressure struct {
	Now time.Duration // since the router was made

	CPUBusy  int           // slots in use
	Slots    int           // RouterConfig.CPUParallelism
	Spare    int           // GOMAXPROCS beyond Slots; 0 if there are no more
	Queued   int           // jobs waiting for a slot
	QueueCap int           // RouterConfig.CPUQueueCap
	Wait     time.Duration // predicted wait for a slot
	Work     time.Duration // predicted CPU time of the jobs that hold a slot or wait for one

	Demand float64 // CPU seconds a second offered by all kinds, refused work included
	Share  float64 // CPU seconds a second that are this kind's fair share

	// What stands before the job.
	//
	// Soonest is the soonest that a slot comes: what is in the slots, and what is queued and due
	// before it, must be done. It is predicted only if all slots are taken, for jobs with a budget that
	// do not wait for a downstream, and not if AdaptivePolicy refuses the job for its kind's share anyway.
	Soonest time.Duration
	Turn    time.Duration // how long the kind's guaranteed rate takes for what was admitted of it
	Room    int           // places in the queue for it; in a full queue, places that it may take from others

	Part     float64       // of the backlog that its kind may have, for a job of this priority; only if Limited
	Tightest time.Duration // the kind's shortest budget lately; only if Limited
	Recalled bool          // it comes when a refused job of its kind was told to come again
	Limited  bool          // more is asked for than there is, and by this kind more than its share
	Hidden   bool          // jobs wait in front of the router, see Router.Waited: a slot that is free is not spare
	Probe    bool          // to be admitted although it seems vain: to correct a doubtful estimate, or to see whether a downstream is back
	Trial    bool          // a job of the kind runs outside the slots on the word of its hint, which no run has confirmed

	// What a job that Waits will wait for; only of one that does.
	InFlight        int // calls of its downstream that have not ended, of all kinds that share it
	DownstreamLimit int // the most there may be for a job of this priority, as learned; 0 = it is not the bottleneck

	Spawned    int // jobs on goroutines of their own
	SpawnLimit int // RouterConfig.SpawnLimit

	BatchFill    int     // jobs in the kind's forming batch
	BatchMaxSize int     // the kind's own, or RouterConfig.BatchMaxSize
	BatchGain    float64 // what a full batch saves, 0..1, as learned; 1 = not known

	// What strategies that forecast offer the job; nil = nothing, and an element without a
	// Strategy is none. Choose must not keep the pointer. (An array in place would be on the
	// stack of every submitting goroutine.)
	Offers *[maxOffers]Offer

	// The live thresholds, so that a policy needs no configuration of its own.
	InlineThreshold time.Duration
	SpawnThreshold  time.Duration
	BusyThreshold   int           // RouterConfig.BackpressureBusyThreshold
	UnitTime        time.Duration // per unit of cost until a kind is learned
}

// Decision is the route of one job and why it was taken.
type Decision struct {
	Strategy string
	Reason   string // constant text, a few dozen different ones at most

	// The numbers that decided, as predicted at that moment; 0 = not known.
	Wait   time.Duration // until the job starts
	Run    time.Duration // how long it then takes
	Slack  time.Duration // what was left of its budget
	Demand float64       // as in Pressure
	Share  float64       // as in Pressure
	// Excess is by how much what stands before the job, as time, is too much; only of a
	// refusal that waiting can cure. DropError.RetryAfter rests on it.
	Excess time.Duration

	Rejected [4]Alternative // the other strategies and why not; the rest is zero
}

// Completion predicts the time from the decision to the end of the job.
func (d Decision) Completion() time.Duration { return d.Wait + d.Run }

// Alternative is a strategy that was not chosen.
type Alternative struct {
	Strategy string
	Reason   string
}

// Reject returns d with one more rejected alternative; beyond the fourth it is
// forgotten.
func (d Decision) Reject(strategy, reason string) Decision {
	d.reject(strategy, reason)
	return d
}

func (d *Decision) reject(strategy, reason string) {
	for i := range d.Rejected {
		if d.Rejected[i].Strategy == "" {
			d.Rejected[i] = Alternative{strategy, reason}
			return
		}
	}
}

// drop turns d into a refusal; the strategy it would have had becomes a
// rejected alternative.
func (d *Decision) drop(reason string) {
	if d.Strategy != "" {
		d.reject(d.Strategy, reason)
	}
	d.Strategy, d.Reason = Drop, reason
}

// The scaling from which work is batched: under pressure, and always.
const (
	batchScalingBusy = 0.65
	batchScaling     = 0.70
)

// ThresholdPolicy is a table of static rules, for services that must know in advance
// what happens. Its zero value is ready for use and follows
// [Router.Update]. In order:
//
//   - cpu_busy at or above BackpressureBusyThreshold: batch if Scaling is at
//     least 0.65, else drop;
//   - cost at most InlineThreshold: inline (spawn for work from Go);
//   - cost at most SpawnThreshold: spawn;
//   - Scaling at least 0.70: batch;
//   - everything else: cpu_pool.
//
// Cost is the hint times UnitTime, never what was learned, so that the same
// job is always routed alike; without a hint the learned run time stands in,
// and without either Scaling alone decides between batch and cpu_pool. Work that Waits is
// spawned. A kind without a batch function goes to cpu_pool where the table
// says batch.
//
// It also refuses a job whose budget the predicted wait and run time cannot meet, and one
// that finds its strategy's bound reached.
type ThresholdPolicy struct{}

// String returns the policy's name in configuration files and on pages.
func (ThresholdPolicy) String() string { return "threshold" }

// Choose implements [Policy]. It does not allocate and costs about 30 ns.
func (t ThresholdPolicy) Choose(j JobInfo, p Pressure) (d Decision) {
	var c choice
	t.choose(&j, &p, &c)
	c.expandBuiltin(&d, &p)
	return d
}

func (ThresholdPolicy) choose(j *JobInfo, p *Pressure, c *choice) {
	c.run, c.slack, c.demand, c.share = j.Predicted, j.Slack, float32(p.Demand), float32(p.Share)
	if j.Budget > 0 && j.Slack <= 0 {
		c.lane = laneNone
		c.drop(reasonLate)
		return
	}
	thresholdLane(c, j, p)
	switch {
	case c.dropped:
		return
	case c.lane == laneSpawn:
		if p.Spawned >= p.SpawnLimit {
			c.drop(reasonSpawnLimit)
			return
		}
	case j.Waits:
	case c.lane == laneCPUPool || c.lane == laneBatch:
		if p.full() {
			c.excess = p.Wait
			c.drop(reasonQueueFull)
			return
		}
		c.wait = p.Wait
	}
	switch {
	case j.Budget == 0:
	case j.least() > j.Slack && p.Probe:
		c.reason, c.probe = reasonProbe, true
	case j.least() > j.Slack:
		c.drop(reasonBudget)
	case !j.Waits && c.lane != laneSpawn && c.lane != laneInline && p.Soonest+j.takes(p) > j.Slack:
		c.excess = p.Soonest + j.takes(p) - j.Slack
		c.drop(reasonWait)
	}
}

// What the table rejects with each of its lines.
var (
	tableWaits          = [4]Alternative{{CPUPool, notWaits}}
	tableBusy           = [4]Alternative{{Inline, notBusy}, {Spawn, notBusy}, {CPUPool, notBusy}, {Batch, notScaling}}
	tableBusyBatch      = [4]Alternative{{Inline, notBusy}, {Spawn, notBusy}, {CPUPool, notBusy}}
	tableBusyPool       = [4]Alternative{{Inline, notBusy}, {Spawn, notBusy}, {Batch, notBatch}}
	tableSmall          = [4]Alternative{{Spawn, notNeeded}, {CPUPool, notNeeded}, {Batch, notNeeded}}
	tableSmallAsync     = [4]Alternative{{Inline, notAsync}, {CPUPool, notNeeded}, {Batch, notNeeded}}
	tableMedium         = [4]Alternative{{Inline, notSmall}, {CPUPool, notNeeded}, {Batch, notNeeded}}
	tableBatch          = [4]Alternative{{Inline, notSmall}, {Spawn, notMedium}, {CPUPool, notNeeded}}
	tableLarge          = [4]Alternative{{Inline, notSmall}, {Spawn, notMedium}, {Batch, notScaling}}
	tableLargeNoBatch   = [4]Alternative{{Inline, notSmall}, {Spawn, notMedium}, {Batch, notBatch}}
	tableUnknown        = [4]Alternative{{Inline, notUnknown}, {Spawn, notUnknown}, {Batch, notScaling}}
	tableUnknownNoBatch = [4]Alternative{{Inline, notUnknown}, {Spawn, notUnknown}, {Batch, notBatch}}
)

// thresholdLane fills in what the table alone says.
func thresholdLane(c *choice, j *JobInfo, p *Pressure) {
	cost, known := time.Duration(0), true
	switch {
	case j.Cost > 0:
		cost = num.Scale(p.UnitTime, j.Cost)
	case j.Samples > 0:
		cost = j.Predicted
	default:
		known = false
	}
	busy, scales := p.CPUBusy >= p.BusyThreshold, j.Scaling >= batchScaling
	switch {
	case j.Waits && j.Batchable:
		c.choose(laneBatch, reasonGathers, &tableWaits)
	case j.Waits:
		c.choose(laneSpawn, reasonWaits, &tableWaits)

	case busy && j.Scaling < batchScalingBusy:
		c.choose(laneNone, reasonBusy, &tableBusy)
		c.dropped = true
	case busy && j.Batchable:
		c.choose(laneBatch, reasonBusyBatch, &tableBusyBatch)
	case busy:
		c.choose(laneCPUPool, reasonLarge, &tableBusyPool)

	case known && cost <= p.InlineThreshold && !j.Async:
		c.choose(laneInline, reasonSmall, &tableSmall)
	case known && cost <= p.InlineThreshold:
		c.choose(laneSpawn, reasonSmall, &tableSmallAsync)
	case known && cost <= p.SpawnThreshold:
		c.choose(laneSpawn, reasonMedium, &tableMedium)

	case scales && j.Batchable:
		c.choose(laneBatch, reasonScales, &tableBatch)
	case known && scales:
		c.choose(laneCPUPool, reasonLarge, &tableLargeNoBatch)
	case known:
		c.choose(laneCPUPool, reasonLarge, &tableLarge)
	case scales:
		c.choose(laneCPUPool, reasonUnknownCost, &tableUnknownNoBatch)
	default:
		c.choose(laneCPUPool, reasonUnknownCost, &tableUnknown)
	}
}
