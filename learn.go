package helix

import (
	"time"

	"github.com/helixrouter/helix/internal/estimate"
	"github.com/helixrouter/helix/internal/tally"
)

// predict fills in how long the job will run, as far as is known.
func (k *kind) predict(j *JobInfo, cfg *RouterConfig) {
	if j.Batchable && !j.Waits {
		if k.calls.Samples() > 0 {
			size, _ := k.batcher.Load().limits(cfg)
			alone, work := k.calls.Predict(k.calls.Units(j.Cost), size)
			j.expect(alone)
			j.Work = work // what it really took is put right afterwards
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

// expect fills in what is expected of the job's run.
func (j *JobInfo) expect(e estimate.Estimate) {
	j.Samples = e.Samples()
	j.Predicted, j.Low, j.Likely, j.High, j.Spread = e.Times()
}

// guess puts right what a hint says that no run has confirmed: it stands for no more than
// estimate.UnconfirmedMost of work, and for no less than runs that failed have taken.
func (k *kind) guess(j *JobInfo) {
	failed := k.failures.Run()
	j.High = max(j.High, failed)
	j.Work = max(min(j.Work, estimate.UnconfirmedMost), failed)
}

// typical returns the CPU time that a usual job of the kind adds; 0 = not known.
func (k *kind) typical(cfg *RouterConfig) time.Duration {
	b := k.batcher.Load()
	j := JobInfo{Batchable: b != nil}
	if of := k.template.Load(); of != nil {
		j.Waits = of.Waits
	}
	k.predict(&j, cfg)
	return j.Work
}

// fewSamples is the number of samples from which an estimate is not doubtful.
const fewSamples = 16

// doubtful reports whether the kind's run times are known from a few runs only, or vary
// so much that a prediction may well be wrong: what is worth a probe.
func (k *kind) doubtful(j *JobInfo) bool {
	return j.Samples < fewSamples || 2*j.Spread > j.Predicted
}

// succeeded reports whether the job did all that it was to do, so that its run time is one
// to expect. A job may end early, and well, because its ctx is done.
func (t *Ticket) succeeded() bool {
	return t.exit == exitReturned && t.err == nil && t.ctx.Err() == nil
}

// learn updates the run-time model from a finished job and replaces its predicted charge
// with its actual CPU time. It reports that this was all the time since the job arrived.
func (k *kind) learn(t *Ticket) (all bool) {
	run, trial := t.worked(), t.trial
	if t.choice.probe && !t.job.waits {
		k.router.ledger.Probed(t.ended, run)
	}
	if trial {
		t.endTrial()
	}
	if t.job.elsewhere {
		k.learnElsewhere(t)
		return false
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
		return false
	}
	if (t.slot == nil || !t.slot.bounded) && run >= preemptedFrom && t.job.predicted > 0 && !trial {
		run = min(run, estimate.StepMost*t.job.predicted)
	}
	all = int64(run) == t.ended-t.arrived && t.choice.lane < tally.AtOnce
	t.pay(int64(run), all)
	return all
}

// preemptedFrom is the run time from which a job without a slot may have been
// preempted, as Go does after 10 ms: nothing bounds the number of such jobs, so
// much of the time may have been others'. Counted as the job's own, it would make
// a few short jobs in a busy process look like overload.
const preemptedFrom = 10 * time.Millisecond

func (t *Ticket) endTrial() {
	t.trial = false
	t.kind.trials.Add(-1)
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
	if !k.prober.Due(now, doubtful) || !r.ledger.MayProbe(now) {
		return false
	}
	if !take {
		return true
	}
	if !k.prober.Take(now, doubtful) {
		return false
	}
	r.ledger.Probed(now, min(q.info.Predicted, time.Second))
	return true
}
