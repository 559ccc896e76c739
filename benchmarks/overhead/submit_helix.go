package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/helixrouter/helix"
)

// submitHelix are helix's strategies one by one, then as its own policy chooses
// among them; all else is by default, so that every job is fully accounted for.
var submitHelix = []contender{
	{group: submitGroup, name: "helix inline", start: fixed(helix.Inline)},
	{group: submitGroup, name: "helix spawn", start: fixed(helix.Spawn)},
	{group: submitGroup, name: "helix cpu_pool", start: fixed(helix.CPUPool)},
	{group: submitGroup, name: "helix drop", note: "refuses", refuses: true, start: fixed(helix.Drop)},
	{group: submitGroup, name: "helix adaptive", note: "default policy", start: submitTask(nil)},
}

// chooseHelix are the decisions alone, on an idle machine.
var chooseHelix = append(
	choices("adaptive", helix.AdaptivePolicy{}),
	choices("threshold", helix.ThresholdPolicy{})...)

// always is a policy that knows one strategy.
type always string

// Choose implements [helix.Policy].
func (a always) Choose(j helix.JobInfo, _ helix.Pressure) helix.Decision {
	return helix.Decision{Strategy: string(a), Reason: "always the same", Run: j.Predicted, Slack: j.Slack}
}

func fixed(strategy string) func() (operation, func()) { return submitTask(always(strategy)) }

// submitTask makes an operation of the typed path.
func submitTask(policy helix.Policy) func() (operation, func()) {
	return func() (operation, func()) {
		return startTask(policy, helix.Kind[int, int]{
			Name: "empty",
			Run:  work,
			Cost: func(int) float64 { return 1 },
		})
	}
}

func startTask(policy helix.Policy, k helix.Kind[int, int]) (operation, func()) {
	r, err := helix.New(helix.RouterConfig{Policy: policy, Logger: slog.New(slog.DiscardHandler)})
	must(err)
	task, err := helix.Register(r, k)
	must(err)
	ctx := context.Background()
	return func(in int) (int, error) { return task.Submit(ctx, in) }, func() { must(r.Close()) }
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
