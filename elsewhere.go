package helix

import (
	"errors"
	"math"
	"runtime/debug"
	"sync"
	"time"

	"github.com/helixrouter/helix/internal/estimate"
)

// ErrDecline is returned by Strategy.Offer, wrapped or not, to give the ticket back: the
// router decides again as if the strategy were not there.
var ErrDecline = errors.New("helix: strategy declines the job")

// Forecaster is implemented by a [Strategy] that can tell beforehand how long a job would
// take. It is asked before the policy, at every decision: it must be fast and must not
// block or allocate. What it says is in Pressure.Offers.
type Forecaster interface {
	Forecast(JobInfo) Forecast
}

// Forecast is what a job may expect of a strategy. The zero value offers nothing.
type Forecast struct {
	Room bool          // it would take the job
	Wait time.Duration // until the job starts, the way there and back included
	Run  time.Duration // how long it then takes; 0 = as the router has learned of jobs of the kind there
	Cost float64       // of two strategies that serve, the one of the lower cost is chosen
}

// Elsewhere is implemented by a [Strategy] whose jobs take no CPU of this machine, if
// Elsewhere returns true, always the same: they are not charged to it and teach nothing of
// how long jobs run here. It must not have the name of a built-in strategy.
type Elsewhere interface {
	Elsewhere() bool
}

// maxOffers is how many forecasting strategies a policy hears of.
const maxOffers = 2

// Offer is the forecast of a strategy that has room for the job.
type Offer struct {
	Strategy  string
	Wait, Run time.Duration
	Cost      float32
	lane      int8
}

// forecasters are the lanes whose strategies forecast.
type forecasters []*lane

// ask fills in the offers for a job. It must not use stack in routers without forecasters.
//
//go:noinline
func (f forecasters) ask(q *request, p *Pressure, probe bool) {
	offers, n := offersPool.Get().(*[maxOffers]Offer), 0
	for _, l := range f {
		if n == maxOffers || q.declined&(1<<l.index) != 0 {
			continue
		}
		forecast := l.strategy.(Forecaster).Forecast(q.info)
		if !forecast.Room || forecast.Wait < 0 || forecast.Run < 0 || forecast.Cost != forecast.Cost {
			continue
		}
		if forecast.Run == 0 {
			forecast.Run = q.kind.predictIn(l.index, q.info.Cost)
		}
		forecast.Run = min(forecast.Run, math.MaxInt64-forecast.Wait) // so that their sum does not overflow
		if q.info.Budget > 0 && forecast.Wait < q.info.Slack && forecast.Wait+forecast.Run > q.info.Slack &&
			q.kind.distantIn(l.index).doubt(q.decided, probe) {
			forecast.Run = 0
		}
		offers[n] = Offer{l.name, forecast.Wait, forecast.Run, float32(forecast.Cost), int8(l.index)}
		n++
	}
	if n == 0 {
		offersPool.Put(offers)
		return
	}
	p.Offers = offers
}

// offersPool has the arrays that Pressure.Offers are made of.
var offersPool = sync.Pool{New: func() any { return new([maxOffers]Offer) }}

// forget gives the array of offers back that the decision was made by.
func (p *Pressure) forget() {
	*p.Offers = [maxOffers]Offer{}
	offersPool.Put(p.Offers)
	p.Offers = nil
}

// distant is what is known of the jobs of a kind in a lane elsewhere.
type distant struct {
	runs   estimate.Runs // run times there
	prober estimate.Prober
}

// distantIn returns what is known of a lane elsewhere.
func (k *kind) distantIn(lane int) *distant {
	at := &k.elsewhere[lane]
	if d := at.Load(); d != nil {
		return d
	}
	at.CompareAndSwap(nil, &distant{})
	return at.Load()
}

// doubt reports whether a run time by which a job would end too late there is to be ignored
// this once, so that it heals if it is wrong: see estimate.Prober. If take is false, that it would be.
func (d *distant) doubt(now int64, take bool) bool {
	d.prober.Refuse(now)
	return d.prober.Due(now, true) && (!take || d.prober.Take(now, true))
}

