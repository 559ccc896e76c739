package helix_test

import (
	"testing"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// idle is the pressure of an idle eight-core router.
func idle() helix.Pressure {
	return helix.Pressure{
		Slots: 8, QueueCap: 512, SpawnLimit: 4096, BusyThreshold: 7,
		InlineThreshold: 8 * time.Microsecond, SpawnThreshold: 60 * time.Microsecond, UnitTime: time.Nanosecond,
	}
}

func TestThresholdPolicyIsATable(t *testing.T) {
	busy := func(n int) func(*helix.Pressure) { return func(p *helix.Pressure) { p.CPUBusy = n } }
	batchable := func(cost, scaling float64) helix.JobInfo {
		return helix.JobInfo{Cost: cost, Scaling: scaling, Batchable: true}
	}
	for _, c := range []struct {
		name   string
		job    helix.JobInfo
		press  func(*helix.Pressure)
		want   string
		reason string
	}{
		{"small", batchable(8_000, 1), nil, helix.Inline, "cost within inline_threshold"},
		{"just above small", batchable(8_001, 1), nil, helix.Spawn, "cost within spawn_threshold"},
		{"medium", batchable(60_000, 1), nil, helix.Spawn, "cost within spawn_threshold"},
		{"large, scales", batchable(60_001, .70), nil, helix.Batch, "scales well, joins a batch"},
		{"large, scales too little", batchable(60_001, .69), nil, helix.CPUPool, "needs a cpu slot"},
		{"large, no batch function", helix.JobInfo{Cost: 60_001, Scaling: 1}, nil, helix.CPUPool, "needs a cpu slot"},
		{"one below busy", batchable(60_001, .5), busy(6), helix.CPUPool, "needs a cpu slot"},
		{"busy, scales", batchable(100, .65), busy(7), helix.Batch, "cpu is busy, scales well enough to batch"},
		{"busy, scales too little", batchable(100, .64), busy(7), helix.Drop, "cpu is busy and it scales too little to batch"},
		{"busy, no batch function", helix.JobInfo{Cost: 100, Scaling: .65}, busy(8), helix.CPUPool, "needs a cpu slot"},
		{"waits", helix.JobInfo{Cost: 1e9, Waits: true}, busy(8), helix.Spawn, "waits, holds no cpu slot"},
		{"small, from Go", helix.JobInfo{Cost: 100, Async: true}, nil, helix.Spawn, "cost within inline_threshold"},
		{"nothing known", helix.JobInfo{}, nil, helix.CPUPool, "cost not known, needs a cpu slot"},
		{"nothing known, scales", batchable(0, .7), nil, helix.Batch, "scales well, joins a batch"},
		{"no hint, learned small", helix.JobInfo{Predicted: 5_000, Samples: 9}, nil, helix.Inline, "cost within inline_threshold"},
		{"a hint counts, not what was learned", helix.JobInfo{Cost: 1e6, Predicted: 5_000, Samples: 9}, nil, helix.CPUPool, "needs a cpu slot"},
		{"unit time", helix.JobInfo{Cost: 9}, func(p *helix.Pressure) { p.UnitTime = time.Microsecond }, helix.Spawn, "cost within spawn_threshold"},
		{"huge cost", helix.JobInfo{Cost: 1e300}, nil, helix.CPUPool, "needs a cpu slot"},

		{"in budget", helix.JobInfo{Cost: 100, Predicted: 100, Budget: 100, Slack: 100}, nil, helix.Inline, "cost within inline_threshold"},
		{"not in budget", helix.JobInfo{Cost: 100, Predicted: 101, Budget: 100, Slack: 100}, nil, helix.Drop, "budget cannot be met"},
		{"late", helix.JobInfo{Cost: 100, Budget: 100, Slack: 0}, nil, helix.Drop, "already late"},
		{"not in budget because of the wait", helix.JobInfo{Cost: 1e6, Predicted: 1e6, Budget: 5e6, Slack: 5e6},
			func(p *helix.Pressure) { p.Soonest = 4_000_001 }, helix.Drop, "budget would end while it waits for a slot"},
		{"the wait does not matter to inline", helix.JobInfo{Cost: 100, Predicted: 100, Budget: 200, Slack: 200},
			func(p *helix.Pressure) { p.Soonest = time.Hour }, helix.Inline, "cost within inline_threshold"},
		{"queue full", helix.JobInfo{Cost: 1e6}, func(p *helix.Pressure) { p.BusyThreshold, p.CPUBusy, p.Queued = 9, 8, 512 }, helix.Drop, "queue is full"},
		{"spawn limit", helix.JobInfo{Cost: 50_000}, func(p *helix.Pressure) { p.Spawned = 4096 }, helix.Drop, "spawn_limit reached"},
	} {
		t.Run(c.name, func(t *testing.T) {
			requireChoice(t, helix.ThresholdPolicy{}, c.job, c.press, c.want, c.reason)
		})
	}
}

// requireChoice checks what a policy makes of a job in an idle router that press
// (nil: nothing) puts under pressure, that it is pure, and that it tells each
// strategy that it rejected once, with a reason.
func requireChoice(t *testing.T, policy helix.Policy, job helix.JobInfo, press func(*helix.Pressure), strategy, reason string) {
	t.Helper()
	p := idle()
	if press != nil {
		press(&p)
	}
	d := policy.Choose(job, p)
	require.Equal(t, strategy, d.Strategy)
	require.Equal(t, reason, d.Reason)
	require.Equal(t, d, policy.Choose(job, p), "pure")
	seen := map[string]bool{strategy: true}
	for _, a := range d.Rejected {
		if a.Strategy != "" {
			require.NotEmpty(t, a.Reason)
			require.False(t, seen[a.Strategy], "%s is told twice", a.Strategy)
			seen[a.Strategy] = true
		}
	}
}

func TestRejectKeepsFour(t *testing.T) {
	var d helix.Decision
	for _, s := range []string{"a", "b", "c", "d", "e"} {
		d = d.Reject(s, "no")
	}
	require.Equal(t, "d", d.Rejected[3].Strategy)
}
