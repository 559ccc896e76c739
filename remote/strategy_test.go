package remote

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// awayOrHere is a policy that sends a job to a worker if one has room.
type awayOrHere struct{ here string }

func (p awayOrHere) Choose(_ helix.JobInfo, pressure helix.Pressure) helix.Decision {
	if pressure.Offers != nil {
		return helix.Decision{Strategy: "remote"}
	}
	return helix.Decision{Strategy: p.here}
}

// newTestRouter makes a router with a client, and a kind "k" whose jobs run here for a millisecond.
func newTestRouter(t *testing.T, c *Client, here string, k helix.Kind[int, int]) (*helix.Router, *helix.Task[int, int]) {
	r, err := helix.New(helix.RouterConfig{Strategies: []helix.Strategy{c}, Policy: awayOrHere{here}})
	require.NoError(t, err)
	k.Name, k.Codec = "k", helix.JSON[int, int]{}
	k.Run = func(context.Context, int) (int, error) {
		time.Sleep(time.Millisecond)
		return -1, nil
	}
	task, err := helix.Register(r, k)
	require.NoError(t, err)
	return r, task
}

// Jobs from Submit count in the limit of jobs elsewhere, like those from Go.
func TestTheLimitCountsSubmits(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		n.add("w1", fast())
		c, _ := newTestClient(t, n, Config{MaxInFlight: 2})
		r, task := newTestRouter(t, c, helix.Spawn, helix.Kind[int, int]{})
		var all sync.WaitGroup
		here := make(chan bool, 5)
		for range cap(here) {
			all.Go(func() {
				got, err := task.Submit(context.Background(), 7)
				assert.NoError(t, err)
				here <- got == -1
			})
			time.Sleep(100 * time.Microsecond)
		}
		require.Equal(t, helix.Load{Running: 2, Limit: 2}, c.Load())
		all.Wait()
		ran := 0
		for range cap(here) {
			if <-here {
				ran++
			}
		}
		require.Equal(t, 3, ran, "those beyond the limit run here")
		require.NoError(t, r.Close())
	})
}

// Close of the router waits for the answers to jobs from Submit.
func TestCloseOfTheRouterWaitsForSubmits(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		n.add("w1", fast())
		c, _ := newTestClient(t, n, Config{})
		r, task := newTestRouter(t, c, helix.Drop, helix.Kind[int, int]{})
		var done sync.WaitGroup
		done.Go(func() {
			got, err := task.Submit(context.Background(), 7)
			assert.NoError(t, err)
			assert.Equal(t, 7, got)
		})
		time.Sleep(time.Millisecond)
		require.NoError(t, r.Close())
		done.Wait()
	})
}

// A job has the budget and the priority at the worker that it was submitted with, also where
// that is none and Normal and the worker's kind has others.
func TestAWorkerKeepsWhatTheSubmitterSaid(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		seen := make(chan helix.JobInfo, 1)
		w, err := helix.New(helix.RouterConfig{Policy: noting{seen}})
		require.NoError(t, err)
		_, err = helix.Register(w, helix.Kind[int, int]{
			Name: "k", Codec: helix.JSON[int, int]{}, Budget: time.Second, Priority: helix.High,
			Run: func(_ context.Context, in int) (int, error) { return in, nil },
		})
		require.NoError(t, err)
		r := &Request{Kind: "k", Input: []byte("1")}
		_, err = Jobs(w).Do(context.Background(), r, time.Now())
		require.NoError(t, err)
		info := <-seen
		require.Zero(t, info.Budget)
		require.Equal(t, helix.Normal, info.Priority)

		r.Budget, r.Priority = time.Minute, helix.Low
		_, err = Jobs(w).Do(context.Background(), r, time.Now())
		require.NoError(t, err)
		info = <-seen
		require.Equal(t, time.Minute, info.Budget)
		require.Equal(t, helix.Low, info.Priority)
		require.NoError(t, w.Close())
	})
}

// noting is a policy that notes the jobs that it decides on.
type noting struct{ seen chan helix.JobInfo }

func (p noting) Choose(j helix.JobInfo, _ helix.Pressure) helix.Decision {
	p.seen <- j
	return helix.Decision{Strategy: helix.Inline}
}

// brokenTransport cannot listen.
type brokenTransport struct {
	Transport
	closed int
}

func (b *brokenTransport) Listen(Receiver) error { return ErrNotConnected }

func (b *brokenTransport) Close() error {
	b.closed++
	return nil
}

// A transport that cannot listen is closed: what it has begun must not go on.
func TestATransportThatCannotListenIsClosed(t *testing.T) {
	b := &brokenTransport{}
	c, err := NewClient(b, Config{})
	require.ErrorIs(t, err, ErrNotConnected)
	require.Nil(t, c)
	require.Equal(t, 1, b.closed)
}

// A panic in Config.Trace is raised at the submitter, as one in Hooks.Start is. It neither leaves
// the submitter waiting nor ends the process.
func TestAPanicInTraceEndsTheJob(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		n.add("w1", fast())
		c, _ := newTestClient(t, n, Config{Trace: func(context.Context) string { panic("no trace") }})
		r, task := newTestRouter(t, c, helix.Drop, helix.Kind[int, int]{})
		for name, submit := range map[string]func(){
			"Submit": func() { _, _ = task.Submit(context.Background(), 7) },
			"Go": func() {
				if future, err := task.Go(context.Background(), 7); err == nil {
					_, _ = future.Wait(context.Background())
				}
			},
		} {
			raised := make(chan any, 1)
			go func() {
				defer func() { raised <- recover() }()
				submit()
			}()
			synctest.Wait()
			require.Len(t, raised, 1, "%s: the submitter still waits", name)
			require.ErrorContains(t, (<-raised).(error), "no trace", name)
		}
		require.NoError(t, r.Close())
		require.EqualValues(t, 2, r.Stats().Failed)
	})
}
