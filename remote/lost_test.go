package remote

import (
	"context"
	"testing"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// A job that may have run at one worker is not reported as not run because another attempt
// at it did not run.
func TestALostJobStaysLost(t *testing.T) {
	for name, end := range map[string]func(n *network, l *link){
		"the next worker refuses it": func(n *network, _ *link) {
			full := fast()
			full.fill()
			n.add("w2", full)
			time.Sleep(10 * time.Millisecond)
			n.hosts["w1"].kill()
		},
		"the next attempt cannot be sent": func(n *network, l *link) {
			n.add("w2", fast())
			time.Sleep(10 * time.Millisecond)
			l.disconnect()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *network) {
				m := fast()
				m.cost = 2 * time.Second
				n.add("w1", m)
				c, l := newTestClient(t, n, Config{})
				ended := make(chan error, 1)
				go func() {
					_, err := c.Do(context.Background(), Job{Kind: "k", Idempotent: true})
					ended <- err
				}()
				time.Sleep(100 * time.Millisecond)
				end(n, l)
				err := <-ended
				require.ErrorIs(t, err, helix.ErrLost)
				require.NotErrorIs(t, err, helix.ErrNotRun, "w1 may have run it")
				require.ErrorContains(t, err, "w1")
				require.EqualValues(t, 2, c.Stats().Total.Sent)
			})
		})
	}
}
