package helix

import (
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/estimate"
	"github.com/helixrouter/helix/internal/fair"
	"github.com/helixrouter/helix/internal/num"
	"github.com/helixrouter/helix/internal/shard"
)

// kind is all the router keeps of one kind of job. It is never removed.
type kind struct {
	router   *Router
	name     string
	runs     estimate.Runs  // of a kind without a batch function
	calls    estimate.Calls // of a kind with one
	waits    estimate.QueueWait
	account  fair.Account
	prober   estimate.Prober
	weight   num.Float
	template atomic.Pointer[JobInfo] // what Register said; nil for kinds of one-off jobs
	batcher  atomic.Pointer[batcher] // nil without a batch function
	gate     atomic.Pointer[gate]    // nil without Kind.MaxConcurrent
	door     atomic.Pointer[door]    // of its Task, for jobs that come as bytes; nil without a codec
	// downstream is what its jobs that wait are waiting for. Never nil, but in a kind that Explain makes up.
	downstream atomic.Pointer[downstream]
	cells      []cell              // sharded counters, a power of two of them
	refusals   []refusalCounters   // likewise
	latencies  [maxLanes]Histogram // of its jobs that ran, by strategy
	yields     atomic.Bool         // a job has called Yield
	nests      atomic.Bool         // there has been work inside a job, or it has blocked
	failures   estimate.Failures   // see kind.guess
	// trials are the jobs that run outside the slots because of their hints, admitted
	// before any run of the kind had confirmed what hints say.
	trials atomic.Int64
	queued atomic.Int64 // jobs that wait for a slot

	elsewhere [maxLanes]atomic.Pointer[distant] // by lane; nil: nothing is known

	dropErrors [maxReasons]atomic.Pointer[DropError] // the latest for each reason
	rejected   atomic.Pointer[[4]Alternative]        // the latest of a policy from outside
}

// Bounds of the sharded counters.
const (
	maxLanes   = 16 // strategies, Drop not counted
	maxReasons = 24 // different reasons to drop; later ones share the last
)

// cell is one shard of a kind's counters: a ticket writes to one shard only,
// so that cores rarely share a cache line. Each event of a job's life is one
// addition to one word, none is ever taken back, and every figure of Stats is a sum of
// such words. Submissions are counted apart from what becomes of them: if a job were lost
// or counted twice, an idle router would show it in flight.
type cell struct {
	submitted atomic.Uint64             // jobs that the decision admitted, other than those in taken
	taken     [laneBatch]atomic.Uint64  // likewise, and accepted at once by a strategy of the router's own
	routed    [maxLanes]atomic.Uint64   // accepted later than that, by strategy
	bounced   [maxReasons]atomic.Uint64 // dropped because the strategy did not take it
	late      [maxReasons]atomic.Uint64 // dropped after that
	ended     [2][3]atomic.Uint64       // ran: completed, failed x no budget, kept, not kept
	broken    atomic.Uint64             // late ones that had a budget
	withdrawn atomic.Uint64             // after admission

	// CPU ns. Their sum is all that was ever offered. What runs in place is never in
	// admitted: it is accounted for in one step when it has ended.
	shed     atomic.Int64 // predicted, of jobs that were admitted and never ran
	admitted atomic.Int64 // predicted, of jobs that have not ended
	served   atomic.Int64 // of jobs that ran; a batched one's part of a full batch
	unfilled atomic.Int64 // what calls took beyond that, as their batches were not full

	goroutines atomic.Int64 // of the router's own, that are alive
	_          [64]byte     // keeps neighbours off the last line
}

// refusalCounters is one shard of the counters of jobs that never had a ticket: each is
// submitted and ends by one addition.
type refusalCounters struct {
	refused  [maxReasons]atomic.Uint64 // dropped by the decision
	unrouted atomic.Uint64             // ctx was done at Submit: submitted and withdrawn
	shed     atomic.Int64              // predicted CPU ns of those that were refused
	_        [48]byte                  // two pairs of lines
}

