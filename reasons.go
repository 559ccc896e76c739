package helix

// Why a decision was made. The texts are short, constant and safe as label values:
// metrics, alerts and tests of users name them.

// Why a job is admitted to a strategy.
const (
	reasonSmall       = "cost within inline_threshold"
	reasonMedium      = "cost within spawn_threshold"
	reasonScales      = "scales well, joins a batch"
	reasonBusyBatch   = "cpu is busy, scales well enough to batch"
	reasonLarge       = "needs a cpu slot"
	reasonUnknownCost = "cost not known, needs a cpu slot"
	reasonWaits       = "waits, holds no cpu slot"
	reasonGathers     = "waits, shares calls with others"
	reasonSeeBack     = "sees whether its downstream is back"
	reasonNested      = "nested, runs in the slot its caller holds"
	reasonSmallRun    = "predicted within inline_threshold"
	reasonMediumRun   = "predicted within spawn_threshold"
	reasonGain        = "batching saves work"
	reasonSpare       = "short, all slots are taken, a processor is spare"
	reasonSlot        = "slot free"
	reasonQueues      = "queued, earliest deadline first"
	reasonProbe       = "let in to learn its run time anew"
	reasonElsewhere   = "cannot be kept here, can elsewhere"
	reasonSooner      = "done sooner elsewhere"
)

// Why a job is dropped.
const (
	reasonBusy       = "cpu is busy and it scales too little to batch"
	reasonLate       = "already late"
	reasonBudget     = "budget cannot be met"
	reasonWait       = "budget would end while it waits for a slot"
	reasonShare      = "over its fair share"
	reasonQueueFull  = "queue is full"
	reasonSpawnLimit = "spawn_limit reached"
	reasonGateTime   = "its budget ended while max_concurrent others ran"
	reasonDownstream = "its downstream is full"
	reasonExpired    = "its budget ended while it waited for a slot"
	reasonDisplaced  = "gave its place in the full queue to another"
	reasonNoTime     = "too late to start when its slot came"
	reasonClosed     = "router is closed"
	reasonRefused    = "strategy refused it"
	reasonNoStrategy = "policy named an unknown strategy"
	reasonDeclined   = "strategy declined it"
)

// ownReasons are the router's own reasons to drop: each has a counter of its own from the
// beginning, so that a policy that makes up reasons cannot take it. Those of floods come first:
// they are found first.
var ownReasons = []string{
	reasonShare, reasonBudget, reasonWait, reasonDownstream, reasonLate, reasonQueueFull, reasonSpawnLimit,
	reasonBusy, reasonExpired, reasonDisplaced, reasonNoTime, reasonGateTime, reasonClosed, reasonRefused, reasonNoStrategy,
	reasonDeclined,
}

// Why another strategy was not chosen.
const (
	notSmall     = "cost above inline_threshold"
	notMedium    = "cost above spawn_threshold"
	notUnknown   = "cost not known"
	notAsync     = "came through Go, has no caller to run on"
	notBatch     = "kind has no batch function"
	notScaling   = "scales too little"
	notNeeded    = "a cheaper strategy will do"
	notBusy      = "cpu is busy"
	notSmallRun  = "predicted above inline_threshold"
	notConfirmed = "hint not confirmed by any run yet"
	notBetter    = "a batch costs less"
	notFree      = "all slots are taken"
	notPaying    = "batching does not pay"
	notWaits     = "waits, needs no cpu slot"
	notSooner    = "waiting for a slot takes longer"
)
