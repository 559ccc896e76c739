package helix

import (
	"cmp"
	"slices"
)

// LongRun reports that one kind's long jobs make another kind miss its budget: Go lets a
// goroutine run up to about 10 ms before preempting it, and while long jobs occupy every
// processor nothing else runs, whatever is decided about it.
// Two things help: [Yield] in the long jobs, and GOMAXPROCS one above
// RouterConfig.CPUParallelism, so that the operating system interrupts them.
type LongRun struct {
	Kind      string  `json:"kind"`      // its jobs are long and do not call Yield
	RunMs     float64 `json:"run_ms"`    // as learned
	Endangers string  `json:"endangers"` // a kind whose budget is less than twice that
	BudgetMs  float64 `json:"budget_ms"`
	LatePct   float64 `json:"late_pct"` // its jobs that came or started too late, or ended late
}

// From which share, and number, of late jobs a kind is said to suffer, and from which
// demand, in CPU seconds a second, another is taken for the cause.
const (
	endangeredPct  = 1
	endangeredJobs = 20
	endangersFrom  = 0.05
)

// longRuns finds for each kind that suffers the longest runs that may be why.
func longRuns(kinds []KindStats) []LongRun {
	found := []LongRun{}
	for i := range kinds {
		of := &kinds[i]
		latePct := 100 * float64(of.Late) / float64(max(of.Submitted, 1))
		if of.BudgetMs == 0 || of.Late < endangeredJobs || latePct < endangeredPct {
			continue
		}
		var cause *KindStats
		for j := range kinds {
			k := &kinds[j]
			long := k.RunMs >= milliseconds(longFrom) && 2*k.RunMs > of.BudgetMs
			if j != i && long && !k.Yields && k.Demand >= endangersFrom && (cause == nil || k.RunMs > cause.RunMs) {
				cause = k
			}
		}
		if cause != nil {
			found = append(found, LongRun{cause.Name, cause.RunMs, of.Name, of.BudgetMs, latePct})
		}
	}
	slices.SortFunc(found, func(a, b LongRun) int { return cmp.Compare(a.Endangers, b.Endangers) })
	return found
}
