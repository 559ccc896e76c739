package limit_test

import (
	"container/heap"
	"math"
	"math/rand/v2"

	"github.com/helixrouter/helix/internal/limit"
)

// ms is a millisecond of virtual time.
const ms = int64(1e6)

// downstream is a simulated service: what is said of its calls and its capacity may change.
type downstream struct {
	servers int
	shared  bool                     // processor sharing: all calls at once, at the speed of servers/n
	service func(*rand.Rand) float64 // ns alone
}

// scene is what is simulated.
type scene struct {
	down    downstream
	mean    float64 // ns of service, for the capacity
	load    float64 // of the capacity
	budget  int64
	budgets []int64 // at random, instead of budget
	length  int64
	from    int64                                       // when counting begins
	change  func(now int64, d *downstream) (hang bool)  // called at every event; may be nil
	fail    func(now int64) (failed bool, took float64) // of a call that begins; may be nil
	cancel  bool                                        // callers leave when their budget is over
	limit   limiter                                     // that is tried; nil: a new limit.Limit

	gap        float64                    // ns between calls, instead of load
	quietUntil int64                      // one call every 10 ms until then
	priority   func(i int) limit.Priority // of the i-th call; nil: all are Normal
}

// limiter decides which calls may start, as limit.Limit does.
type limiter interface {
	Room(now int64, p limit.Priority) (most int, probe bool)
	Refused()
	Begin(now, budget int64) uint16
	End(c limit.Call, now int64, well bool)
	InFlight() int64
}

type report struct {
	offered, refused, admitted, kept, late int
	drawn                                  float64 // ns of service, of those admitted
	slots                                  []int   // kept, by 100 ms of arrival
	byBudget                               [2]struct{ offered, kept int }
	most                                   int64
	priorities                             []limit.Priority // of all that came
	granted                                []bool           // likewise
}

// share is how many of that priority were admitted, of those that came after the first second.
func (r *report) share(p limit.Priority) float64 {
	came, granted := 0, 0
	for i := len(r.priorities) / 4; i < len(r.priorities); i++ {
		if r.priorities[i] == p {
			if came++; r.granted[i] {
				granted++
			}
		}
	}
	return float64(granted) / float64(came)
}

// event is the end of a call, or the start of work that a server waits for.
type event struct {
	at   float64
	call *call
}

type call struct {
	arrived int64
	service float64
	token   limit.Call
	left    bool // its caller has gone
	failed  bool
	budget  int64
	kind    int // its place in scene.budgets
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(v any)        { *e = append(*e, v.(event)) }
func (e *events) Pop() any {
	old := *e
	v := old[len(old)-1]
	*e = old[:len(old)-1]
	return v
}

// run simulates the scene. Time that a downstream hangs is taken out of its own clock.
func (s scene) run(seed uint64) report {
	l := s.limit
	if l == nil {
		l = new(limit.Limit)
	}
	rnd := rand.New(rand.NewPCG(seed, 1))
	d := s.down
	gap := s.gap
	if gap == 0 {
		gap = s.mean / float64(d.servers) / s.load
	}
	var r report
	n := int(s.length/(100*ms)) + 1
	r.slots = make([]int, n)
	var (
		now      float64
		own      float64 // the downstream's clock: servers work by it
		speed    = 1.0
		working  events // by own clock
		queue    []*call
		fails    events // by now
		arrive   = rnd.ExpFloat64() * gap
		busy     int
		inflight int64
	)
	setSpeed := func(hang bool) {
		switch {
		case hang:
			speed = 0
		case d.shared && len(working) > d.servers:
			speed = float64(d.servers) / float64(len(working))
		default:
			speed = 1
		}
	}
	end := func(c *call) {
		if c.left {
			return
		}
		c.left = true
		inflight--
		took := int64(now) - c.arrived
		l.End(c.token, int64(now), !c.failed)
		counted := c.arrived
		if c.budget == 0 {
			counted = int64(now) // there is no late: what counts is how much was done
		}
		if counted < s.from || counted > s.length {
			return
		}
		if c.failed {
			return
		}
		if c.budget > 0 && took > c.budget {
			r.late++
			return
		}
		r.kept++
		r.byBudget[c.kind].kept++
		r.slots[counted/(100*ms)]++
	}
	start := func(c *call) {
		busy++
		heap.Push(&working, event{own + c.service, c})
	}
	hang := false
	tick := 0.0
	for now < float64(s.length)+3e9 {
		setSpeed(hang)
		next, kind := arrive, 0
		if arrive > float64(s.length) {
			next, kind = math.Inf(1), 3
			if len(working)+len(fails) == 0 {
				break
			}
		}
		if len(working) > 0 && speed > 0 {
			if at := now + (working[0].at-own)/speed; at < next {
				next, kind = at, 1
			}
		}
		if len(fails) > 0 && fails[0].at < next {
			next, kind = fails[0].at, 2
		}
		if tick < next {
			next, kind = tick, 4
		}
		own += (next - now) * speed
		now = next
		switch kind {
		case 4:
			tick += float64(5 * ms)
			if s.change != nil {
				hang = s.change(int64(now), &d)
				for !d.shared && busy < d.servers && len(queue) > 0 {
					c := queue[0]
					queue = queue[1:]
					start(c)
				}
			}
		case 0:
			if arrive += rnd.ExpFloat64() * gap; int64(now) < s.quietUntil {
				arrive = now + float64(10*ms)
			}
			at := int64(now)
			counted := at >= s.from
			if counted {
				r.offered++
			}
			budget, kind := s.budget, 0
			if s.budgets != nil {
				kind = rnd.IntN(len(s.budgets))
				budget = s.budgets[kind]
			}
			if counted {
				r.byBudget[kind].offered++
			}
			p := limit.Normal
			if s.priority != nil {
				p = s.priority(len(r.priorities))
			}
			most, probe := l.Room(at, p)
			ok := most == 0 || l.InFlight() < int64(most) || probe
			if s.priority != nil {
				r.priorities, r.granted = append(r.priorities, p), append(r.granted, ok)
			}
			if !ok {
				l.Refused()
				if counted {
					r.refused++
				}
				continue
			}
			if counted {
				r.admitted++
			}
			inflight++
			r.most = max(r.most, inflight)
			c := &call{arrived: at, service: d.service(rnd), budget: budget, kind: kind,
				token: limit.Call{Began: at, Among: l.Begin(at, budget)}}
			if counted {
				r.drawn += c.service
			}
			if s.cancel {
				heap.Push(&fails, event{now + float64(budget), c})
			}
			if s.fail != nil {
				if failed, took := s.fail(at); failed {
					c.failed = true
					heap.Push(&fails, event{now + took, c})
					continue
				}
			}
			if d.shared || busy < d.servers {
				start(c)
			} else {
				queue = append(queue, c)
			}
		case 1:
			e := heap.Pop(&working).(event)
			busy--
			end(e.call)
			if !d.shared && busy < d.servers && len(queue) > 0 {
				c := queue[0]
				queue = queue[1:]
				start(c)
			}
		case 2:
			c := heap.Pop(&fails).(event).call
			c.failed = c.failed || !c.left
			end(c)
		}
	}
	return r
}

func fixed(d float64) func(*rand.Rand) float64 { return func(*rand.Rand) float64 { return d } }
func exponential(mean float64) func(*rand.Rand) float64 {
	return func(r *rand.Rand) float64 { return mean * r.ExpFloat64() }
}
func bimodal(r *rand.Rand) float64 {
	if r.IntN(10) == 0 {
		return 100e6
	}
	return 1e6
}
