package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/helixrouter/helix"
)

// What -compare offers unless it is told otherwise.
const (
	compareLoad = 2
	compareTime = 3 * time.Second
)

// way is one of the ways to run jobs that are compared.
type way struct {
	name string
	// open makes it ready for use; what it returns runs one job, and ends it.
	open func(o *options) (do doer, end func() error, err error)
}

// doer has a job run that arrived then, and returns its result as bits.
type doer func(ctx context.Context, j *job, arrived time.Time) (uint64, error)

// ways are what is compared. The first two are what a service does by itself.
var ways = []way{
	{"a goroutine each", withoutRouter(func(c *computer) doer { return c.alone })},
	{"FIFO pool", withoutRouter(func(c *computer) doer { return c.pooled })},
	{"threshold policy", withPolicy(helix.ThresholdPolicy{})},
	{"adaptive policy", withPolicy(helix.AdaptivePolicy{})},
}

// computer runs jobs without a router.
type computer struct {
	kernels *service // only its compute is used
	slots   chan struct{}
}

func (c *computer) alone(ctx context.Context, j *job, _ time.Time) (uint64, error) {
	return c.kernels.compute(ctx, j)
}

// pooled runs as many jobs at once as there are slots; jobs that wait in a channel are served in
// order of arrival.
func (c *computer) pooled(ctx context.Context, j *job, _ time.Time) (uint64, error) {
	c.slots <- struct{}{}
	defer func() { <-c.slots }()
	return c.kernels.compute(ctx, j)
}

func withoutRouter(do func(*computer) doer) func(*options) (doer, func() error, error) {
	return func(o *options) (doer, func() error, error) {
		c := &computer{&service{market: newMarket(o.arrivals.seed)}, make(chan struct{}, o.router.CPUParallelism)}
		return do(c), func() error { return nil }, nil
	}
}

func withPolicy(p helix.Policy) func(*options) (doer, func() error, error) {
	return func(o *options) (doer, func() error, error) {
		cfg := o.router
		cfg.Policy = p
		router, err := helix.New(cfg)
		if err != nil {
			return nil, nil, err
		}
		svc, err := newService(router, o.arrivals.seed)
		if err != nil {
			return nil, nil, errors.Join(err, router.Close())
		}
		end := func() error { return errors.Join(checkSums(router.Stats()), router.Close()) }
		return svc.request, end, nil
	}
}

// comparison is what became of the jobs in one way. Parts are of all jobs, or of the CPU
// time that all of them ask for, and latencies those of the jobs that ran to their end,
// from the scheduled arrival.
type comparison struct {
	Way           string  `json:"way"`
	Jobs          int64   `json:"jobs"`
	InBudget      int64   `json:"in_budget"`
	Late          int64   `json:"late"`
	Refused       int64   `json:"refused"`
	Failed        int64   `json:"failed"`
	InBudgetPct   float64 `json:"in_budget_pct"`
	WorkInTimePct float64 `json:"work_in_budget_pct"`
	P50Ms         float64 `json:"p50_ms"`
	P99Ms         float64 `json:"p99_ms"`
	TookS         float64 `json:"took_s"`
}

// measured runs the plan's jobs in one way.
func (p *plan) measured(ctx context.Context, o *options, w way, slack time.Duration) (c comparison, err error) {
	do, end, err := w.open(o)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, end()) }()
	runtime.GC() // so that no run pays for the garbage of the one before
	var jobs, inBudget, late, refused, failed atomic.Int64
	var work, inTime atomic.Int64 // ns
	var latency helix.Histogram
	start := time.Now()
	sendAll(ctx, p.jobs, start, slack, func(_ uint64, j *job) {
		jobs.Add(1)
		takes := int64(p.work(j) * 1e9)
		work.Add(takes)
		due := start.Add(j.at)
		_, err := do(ctx, j, due)
		took := time.Since(due)
		switch {
		case errors.Is(err, helix.ErrNotRun):
			refused.Add(1)
			return
		case err != nil:
			failed.Add(1)
			return
		case j.budget > 0 && took > j.budget:
			late.Add(1)
		default:
			inBudget.Add(1)
			inTime.Add(takes)
		}
		latency.Record(took)
	})
	ran := latency.Snapshot()
	return comparison{
		Way: w.name, Jobs: jobs.Load(), InBudget: inBudget.Load(), Late: late.Load(), Refused: refused.Load(), Failed: failed.Load(),
		InBudgetPct:   100 * float64(inBudget.Load()) / float64(max(jobs.Load(), 1)),
		WorkInTimePct: 100 * float64(inTime.Load()) / float64(max(work.Load(), 1)),
		P50Ms:         ran.Quantile(0.5).Seconds() * 1e3,
		P99Ms:         ran.Quantile(0.99).Seconds() * 1e3,
		TookS:         time.Since(start).Seconds(),
	}, ctx.Err()
}

// compare sends the same jobs at the same times in each way, and writes one table.
func compare(ctx context.Context, o *options, p *plan, stdout, stderr io.Writer) (err error) {
	o.router.Logger = slog.New(slog.DiscardHandler)
	kernels := &service{market: newMarket(o.arrivals.seed), slack: timerSlack}
	if err := p.prepare(ctx, o, kernels); err != nil {
		return err
	}
	if !o.json {
		p.print(stdout, o)
	}
	var rows []comparison
	for _, w := range ways {
		fmt.Fprintf(stderr, "simulator: running %s\n", w.name)
		row, err := p.measured(ctx, o, w, kernels.slack)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	if o.json {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		return out.Encode(rows)
	}
	printComparison(stdout, rows)
	return nil
}

func printComparison(w io.Writer, rows []comparison) {
	fmt.Fprintf(w, "\nThe same jobs at the same times. Work is CPU time; latencies are of the jobs that ran.\n\n")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "\tin budget\tlate\trefused\tfailed\twork in budget\tp50 ms\tp99 ms\tdone after\t\n")
	for _, r := range rows {
		part := func(n int64) float64 { return 100 * float64(n) / float64(max(r.Jobs, 1)) }
		fmt.Fprintf(table, "%s\t%.1f %%\t%.1f %%\t%.1f %%\t%.1f %%\t%.1f %%\t%.2f\t%.2f\t%.1f s\t\n", r.Way,
			part(r.InBudget), part(r.Late), part(r.Refused), part(r.Failed), r.WorkInTimePct, r.P50Ms, r.P99Ms, r.TookS)
	}
	_ = table.Flush()
}
