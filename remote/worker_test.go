package remote

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A job that a leaving worker refuses does not make the worker look as if it were idle and
// stayed.
func TestARefusalSaysThatTheWorkerLeaves(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		h := n.add("w1", fast())
		c, _ := newTestClient(t, n, Config{})
		h.worker.Leave()
		h.announce()
		_, err := c.Do(context.Background(), Job{Kind: "k"}) // crosses the news
		require.ErrorIs(t, err, helix.ErrNotRun)
		require.ErrorContains(t, err, reasonLeaving)
		time.Sleep(10 * time.Millisecond)
		w := c.Stats().Workers[0]
		require.False(t, w.Alive)
		require.Equal(t, 4, w.Kinds[0].Load.Slots)
		_, err = c.Do(context.Background(), Job{Kind: "k"})
		require.ErrorContains(t, err, reasonNoRoom, "it is not sent another")
	})
}

// A cancellation that overtakes its job keeps the job from running.
func TestACancellationMayOvertakeItsJob(t *testing.T) {
	m := fast()
	w := NewWorker(m, WorkerConfig{})
	w.Receive(AppendCancel(nil, 7), nil)
	answers := make(chan Reply, 2)
	job := func(attempt uint64) Reply {
		w.Receive((&Request{Attempt: attempt, Kind: "k"}).AppendJob(nil), func(frame []byte) {
			r, err := ParseReply(frame)
			assert.NoError(t, err)
			answers <- r
		})
		return <-answers
	}
	r := job(7)
	require.Equal(t, StatusRefused, r.Status)
	require.Equal(t, reasonCanceled, r.Reason)
	require.Zero(t, m.ended())
	require.Equal(t, StatusDone, job(8).Status)

	for attempt := range uint64(10 * maxEarly) {
		w.Receive(AppendCancel(nil, attempt), nil)
	}
	require.LessOrEqual(t, len(w.early), maxEarly, "what is remembered is bounded")
}

// growing is a machine to which a kind is added while it serves.
type growing struct {
	*machine
	kinds []string
}

func (g *growing) Kinds() []string { return g.kinds }

// A worker announces the kinds that it serves, and no others: clients would send jobs of them.
func TestAWorkerAnnouncesWhatItServes(t *testing.T) {
	g := &growing{machine: fast(), kinds: []string{"k"}}
	w := NewWorker(g, WorkerConfig{})
	g.kinds = append(g.kinds, "late")
	var announced []string
	w.Announce("w1", func(kind string, _ []byte) { announced = append(announced, kind) })
	require.Equal(t, []string{"k"}, announced)
}

// A second copy of a job that the worker has is not refused: its client would take the job for
// one that did not run.
func TestACopyOfAJobIsNotRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWorker(fast(), WorkerConfig{MaxInFlight: 1})
		job := (&Request{Attempt: 7, Kind: "k", Input: []byte("it")}).AppendJob(nil)
		answers := make(chan []byte, 3)
		receive := func() { w.Receive(job, func(frame []byte) { answers <- frame }) }
		receive()
		receive()
		w.Leave()
		receive()
		require.NoError(t, w.Wait(context.Background()))
		require.Len(t, answers, 1)
		r, err := ParseReply(<-answers)
		require.NoError(t, err)
		require.Equal(t, StatusDone, r.Status)
	})
}
