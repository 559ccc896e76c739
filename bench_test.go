package helix_test

import (
	"context"
	"testing"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// emptyKind does nothing, so that what is measured is the router.
func emptyKind(name string) helix.Kind[int, int] {
	return helix.Kind[int, int]{
		Name:  name,
		Run:   func(_ context.Context, in int) (int, error) { return in, nil },
		Batch: func(_ context.Context, ins []int) ([]int, error) { return ins, nil },
		Cost:  func(int) float64 { return 1 },
	}
}

// steered returns a router and an empty task that the default policy sends to that
// strategy, with somebody watching: what is measured is then all that a user of the
// defaults pays, and not a policy of the test's.
func steered(t testing.TB, strategy string) *helix.Task[int, int] {
	var cfg helix.RouterConfig
	if strategy != helix.Inline {
		cfg.InlineThreshold = 1 // ns: nothing is as short
	}
	k := emptyKind(strategy)
	if strategy != helix.Batch {
		k.Batch = nil
	}
	switch strategy {
	case helix.Drop:
		k.Budget, k.Cost = 1, func(int) float64 { return 1e9 }
	case helix.Spawn:
		k.Waits = true
	}
	r := newRouter(t, cfg)
	events, _ := r.Watch(64) // ends with the router
	go func() {
		for range events {
		}
	}()
	return register(t, r, k)
}

// unbatched is the kind without its batch function, and with a hint that no threshold
// of 1 ns takes for short before anything has been learned.
func unbatched(k helix.Kind[int, int]) helix.Kind[int, int] {
	k.Batch, k.Cost = nil, func(int) float64 { return 1000 }
	return k
}

func TestAllocations(t *testing.T) {
	if helix.RaceEnabled {
		t.Skip("the race detector makes sync.Pool forget on purpose")
	}
	for strategy, most := range map[string]float64{helix.Inline: 0, helix.Drop: 0, helix.CPUPool: 1, helix.Spawn: 0} {
		task := steered(t, strategy)
		ctx := t.Context()
		require.LessOrEqual(t, testing.AllocsPerRun(2000, func() { _, _ = task.Submit(ctx, 1) }), most, strategy)
	}
}

// BenchmarkSubmit measures submit-and-wait of an empty job, everything switched
// on, beside what it replaces.
func BenchmarkSubmit(b *testing.B) {
	ctx := context.Background()
	b.Run("direct", func(b *testing.B) {
		run := emptyKind("").Run
		for b.Loop() {
			_, _ = run(ctx, 1)
		}
	})
	b.Run("go+chan", func(b *testing.B) { eachCaller(b, func() { <-goAndChannel(1) }) })
	for _, strategy := range []string{helix.Inline, helix.Drop, helix.CPUPool, helix.Spawn, helix.Batch} {
		b.Run(strategy, func(b *testing.B) {
			task := steered(b, strategy)
			eachCaller(b, func() { _, _ = task.Submit(ctx, 1) })
		})
	}
	b.Run("Router.Submit", func(b *testing.B) {
		r := newRouter(b, helix.RouterConfig{})
		job := helix.Job{Kind: "empty", Cost: 1, Run: nothing}
		eachCaller(b, func() { _, _ = r.Submit(ctx, job) })
	})
	b.Run("Go+Wait", func(b *testing.B) {
		task := steered(b, helix.CPUPool)
		eachCaller(b, func() {
			if f, err := task.Go(ctx, 1); err == nil {
				_, _ = f.Wait(ctx)
			}
		})
	})
}

//go:noinline
func goAndChannel(in int) chan int {
	done := make(chan int, 1)
	go func() { done <- in }()
	return done
}

// eachCaller runs f for one caller and for many.
func eachCaller(b *testing.B, f func()) {
	b.Run("callers=1", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f()
		}
	})
	b.Run("callers=many", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				f()
			}
		})
	})
}

func BenchmarkChoose(b *testing.B) {
	p := idle()
	for name, job := range map[string]helix.JobInfo{
		"inline":   {Cost: 100, Predicted: 100, Budget: time.Second, Slack: time.Second},
		"cpu_pool": {Cost: 1e6, Predicted: 1e6, Budget: time.Second, Slack: time.Second},
		"drop":     {Cost: 1e6, Predicted: 1e6, Budget: 1, Slack: 1},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var policy helix.Policy = helix.ThresholdPolicy{}
			for b.Loop() {
				policy.Choose(job, p)
			}
		})
	}
}

func BenchmarkStats(b *testing.B) {
	r := newRouter(b, helix.RouterConfig{})
	for i := range 64 {
		_, _ = r.Submit(b.Context(), helix.Job{Kind: string(rune('A' + i)), Run: nothing})
	}
	for b.Loop() {
		r.Stats()
	}
}
