package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// pointSpec is all that decides what happens at one point: one contender under
// one load.
type pointSpec struct {
	Contender string             `json:"contender"`
	Mix       Mix                `json:"mix"`
	Load      float64            `json:"load"` // offered CPU over capacity
	Seconds   float64            `json:"seconds"`
	Warmup    float64            `json:"warmup"` // seconds before arrivals count
	Seed      uint64             `json:"seed"`
	Procs     int                `json:"procs"` // GOMAXPROCS without SpareP
	SpareP    bool               `json:"spare_p,omitempty"`
	Yield     bool               `json:"yield,omitempty"`
	Bursts    bool               `json:"bursts,omitempty"`
	HintError bool               `json:"hint_error,omitempty"`
	Shift     string             `json:"shift,omitempty"` // a class, or ""
	Weights   map[string]float64 `json:"weights,omitempty"`
	Calibrate calibration        `json:"calibrate"`
	Profile   string             `json:"profile,omitempty"` // where to write a CPU profile, or ""
}

// cores is what the work gets to run on, and the limit of every contender that
// has one.
func (s *pointSpec) cores() int { return min(s.Procs, runtime.NumCPU()) }

// maxProcs is the GOMAXPROCS of the point.
func (s *pointSpec) maxProcs() int {
	if s.SpareP {
		return s.cores() + 1
	}
	return s.Procs
}

// horizon is when the arrivals end, in seconds: late enough for the last one
// that counts to be due under the same load.
func (s *pointSpec) horizon() float64 {
	return s.Warmup + s.Seconds + s.Mix.longestBudget().Seconds() + .05
}

// weight of a class.
func (s *pointSpec) weight(class string) float64 {
	if w, ok := s.Weights[class]; ok {
		return w
	}
	return 1
}

// The states of a job.
const (
	jobWaiting  int32 = iota // has not started, and if its call has returned never will
	jobStarted               // runs, or was cut short by the end of the point
	jobFinished              // all of its work is done
)

// job is one arrival and what became of it.
type job struct {
	arrival
	dispatched int64        // ns from the start, when its goroutine was made
	executed   atomic.Int64 // iterations; its part of a batch call
	state      atomic.Int32
	ended      atomic.Int64 // ns from the start, when its call returned; 0 = not yet
	sum        uint64       // of the work, so that it cannot be left out
}

// class is a Class in terms of the machine.
type class struct {
	Class
	waits           bool
	budget          time.Duration
	need            float64 // iterations of a job that runs alone
	call, item      float64 // iterations of a batch call
	sleep           time.Duration
	hint            float64 // iterations that a job's hint starts from
	weight          float64
	urgency         int     // rank by budget, the tightest 0
	aloneSec, bestS float64 // CPU seconds
}

// point is one point under way.
type point struct {
	spec    pointSpec
	classes []class
	jobs    []job
	speed   float64 // iterations a second of one core
	slots   int     // cores, the limit of contenders that have one
	start   time.Time
	who     contender
	asks    bool  // the contender is asked about jobs that wait, too
	horizon int64 // ns from the start, when work stops where it is
	calls   sync.WaitGroup
	failure atomic.Pointer[error] // of a contender, not of a job
}

// newPoint calibrates and draws the arrivals.
func newPoint(spec pointSpec) *point {
	p := &point{spec: spec, slots: spec.cores(), horizon: int64(seconds(spec.horizon()))}
	p.speed = spec.Calibrate.measure(p.slots)
	for i := range spec.Mix.Classes {
		c := &spec.Mix.Classes[i]
		k := class{
			Class: *c, waits: c.waits(), budget: c.budget(), sleep: time.Duration(c.SleepMs * 1e6),
			need: c.alone() * p.speed, weight: spec.weight(c.Name), aloneSec: c.alone(), bestS: c.best(),
		}
		k.hint = k.need
		if c.Batch != nil {
			k.call, k.item = c.Batch.CallUs/1e6*p.speed, c.Batch.ItemUs/1e6*p.speed
		}
		for _, other := range spec.Mix.Classes {
			if other.BudgetMs < c.BudgetMs {
				k.urgency++
			}
		}
		p.classes = append(p.classes, k)
	}
	arrivals := spec.arrivals()
	p.jobs = make([]job, len(arrivals))
	for i := range arrivals {
		p.jobs[i].arrival = arrivals[i]
	}
	return p
}

// now is the time since the start, in ns.
func (p *point) now() int64 { return int64(time.Since(p.start)) }

