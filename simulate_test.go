package helix

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/helixrouter/helix/internal/fair"
	"github.com/helixrouter/helix/internal/slots"
	"github.com/stretchr/testify/require"
)

// simulation is a discrete-event model of a machine in virtual time that is
// driven by the library's own policy, models, ledger, accounts and slots, so that
// a change that breaks what they promise together fails here at once, on any
// machine. What it leaves out is Go's scheduler: every run takes just its time.
type simulation struct {
	router *Router
	events simEvents
	now    int64
	order  int
}

// simClass is a kind of job in a simulation.
type simClass struct {
	name   string
	cost   time.Duration
	budget time.Duration
	share  float64 // of all work offered
	weight float64
	yields bool // calls Yield every 100 µs

	kind                          *kind
	offered, inBudget, late, lost int
	broken                        int // of lost: admitted first

	// Of the jobs that ran, weighted by how long, in seconds.
	ran, predicted, took, predictedRun float64
}

// simJob waits for a slot, and holds it for its cost.
type simJob struct {
	sim    *simulation
	class  *simClass
	info   JobInfo
	run    int64
	left   int64 // of run
	place  slots.Node
	table  int8
	waited bool // was in the queue

	arrived   int64
	keepsFrom int64 // its slot, from jobs due then or later
	decision  Decision
}

func (j *simJob) accept() bool { return true }

func (j *simJob) granted() bool {
	s := j.sim
	if j.waited {
		s.router.pool.uncount(j.ticket())
	}
	if s.now+int64(j.info.Predicted) > int64(j.info.Deadline) {
		j.class.lost++
		j.class.broken++
		j.reimburse()
		s.router.pool.subWork(slots.Work(int64(j.info.Work)))
		return false
	}
	j.class.kind.waits.Observe(time.Duration(j.place.Ahead), time.Duration(s.now-j.arrived))
	j.keepsFrom = slots.Always
	if j.class.yields {
		j.keepsFrom = j.ticket().latestStart()
	}
	j.table = s.router.pool.runs.Begin(s.now, int64(j.info.Predicted), int64(j.info.High-j.info.Predicted), j.keepsFrom)
	s.at(s.now+j.segment(), j.end)
	return true
}

// segment is how long the job runs before it may give way.
func (j *simJob) segment() int64 {
	if j.class.yields {
		return min(j.left, int64(100*time.Microsecond))
	}
	return j.left
}

// simYielder is a job that has handed its slot over.
type simYielder struct{ *simJob }

func (y simYielder) granted() bool {
	y.table = y.sim.router.pool.runs.Begin(y.sim.now, y.left, int64(y.info.High-y.info.Predicted), y.keepsFrom)
	y.sim.at(y.sim.now+y.segment(), y.end)
	return true
}

func (j *simJob) end() {
	s, k := j.sim, j.class.kind
	if j.left -= j.segment(); j.left > 0 {
		p := s.router.pool
		if p.firstDue.Load() >= j.keepsFrom {
			s.at(s.now+j.segment(), j.end)
			return
		}
		p.mu.Lock()
		p.runs.End(j.table)
		j.place.Due = j.keepsFrom
		j.place.Class = slots.ClassOf(j.place.Due - s.now)
		p.backlog.Add(&j.place, slots.Work(j.left))
		p.push(&j.place, simYielder{j})
		p.mu.Unlock()
		p.release(0, j.place.Long)
		return
	}
	s.router.pool.runs.End(j.table)
	w := float64(j.run) / 1e9
	j.class.ran += w
	j.class.predictedRun += j.decision.Run.Seconds()
	j.class.predicted += w * j.decision.Completion().Seconds()
	j.class.took += w * float64(s.now-j.arrived) / 1e9
	k.runs.Observe(j.info.Cost, time.Duration(j.run), false)
	j.ticket().pay(j.run, false)
	if s.now <= int64(j.info.Deadline) {
		j.class.inBudget++
	} else {
		j.class.late++
	}
	s.router.pool.release(slots.Work(int64(j.info.Work)), j.place.Long)
}

// ticket is what the accounts want to know of the job.
func (j *simJob) ticket() *Ticket {
	t := &Ticket{kind: j.class.kind, choice: choice{lane: laneCPUPool}, arrived: j.arrived}
	t.job.fill(&j.info)
	return t
}

// reimburse gives back what the job was charged.
func (j *simJob) reimburse() {
	j.ticket().reimburse()
}

