package helix

import (
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/estimate"
	"github.com/helixrouter/helix/internal/fair"
	"github.com/helixrouter/helix/internal/num"
	"github.com/helixrouter/helix/internal/tally"
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
	counters   tally.Counters
	latencies  [tally.Lanes]Histogram // of its jobs that ran, by strategy
	yields     atomic.Bool            // a job has called Yield
	nests      atomic.Bool            // there has been work inside a job, or it has blocked
	failures   estimate.Failures      // see kind.guess
	// trials are the jobs that run outside the slots because of their hints, admitted
	// before any run of the kind had confirmed what hints say.
	trials atomic.Int64
	queued atomic.Int64 // jobs that wait for a slot

	elsewhere [tally.Lanes]atomic.Pointer[distant] // by lane; nil: nothing is known

	dropErrors [tally.Reasons]atomic.Pointer[DropError] // the latest for each reason
	rejected   atomic.Pointer[[4]Alternative]           // the latest of a policy from outside
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
	c := t.kind.counters.Shard(t.shard)
	c.Served.Add(work)
	if t.charge() != 0 {
		c.Admitted.Add(-t.charge())
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
	c := t.kind.counters.Shard(t.shard)
	c.Shed.Add(t.charge())
	c.Admitted.Add(-t.charge())
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
	k := &kind{router: r, name: name, counters: tally.New(r.shards)}
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
