package main

import (
	"slices"
)

// Result is what was measured at one point. Offered is InBudget + Late +
// Refused, always: a job that had not ended when the point was over is late.
type Result struct {
	Contender string  `json:"contender"`
	Load      float64 `json:"load"`
	Skipped   string  `json:"skipped,omitempty"` // why there is nothing else
	Cores     int     `json:"cores"`

	Offered  int `json:"offered"`
	InBudget int `json:"in_budget"`
	Late     int `json:"late"`    // ended after its budget, or not at all
	Refused  int `json:"refused"` // never started

	// Goodput is the CPU time of the jobs in budget over the capacity of the
	// measured time; a batch item counts as if run alone.
	Goodput     float64 `json:"goodput"`
	InBudgetPct float64 `json:"in_budget_pct"` // of those offered
	// AdmittedPct is the jobs in budget of those that were not refused.
	AdmittedPct float64 `json:"admitted_in_budget_pct"`
	// WastedPct is the CPU spent on late jobs, of the capacity.
	WastedPct float64 `json:"wasted_pct"`
	// WorkPct is the CPU spent on jobs at all, of the capacity: what is missing
	// to 100 under overload went to the generator, to the contender itself, to
	// the runtime, or was not used. Here a batch item counts its part of the call.
	WorkPct float64 `json:"work_pct"`

	// In ms, from the scheduled arrival; null if there were none. A job that
	// never ended counts with its age when the point was over.
	P50Ms      *float64 `json:"p50_ms"`
	P99Ms      *float64 `json:"p99_ms"`
	RefuseP50  *float64 `json:"refuse_p50_ms"`
	RefuseP99  *float64 `json:"refuse_p99_ms"`
	CalmPct    *float64 `json:"calm_in_budget_pct,omitempty"` // in budget of those that came from 200 ms after a burst on
	Goroutines int      `json:"goroutines"`
	// ResidentMiB is how much the memory grew from the first arrival on.
	ResidentMiB float64 `json:"resident_mib"`
	// CPUPct is the CPU time of the whole process, of all there was.
	CPUPct float64 `json:"cpu_pct"`

	Classes []ClassResult `json:"classes"`
	Bounds  Bounds        `json:"bounds"`
	// OfFairPct compares with Bounds.FairNet: jobs in budget, goodput, and the
	// class that comes off worst.
	OfFairPct OfFair `json:"of_fair_pct"`

	// The generator of arrivals: how late it was, and its CPU of the capacity.
	GeneratorLagP99Ms float64 `json:"generator_lag_p99_ms"`
	GeneratorPct      float64 `json:"generator_pct"`
	// Speed is the calibrated iterations a second of one core, SpeedAfter the
	// same after the point, relative to Speed. Far from 1, something else used
	// the machine.
	Speed      float64 `json:"speed"`
	SpeedAfter float64 `json:"speed_after"`
	// Disturbed is set if either speed was well below the best of the run: the
	// figures of such a point say little.
	Disturbed bool `json:"disturbed"`
	Attempts  int  `json:"attempts"`
}

// ClassResult is the part of one class.
type ClassResult struct {
	Name        string   `json:"name"`
	Offered     int      `json:"offered"`
	InBudget    int      `json:"in_budget"`
	Late        int      `json:"late"`
	Refused     int      `json:"refused"`
	InBudgetPct *float64 `json:"in_budget_pct"`
	P50Ms       *float64 `json:"p50_ms"`
	P99Ms       *float64 `json:"p99_ms"`
}

// OfFair is percentages of the fair bound less the generator.
type OfFair struct {
	Jobs       float64 `json:"jobs"`
	Goodput    float64 `json:"goodput"`
	WorstClass string  `json:"worst_class"`
	Worst      float64 `json:"worst"`
}

// undisturbed is the part of the best speed seen that a point must have had
// before and after.
const undisturbed = 0.9

// fastest of the speeds before and after.
func (r *Result) fastest() float64 { return max(r.Speed, r.Speed*r.SpeedAfter) }

// disturbed reports that something else used the machine, whose best speed is
// that.
func (r *Result) disturbed(best float64) bool {
	return min(r.Speed, r.Speed*r.SpeedAfter) < undisturbed*best
}

// recovery is the time after a burst from which jobs should be in budget again.
const recovery = 0.2