func (p *point) class(j *job) *class { return &p.classes[j.class] }

// deadline of a job, in ns from the start.
func (p *point) deadline(j *job) int64 { return j.at + int64(p.class(j).budget) }

// due is deadline as a time.
func (p *point) due(j *job) time.Time { return p.start.Add(time.Duration(p.deadline(j))) }

// hint is the job's cost as its caller thinks, in iterations.
func (p *point) hint(j *job) float64 { return p.class(j).hint * float64(j.lie) }

// serve takes one job through the contender, on a goroutine of its own as
// net/http has one for every request.
func (p *point) serve(j *job) {
	defer p.calls.Done()
	if p.class(j).waits && !p.asks {
		p.run(j, nil) // contenders that limit CPU work would not hold a permit through a wait
	} else if err := p.who.do(j); err != nil {
		failure := err // err itself would be allocated for every job
		p.failure.CompareAndSwap(nil, &failure)
	}
	j.ended.Store(max(1, p.now()))
}

// run does the job's work on this goroutine. give, if not nil, is called about
// every 100 µs of work.
func (p *point) run(j *job, give func()) {
	c := p.class(j)
	j.state.Store(jobStarted)
	if c.waits {
		time.Sleep(c.sleep)
		j.state.Store(jobFinished)
		return
	}
	need := int64(c.need * float64(j.factor))
	did, sum := p.burn(need, give)
	j.sum = sum
	j.executed.Store(did)
	if did == need {
		j.state.Store(jobFinished)
	}
}

// runBatch does the work of several jobs of one class in one call.
func (p *point) runBatch(jobs []*job, give func()) {
	c := p.class(jobs[0])
	need := c.call * float64(jobs[0].factor)
	for _, j := range jobs {
		need += c.item * float64(j.factor)
		j.state.Store(jobStarted)
	}
	did, sum := p.burn(int64(need), give)
	jobs[0].sum = sum
	for _, j := range jobs {
		j.executed.Store(did / int64(len(jobs)))
		if did == int64(need) {
			j.state.Store(jobFinished)
		}
	}
}

// burn works for n iterations, or until the horizon. It looks at the clock
// itself, because under overload another goroutine would not run in time to report it.
func (p *point) burn(n int64, give func()) (did int64, sum uint64) {
	chunk := int64(100e-6 * p.speed)
	sum = uint64(n)
	for did < n && p.now() < p.horizon {
		step := min(chunk, n-did)
		sum = spin(sum, step)
		if did += step; did < n && give != nil {
			give()
		}
	}
	return did, sum
}

// giver is what a contender other than helix calls in long jobs with -yield.
func (p *point) giver() func() {
	if p.spec.Yield {
		return runtime.Gosched
	}
	return nil
}

// drainTime is how long calls may take to return once the point is over.
const drainTime = 5 * time.Second

// execute runs the point to its end.
func (p *point) execute(c *candidate) (*Result, error) {
	var err error
	if p.who, err = c.make(p); err != nil {
		return nil, err
	}
	p.asks = c.asks
	collectAsUsual()
	p.calls.Add(len(p.jobs))
	p.start = time.Now()
	d := dispatch(p)
	time.Sleep(time.Duration(p.horizon - p.now()))
	d.end(p)

	drained := make(chan struct{})
	go func() {
		p.calls.Wait()
		close(drained)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	select {
	case <-drained:
		if err := p.who.close(); err != nil {
			return nil, err
		}
	case <-ctx.Done(): // the process ends anyway, and what has not ended is late
	}
	if err := p.failure.Load(); err != nil {
		return nil, *err
	}
	return p.result(d), nil
}

// usualHeap is the live heap of the service that a point stands for, in bytes.
const usualHeap = 32 << 20

// collectAsUsual makes the garbage collector run as often as it would in a
// service with a live heap of usualHeap: the jobs, drawn before the start, are
// more than that. It matters also because the runtime learns at every
// collection how large a stack new goroutines need.
func collectAsUsual() {
	runtime.GC() // what was set up is not the contender's
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	debug.SetGCPercent(max(1, int(100*usualHeap/max(usualHeap, m.HeapAlloc))))
}

// runPoint runs one point in this process.
func runPoint(spec pointSpec) (*Result, error) {
	c := findContender(spec.Contender)
	p := newPoint(spec)
	r, err := p.execute(c)
	if err != nil {
		return nil, err
	}
	r.SpeedAfter = spec.Calibrate.measure(p.slots) / p.speed
	return r, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