// arrive decides on a job as Router.route does.
func (s *simulation) arrive(c *simClass, cost float64, run time.Duration) {
	c.offered++
	r, cfg := s.router, s.router.cfg.Load()
	j := &simJob{sim: s, class: c, run: int64(run), left: int64(run)}
	j.info = JobInfo{Kind: c.name, Cost: cost, Budget: c.budget, Slack: c.budget, Deadline: time.Duration(s.now) + c.budget}
	c.kind.predict(&j.info, cfg)
	c.kind.account.NoteBudget(c.budget)
	if r.ledger.Due(s.now) {
		r.ledger.Tick(s.now, func() fair.Machine { return r.machine(s.now, cfg) })
	}
	var p Pressure
	r.pressure(&p, s.now, cfg, c.kind, Normal)
	p.Spare = 0 // slots are all that the simulated machine has
	r.foresee(&request{kind: c.kind, cfg: cfg, info: j.info, decided: s.now}, &p)
	j.arrived, j.decision = s.now, cfg.Policy.Choose(j.info, p)
	if j.decision.Strategy == Drop {
		c.lost++
		c.kind.counters.Shard(0).Shed.Add(int64(j.info.Work))
		return
	}
	c.kind.account.Owe(s.now, int64(j.info.Work))
	c.kind.counters.Shard(0).Admitted.Add(int64(j.info.Work))
	work := slots.Work(int64(j.info.Work))
	t := j.ticket()
	t.cfg, t.decided = cfg, s.now
	j.place.Due = int64(j.info.Deadline)
	j.place.Long = j.info.Predicted >= longFrom
	j.waited = true
	switch {
	case r.pool.tryAcquireFree(work, j.place.Long):
		if j.waited = false; !j.granted() {
			r.pool.release(0, j.place.Long)
		}
	case r.pool.enqueue(&j.place, j, t) != nil:
		c.lost++
		j.reimburse()
	}
}

// simEvents is a container/heap of what is to happen, the earliest on top.
type simEvents []simEvent

type simEvent struct {
	at    int64
	order int
	do    func()
}

func (e simEvents) Len() int { return len(e) }
func (e simEvents) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].order < e[j].order
}
func (e simEvents) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *simEvents) Push(x any)   { *e = append(*e, x.(simEvent)) }
func (e *simEvents) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

func (s *simulation) at(when int64, do func()) {
	s.order++
	heap.Push(&s.events, simEvent{when, s.order, do})
}

// simScenario changes a simulation from the plain one.
type simScenario struct {
	hint func(rng *rand.Rand) float64    // factor of the cost hint
	run  func(now time.Duration) float64 // factor of the true cost
	load func(now time.Duration) float64 // factor of the load
}

// simulate offers load times what slots can do, for that long, and returns the
// classes with what became of their jobs.
func simulate(t *testing.T, classes []simClass, slots int, load float64, span time.Duration, sc simScenario) []simClass {
	r, err := New(RouterConfig{CPUParallelism: slots, Policy: AdaptivePolicy{}})
	require.NoError(t, err)
	s := &simulation{router: r}
	r.pool.clock = func() int64 { return s.now }
	r.pool.stall.stop() // its timer is of another clock
	classes = append([]simClass(nil), classes...)
	for i := range classes {
		c := &classes[i]
		c.kind = r.kindNamed(c.name)
		c.kind.yields.Store(c.yields)
		if c.weight > 0 {
			c.kind.weight.Store(c.weight)
		}
		rng := rand.New(rand.NewPCG(7, uint64(i)))
		perSecond := load * float64(slots) * c.share / c.cost.Seconds()
		var next func()
		next = func() {
			now := time.Duration(s.now)
			hint, run, rate := 1.0, 1.0, perSecond
			if sc.hint != nil {
				hint = sc.hint(rng)
			}
			if sc.run != nil {
				run = sc.run(now)
			}
			if sc.load != nil {
				rate *= sc.load(now)
			}
			if now > 0 {
				s.arrive(c, float64(c.cost)*hint, time.Duration(float64(c.cost)*run))
			}
			if gap := rng.ExpFloat64() / rate * 1e9; now+time.Duration(gap) < span {
				s.at(s.now+int64(gap)+1, next)
			}
		}
		s.at(0, next)
	}
	for len(s.events) > 0 {
		e := heap.Pop(&s.events).(simEvent)
		s.now = e.at
		e.do()
	}
	require.Zero(t, r.pool.busy())
	require.Zero(t, r.pool.queued.Load())
	for _, c := range classes {
		require.Equal(t, c.offered, c.inBudget+c.late+c.lost, "%s: a job was lost", c.name)
	}
	return classes
}

