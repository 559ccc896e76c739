package main

import (
	"cmp"
	"slices"
)

// Bound is an upper bound for the machine: jobs in budget, and cost goodput, as a Result counts
// them.
type Bound struct {
	InBudgetPct float64   `json:"in_budget_pct"`
	Goodput     float64   `json:"goodput"`
	ByClassPct  []float64 `json:"by_class_pct,omitempty"` // served part of each class; nil where several orders mix
}

// Bounds are worked out from the arrivals that were offered, batches at their
// best. With -bursts every phase stands alone: work carried over from a burst
// into the calm after it, which budgets allow for some milliseconds, is not in
// them.
type Bounds struct {
	// Fair divides the CPU max-min fairly among the classes, by weight.
	Fair Bound `json:"fair"`
	// Cheapest serves the cheapest first and starves the rest: by CPU a job
	// for InBudgetPct, by CPU for what counts as a CPU second for Goodput.
	Cheapest Bound `json:"cheapest"`
	// The same, less the CPU that the generator was measured to need.
	FairNet     Bound `json:"fair_net"`
	CheapestNet Bound `json:"cheapest_net"`
}

// waterFill divides capacity among demands: it finds the level at which min(demand, weight ×
// level) adds up to capacity. Demands that fit are served
// in full.
func waterFill(demand, weight []float64, capacity float64) []float64 {
	share := make([]float64, len(demand))
	order := make([]int, 0, len(demand)) // by the level at which each is full
	open := 0.0                          // weight of those not full yet
	for i := range demand {
		if demand[i] > 0 {
			order = append(order, i)
			open += weight[i]
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Compare(demand[a]*weight[b], demand[b]*weight[a])
	})
	for _, i := range order {
		share[i] = demand[i]
		if open > 0 {
			share[i] = min(demand[i], capacity*weight[i]/open)
		}
		capacity = max(0, capacity-share[i])
		open -= weight[i]
	}
	return share
}

// inOrder serves demands in full, one after the other, as far as capacity goes.
func inOrder(demand []float64, order []int, capacity float64) []float64 {
	share := make([]float64, len(demand))
	for _, i := range order {
		share[i] = min(demand[i], capacity)
		capacity -= share[i]
	}
	return share
}

// load is the demand of a segment, by class.
type segmentLoad struct {
	seconds float64
	jobs    []float64
	best    []float64 // CPU seconds of a job at its best
	alone   []float64 // CPU seconds of a job by itself
}

// total sums bounds over segments.
type total struct {
	jobs, served   []float64
	offered, ended float64
	cpu            float64 // CPU seconds, as if alone, of what was served
	seconds        float64
}

func (t *total) add(l *segmentLoad, share []float64) {
	if t.jobs == nil {
		t.jobs, t.served = make([]float64, len(l.jobs)), make([]float64, len(l.jobs))
	}
	t.seconds += l.seconds
	for i, n := range l.jobs {
		part := 1.0
		if asked := n * l.best[i]; asked > 0 {
			part = share[i] * l.seconds / asked
		}
		t.jobs[i] += n
		t.served[i] += part * n
		t.offered += n
		t.ended += part * n
		t.cpu += part * n * l.alone[i]
	}
}

func (t *total) bound(cores float64) Bound {
	b := Bound{Goodput: t.cpu / (cores * t.seconds)}
	if t.offered > 0 {
		b.InBudgetPct = 100 * t.ended / t.offered
	}
	for i := range t.jobs {
		pct := 100.0
		if t.jobs[i] > 0 {
			pct = 100 * t.served[i] / t.jobs[i]
		}
		b.ByClassPct = append(b.ByClassPct, pct)
	}
	return b
}

// bounds of a point with that many cores, of which the generator takes a part.
func bounds(loads []segmentLoad, weight []float64, cores, generator float64) Bounds {
	var b Bounds
	for _, net := range []bool{false, true} {
		capacity := cores
		if net {
			capacity *= 1 - generator
		}
		var fair, mostJobs, mostCPU total
		for i := range loads {
			l := &loads[i]
			demand := make([]float64, len(l.jobs))
			byJob := make([]int, len(l.jobs))
			for k := range demand {
				demand[k] = l.jobs[k] * l.best[k] / l.seconds
				byJob[k] = k
			}
			byCPU := slices.Clone(byJob)
			slices.SortFunc(byJob, func(a, b int) int { return cmp.Compare(l.best[a], l.best[b]) })
			slices.SortFunc(byCPU, func(a, b int) int {
				return cmp.Compare(l.best[a]*l.alone[b], l.best[b]*l.alone[a])
			})
			fair.add(l, waterFill(demand, weight, capacity))
			mostJobs.add(l, inOrder(demand, byJob, capacity))
			mostCPU.add(l, inOrder(demand, byCPU, capacity))
		}
		// Goodput stays in terms of the whole machine.
		cheapest := Bound{InBudgetPct: mostJobs.bound(cores).InBudgetPct, Goodput: mostCPU.bound(cores).Goodput}
		if net {
			b.FairNet, b.CheapestNet = fair.bound(cores), cheapest
		} else {
			b.Fair, b.Cheapest = fair.bound(cores), cheapest
		}
	}
	return b
}
