package main

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// Report is a whole run: what -json writes.
type Report struct {
	Machine Machine   `json:"machine"`
	Spec    pointSpec `json:"spec"` // what all points have in common
	Results []*Result `json:"results"`
}

// Machine is all that is said of where it ran.
type Machine struct {
	Cores    int    `json:"cores"`
	MaxProcs int    `json:"gomaxprocs"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func machine(s *pointSpec) Machine {
	return Machine{
		Cores: s.cores(), MaxProcs: s.maxProcs(),
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// title names the run.
func (rep *Report) title() string {
	s, m := &rep.Spec, &rep.Machine
	parts := []string{
		fmt.Sprintf("mix %s", s.Mix.Name), fmt.Sprintf("%d cores", m.Cores), fmt.Sprintf("GOMAXPROCS %d", m.MaxProcs),
		m.Go, m.Platform, fmt.Sprintf("%g s a point after %g s", s.Seconds, s.Warmup), fmt.Sprintf("seed %d", s.Seed),
	}
	for _, flag := range []struct {
		on   bool
		text string
	}{
		{s.Yield, "jobs yield"}, {s.SpareP, "a spare P"}, {s.HintError, "hints wrong by 0.2 to 5"},
		{s.Bursts, "bursts"}, {s.Shift != "", s.Shift + " triples half-way"}, {len(s.Weights) > 0, fmt.Sprintf("weights %v", s.Weights)},
	} {
		if flag.on {
			parts = append(parts, flag.text)
		}
	}
	return strings.Join(parts, " · ")
}

// at returns the results at one load, without those left out.
func (rep *Report) at(load float64) []*Result {
	var at []*Result
	for _, r := range rep.Results {
		if r.Load == load && r.Skipped == "" {
			at = append(at, r)
		}
	}
	return at
}

// markDisturbed sets Disturbed of all results, and returns the best speed.
func (rep *Report) markDisturbed() float64 {
	best := 0.0
	for _, r := range rep.Results {
		best = max(best, r.fastest())
	}
	for _, r := range rep.Results {
		r.Disturbed = r.Skipped == "" && r.disturbed(best)
	}
	return best
}

// mark is what figures of a disturbed point carry.
func mark(r *Result) string {
	if r.Disturbed {
		return "~"
	}
	return ""
}

// table aligns columns: the first to the left, numbers to the right.
type table struct{ rows [][]string }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(out io.Writer) {
	first := 0
	for _, row := range t.rows {
		first = max(first, len([]rune(row[0])))
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range t.rows {
		pad := strings.Repeat(" ", first-len([]rune(row[0])))
		fmt.Fprintf(w, "%s%s\t%s\t\n", row[0], pad, strings.Join(row[1:], "\t"))
	}
	_ = w.Flush() // to out, whose errors show elsewhere
}

// printLoad prints two tables of one load: all figures, and the classes.
func (rep *Report) printLoad(out io.Writer, load float64) {
	results := rep.at(load)
	if len(results) == 0 {
		return
	}
	best := rep.markDisturbed()
	fmt.Fprintf(out, "\n%gx of capacity\n", load)
	t := &table{}
	head := []string{"", "goodput", "in budget %", "jobs / fair %", "goodput / fair %", "worst class / fair %", "p50 ms", "p99 ms",
		"late CPU %", "work %", "of admitted %", "refuse p50 ms", "goroutines", "RSS +MiB", "CPU %", "gen CPU %", "gen lag p99 ms", "speed", "after"}
	if rep.Spec.Bursts {
		head = append(head, "200 ms after burst %")
	}
	t.row(head...)
	for _, r := range results {
		row := []string{r.Contender, num(r.Goodput, 2), num(r.InBudgetPct, 2), num(r.OfFairPct.Jobs, 1), num(r.OfFairPct.Goodput, 1),
			r.OfFairPct.WorstClass + " " + num(r.OfFairPct.Worst, 0), opt(r.P50Ms, 2), opt(r.P99Ms, 1),
			num(r.WastedPct, 2), num(r.WorkPct, 0), num(r.AdmittedPct, 2), opt(r.RefuseP50, 3), fmt.Sprint(r.Goroutines), num(r.ResidentMiB, 0),
			num(r.CPUPct, 0), num(r.GeneratorPct, 1), num(r.GeneratorLagP99Ms, 1),
			num(r.Speed/best, 2) + mark(r), num(r.Speed*r.SpeedAfter/best, 2) + mark(r)}
		if rep.Spec.Bursts {
			row = append(row, opt(r.CalmPct, 2))
		}
		t.row(row...)
	}
	t.print(out)

	fmt.Fprintln(out, "\nin budget %, by class")
	t = &table{}
	head = []string{""}
	for _, c := range rep.Spec.Mix.Classes {
		head = append(head, c.Name)
	}
	t.row(head...)
	for _, r := range results {
		row := []string{r.Contender}
		for _, c := range r.Classes {
			row = append(row, opt(c.InBudgetPct, 1))
		}
		t.row(row...)
	}
	row := []string{"fair bound less generator"}
	for i := range rep.Spec.Mix.Classes {
		row = append(row, num(median(results, func(r *Result) float64 { return r.Bounds.FairNet.ByClassPct[i] }), 1))
	}
	t.row(row...)
	t.print(out)
}

// printSummary prints the table of all loads.
func (rep *Report) printSummary(out io.Writer) {
	rep.markDisturbed()
	var loads []float64
	var names []string
	for _, r := range rep.Results {
		if r.Skipped == "" && !slices.Contains(loads, r.Load) {
			loads = append(loads, r.Load)
		}
		if r.Skipped == "" && !slices.Contains(names, r.Contender) {
			names = append(names, r.Contender)
		}
	}
	fmt.Fprintln(out, "\ncost goodput / jobs in budget %")
	t := &table{}
	head := []string{""}
	for _, load := range loads {
		head = append(head, fmt.Sprintf("%gx", load))
	}
	t.row(head...)
	for _, name := range names {
		row := []string{name}
		for _, load := range loads {
			cell := "-"
			for _, r := range rep.at(load) {
				if r.Contender == name {
					cell = num(r.Goodput, 2) + "/" + num(r.InBudgetPct, 1) + mark(r)
				}
			}
			row = append(row, cell)
		}
		t.row(row...)
	}
	for _, b := range []struct {
		name string
		get  func(*Bounds) *Bound
	}{
		{"bound, cheapest first", func(b *Bounds) *Bound { return &b.Cheapest }},
		{"bound, max-min fair, batches of 8", func(b *Bounds) *Bound { return &b.Fair }},
		{"cheapest first less generator", func(b *Bounds) *Bound { return &b.CheapestNet }},
		{"max-min fair less generator", func(b *Bounds) *Bound { return &b.FairNet }},
	} {
		row := []string{b.name}
		for _, load := range loads {
			results := rep.at(load)
			row = append(row, num(median(results, func(r *Result) float64 { return b.get(&r.Bounds).Goodput }), 2)+"/"+
				num(median(results, func(r *Result) float64 { return b.get(&r.Bounds).InBudgetPct }), 1))
		}
		t.row(row...)
	}
	t.print(out)
	fmt.Fprintln(out, "\nThe generator's CPU is that of making the goroutines; bounds less it are the median over the contenders."+
		"\nCheapest first is two orders: by CPU a job for the jobs, by CPU per counted CPU second for the goodput.")
	if slices.ContainsFunc(rep.Results, func(r *Result) bool { return r.Disturbed }) {
		fmt.Fprintln(out, "~ something else used the machine before or after this point: it says little.")
	}
	for _, r := range rep.Results {
		if r.Skipped != "" {
			fmt.Fprintf(out, "%s was left out: %s\n", r.Contender, r.Skipped)
		}
	}
}

// median over results.
func median(results []*Result, of func(*Result) float64) float64 {
	if len(results) == 0 {
		return math.NaN()
	}
	values := make([]float64, len(results))
	for i, r := range results {
		values[i] = of(r)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func num(v float64, digits int) string { return fmt.Sprintf("%.*f", digits, v) }

func opt(v *float64, digits int) string {
	if v == nil {
		return "-"
	}
	return num(*v, digits)
}
