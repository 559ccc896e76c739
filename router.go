package helix

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/fair"
	"github.com/helixrouter/helix/internal/feed"
	"github.com/helixrouter/helix/internal/shard"
	"github.com/helixrouter/helix/internal/tally"
)

// Router decides for every job, at once, how it runs: inline, on a goroutine of
// its own, in a slot of the CPU pool, in a batch, or not at all. Make one with
// [New]. It is safe for concurrent use and has no goroutine while idle.
//
// Every job takes one path: decide, admit, offer to its strategy, wait, settle.
type Router struct {
	cfg   atomic.Pointer[RouterConfig] // immutable; replaced under cfgMu
	logs  slog.Handler                 // of RouterConfig.Logger, which is never another
	cfgMu sync.Mutex                   // makes cfg and pool.slots change together; never held in user code
	epoch time.Time                    // what all times are counted from

	lanes       []*lane     // one a strategy; drop has none
	replaced    bool        // one of the router's own has been, by RouterConfig.Strategies
	forecasters forecasters // those of lanes that forecast
	pool        *pool       // slots, for the built-in cpu_pool and batch
	spawn       *spawn      // the built-in one

	kindsMu    sync.Mutex // guards replacing kinds, and registered
	registered int        // kinds of Register
	kinds      atomic.Pointer[map[string]*kind]
	// downstreams are those that have a name of their own; guarded by kindsMu.
	downstreams map[string]*downstream
	shards      int           // of every kind's counters, a power of two
	shardOf     sync.Pool     // of *uint8: the shard that tickets made on this P write
	shard       atomic.Uint32 // the latest of them

	ledger *fair.Ledger
	// procs is GOMAXPROCS as of the last tick. It is not asked at every decision: that takes
	// a lock of the scheduler's.
	procs    atomic.Int64
	reasons  *tally.ReasonTable
	watchers feed.Feed[Event]
	jobs     sync.Pool // of *jobItem; not global, because a synctest bubble owns its channels

	phase   atomic.Int32
	ended   chan struct{} // wakes goroutines that wait for the router to be idle
	ctx     context.Context
	cancel  context.CancelCauseFunc // of ctx, the parent of the ctx of every Go
	closing closing
}

// lane is a strategy with its place among all.
type lane struct {
	name     string
	index    int // in Router.lanes and cell.routed
	strategy Strategy
	custom   bool // from RouterConfig.Strategies

	elsewhere bool // its jobs take no CPU of this machine
}

// New makes a router. The zero RouterConfig is ready for use. The error names
// the field and the value that cannot be used.
func New(cfg RouterConfig) (*Router, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	r := &Router{
		epoch:   time.Now(),
		shards:  shard.Count(),
		reasons: tally.NewReasonTable(ownReasons),
		ended:   make(chan struct{}, 1),
	}
	r.pool = newPool(cfg.CPUParallelism, r.now, r.signalIdle)
	r.ledger = fair.NewLedger()
	r.procs.Store(int64(runtime.GOMAXPROCS(0)))
	r.cfg.Store(&cfg)
	r.logs = cfg.Logger.Handler()
	r.kinds.Store(&map[string]*kind{})
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	r.spawn = newSpawn()
	for _, s := range []Strategy{inline{}, r.spawn, r.pool, batching{r}} {
		r.addLane(s, false)
	}
	for _, s := range cfg.Strategies {
		r.addLane(s, true)
	}
	for _, l := range r.lanes[laneBatch+1:] {
		if e, ok := l.strategy.(Elsewhere); ok {
			l.elsewhere = e.Elsewhere()
		}
		if _, ok := l.strategy.(Forecaster); ok {
			r.forecasters = append(r.forecasters, l)
		}
	}
	return r, nil
}

// addLane adds a strategy, or puts it in the place of the one of its name.
func (r *Router) addLane(s Strategy, custom bool) {
	if l := r.lane(s.Name()); l != nil {
		l.strategy, l.custom, r.replaced = s, custom, true
		return
	}
	r.lanes = append(r.lanes, &lane{name: s.Name(), index: len(r.lanes), strategy: s, custom: custom})
}

// lane finds a strategy by name; nil if there is none.
func (r *Router) lane(name string) *lane {
	for _, l := range r.lanes {
		if l.name == name {
			return l
		}
	}
	return nil
}

// now returns the time in nanoseconds since the router was made. Reading only the
// monotonic clock costs half of time.Now.
func (r *Router) now() int64 { return int64(time.Since(r.epoch)) }

// inBubble reports whether a time is of a testing/synctest bubble in which the router was not
// made: the clock there begins at the year 2000, long before what is counted from.
// Channels and timers made in a bubble must not be used outside, so none are kept then.
func inBubble(now int64) bool { return now < 0 }

// sameClock reports whether two times are of the same clock: both of bubbles, or neither.
func sameClock(a, b int64) bool { return inBubble(a) == inBubble(b) }