// The submitter's goroutine chooses a shard of refusalCounters, not its P: so there are more of
// them than cells, for those of two cores to be seldom the same.
const (
	awayShards    = 4 // for each cell
	maxAwayShards = 64
)

// refusalCounters is the shard for the calling goroutine.
func (k *kind) refusalCounters() *refusalCounters {
	return &k.refusals[int(shard.Hint())&(len(k.refusals)-1)]
}

func (k *kind) cell(shard uint8) *cell { return &k.cells[int(shard)&(len(k.cells)-1)] }

// end counts a job that ran.
func (c *cell) end(status Status, budget, latency time.Duration) {
	s, promise := 0, 0
	if status == Failed {
		s = 1
	}
	if budget > 0 {
		if promise = 1; latency > budget {
			promise = 2
		}
	}
	c.ended[s][promise].Add(1)
}

// dropLate counts an admitted job that was refused after all.
func (c *cell) dropLate(reason int, budget time.Duration) {
	if budget > 0 {
		c.broken.Add(1)
	}
	c.late[reason].Add(1)
}

// offered is the CPU ns that all jobs so far have asked for, refused ones too, and
// worked what those that ran took.
func (k *kind) offered() (offered, worked int64) {
	for i := range k.cells {
		c := &k.cells[i]
		served := c.served.Load()
		offered += c.shed.Load() + c.admitted.Load() + served
		worked += served + c.unfilled.Load()
	}
	for i := range k.refusals {
		offered += k.refusals[i].shed.Load()
	}
	return offered, worked
}

// counts is the sum of a kind's cells.
type counts struct {
	routed  [maxLanes]uint64
	dropped [maxReasons]uint64
	refused uint64 // by the decision or the strategy; the rest of dropped were accepted first
	away    uint64 // ended without a ticket

	submitted, admitted                          uint64
	completed, failed, withdrawn, promised, kept uint64
	goroutines                                   int64
}

// inFlight is the number of jobs submitted and not ended.
func (n *counts) inFlight() uint64 {
	return n.submitted - n.ended()
}

// running is the number of jobs admitted and not ended.
func (n *counts) running() uint64 {
	return n.admitted - (n.ended() - n.away)
}

func (n *counts) ended() uint64 {
	sum := n.completed + n.failed + n.withdrawn
	for _, dropped := range n.dropped {
		sum += dropped
	}
	return sum
}

// count sums up the cells. What ends a job is read before what submits it: a
// job that ends meanwhile shows as in flight, and none can end before it began.
func (k *kind) count() counts {
	var n counts
	for i := range k.cells {
		c := &k.cells[i]
		for s, sum := range []*uint64{&n.completed, &n.failed} {
			none, kept, missed := c.ended[s][0].Load(), c.ended[s][1].Load(), c.ended[s][2].Load()
			*sum += none + kept + missed
			n.kept += kept
			n.promised += kept + missed
		}
		n.withdrawn += c.withdrawn.Load()
		n.promised += c.broken.Load()
		for r := range c.late {
			bounced := c.bounced[r].Load()
			n.refused += bounced
			n.dropped[r] += bounced + c.late[r].Load()
		}
	}
	for i := range k.refusals {
		a := &k.refusals[i]
		unrouted := a.unrouted.Load()
		n.away += unrouted
		n.withdrawn += unrouted
		for r := range a.refused {
			refused := a.refused[r].Load()
			n.away += refused
			n.refused += refused
			n.dropped[r] += refused
		}
	}
	for i := range k.cells {
		c := &k.cells[i]
		n.admitted += c.submitted.Load()
		for s := range c.taken {
			taken := c.taken[s].Load()
			n.admitted += taken
			n.routed[s] += taken
		}
		for s := range c.routed {
			n.routed[s] += c.routed[s].Load()
		}
		n.goroutines += c.goroutines.Load()
	}
	n.submitted = n.admitted + n.away
	return n
}

// predict fills in how long the job will run, as far as is known.
func (k *kind) predict(j *JobInfo, cfg *RouterConfig) {
	if j.Batchable && !j.Waits {
		if k.calls.Samples() > 0 {
			k.predictCall(j, cfg)
			return
		}
	}
	j.expect(k.runs.Predict(j.Cost, cfg.UnitTime))
	j.Work = j.Predicted
	if j.Samples == 0 {
		k.guess(j)
	}
	if j.Waits {
		j.Work = 0
	}
}

