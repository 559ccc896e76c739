package main

import (
	"fmt"
	"io"
	"time"

	"github.com/helixrouter/helix"
)

// printProgress writes one line about a run that goes on.
func printProgress(w io.Writer, elapsed time.Duration, planned string, s helix.Stats) {
	fmt.Fprintf(w, "%7.1fs  %d of %s jobs: %d completed, %d dropped, %d failed, %d withdrawn, %d in flight; %d of %d slots busy, %d queued\n",
		elapsed.Seconds(), s.Submitted, planned, s.Completed, s.Dropped, s.Failed, s.Withdrawn, s.InFlight,
		s.Pressure.CPUBusy, s.Pressure.Slots, s.Pressure.Queued)
}

// printSummary writes what became of all jobs.
func printSummary(w io.Writer, took time.Duration, s helix.Stats, sum, results uint64) {
	fmt.Fprintf(w, "\nSummary after %v\n", took.Round(100*time.Microsecond))
	for _, c := range []struct {
		word  string
		count uint64
	}{
		{"submitted", s.Submitted}, {"completed", s.Completed}, {"dropped", s.Dropped},
		{"failed", s.Failed}, {"withdrawn", s.Withdrawn}, {"in_flight", s.InFlight},
	} {
		fmt.Fprintf(w, "  %-16s %9d\n", c.word, c.count)
	}

	fmt.Fprintf(w, "\nRouted by strategy\n")
	for _, r := range s.RoutedByStrategy {
		fmt.Fprintf(w, "  %-16s %9d\n", r.Strategy, r.Count)
	}

	fmt.Fprintf(w, "\nLatency by strategy, from the scheduled arrival to the end\n")
	fmt.Fprintf(w, "  %-16s %9s %10s %10s %10s %10s\n", "", "count", "avg ms", "p50 ms", "p95 ms", "p99 ms")
	for _, l := range s.LatencyByStrategy {
		fmt.Fprintf(w, "  %-16s %9d", l.Strategy, l.Count)
		for _, ms := range []float64{l.AvgMs, l.P50Ms, l.P95Ms, l.P99Ms} {
			if l.Count == 0 {
				fmt.Fprintf(w, " %10s", "-")
			} else {
				fmt.Fprintf(w, " %10.3f", ms)
			}
		}
		fmt.Fprintln(w)
	}

	fmt.Fprintf(w, "\nBy kind\n")
	fmt.Fprintf(w, "  %-16s %9s %10s %10s %10s %12s\n", "", "submitted", "completed", "dropped", "in budget", "items/batch")
	for _, k := range s.Kinds {
		fmt.Fprintf(w, "  %-16s %9d %10d %10d %10d", k.Name, k.Submitted, k.Completed, k.Dropped, k.Kept)
		if k.Batch != nil && k.Batch.Calls > 0 {
			fmt.Fprintf(w, " %12.2f\n", float64(k.Batch.Items)/float64(k.Batch.Calls))
		} else {
			fmt.Fprintf(w, " %12s\n", "-")
		}
	}

	if len(s.DroppedByReason) > 0 {
		fmt.Fprintf(w, "\nDropped by reason\n")
		for _, r := range s.DroppedByReason {
			fmt.Fprintf(w, "  %9d  %s\n", r.Count, r.Reason)
		}
	}
	fmt.Fprintf(w, "\nPromises kept: %d of %d", s.Kept, s.Promised)
	if s.Promised > 0 {
		fmt.Fprintf(w, " (%.2f %%)", 100*float64(s.Kept)/float64(s.Promised))
	}
	fmt.Fprintf(w, "\nChecksum: %016x over %d results\n", sum, results)
}

// checkSums reports figures of the router that do not add up.
func checkSums(s helix.Stats) error {
	if ended := s.Completed + s.Failed + s.Dropped + s.Withdrawn; s.Submitted != ended+s.InFlight {
		return fmt.Errorf("the accounts do not add up: %d submitted, but %d ended and %d in flight", s.Submitted, ended, s.InFlight)
	}
	return nil
}

// check compares the accounts of an idle router with the service's own.
func (s *service) check(stats helix.Stats) error {
	if err := checkSums(stats); err != nil {
		return err
	}
	for _, c := range []struct {
		word          string
		service, says uint64
	}{
		{"submitted", s.sent.Load(), stats.Submitted},
		{"completed", s.completed.Load(), stats.Completed},
		{"failed", s.failed.Load(), stats.Failed},
		{"dropped or withdrawn", s.notRun.Load(), stats.Dropped + stats.Withdrawn},
		{"in flight", 0, stats.InFlight},
	} {
		if c.service != c.says {
			return fmt.Errorf("the accounts do not add up: %d jobs %s, but the router says %d", c.service, c.word, c.says)
		}
	}
	return nil
}
