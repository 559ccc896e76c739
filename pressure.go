package helix

import (
	"runtime"
	"time"

	"github.com/helixrouter/helix/internal/fair"
	"github.com/helixrouter/helix/internal/num"
	"github.com/helixrouter/helix/internal/slots"
)

// fillPressure fills in what is known of a job, which is not made a probe and takes no turn, and
// of the router's state. judge does likewise, with fewer frames on the submitter's stack.
func (r *Router) fillPressure(q *request, p *Pressure) {
	q.kind.predict(&q.info, q.cfg)
	r.pressure(p, q.decided, q.cfg, q.kind, q.info.Priority)
	r.fillForJob(q, p, false)
	r.foresee(q, p)
}

// fillForJob fills in when the job, whose run time has been predicted, must end, and what else of
// the router's state concerns this job alone. If probe, it may be made one,
// and takes a turn that is due.
func (r *Router) fillForJob(q *request, p *Pressure, probe bool) {
	q.info.setDeadline(q.arrived, q.decided)
	if q.outer != nil {
		r.lookInside(q.outer, q, p)
	}
	if q.info.Waits {
		q.kind.down().lookDown(&q.info, p)
	}
	if p.Limited && q.info.Budget > 0 && p.contended() {
		// Up to a quarter more than a job of high priority may have before it: a low one that
		// was told to come again would else find what higher ones have been let in since.
		if ahead := q.info.ahead(p); p.Turn > ahead && p.Turn <= num.Scale(ahead, 1.25/p.Part) {
			p.Recalled = q.kind.account.Turns.Ready(q.decided, probe)
		}
	}
	possible := true // to end in its budget, had it been decided on in time
	if q.hopeless() {
		p.Probe = q.info.Slack > 0 && r.probe(q, probe)
		possible = q.info.least() <= q.info.Budget
	}
	if possible {
		q.kind.account.NoteBudget(q.info.Budget)
	}
	if len(r.forecasters) > 0 {
		r.forecasters.ask(q, p, probe)
	}
}

// lookInside has a job see the slot that its caller holds as free, if it is for that job.
//
//go:noinline
func (r *Router) lookInside(outer *slot, q *request, p *Pressure) {
	if !q.info.Async && r.pool.seat(outer) != nil {
		p.CPUBusy = max(min(p.CPUBusy, p.Slots)-1, 0)
		p.Queued, p.Wait = 0, 0
	}
}

// tick keeps demand and shares up to date.
func (r *Router) tick(now int64, cfg *RouterConfig) {
	if r.ledger.Due(now) {
		r.divide(now, cfg)
	}
}

// divide has the machine divided anew.
//
//go:noinline
func (r *Router) divide(now int64, cfg *RouterConfig) {
	r.ledger.Tick(now, func() fair.Machine { return r.machine(now, cfg) })
	r.follow(int(r.procs.Load()))
}

// machine returns the state of the machine and of all kinds, as the ledger wants it.
func (r *Router) machine(now int64, cfg *RouterConfig) fair.Machine {
	r.procs.Store(int64(runtime.GOMAXPROCS(0)))
	kinds, p := *r.kinds.Load(), r.pool
	m := fair.Machine{
		Cores: cfg.CPUParallelism, UnderWay: p.underWay.Time(now), Waiting: time.Duration(p.backlog.All()),
		Saturated: !p.sawIdle.Swap(false) && p.queued.Load() > 0,
		Kinds:     make([]fair.Kind, 0, len(kinds)),
	}
	for _, k := range kinds {
		offered, worked := k.counters.Work()
		m.Kinds = append(m.Kinds, fair.Kind{
			Account: &k.account, Weight: k.weight.Load(), Offered: offered, Worked: worked,
			Typical: k.typical(cfg), Yields: k.yields.Load(), Queued: k.queued.Load(),
		})
	}
	return m
}

// foresee fills in the soonest that a slot comes to a job with a budget, if all are taken, unless
// AdaptivePolicy refuses the job whenever that is, for its kind's share: in an overload most are.
func (r *Router) foresee(q *request, p *Pressure) {
	if p.CPUBusy >= p.Slots && q.info.Budget != 0 && !q.info.Waits {
		r.foreseeFull(q, p)
	}
}

// foreseeFull is foresee if all slots are taken.
func (r *Router) foreseeFull(q *request, p *Pressure) {
	if _, shares := q.cfg.Policy.(AdaptivePolicy); !shares || !q.info.over(p) {
		r.foreseeWait(q, p)
	}
}

// foreseeWait is foresee when all slots are taken. While the job waits, those of much tighter
// budgets that come later overtake it. For a kind that asks for more than its share it is the
// soonest that is nearly sure: others could use the slot. Like Runs.Soonest it takes its frame
// from the stack's reserve.
//
//go:nosplit
func (r *Router) foreseeWait(q *request, p *Pressure) {
	jobs, work := r.pool.backlog.Before(int64(q.info.Slack))
	wait := r.pool.runs.Soonest(q.decided, q.decided+int64(q.info.Slack), p.Slots, jobs, work, p.Limited)
	p.Soonest = time.Duration(float64(wait) / (1 - q.kind.account.Overtaken()))
}

// pressure fills in the router's state at a decision about a job of that kind.
func (r *Router) pressure(p *Pressure, now int64, cfg *RouterConfig, k *kind, priority Priority) {
	p.Now = time.Duration(now)
	load := slots.Load(r.pool.load.Load())
	p.CPUBusy, p.Slots = int(load.Busy()), cfg.CPUParallelism
	p.Spare = max(int(r.procs.Load())-p.Slots, 0)
	p.Queued, p.QueueCap = int(r.pool.queued.Load()), cfg.CPUQueueCap
	p.Work = load.Work()
	p.Demand, p.Share = r.ledger.Demand(), k.account.Share()
	p.Trial = k.trials.Load() > 0
	p.Spawned, p.SpawnLimit = int(r.spawn.running.Load()), cfg.SpawnLimit
	if r.replaced && r.lanes[laneSpawn].custom {
		p.Spawned = r.lanes[laneSpawn].strategy.Load().Running
	}
	p.InlineThreshold, p.SpawnThreshold = cfg.InlineThreshold, cfg.SpawnThreshold
	p.BusyThreshold, p.UnitTime = cfg.BackpressureBusyThreshold, cfg.UnitTime
	if p.CPUBusy >= p.Slots {
		p.Wait = k.waits.Predict(p.Work / time.Duration(p.Slots))
	}
	p.Turn = k.account.Turn(now)
	if p.Room = p.QueueCap - p.Queued; p.Room <= 0 && r.pool.mayDisplace(k, priority, p.QueueCap) {
		p.Room = 1
	}
	p.Part, p.Hidden = 1, r.ledger.Hidden.Stands()
	if p.Limited = k.account.Limited(); p.Limited {
		p.Part = tierPart[priority-Low]
		p.Tightest = k.account.Tightest()
	}
	if b := k.batcher.Load(); b != nil {
		p.BatchFill = int(b.fill.Load())
		p.BatchMaxSize, _ = b.limits(cfg)
		p.BatchGain = k.calls.Gain(p.BatchMaxSize)
	}
}
