package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/helixrouter/helix"
)

// submitHelix are helix's strategies one by one, as the default policy chooses them
// for kinds and thresholds that suit each; all else is by default, so that every job
// is fully accounted for.
var submitHelix = []contender{
	{group: submitGroup, name: "helix inline", start: fixed(helix.Inline)},
	{group: submitGroup, name: "helix spawn", note: "a kind that waits", start: fixed(helix.Spawn)},
	{group: submitGroup, name: "helix cpu_pool", start: fixed(helix.CPUPool)},
	{group: submitGroup, name: "helix drop", note: "refuses", refuses: true, start: fixed(helix.Drop)},
}

// chooseHelix are the decisions alone, on an idle machine.
var chooseHelix = append(
	choices("adaptive", helix.AdaptivePolicy{}),
	choices("threshold", helix.ThresholdPolicy{})...)

// fixed makes an operation of the typed path that the default policy sends to that
// strategy.
func fixed(strategy string) func() (operation, func()) {
	return func() (operation, func()) {
		k := helix.Kind[int, int]{Name: "empty", Run: work, Cost: func(int) float64 { return 1 }}
		switch strategy {
		case helix.Spawn:
			k.Waits = true
		case helix.Drop: // a budget that nothing can meet
			k.Budget, k.Cost = 1, func(int) float64 { return 1e9 }
		}
		return startTask(strategy, k)
	}
}

// startTask registers the kind with a router of its own, whose threshold for inline
// leaves empty jobs to other strategies unless it is the one wanted.
func startTask(strategy string, k helix.Kind[int, int]) (operation, func()) {
	cfg := helix.RouterConfig{Logger: slog.New(slog.DiscardHandler)}
	if strategy != helix.Inline {
		cfg.InlineThreshold = 1
	}
	r, err := helix.New(cfg)
	must(err)
	task, err := helix.Register(r, k)
	must(err)
	events, _ := r.Watch(64) // ends with the router
	go func() {
		for range events {
		}
	}()
	ctx := context.Background()
	stop := func() {
		mustGoTo(r, strategy)
		must(r.Close())
	}
	return func(in int) (int, error) { return task.Submit(ctx, in) }, stop
}

// mustGoTo checks that most jobs went where they should. Not all do: a kind is learned
// first, and of a batch function that does nothing it is a close thing, which noise may
// turn for a while, whether batches pay.
func mustGoTo(r *helix.Router, strategy string) {
	s := r.Stats()
	for _, routed := range s.RoutedByStrategy {
		if routed.Strategy != strategy && routed.Count > 10+s.Submitted/2 {
			panic(fmt.Sprintf("%d of %d jobs for %s went to %s", routed.Count, s.Submitted, strategy, routed.Strategy))
		}
	}
}

func choices(name string, policy helix.Policy) []contender {
	cfg := helix.DefaultConfig()
	idle := helix.Pressure{
		Slots: 4, QueueCap: cfg.CPUQueueCap, SpawnLimit: cfg.SpawnLimit, BatchMaxSize: cfg.BatchMaxSize,
		InlineThreshold: cfg.InlineThreshold, SpawnThreshold: cfg.SpawnThreshold,
		BusyThreshold: 3, UnitTime: cfg.UnitTime,
	}
	var cs []contender
	for _, c := range []struct {
		strategy string
		job      helix.JobInfo
	}{
		{helix.Inline, helix.JobInfo{Cost: 100, Predicted: 100, Budget: time.Second, Slack: time.Second}},
		{helix.CPUPool, helix.JobInfo{Cost: 1e6, Predicted: 1e6, Budget: time.Second, Slack: time.Second}},
		{helix.Drop, helix.JobInfo{Cost: 1e6, Predicted: 1e6, Budget: 1, Slack: 1}},
	} {
		cs = append(cs, contender{group: chooseGroup, name: name + " " + c.strategy, start: func() (operation, func()) {
			return func(in int) (int, error) {
				if policy.Choose(c.job, idle).Strategy == c.strategy {
					in++
				}
				return in, nil
			}, nothingToStop
		}})
	}
	return cs
}