// result adds up what became of the jobs that count.
func (p *point) result(d *dispatcher) *Result {
	s := &p.spec
	cores := float64(s.cores())
	r := &Result{Contender: s.Contender, Load: s.Load, Cores: s.cores(), Speed: p.speed}
	r.Classes = make([]ClassResult, len(p.classes))
	for i := range p.classes {
		r.Classes[i].Name = p.classes[i].Name
	}
	segments := s.segments()
	loads := make([]segmentLoad, len(segments))
	for i, g := range segments {
		loads[i] = p.emptyLoad(g)
	}

	var lags, refusals, ran, calm []float64
	ranBy := make([][]float64, len(p.classes))
	good, wasted, work := 0.0, 0.0, 0.0
	for i := range p.jobs {
		j := &p.jobs[i]
		lags = append(lags, float64(j.dispatched-j.at))
		if !s.measured(segments[j.segment]) {
			continue
		}
		c, k := p.class(j), &r.Classes[j.class]
		loads[j.segment].jobs[j.class]++
		k.Offered++
		ended, state := j.ended.Load(), j.state.Load()
		latency := float64(ended - j.at)
		if ended == 0 {
			latency = float64(p.horizon - j.at)
		}
		kept := state == jobFinished && ended != 0 && latency <= float64(c.budget)
		executed := float64(j.executed.Load()) / p.speed
		work += executed
		switch {
		case state == jobWaiting && ended != 0:
			k.Refused++
			refusals = append(refusals, latency)
		case kept:
			k.InBudget++
			good += c.aloneSec * float64(j.factor)
			ranBy[j.class] = append(ranBy[j.class], latency)
		default:
			k.Late++
			wasted += executed
			ranBy[j.class] = append(ranBy[j.class], latency)
		}
		if s.Bursts && s.recovered(j) {
			calm = append(calm, percent(btoi(kept), 1))
		}
	}
	for i := range r.Classes {
		k := &r.Classes[i]
		r.Offered += k.Offered
		r.InBudget += k.InBudget
		r.Late += k.Late
		r.Refused += k.Refused
		if k.Offered > 0 {
			pct := percent(k.InBudget, k.Offered)
			k.InBudgetPct = &pct
		}
		ran = append(ran, ranBy[i]...)
		k.P50Ms, k.P99Ms = quantileMs(ranBy[i], .5), quantileMs(ranBy[i], .99)
	}

	capacity := cores * s.Seconds
	r.Goodput, r.WastedPct, r.WorkPct = good/capacity, 100*wasted/capacity, 100*work/capacity
	r.InBudgetPct = percent(r.InBudget, r.Offered)
	r.AdmittedPct = percent(r.InBudget, r.Offered-r.Refused)
	r.P50Ms, r.P99Ms = quantileMs(ran, .5), quantileMs(ran, .99)
	r.RefuseP50, r.RefuseP99 = quantileMs(refusals, .5), quantileMs(refusals, .99)
	r.CalmPct = mean(calm)
	r.Goroutines = d.goroutines
	r.ResidentMiB = float64(d.resident-d.idle) / (1 << 20)
	r.CPUPct = 100 * d.process.Seconds() / (cores * d.wall.Seconds())
	if lag := quantileMs(lags, .99); lag != nil {
		r.GeneratorLagP99Ms = *lag
	}
	r.GeneratorPct = 100 * d.cpu.Seconds() / (cores * d.wall.Seconds())

	weights := make([]float64, len(p.classes))
	for i := range weights {
		weights[i] = p.classes[i].weight
	}
	loads = slices.DeleteFunc(loads, func(l segmentLoad) bool { return l.seconds == 0 })
	r.Bounds = bounds(loads, weights, cores, r.GeneratorPct/100)
	r.OfFairPct = ofFair(r)
	return r
}

// emptyLoad is a segment's load before its jobs are counted; one that is not
// measured has no seconds.
func (p *point) emptyLoad(g segment) segmentLoad {
	l := segmentLoad{jobs: make([]float64, len(p.classes))}
	if p.spec.measured(g) {
		l.seconds = g.to - g.from
	}
	for i := range p.classes {
		c := &p.classes[i]
		factor := 1.0
		if g.shifted && c.Name == p.spec.Shift {
			factor = shiftFactor
		}
		l.best, l.alone = append(l.best, c.bestS*factor), append(l.alone, c.aloneSec*factor)
	}
	return l
}

// recovered reports that the job came well after a burst, and not in one.
func (s *pointSpec) recovered(j *job) bool {
	at := float64(j.at) / 1e9
	into := at - float64(int(at/burstEvery))*burstEvery
	return into < burstFrom || into >= burstTo+recovery
}

// ofFair compares with the fair bound less the generator.
func ofFair(r *Result) OfFair {
	bound := r.Bounds.FairNet
	f := OfFair{Worst: -1}
	if bound.InBudgetPct > 0 {
		f.Jobs = 100 * r.InBudgetPct / bound.InBudgetPct
	}
	if bound.Goodput > 0 {
		f.Goodput = 100 * r.Goodput / bound.Goodput
	}
	for i, k := range r.Classes {
		if k.InBudgetPct == nil || bound.ByClassPct[i] == 0 {
			continue
		}
		if of := 100 * *k.InBudgetPct / bound.ByClassPct[i]; f.Worst < 0 || of < f.Worst {
			f.Worst, f.WorstClass = of, k.Name
		}
	}
	f.Worst = max(0, f.Worst)
	return f
}

// percent of n in of; of nothing it is 100, since nothing was missed.
func percent(n, of int) float64 {
	if of == 0 {
		return 100
	}
	return 100 * float64(n) / float64(of)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// quantileMs is the q-quantile of ns values, in ms; nil if there are none. It
// sorts them.
func quantileMs(ns []float64, q float64) *float64 {
	if len(ns) == 0 {
		return nil
	}
	slices.Sort(ns)
	ms := ns[min(len(ns)-1, int(q*float64(len(ns))))] / 1e6
	return &ms
}

func mean(values []float64) *float64 {
	if len(values) == 0 {
		return nil
	}
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	sum /= float64(len(values))
	return &sum
}