// fairWork is the CPU time that max-min fair shares give each class, of what it
// has offered over that span: the level of the water is found by bisection.
func fairWork(classes []simClass, slots int, span time.Duration) []float64 {
	fair, room := make([]float64, len(classes)), float64(slots)*span.Seconds()
	pour := func(level float64) (sum float64) {
		for i, c := range classes {
			weight := c.weight
			if weight == 0 {
				weight = 1
			}
			fair[i] = min(float64(c.offered)*c.cost.Seconds(), weight*level)
			sum += fair[i]
		}
		return sum
	}
	low, high := 0., 1e6*room
	if pour(high) <= room {
		return fair
	}
	for range 100 {
		if middle := (low + high) / 2; pour(middle) <= room {
			low = middle
		} else {
			high = middle
		}
	}
	pour(low)
	return fair
}

// simTotals adds a run up, in CPU seconds.
func simTotals(classes []simClass, fair []float64) (good, bound, late, admittedInBudget float64) {
	inBudget, admitted := 0, 0
	for i, c := range classes {
		good += float64(c.inBudget) * c.cost.Seconds()
		late += float64(c.late) * c.cost.Seconds()
		bound += fair[i]
		inBudget += c.inBudget
		admitted += c.inBudget + c.late + c.broken
	}
	return good, bound, late, float64(inBudget) / float64(admitted)
}

var simMixes = map[string][]simClass{
	"reference": {
		{name: "tiny", cost: 10 * time.Microsecond, budget: 5 * time.Millisecond, share: .03},
		{name: "small", cost: 50 * time.Microsecond, budget: 10 * time.Millisecond, share: .26},
		{name: "medium", cost: 500 * time.Microsecond, budget: 20 * time.Millisecond, share: .38},
		{name: "large", cost: 5 * time.Millisecond, budget: 80 * time.Millisecond, share: .33},
	},
	"tight": {
		{name: "quick", cost: 20 * time.Microsecond, budget: 3 * time.Millisecond, share: .1},
		{name: "middle", cost: 2 * time.Millisecond, budget: 40 * time.Millisecond, share: .4},
		{name: "long", cost: 12 * time.Millisecond, budget: 300 * time.Millisecond, share: .5},
	},
	"tight, yielding": {
		{name: "quick", cost: 20 * time.Microsecond, budget: 3 * time.Millisecond, share: .1},
		{name: "middle", cost: 2 * time.Millisecond, budget: 40 * time.Millisecond, share: .4, yields: true},
		{name: "long", cost: 12 * time.Millisecond, budget: 300 * time.Millisecond, share: .5, yields: true},
	},
}

// simLeast is the part of its fair share that each class must get, and of the
// admitted jobs that must be in budget. Where long runs do not give way, a budget
// shorter than they are cannot always be kept on two cores: that is what Yield is
// for.
func simLeast(mix string) (share, kept float64) {
	if mix == "tight" {
		return .7, .75
	}
	return .98, .999
}

// skipIfRace skips a simulation under the race detector: it is one goroutine, in
// which there is nothing to detect, and runs ten times as long.
func skipIfRace(t *testing.T) {
	if RaceEnabled {
		t.Skip("runs without the race detector")
	}
}

func TestAdaptivePolicyKeepsPromisesAtAnyLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("a long simulation")
	}
	const span = 8 * time.Second
	loads := []float64{.5, .9, 1.2, 2, 5, 10}
	if RaceEnabled {
		loads = []float64{2}
	}
	for name, mix := range simMixes {
		for _, load := range loads {
			t.Run(fmt.Sprintf("%s/%gx", name, load), func(t *testing.T) {
				classes := simulate(t, mix, 2, load, span, simScenario{})
				fair := fairWork(classes, 2, span)
				good, bound, late, kept := simTotals(classes, fair)
				t.Logf("goodput %.1f %% of the fair bound, late %.2f %% of the CPU, %.2f %% of admitted in budget",
					100*good/bound, 100*late/(2*span.Seconds()), 100*kept)
				require.GreaterOrEqual(t, good, .96*bound, "goodput")
				require.LessOrEqual(t, late, .005*2*span.Seconds(), "CPU spent on late work")
				leastShare, leastKept := simLeast(name)
				require.GreaterOrEqual(t, kept, leastKept, "of admitted jobs in budget")
				for i, c := range classes {
					got := float64(c.inBudget) * c.cost.Seconds()
					t.Logf("%-7s %5.1f %% in budget, %5.1f %% of its fair share", c.name, 100*float64(c.inBudget)/float64(c.offered), 100*got/fair[i])
					require.GreaterOrEqual(t, got, leastShare*fair[i], "%s: share", c.name)
				}
			})
		}
	}
}

