package remote

import (
	"context"
	"testing"
	"time"

	"github.com/helixrouter/helix"
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
