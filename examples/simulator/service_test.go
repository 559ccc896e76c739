package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// always is a policy that sends all work one way.
type always string

func (a always) Choose(helix.JobInfo, helix.Pressure) helix.Decision {
	return helix.Decision{Strategy: string(a), Reason: "test"}
}

func testService(t *testing.T, policy helix.Policy) *service {
	t.Helper()
	router, err := helix.New(helix.RouterConfig{Policy: policy, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, router.Close()) })
	svc, err := newService(router, 7)
	require.NoError(t, err)
	return svc
}

func TestResultsDoNotDependOnTheRoute(t *testing.T) {
	jobs := slices.Collect(arrivals{seed: 7, jobs: defaultJobs}.all())
	for i := range jobs {
		jobs[i].budget = 0 // all are to complete, however slow the machine
	}
	var want digest
	for i := range jobs {
		value, err := testService(t, nil).compute(context.Background(), &jobs[i])
		require.NoError(t, err)
		want.add(uint64(i), value)
	}

	for _, strategy := range []string{helix.Inline, helix.Spawn, helix.CPUPool, helix.Batch} {
		t.Run(strategy, func(t *testing.T) {
			svc := testService(t, always(strategy))
			var results digest
			svc.send(context.Background(), slices.Values(jobs), time.Now(), &results)
			require.Equal(t, want.sum.Load(), results.sum.Load())
			require.EqualValues(t, len(jobs), results.count.Load())
			stats := svc.router.Stats()
			require.Equal(t, uint64(len(jobs)), stats.Completed)
			require.NoError(t, svc.check(stats))
			for _, r := range stats.RoutedByStrategy {
				if r.Strategy == strategy && strategy != helix.Batch {
					require.Equal(t, uint64(len(jobs)), r.Count)
				}
			}
		})
	}
}

func TestChecksumTellsResultsApart(t *testing.T) {
	sum := func(results map[uint64]uint64) uint64 {
		var d digest
		for n, value := range results {
			d.add(n, value)
		}
		require.EqualValues(t, len(results), d.count.Load())
		return d.sum.Load()
	}
	base := sum(map[uint64]uint64{0: 1, 1: 2})
	require.Equal(t, base, sum(map[uint64]uint64{1: 2, 0: 1}), "in whichever order they end")
	for _, other := range []map[uint64]uint64{
		{0: 2, 1: 1}, // swapped
		{0: 1, 2: 2}, // of another job
		{0: 1, 1: 2, 2: 2},
		{0: 1},
		{},
	} {
		require.NotEqual(t, base, sum(other))
	}
}

func TestAllStrategiesAtAModerateRate(t *testing.T) {
	router, err := helix.New(helix.RouterConfig{Policy: helix.ThresholdPolicy{}, CPUParallelism: 16}) // so that nothing is shed
	require.NoError(t, err)
	defer router.Close()
	svc, err := newService(router, 7)
	require.NoError(t, err)
	jobs := slices.Collect(arrivals{seed: 7, jobs: 300, rate: 2_000}.all())
	for i := range jobs {
		jobs[i].budget = 0
	}
	svc.send(context.Background(), slices.Values(jobs), time.Now(), nil)
	routed := map[string]uint64{}
	for _, r := range router.Stats().RoutedByStrategy {
		routed[r.Strategy] = r.Count
	}
	for _, strategy := range []string{helix.Inline, helix.Spawn, helix.CPUPool, helix.Batch} {
		require.NotZero(t, routed[strategy], "%v", routed)
	}
}

func TestSendStopsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := testService(t, always(helix.Inline))
		svc.slack = 0
		jobs := []job{{size: 1}, {size: 1, at: time.Second}, {size: 1, at: time.Hour}}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		start := time.Now()
		svc.send(ctx, slices.Values(jobs), start, nil)
		require.Equal(t, time.Minute, time.Since(start))
		require.Equal(t, uint64(2), svc.completed.Load())
		require.NoError(t, svc.check(svc.router.Stats()))
	})
}

func TestLatencyCountsFromTheSchedule(t *testing.T) {
	svc := testService(t, always(helix.Inline))
	// One arrival that is sent a second late.
	svc.send(context.Background(), slices.Values([]job{{size: 1}}), time.Now().Add(-time.Second), nil)
	latency := svc.router.Latency(helix.Inline)
	require.GreaterOrEqual(t, latency.Mean(), 900*time.Millisecond)
}

func TestCheckFindsWhatDoesNotAddUp(t *testing.T) {
	svc := testService(t, always(helix.Inline))
	svc.send(context.Background(), slices.Values([]job{{size: 1}, {size: 2}}), time.Now(), nil)
	stats := svc.router.Stats()
	require.NoError(t, svc.check(stats))

	lost := stats
	lost.Completed--
	require.ErrorContains(t, svc.check(lost), "do not add up: 2 submitted, but 1 ended and 0 in flight")
	mistaken := stats
	mistaken.Completed, mistaken.Failed = 1, 1
	require.ErrorContains(t, svc.check(mistaken), "2 jobs completed, but the router says 1")
	svc.sent.Add(1)
	require.ErrorContains(t, svc.check(stats), "3 jobs submitted, but the router says 2")
}

func TestCalibrate(t *testing.T) {
	svc := testService(t, nil)
	perStep, err := svc.calibrate(context.Background())
	require.NoError(t, err)
	for k, seconds := range perStep {
		require.Greater(t, seconds, 1e-11, kernel(k))
		require.Less(t, seconds, 1e-6, kernel(k))
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	_, err = svc.calibrate(ctx)
	require.ErrorIs(t, err, why)
}