func TestWeightsMoveTheShares(t *testing.T) {
	if testing.Short() {
		t.Skip("a long simulation")
	}
	skipIfRace(t)
	const span = 4 * time.Second
	mix := append([]simClass(nil), simMixes["reference"]...)
	plain := simulate(t, mix, 2, 5, span, simScenario{})
	mix[3].weight = 3
	weighted := simulate(t, mix, 2, 5, span, simScenario{})
	require.Greater(t, float64(weighted[3].inBudget), 1.5*float64(plain[3].inBudget))
	fair := fairWork(weighted, 2, span)
	require.GreaterOrEqual(t, float64(weighted[3].inBudget)*weighted[3].cost.Seconds(), .9*fair[3])
}

func TestWrongEstimatesCostLittle(t *testing.T) {
	if testing.Short() {
		t.Skip("a long simulation")
	}
	skipIfRace(t)
	const span = 6 * time.Second
	plain := simulate(t, simMixes["reference"], 2, 2, span, simScenario{})
	fair := fairWork(plain, 2, span)
	best, _, _, _ := simTotals(plain, fair)
	lying := simulate(t, simMixes["reference"], 2, 2, span, simScenario{
		hint: func(rng *rand.Rand) float64 { return math.Pow(5, 2*rng.Float64()-1) },
	})
	good, _, late, _ := simTotals(lying, fair)
	t.Logf("goodput %.1f %% of that with right hints, late %.2f %%", 100*good/best, 100*late/(2*span.Seconds()))
	require.GreaterOrEqual(t, good, .97*best)
}

func TestShiftsAndBurstsPass(t *testing.T) {
	skipIfRace(t)
	const span = 6 * time.Second
	tripled := simulate(t, simMixes["reference"], 2, .6, span, simScenario{run: func(now time.Duration) float64 {
		if now > span/2 {
			return 3
		}
		return 1
	}})
	_, _, late, _ := simTotals(tripled, fairWork(tripled, 2, span))
	t.Logf("late after the cost has tripled: %.2f %%", 100*late/(2*span.Seconds()))
	require.LessOrEqual(t, late, .01*2*span.Seconds())

	// 8x for 200 ms of each second, .6x else: what comes 200 ms after a burst, or
	// later, must not suffer from it.
	calm := func(now time.Duration) time.Duration { return now % time.Second }
	bursts := simulate(t, simMixes["reference"], 2, 1, span, simScenario{load: func(now time.Duration) float64 {
		if calm(now) < 200*time.Millisecond {
			return 8
		}
		return .6
	}})
	_, _, late, kept := simTotals(bursts, fairWork(bursts, 2, span))
	require.LessOrEqual(t, late, .005*2*span.Seconds())
	require.GreaterOrEqual(t, kept, .95)
}

// What a decision predicts is what happens, in the mean, of every kind: earliest
// deadline first lets some wait so that others need not, and that is known.
func TestPredictedCompletionIsHonest(t *testing.T) {
	if testing.Short() {
		t.Skip("a long simulation")
	}
	skipIfRace(t)
	for _, load := range []float64{.5, .9, 1.2, 2, 5, 10} {
		t.Run(fmt.Sprintf("%gx", load), func(t *testing.T) {
			classes := simulate(t, simMixes["reference"], 2, load, 4*time.Second, simScenario{})
			for _, c := range classes {
				t.Logf("%-7s predicted %6.3f ms, took %6.3f ms", c.name, 1e3*c.predicted/c.ran, 1e3*c.took/c.ran)
				require.InEpsilon(t, c.ran, c.predictedRun, .02, "%s: run", c.name)
				require.InEpsilon(t, c.took, c.predicted, .35, "%s: completion", c.name)
			}
		})
	}
}