// predictCall is predict for a job of a kind whose calls have been learned.
//
//go:noinline
func (k *kind) predictCall(j *JobInfo, cfg *RouterConfig) {
	size, _ := k.batcher.Load().limits(cfg)
	alone, work := k.calls.Predict(j.Cost, size)
	j.expect(alone)
	j.Work = work // what it really took is put right afterwards
}

// expect fills in what is expected of the job's run.
func (j *JobInfo) expect(e estimate.Estimate) {
	j.Predicted, j.Spread, j.Samples = e.Run(), e.Spread(), e.Samples()
	j.Low, j.Likely, j.High = e.Low(), e.Likely(), e.High()
}

// guess puts right what a hint says that no run has confirmed: it stands for no more than
// estimate.UnconfirmedMost of work, and for no less than runs that failed have taken.
func (k *kind) guess(j *JobInfo) {
	failed := k.failures.Run()
	j.High = max(j.High, failed)
	j.Work = max(min(j.Work, estimate.UnconfirmedMost), failed)
}

// succeeded reports that the job did all that it was to do, so that its run time is one
// to expect. A job may end early, and well, because its ctx is done.
func (t *Ticket) succeeded() bool {
	return t.fate == fateReturned && t.err == nil && t.ctx.Err() == nil
}

// fewSamples is the number of samples from which an estimate is not doubtful.
const fewSamples = 16

// doubtful reports that the kind's run times are known from a few runs only, or vary
// so much that a prediction may well be wrong: what is worth a probe.
func (k *kind) doubtful(j *JobInfo) bool {
	return j.Samples < fewSamples || 2*j.Spread > j.Predicted
}

// typical is the CPU time that a usual job of the kind adds; 0 = not known.
func (k *kind) typical(cfg *RouterConfig) time.Duration {
	b := k.batcher.Load()
	j := JobInfo{Batchable: b != nil}
	if of := k.template.Load(); of != nil {
		j.Waits = of.Waits
	}
	k.predict(&j, cfg)
	return j.Work
}

// learn updates the run-time model from a finished job and replaces its predicted charge
// with its actual CPU time.
func (k *kind) learn(t *Ticket) {
	run, trial := t.worked(), t.trial
	if t.choice.probe && !t.job.waits {
		k.router.ledger.Probed(t.ended, run)
	}
	if trial {
		t.endTrial()
	}
	if t.job.elsewhere {
		k.learnElsewhere(t)
		return
	}
	switch {
	case !t.sampled:
	case !t.succeeded():
		k.failures.Observe(run)
	case t.job.batchable && !t.job.waits:
		k.calls.Observe(1, k.calls.Counted(t.job.cost), t.job.cost, run)
	default:
		k.runs.Observe(t.job.cost, run, t.choice.probe)
	}
	if t.job.waits {
		return
	}
	if (t.slot == nil || !t.slot.bounded) && run >= preemptedFrom && t.job.predicted > 0 && !trial {
		run = min(run, estimate.StepMost*t.job.predicted)
	}
	t.pay(int64(run))
}

// preemptedFrom is the run time from which a job without a slot may have been
// preempted, as Go does after 10 ms: nothing bounds the number of such jobs, so
// much of the time may have been others'. Counted as the job's own, it would make
// a few short jobs in a busy process look like overload.
const preemptedFrom = 10 * time.Millisecond

// pay replaces the predicted work that the ticket was charged by what it took.
func (t *Ticket) pay(work int64) {
	t.kind.correct(t, work-t.charge())
	c := t.kind.cell(t.shard)
	c.served.Add(work)
	if t.charge() != 0 {
		c.admitted.Add(-t.charge())
	}
}