// predictIn predicts the run of a job in a lane elsewhere; 0 = not known.
func (k *kind) predictIn(lane int, cost float64) time.Duration {
	d := k.elsewhere[lane].Load()
	if d == nil {
		return 0
	}
	return d.runs.Predict(cost, 0).Run()
}

// learnElsewhere takes in the run of a job that ended elsewhere.
func (k *kind) learnElsewhere(t *Ticket) {
	if t.exit != exitReturned || t.err != nil {
		return
	}
	d := k.distantIn(int(t.choice.lane))
	probe := t.choice.offer > 0 && t.choice.run == 0 // or nothing was known
	d.prober.Start(probe)
	d.runs.Observe(t.job.cost, t.worked(), probe)
}

// goElsewhere takes the best offer if the job would be refused here although an offer
// serves it, or if waiting for a slot here takes longer than all of it there.
//
//go:noinline
func (c *choice) goElsewhere(j *JobInfo, p *Pressure) {
	best := int8(-1)
	for i := range p.Offers {
		o := &p.Offers[i]
		if o.Strategy == "" || j.Budget > 0 && o.Wait+o.Run > j.Slack {
			continue
		}
		if best < 0 || o.less(&p.Offers[best]) {
			best = int8(i)
		}
	}
	if best < 0 || c.probe || c.dropped && c.reason == reasonLate {
		return
	}
	o, reason, why := &p.Offers[best], reasonElsewhere, c.reason
	if !c.dropped {
		if o.Wait+o.Run >= c.wait || c.lane != laneCPUPool && c.lane != laneBatch || !p.contended() {
			return
		}
		reason, why = reasonSooner, notSooner
	}
	beside := besideElsewhere(c.lane, why)
	c.choose(o.lane, reason, beside)
	c.dropped, c.excess, c.offer = false, 0, best+1
	c.wait, c.run = o.Wait, o.Run
}

// less reports whether o is better than other: cheaper, or as cheap and sooner done.
func (o *Offer) less(other *Offer) bool {
	if o.Cost != other.Cost {
		return o.Cost < other.Cost
	}
	return o.Wait+o.Run < other.Wait+other.Run
}

// whyElsewhere are the reasons for which a job is not run here but elsewhere.
var whyElsewhere = [...]string{notSooner, reasonBudget, reasonWait, reasonShare, reasonSpawnLimit, reasonQueueFull}

// besidesElsewhere are what is rejected with a strategy elsewhere: one here, for each of
// whyElsewhere.
var besidesElsewhere = func() (b [len(laneNames)][len(whyElsewhere)][4]Alternative) {
	for lane := range b {
		for i, why := range whyElsewhere {
			b[lane][i] = [4]Alternative{{laneNames[lane], why}}
		}
	}
	return b
}()

func besideElsewhere(lane int8, why string) *[4]Alternative {
	for i := range whyElsewhere {
		if lane >= 0 && int(lane) < len(laneNames) && whyElsewhere[i] == why {
			return &besidesElsewhere[lane][i]
		}
	}
	return nil
}

// Claim makes the caller the owner of a ticket that its strategy accepted: the job counts
// as started. The owner must call Finish or Decline once, or return ErrDecline from Offer.
// It reports false if the job has been withdrawn, or a panic in Hooks.Start has ended it;
// then the ticket must not be touched any more. Run and Refuse are for tickets that were
// not claimed.
func (t *Ticket) Claim() bool {
	if !t.claim() {
		return false
	}
	t.started = t.router().now()
	if t.cfg.Hooks.Start == nil {
		return true
	}
	return t.startElsewhere()
}

