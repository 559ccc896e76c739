package helix

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix/internal/tally"
	"github.com/stretchr/testify/require"
)

// onlyPool is a policy that sends everything to cpu_pool.
type onlyPool struct{}

func (onlyPool) Choose(JobInfo, Pressure) Decision {
	return Decision{Strategy: CPUPool, Reason: "test"}
}

// What a job in the pool's queue adds is taken off once, in whatever order its
// withdrawal, the slot that comes for it, and Close meet.
func TestWorkIsTakenOffOnce(t *testing.T) {
	type queued struct {
		router *Router
		ticket *Ticket
		free   func() // makes the slot free
	}
	steps := map[string]func(q queued){
		"slot comes": func(q queued) { q.free() },
		"given up":   func(q queued) { require.True(t, q.ticket.giveUp()) },
		"leaves":     func(q queued) { q.ticket.leaveQueue(); q.ticket.endWithdrawn(context.Canceled) },
		"closed":     func(q queued) { require.NoError(t, q.router.pool.Close(t.Context())) },
	}
	for _, order := range [][]string{
		{"given up", "leaves", "slot comes"},
		{"given up", "slot comes", "leaves"},
		{"slot comes"}, // and so runs
		{"closed", "slot comes"},
		{"given up", "closed", "leaves", "slot comes"},
		{"given up", "closed", "slot comes", "leaves"},
		{"given up", "slot comes", "closed", "leaves"},
	} {
		r, err := New(RouterConfig{CPUParallelism: 1, Policy: onlyPool{}, UnitTime: time.Millisecond})
		require.NoError(t, err)
		held, started := make(chan struct{}), make(chan struct{})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = r.Submit(context.Background(), Job{Cost: 1, Run: func(context.Context) (any, error) {
				close(started)
				<-held
				return nil, nil
			}})
		}()
		<-started
		f, err := r.Go(t.Context(), Job{Cost: 3, Run: func(context.Context) (any, error) { return nil, nil }})
		require.NoError(t, err)
		require.EqualValues(t, 1, r.pool.queued.Load())
		q := queued{r, f.of.self(), func() { close(held); <-ended }}
		for _, step := range order {
			steps[step](q)
		}
		for account, sum := range idleAccounts(t, r) {
			require.Zero(t, sum, "%s after %v", account, order)
		}
		require.NoError(t, r.Close())
	}
}

// idleAccounts waits until nothing is in flight and returns the accounts.
func idleAccounts(t *testing.T, r *Router) map[string]int64 {
	t.Helper()
	require.NoError(t, r.Drain(t.Context()))
	return r.Accounts()
}

func TestTimesOfTheUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		r := &Router{epoch: now.Add(-100)}
		for name, c := range map[string]struct {
			at   time.Time
			want time.Duration
		}{
			"monotonic":               {now.Add(-5), 95},
			"monotonic, long ago":     {now.Add(-24 * time.Hour), 100 - 24*time.Hour},
			"wall clock":              {now.Round(0).Add(-5), 95},
			"before all time":         {time.Time{}.Add(1), 100 - farAway},
			"after all time":          {time.Unix(1<<40, 0), 100 + farAway},
			"a day before the router": {now.Round(0).Add(-24 * time.Hour), 100 - 24*time.Hour},
		} {
			require.EqualValues(t, c.want, r.since(c.at), name)
		}
	})
}

func TestPreemptedJobsAreNotTakenForOverload(t *testing.T) {
	for name, c := range map[string]struct {
		predicted, run, counted time.Duration
		slot                    bool
	}{
		"preempted":          {time.Microsecond, 70 * time.Millisecond, 4 * time.Microsecond, false},
		"long, in a slot":    {time.Microsecond, 70 * time.Millisecond, 70 * time.Millisecond, true},
		"below Go's quantum": {time.Microsecond, 9 * time.Millisecond, 9 * time.Millisecond, false},
		"nothing is known":   {0, 70 * time.Millisecond, 70 * time.Millisecond, false},
		"long as predicted":  {50 * time.Millisecond, 70 * time.Millisecond, 70 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			k := &kind{counters: tally.New(1)}
			ticket := &Ticket{kind: k, ctx: t.Context(), exit: exitReturned, ended: int64(c.run),
				job: jobFacts{predicted: c.predicted, work: c.predicted}, choice: choice{lane: laneCPUPool}}
			if c.slot {
				ticket.slot = &slot{bounded: true}
			}
			k.counters.Shard(0).Admitted.Add(ticket.charge())
			k.learn(ticket)
			_, worked := k.counters.Work()
			require.EqualValues(t, c.counted, worked)
			require.Zero(t, k.counters.Charged())
		})
	}
}
