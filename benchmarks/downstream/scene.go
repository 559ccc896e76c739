package main

import (
	"math/rand/v2"
	"time"
)

// servers is how many calls the downstreams can work at, at a time.
const servers = 32

// downstream is a sort of service.
type downstream struct {
	name   string
	shared bool
	mean   time.Duration
	draw   func(*rand.Rand) time.Duration
}

func exponential(r *rand.Rand) time.Duration { return time.Duration(r.ExpFloat64() * 5e6) }

var downstreams = []downstream{
	{"fixed", false, 5 * time.Millisecond, func(*rand.Rand) time.Duration { return 5 * time.Millisecond }},
	{"exponential", false, 5 * time.Millisecond, exponential},
	{"shared", true, 5 * time.Millisecond, exponential},
	{"bimodal", false, 10900 * time.Microsecond, func(r *rand.Rand) time.Duration {
		if r.IntN(10) == 0 {
			return 100 * time.Millisecond
		}
		return time.Millisecond
	}},
}

// changes are what may become of a downstream, from a second after counting begins.
var changes = map[string]change{
	"":         {},
	"capacity": {until: 3 * time.Second, servers: servers / 3},
	"slower":   {until: 3 * time.Second, slower: 3},
	"hang":     {until: 2 * time.Second, hangs: true},
}

// warmup is when counting begins, after a cold start.
const warmup = 2 * time.Second

// scene is what all contenders are put to: a downstream and the calls that come.
type scene struct {
	downstream
	load   float64 // of what the downstream can do
	budget time.Duration
	what   string // of the changes
	change change
	counts [2]time.Duration // the calls that come meanwhile count; without budgets, those that end
	until  time.Duration    // when all is over
	calls  []arrival
	good   float64 // the part of the calls that count which take no longer than the budget when alone
}

// arrival is a call to come.
type arrival struct {
	at, work time.Duration
}

// newScene draws a scene in which calls count for so long, or, with a change, until two
// seconds after it.
func newScene(d downstream, load float64, budget time.Duration, what string, lasts time.Duration, seed uint64) *scene {
	s := &scene{downstream: d, load: load, budget: budget, what: what, change: changes[what]}
	if s.change.until > 0 {
		s.change.from += warmup + time.Second
		s.change.until += warmup + time.Second
		lasts = s.change.until + 2*time.Second - warmup
	}
	s.counts = [2]time.Duration{warmup, warmup + lasts}
	s.until = s.counts[1] + budget + 20*time.Millisecond
	r := rand.New(rand.NewPCG(seed, 1))
	gap := float64(d.mean) / servers / load
	counted, good := 0, 0
	for at := r.ExpFloat64() * gap; at < float64(s.until); at += r.ExpFloat64() * gap {
		a := arrival{time.Duration(at), d.draw(r)}
		s.calls = append(s.calls, a)
		if !s.counted(a.at) {
			continue
		}
		counted++
		if budget == 0 || time.Duration(float64(a.work)*s.slowed(a.at)) <= budget {
			good++
		}
	}
	s.good = float64(good) / float64(max(counted, 1))
	return s
}

func (s *scene) counted(at time.Duration) bool { return s.counts[0] <= at && at < s.counts[1] }

// slowed is what service times of calls that come then are multiplied by.
func (s *scene) slowed(at time.Duration) float64 {
	if s.change.slower > 0 && s.change.from <= at && at < s.change.until {
		return s.change.slower
	}
	return 1
}

// capacity is how many calls can end a second then, on average.
func (s *scene) capacity(at time.Duration) float64 {
	n := float64(servers)
	if s.change.from <= at && at < s.change.until {
		switch {
		case s.change.hangs:
			return 0
		case s.change.servers > 0:
			n = float64(s.change.servers)
		}
	}
	return n / (s.mean.Seconds() * s.slowed(at))
}

// bound is how many of the calls that count could be done in time, on average, without knowing
// how long each will take: a fluid that flows through the downstream as fast as it can, oldest
// first, of which what is older than the budget is left out.
func (s *scene) bound() float64 {
	const step = time.Millisecond
	waiting := map[int]float64{} // by step of arrival
	oldest, next, kept := 0, 0, 0.0
	for i := 0; time.Duration(i)*step < s.until; i++ {
		now := time.Duration(i) * step
		for next < len(s.calls) && s.calls[next].at < now+step {
			waiting[i]++
			next++
		}
		for room := s.capacity(now) * step.Seconds(); room > 0 && oldest <= i; {
			came := time.Duration(oldest) * step
			if s.budget > 0 && now-came > s.budget {
				delete(waiting, oldest)
				oldest++
				continue
			}
			part := min(room, waiting[oldest])
			room -= part
			waiting[oldest] -= part
			if s.budget > 0 && s.counted(came) || s.budget == 0 && s.counted(now) {
				kept += part
			}
			if waiting[oldest] <= 0 {
				delete(waiting, oldest)
				oldest++
			}
		}
	}
	return kept * s.good
}
