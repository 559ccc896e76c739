package helix_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

func TestAdaptivePolicy(t *testing.T) {
	ms := time.Millisecond
	for _, c := range []struct {
		name   string
		job    helix.JobInfo
		press  func(*helix.Pressure)
		want   string
		reason string
	}{
		{"small", helix.JobInfo{Predicted: 8_000, Samples: 1}, nil, helix.Inline, "predicted within inline_threshold"},
		{"small by its hint", helix.JobInfo{Predicted: 8_000, Cost: 8_000}, nil, helix.Inline, "predicted within inline_threshold"},
		{"medium, from Go", helix.JobInfo{Predicted: 60_000, Samples: 1, Async: true}, nil, helix.Spawn, "predicted within spawn_threshold"},
		{"medium, from Go, slots busy", helix.JobInfo{Predicted: 60_000, Samples: 1, Async: true}, func(p *helix.Pressure) { p.CPUBusy = 8 }, helix.CPUPool, "queued, earliest deadline first"},
		{"larger, from Go", helix.JobInfo{Predicted: 60_001, Samples: 1, Async: true}, nil, helix.CPUPool, "slot free"},
		{"unknown", helix.JobInfo{}, nil, helix.CPUPool, "slot free"},
		{"larger", helix.JobInfo{Predicted: 8_001, Samples: 1}, nil, helix.CPUPool, "slot free"},
		{"larger, slots busy", helix.JobInfo{Predicted: ms, Samples: 1}, func(p *helix.Pressure) { p.CPUBusy = 8 }, helix.CPUPool, "queued, earliest deadline first"},
		{"medium, slots busy, a spare P", helix.JobInfo{Predicted: 60_000, Samples: 1}, func(p *helix.Pressure) { p.CPUBusy, p.Spare = 8, 1 }, helix.Inline, "short, all slots are taken, a processor is spare"},
		{"medium, a slot free, a spare P", helix.JobInfo{Predicted: 60_000, Samples: 1}, func(p *helix.Pressure) { p.CPUBusy, p.Spare = 7, 1 }, helix.CPUPool, "slot free"},
		{"larger, slots busy, a spare P", helix.JobInfo{Predicted: 60_001, Samples: 1}, func(p *helix.Pressure) { p.CPUBusy, p.Spare = 8, 1 }, helix.CPUPool, "queued, earliest deadline first"},
		{"waits", helix.JobInfo{Predicted: ms, Samples: 1, Waits: true}, nil, helix.Spawn, "waits, holds no cpu slot"},
		{"batches, gain not known", helix.JobInfo{Predicted: ms, Samples: 1, Batchable: true}, func(p *helix.Pressure) { p.BatchGain = 1 }, helix.Batch, "batching saves work"},
		{"batches, gain too small", helix.JobInfo{Predicted: ms, Samples: 1, Batchable: true}, func(p *helix.Pressure) { p.BatchGain = .09 }, helix.CPUPool, "slot free"},

		{"late", helix.JobInfo{Budget: ms, Slack: 0}, nil, helix.Drop, "already late"},
		{"cannot make it", helix.JobInfo{Predicted: 2 * ms, Samples: 1, Budget: ms, Slack: ms}, nil, helix.Drop, "budget cannot be met"},
		{"cannot make it, as far as a hint tells", helix.JobInfo{Predicted: 2 * ms, Cost: 2e6, Budget: ms, Slack: ms}, nil, helix.Drop, "budget cannot be met"},
		{"cannot make it, but is a probe", helix.JobInfo{Predicted: 2 * ms, Samples: 1, Budget: ms, Slack: ms}, func(p *helix.Pressure) { p.Probe = true }, helix.CPUPool, "let in to learn its run time anew"},
		{"must wait too long", helix.JobInfo{Predicted: ms, Samples: 1, Budget: 5 * ms, Slack: 5 * ms}, func(p *helix.Pressure) { p.CPUBusy, p.Soonest = 8, 4*ms+1 }, helix.Drop, "budget would end while it waits for a slot"},
		{"must wait for no slot", helix.JobInfo{Predicted: 8_000, Samples: 1, Budget: 5 * ms, Slack: 5 * ms}, func(p *helix.Pressure) { p.CPUBusy, p.Soonest = 8, time.Second }, helix.Inline, "predicted within inline_threshold"},
		{"must wait for no slot, a spare P", helix.JobInfo{Predicted: 60_000, Samples: 1, Budget: 5 * ms, Slack: 5 * ms}, func(p *helix.Pressure) { p.CPUBusy, p.Spare, p.Soonest = 8, 1, time.Second }, helix.Inline, "short, all slots are taken, a processor is spare"},
		{"can just wait", helix.JobInfo{Predicted: ms, Samples: 1, Budget: 5 * ms, Slack: 5 * ms}, func(p *helix.Pressure) { p.CPUBusy, p.Soonest = 8, 4*ms }, helix.CPUPool, "queued, earliest deadline first"},
		{"over its share", helix.JobInfo{Predicted: ms, Samples: 1, Budget: 90 * ms, Slack: 90 * ms}, over(81 * ms), helix.Drop, "over its fair share"},
		{"within its share", helix.JobInfo{Predicted: ms, Samples: 1, Budget: 90 * ms, Slack: 90 * ms}, over(79 * ms), helix.CPUPool, "queued, earliest deadline first"},
		{"over its share, but a slot is free", helix.JobInfo{Predicted: ms, Samples: 1, Budget: 90 * ms, Slack: 90 * ms}, func(p *helix.Pressure) { over(81 * ms)(p); p.CPUBusy = 7 }, helix.CPUPool, "slot free"},
		{"over its share, but not of more than there is", helix.JobInfo{Predicted: ms, Samples: 1, Budget: 90 * ms, Slack: 90 * ms}, func(p *helix.Pressure) { over(81 * ms)(p); p.Limited = false }, helix.CPUPool, "queued, earliest deadline first"},
		{"no budget, however much there is", helix.JobInfo{Predicted: ms, Samples: 1}, over(time.Hour), helix.CPUPool, "queued, earliest deadline first"},
		{"over its share, but waits", helix.JobInfo{Waits: true}, over(time.Hour), helix.Spawn, "waits, holds no cpu slot"},
		{"queue full", helix.JobInfo{Predicted: ms, Samples: 1}, func(p *helix.Pressure) { p.CPUBusy, p.Queued = 8, 512 }, helix.Drop, "queue is full"},
		{"spawn limit", helix.JobInfo{Waits: true}, func(p *helix.Pressure) { p.Spawned = 4096 }, helix.Drop, "spawn_limit reached"},
	} {
		t.Run(c.name, func(t *testing.T) {
			requireChoice(t, helix.AdaptivePolicy{}, c.job, c.press, c.want, c.reason)
		})
	}
}

