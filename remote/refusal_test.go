package remote

import (
	"context"
	"testing"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// A job whose ctx ends before it is sent, also while workers are asked, is not sent, and its
// error says so.
func TestAJobWhoseCtxEndsBeforeItIsSent(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		n.add("w1", fast())
		n.add("w2", fast())
		c, _ := newTestClient(t, n, Config{})
		time.Sleep(10 * time.Millisecond) // what they said is not fresh any more
		for _, after := range []time.Duration{0, oneWay} {
			ctx, cancel := context.WithTimeout(context.Background(), after)
			_, err := c.Do(ctx, Job{Kind: "k"})
			cancel()
			require.ErrorIs(t, err, helix.ErrNotRun)
			require.EqualError(t, err, "helix: job was not run: context deadline exceeded")
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		require.EqualValues(t, 2, c.Stats().Total.Probed, "those that came before the end")
		require.Zero(t, c.Stats().Total.Sent)
	})
}

func TestAJobThatIsLateSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		n.add("w1", fast())
		c, _ := newTestClient(t, n, Config{})
		_, err := c.Do(context.Background(), Job{Kind: "k", Deadline: time.Now().Add(-time.Second)})
		require.ErrorIs(t, err, helix.ErrNotRun)
		require.ErrorContains(t, err, reasonNoTime)
	})
}

// The refusal of a worker reads like any other.
func TestARefusalNamesItsReasonOnce(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		m := fast()
		m.fill()
		n.add("w1", m)
		c, _ := newTestClient(t, n, Config{})
		time.Sleep(10 * time.Millisecond)
		_, err := c.Do(context.Background(), Job{Kind: "k"})
		require.EqualError(t, err, "helix: job was not run: machine is full")
	})
}