// Submit runs one job by the strategy that the policy chooses, and returns when
// the job has finished or never will start: it never leaves a job behind, so
// Run may write its caller's variables. An error that matches [ErrNotRun] is a
// refusal, a withdrawal because ctx was done before the start, or a closed
// router; any other is Run's own. A panic in Run is raised here again, as a
// [*PanicError].
//
// Deciding never blocks. A job that cannot be used (no Run, a negative cost) is
// an error that names the field, and counts nowhere.
//
// Inside a job ctx must be the job's, or come from it. Then the new job may run in the slot
// that its caller holds, or the caller lends its slot while it waits; and the time is not
// counted as the caller's. With another ctx the caller keeps its slot, and if all slots are
// kept so, none of them ever ends; RouterConfig.Logger is told so, once, with the kinds' names.
//
// For work that repeats, is hot or can be batched use [Register]: it allocates
// less and learns better.
func (r *Router) Submit(ctx context.Context, job Job) (result Result, err error) {
	item, err := r.admitItem(ctx, &job)
	if err != nil {
		if drop, ok := err.(*DropError); ok {
			result.Decision = drop.Decision
		}
		return result, err
	}
	if item.job.nested {
		err = item.submitNested()
	} else if err = r.admit(&item.Ticket, nil); err == nil {
		err = item.finishSubmit()
	}
	item.conclude(&result)
	fate := item.exit
	if item.custody == custodyOwn && !inBubble(item.decided) {
		item.reset()
		item.do, item.tell, item.value = nil, nil, nil
		r.jobs.Put(item)
	}
	fate.pass(err)
	return result, err
}

// admitItem returns the item of a job that was not refused. Its frame is large, and is gone
// when the job runs.
//
//go:noinline
func (r *Router) admitItem(ctx context.Context, job *Job) (*jobItem, error) {
	var q request
	q.ctx = ctx
	if err := r.buildRequest(&q, job, false); err != nil {
		return nil, err
	}
	if err := r.decide(&q); err != nil {
		return nil, err
	}
	var item *jobItem
	if !inBubble(q.decided) {
		item, _ = r.jobs.Get().(*jobItem)
	}
	if item == nil {
		item = &jobItem{}
		r.newTicket(&item.Ticket, q.kind)
		item.wake = make(chan struct{}, 1)
	}
	item.kind, item.work, item.do, item.tell = q.kind, item, job.Run, job.Started
	item.initFrom(&q)
	return item, nil
}

// Go starts one job and does not wait for it; the job never runs on the
// caller's goroutine. The error is a refusal, as from Submit. The job's ctx has
// the values of ctx, but ends with the job, [Future.Cancel] or [Router.Close]; with ctx
// too if Job.Follow says so.
// A panic in Run is raised in Future.Wait; it is also logged, since no caller may
// be waiting.
func (r *Router) Go(ctx context.Context, job Job) (*Future[Result], error) {
	var q request
	q.ctx = ctx
	if err := r.buildRequest(&q, &job, true); err != nil {
		return nil, err
	}
	if err := r.decide(&q); err != nil {
		return nil, err
	}
	item := &goJob{}
	r.newTicket(&item.Ticket, q.kind)
	item.work, item.do, item.tell, item.future.of = item, job.Run, job.Started, item
	if err := r.start(&item.Ticket, &item.own, &q); err != nil {
		return nil, err
	}
	return &item.future, nil
}

// jobItem is a ticket with a one-off job.
type jobItem struct {
	Ticket
	do    func(context.Context) (any, error)
	tell  func(Decision, time.Duration) // Job.Started
	value any
}

// goJob is a jobItem from Go.
type goJob struct {
	jobItem
	async[Result]
}

// buildRequest fills in the request for a job, except its ctx, or reports what is wrong with
// the job.
func (r *Router) buildRequest(q *request, job *Job, async bool) error {
	if job.Run == nil {
		return fieldError("Job.Run", "nil", "a function")
	}
	if err := job.Validate(); err != nil {
		return err
	}
	r.describeValid(q, job)
	q.info.Async, q.follow = async, async && job.Follow
	return nil
}

// describeValid fills in what a request has of a job that is valid.
func (r *Router) describeValid(q *request, job *Job) {
	q.kind, q.arrived = r.kindNamed(job.Kind), r.arrival(job.Arrived)
	q.info = job.info(q.kind.name)
}

// info returns what a policy will know of the job.
func (j *Job) info(kind string) JobInfo {
	return JobInfo{Kind: kind, Cost: j.Cost, Scaling: j.Scaling, Budget: j.Budget, Priority: j.Priority, Waits: j.Waits}
}

func (i *jobItem) run(ctx context.Context) (err error) {
	if i.tell != nil {
		i.tellStarted()
	}
	i.value, err = i.do(ctx)
	return err
}

// tellStarted calls Job.Started. Its frame is large, and is gone when the job runs.
//
//go:noinline
func (i *jobItem) tellStarted() {
	i.tell(i.Decision(), time.Duration(i.started-i.decided))
}

// conclude fills in what became of the job; result is zero. It is not for the stack on which it runs.
//
//go:noinline
func (i *jobItem) conclude(result *Result) {
	o := i.outcome("")
	result.Value, result.Wait, result.Run, result.Ran = i.value, o.Wait, o.Run, i.exit != exitNotRun
	i.choice.expandInto(&result.Decision, i.lane().name)
}

func (i *jobItem) result() (result Result) {
	i.conclude(&result)
	return result
}

// Waited tells the router how long a job that is about to be submitted has been on this
// machine already: in a socket, or in Go's run queue. Package helixhttp does, for every
// request whose arrival it knows.
//
// While the shortest of these waits is more than 0.3 of the tightest budget, a queue
// stands that the router cannot see, and every job comes to it late. Then it gives less to
// the kinds that ask for more than their share until the queue is worked off. Tell it no
// waits elsewhere, as in a broker: refusing jobs does not shorten those.
//
// It is safe for concurrent use and costs a few ns.
func (r *Router) Waited(wait time.Duration) { r.ledger.Hidden.Note(int64(wait)) }