// A kind that was learned to be slow, and has become fast, is let in again.
// over is a kind that asks for more than its share and has so much before a job, of which
// some have 80 ms.
func over(turn time.Duration) func(*helix.Pressure) {
	return func(p *helix.Pressure) {
		p.CPUBusy, p.Limited, p.Part, p.Tightest, p.Turn = 8, true, 1, 81*time.Millisecond, turn
	}
}

// What is refused because of its estimate alone is let in now and then.
func TestAWrongEstimateHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: helix.AdaptivePolicy{}})
		taking := func(d, budget time.Duration) helix.Job {
			return helix.Job{Budget: budget, Run: func(context.Context) (any, error) { time.Sleep(d); return nil, nil }}
		}
		const budget = 100 * time.Millisecond
		for range 5 {
			_, _ = r.Submit(t.Context(), taking(time.Second, 0))
		}
		_, err := r.Submit(t.Context(), taking(time.Millisecond, budget))
		require.ErrorIs(t, err, helix.ErrDropped)
		_, err = r.Submit(t.Context(), taking(time.Millisecond, budget))
		require.ErrorIs(t, err, helix.ErrDropped, "no probe is made at once")
		probes := 0
		for n := 0; ; n++ {
			require.Less(t, n, 200, "seconds")
			result, err := r.Submit(t.Context(), taking(time.Millisecond, budget))
			if err == nil && result.Decision.Reason != "let in to learn its run time anew" {
				break
			}
			if err == nil {
				probes++
			}
			time.Sleep(time.Second)
		}
		require.Positive(t, probes)
		require.Less(t, probes, 10)
	})
}

// What stands before a job that is admitted is not too much.
func TestExcessIsOfRefusedJobsOnly(t *testing.T) {
	j := helix.JobInfo{Budget: 100 * time.Millisecond, Slack: 100 * time.Millisecond, Predicted: ms, Samples: 100}
	p := helix.Pressure{Slots: 1, CPUBusy: 1, QueueCap: 100, Room: 100, Limited: true, Part: 1, Tightest: 100 * time.Millisecond, Turn: 10 * time.Millisecond}
	d := helix.AdaptivePolicy{}.Choose(j, p)
	require.Equal(t, helix.CPUPool, d.Strategy)
	require.Zero(t, d.Excess)
	p.Turn = time.Second
	d = helix.AdaptivePolicy{}.Choose(j, p)
	require.Equal(t, "over its fair share", d.Reason)
	require.Equal(t, time.Second-99*time.Millisecond, d.Excess)
}

func TestBatchingThatDoesNotPayStops(t *testing.T) {
	for name, c := range map[string]struct {
		fixed time.Duration
		pays  bool
	}{"pays": {10 * time.Millisecond, true}, "does not pay": {100 * time.Microsecond, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(t, helix.RouterConfig{Policy: helix.AdaptivePolicy{}, CPUParallelism: 1})
				task := register(t, r, helix.Kind[int, int]{Name: "b", Scaling: 1, Batch: func(_ context.Context, ins []int) ([]int, error) {
					time.Sleep(c.fixed + time.Duration(len(ins))*2*time.Millisecond)
					return ins, nil
				}})
				var wg sync.WaitGroup
				for i := range 400 {
					wg.Go(func() {
						time.Sleep(time.Duration(i) * 1500 * time.Microsecond) // more than one by one could do
						_, _ = task.Submit(t.Context(), i)
					})
				}
				wg.Wait()
				d := r.Explain(helix.Job{Kind: "b"})
				if c.pays {
					require.Equal(t, helix.Batch, d.Strategy)
				} else {
					require.Equal(t, helix.CPUPool, d.Strategy)
				}
				require.InEpsilon(t, c.fixed+2*time.Millisecond, d.Run, .05, "the time of a call with one item")
			})
		})
	}
}
