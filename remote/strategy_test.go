package remote

import (
	"context"
	"sync"
	"testing"
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