// startElsewhere calls Hooks.Start; a panic in it ends the job.
//
//go:noinline
func (t *Ticket) startElsewhere() (ok bool) {
	defer func() {
		if v := recover(); v != nil {
			t.conclude(nil, &PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	t.startHook(t.ctx)
	return true
}

// At notes where the job is done, for Outcome.Where. Call it between Claim and Finish.
func (t *Ticket) At(where string) {
	switch {
	case t.watch != nil:
		t.watch.where = where
	case t.cfg.Hooks.Done != nil:
		t.watch = &watch{where: where}
	}
}

// Finish ends a job that was done elsewhere. Its result is read from output, as the kind's
// Codec wrote it, unless err is not nil. An err that is a [*PanicError], or ErrGoexit, ends
// the job as if it had panicked, or exited, here. Call it once, after Claim; the ticket
// must not be touched afterwards.
func (t *Ticket) Finish(output []byte, err error) { t.conclude(output, err) }

// conclude settles a claimed ticket whose job has come to its end elsewhere.
func (t *Ticket) conclude(output []byte, err error) {
	defer t.notifySubmitter()
	if err == nil {
		if p, ok := t.work.(portable); ok {
			err = p.takeOutput(output)
		} else {
			err = codecError(t.kind.name, "reading output", false, errNoCodec, nil)
		}
	}
	t.members = 1
	t.err, t.exit = err, exitReturned
	if _, ok := err.(*PanicError); ok {
		t.exit = exitPanicked
	} else if err == ErrGoexit {
		t.exit = exitGoexit
	}
	t.ended = t.router().now()
	t.settle(t.kind.learn(t))
}

// Decline gives a claimed ticket back after Offer has accepted it: the router decides
// again, as if the strategy were not there. It does not block for long: a job from Submit
// goes on on its submitter's goroutine. Stats count the job as routed to both. The ticket
// must not be touched afterwards.
func (t *Ticket) Decline() {
	if !t.job.async {
		t.wakeFor(actionAgain)
		return
	}
	if err := t.router().again(t); err != nil {
		t.err = err
		t.notifySubmitter()
	}
}

// declines notes that the strategy of the ticket does not want it, and returns all that do not.
func (t *Ticket) declines() uint16 {
	if t.watch == nil {
		t.watch = &watch{}
	}
	t.watch.declined |= 1 << t.choice.lane
	t.watch.span = nil
	return t.watch.declined
}

// again decides once more about a ticket that its strategy declined, and offers it to
// another one. The caller owns the ticket. An error says that it is refused: it has ended.
//
//go:noinline
func (r *Router) again(t *Ticket) error {
	q := request{ctx: t.ctx, outer: jobIn(t.ctx), kind: t.kind, cfg: r.cfg.Load(), info: t.Info(), declined: t.declines(), arrived: t.arrived, decided: r.now()}
	q.choice.bound, q.event = t.choice.bound, t.watch.event
	var p Pressure
	r.fillPressure(&q, &p)
	r.choose(&q, &p)
	if t.trial {
		t.endTrial()
	}
	if q.info.Samples == 0 && q.choice.outside() {
		r.tryOut(&q, &p)
	}
	t.trial = q.trial
	r.resolve(&q)
	if c := &q.choice; !c.dropped && q.declined&(1<<c.lane) != 0 {
		if q.entered {
			own := q.ctx.(*slot)
			own.host().exit(own.long)
		}
		c.drop(reasonDeclined)
	}
	if q.event != nil {
		r.fillEvent(&q, &p)
	}
	if p.Offers != nil {
		p.forget()
	}
	if charge := t.charge(); charge != 0 {
		t.counters().Admitted.Add(-charge)
		t.kind.correct(t, -charge)
	}
	if q.choice.dropped {
		return r.refuseDeclined(t, &q)
	}
	before := t.slot
	if t.initFrom(&q); t.job.nested && !q.entered {
		t.slot = before // which may have lent the slots around it
	}
	t.watch = &watch{event: q.event, declined: q.declined}
	t.custody = custodyBack
	t.nextAction, t.started = actionWait, 0
	t.state.Store(stateQueued)
	return r.admit(t, q.outer)
}

// refuseDeclined ends a ticket that its strategy declined, and that was then refused.
func (r *Router) refuseDeclined(t *Ticket, q *request) error {
	if t.trial {
		t.endTrial()
	}
	t.decided, t.ended = q.decided, q.decided
	if t.choice.drop(q.choice.reason); q.choice.lane != laneNone {
		t.choice = q.choice
	}
	reason, c := r.reasons.Index(q.choice.reason), t.counters()
	c.Shed.Add(int64(q.info.Work))
	c.Bounced[reason].Add(1)
	r.signalIdle()
	return r.turnDown(q, reason)
}
