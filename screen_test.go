package helix_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// policyFunc is a policy of a test.
type policyFunc func(helix.JobInfo, helix.Pressure) helix.Decision

func (f policyFunc) Choose(j helix.JobInfo, p helix.Pressure) helix.Decision { return f(j, p) }

func TestScreenCountsRefusalsAndNothingElse(t *testing.T) {
	refuse := map[string]bool{"shut": true}
	r := newRouter(t, helix.RouterConfig{Policy: policyFunc(func(j helix.JobInfo, _ helix.Pressure) helix.Decision {
		if refuse[j.Kind] {
			return helix.Decision{Strategy: helix.Drop, Reason: "shut today", Excess: time.Second}
		}
		return helix.Decision{Strategy: helix.Inline}
	})})
	events, stop := r.Watch(8)
	defer stop()
	require.NoError(t, r.Screen(helix.Job{Kind: "open", Budget: time.Second}))
	require.Zero(t, r.Stats().Submitted)
	require.Empty(t, events)

	err := r.Screen(helix.Job{Kind: "shut", Budget: time.Second})
	var drop *helix.DropError
	require.True(t, errors.As(err, &drop))
	require.ErrorIs(t, err, helix.ErrNotRun)
	require.Equal(t, "shut today", drop.Decision.Reason)
	require.GreaterOrEqual(t, drop.RetryAfter, time.Second)
	_, err = r.Submit(t.Context(), helix.Job{Kind: "shut", Budget: time.Second, Run: func(context.Context) (any, error) { return nil, nil }})
	require.ErrorIs(t, err, helix.ErrDropped)
	s := r.Stats()
	require.EqualValues(t, 2, s.Submitted)
	require.EqualValues(t, 2, s.Dropped)
	require.Equal(t, "shut", (<-events).Info.Kind)

	bad := (*helix.FieldError)(nil)
	require.True(t, errors.As(r.Screen(helix.Job{Cost: -1}), &bad))
	require.EqualValues(t, 2, r.Stats().Submitted)
	require.NoError(t, r.Close())
	require.NoError(t, r.Screen(helix.Job{Kind: "shut"}), "Submit tells that the router is closed")
	require.EqualValues(t, 2, r.Stats().Submitted)
}

// A probe heals an estimate that refuses. Were it taken by who only asks, it would never run.
func TestScreenLeavesProbesToSubmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 1})
		slow := time.Second
		job := helix.Job{Kind: "healed", Budget: 100 * time.Millisecond, Run: func(context.Context) (any, error) { time.Sleep(slow); return nil, nil }}
		_, err := r.Submit(t.Context(), job)
		require.NoError(t, err)
		slow = time.Millisecond
		_, err = r.Submit(t.Context(), job)
		require.ErrorIs(t, err, helix.ErrDropped)
		require.ErrorIs(t, r.Screen(job), helix.ErrDropped)
		for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			require.Less(t, time.Since(start), time.Minute, "no probe is let through")
			if r.Screen(job) == nil {
				break
			}
		}
		require.NoError(t, r.Screen(job), "it has not been taken")
		_, err = r.Submit(t.Context(), job)
		require.NoError(t, err)
		_, err = r.Submit(t.Context(), job)
		require.NoError(t, err, "healed")
	})
}

// Of jobs that come again when they were told to, those that Screen lets through are admitted.
func TestScreenLetsThroughWhatSubmitAdmits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 1})
		job := helix.Job{Kind: "k", Budget: 50 * time.Millisecond, Run: func(context.Context) (any, error) { time.Sleep(5 * time.Millisecond); return nil, nil }}
		done := make(chan struct{})
		sent, screened := 0, 0
		var refusedAfter atomic.Int64
		for range 8000 { // twice what it can do; so many that chance does not decide
			time.Sleep(2500 * time.Microsecond)
			sent++
			if r.Screen(job) != nil {
				screened++
				go func() { done <- struct{}{} }()
				continue
			}
			go func() {
				_, err := r.Submit(t.Context(), job)
				if errors.Is(err, helix.ErrDropped) {
					refusedAfter.Add(1)
				}
				done <- struct{}{}
			}()
			synctest.Wait()
		}
		for range sent {
			<-done
		}
		require.Greater(t, screened, 3200)
		require.Less(t, refusedAfter.Load(), int64(80))
		s := r.Stats()
		require.EqualValues(t, sent, s.Submitted)
		require.EqualValues(t, screened+int(refusedAfter.Load()), s.Dropped)
	})
}

func TestScreenAllocatesNothing(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{Policy: helix.ThresholdPolicy{}})
	job := helix.Job{Kind: "k", Budget: time.Second, Cost: 1}
	require.NoError(t, r.Screen(job))
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = r.Screen(job) }))
}
