package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// contender is one way to run jobs beside others. Its methods are called by
// many goroutines.
type contender interface {
	// do takes the job to its end, or refuses it by returning without having
	// called point.run. An error means that the contender is broken.
	do(j *job) error
	// close is called once every do has returned.
	close() error
}

// candidate is a contender before a point.
type candidate struct {
	name string // as on the command line
	note string // how it is configured
	asks bool   // also gets jobs that wait, which others run at once
	make func(*point) (contender, error)
}

// candidates are all contenders, in the order of the tables. Limits are one permit a core;
// contenders that can wait do so until the job's deadline.
var candidates = []candidate{
	{"helix-adaptive", "kinds registered, cost hints, adaptive policy, defaults", true, helixWith("adaptive")},
	{"helix-threshold", "kinds registered, cost hints, threshold policy, defaults", true, helixWith("threshold")},
	{"goroutines", "every arrival runs at once", false, newGoroutines},
	{"semaphore", "x/sync semaphore, one place a core, ctx with the deadline", false, newSemaphore},
	{"pool", "one worker a core, channel of 512, full refuses", false, newWorkerPool},
	{"pool-bundler", "the same; late work expires; batches by google bundler (8 items, 5 ms)", false, newBundlerPool},
	{"ants", "non-blocking, one worker a core", false, newAnts},
	{"pond", "non-blocking, one worker a core, queue of 512", false, newPond},
	{"failsafe-bulkhead", "executor, one permit a core, ctx with the deadline", false, newBulkhead},
	{"failsafe-adaptive", "executor, defaults but an initial limit of one a core, prioritizer calibrated every second, priority by budget, ctx with the deadline", false, newAdaptiveLimiter},
	{"refuse-late", "refused if now + hinted run is past the deadline, else spawned", false, newRefuseLate},
}

// findContender returns the candidate of that name, or nil.
func findContender(name string) *candidate {
	for i := range candidates {
		if candidates[i].name == name {
			return &candidates[i]
		}
	}
	return nil
}

// pickContenders reads a list of names; "all" or "" is all of them. A name may
// also be the beginning of several.
func pickContenders(list string) ([]string, error) {
	var names []string
	for want := range strings.SplitSeq(list, ",") {
		want = strings.TrimSpace(want)
		if want == "" || want == "all" {
			for _, c := range candidates {
				names = append(names, c.name)
			}
			continue
		}
		if findContender(want) != nil {
			names = append(names, want)
			continue
		}
		found := false
		for _, c := range candidates {
			if strings.HasPrefix(c.name, want) {
				names, found = append(names, c.name), true
			}
		}
		if !found {
			return nil, fmt.Errorf("-contenders: there is no %q", want)
		}
	}
	return names, nil
}

// untilDue returns a ctx that ends at the job's deadline. Like a request's ctx it has no shared
// parent.
func (p *point) untilDue(j *job) (context.Context, context.CancelFunc) {
	return context.WithDeadline(context.Background(), p.due(j))
}

// predicted returns how long the job runs alone by its hint.
func (p *point) predicted(j *job) time.Duration { return seconds(p.hint(j) / p.speed) }