// correct puts right what was charged for t. What runs in place was not charged before,
// and is charged only if others had to wait for it.
func (k *kind) correct(t *Ticket, work int64) {
	switch {
	case t.choice.lane != laneInline && t.charge() == 0: // of a kind not learned yet: it was not charged
	case t.choice.lane != laneInline:
		k.account.Correct(work)
	case t.choice.contended && work > 0:
		k.account.Owe(t.ended, work)
	}
}

// reimburse gives back what a ticket was charged that has not run.
func (t *Ticket) reimburse() {
	if t.trial {
		t.endTrial()
	}
	t.kind.correct(t, -t.charge())
	c := t.kind.cell(t.shard)
	c.shed.Add(t.charge())
	c.admitted.Add(-t.charge())
}

// outside reports that the job is to run outside the slots.
func (c *choice) outside() bool {
	return !c.dropped && (c.lane == laneInline || c.lane == laneSpawn)
}

// tryOut notes that a job is to run outside the slots on the word of its hint alone. Of
// several that were decided on at the same time AdaptivePolicy lets one do so.
//
//go:noinline
func (r *Router) tryOut(q *request, p *Pressure) {
	if q.info.Waits {
		return
	}
	_, one := q.cfg.Policy.(AdaptivePolicy)
	if q.trial = q.kind.trials.Add(1) == 1 || !one; q.trial {
		return
	}
	q.kind.trials.Add(-1)
	p.Trial, q.choice = true, choice{bound: q.choice.bound}
	r.choose(q, p)
}

func (t *Ticket) endTrial() {
	t.trial = false
	t.kind.trials.Add(-1)
}

// register makes a kind for a Task.
func (r *Router) register(info JobInfo, weight float64, b *batcher, down string, most int) (*kind, error) {
	r.kindsMu.Lock()
	defer r.kindsMu.Unlock()
	k := (*r.kinds.Load())[info.Kind]
	switch {
	case k != nil && k.template.Load() != nil:
		return nil, fieldError("Kind.Name", fmt.Sprintf("%q", info.Kind), "the name of no kind registered before")
	case r.registered >= r.cfg.Load().MaxKinds:
		return nil, fieldError("Kind.Name", fmt.Sprintf("%q", info.Kind),
			fmt.Sprintf("one of at most %d kinds, which is RouterConfig.MaxKinds", r.cfg.Load().MaxKinds))
	}
	r.registered++
	k = r.addKind(info.Kind, true)
	k.weight.Store(weight)
	k.batcher.Store(b)
	k.downstream.Store(r.downstreamNamed(down, k))
	if most > 0 {
		k.gate.Store(r.spawn.newGate(most, r.now))
	}
	k.template.Store(&info)
	return k, nil
}

// kindNamed returns the kind of that name, which need not be clean, and makes
// it if it is new and there is room.
func (r *Router) kindNamed(name string) *kind {
	if name == "" {
		name = kindDefault
	}
	if k := (*r.kinds.Load())[name]; k != nil {
		return k
	}
	name = cleanKind(name)
	r.kindsMu.Lock()
	defer r.kindsMu.Unlock()
	return r.addKind(name, false)
}

// addKind returns the kind of that clean name, new if there is room or it is being
// registered, else the kind "other". It requires r.kindsMu.
func (r *Router) addKind(name string, registered bool) *kind {
	kinds := *r.kinds.Load()
	if k := kinds[name]; k != nil {
		return k
	}
	if !registered && r.kindsFull() {
		if name = kindOther; kinds[name] != nil {
			return kinds[name]
		}
	}
	k := &kind{router: r, name: name, cells: make([]cell, r.shards), refusals: make([]refusalCounters, min(awayShards*r.shards, maxAwayShards))}
	k.downstream.Store(&downstream{name: name})
	k.weight.Store(1)
	k.account.Open(r.cfg.Load().CPUParallelism)
	kinds = maps.Clone(kinds)
	kinds[name] = k
	r.kinds.Store(&kinds)
	return k
}

// kindsFull reports that no further name of a one-off job may be told apart; "other" is extra.
func (r *Router) kindsFull() bool {
	kinds := *r.kinds.Load()
	n := len(kinds)
	if kinds[kindOther] != nil {
		n--
	}
	return n >= r.cfg.Load().MaxKinds
}
