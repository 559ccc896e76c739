package natsremote

import (
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// slow is a receiver that takes long over the first break.
type slow struct {
	broken chan struct{}
	goOn   chan struct{}
}

func (s *slow) Answer(uint64, []byte) {}
func (s *slow) Nobody(uint64)         {}
func (s *slow) Present([]byte)        {}
func (s *slow) Disconnected() {
	s.broken <- struct{}{}
	<-s.goOn
}

// Each break of the connection is reported, also if it breaks again while the last one is
// still being reported.
func TestEachBreakIsReported(t *testing.T) {
	first := startServer(t, server.Options{})
	port := first.Addr().(*net.TCPAddr).Port
	nc, err := nats.Connect(first.ClientURL(), append(Options(), nats.ReconnectWait(5*time.Millisecond))...)
	require.NoError(t, err)
	defer nc.Close()
	tr := &transport{nc: nc, subjects: subjects{"helix"}, answers: "helix.c.c."}
	s := &slow{broken: make(chan struct{}, 9), goOn: make(chan struct{})}
	require.NoError(t, tr.Listen(s))
	first.Shutdown()
	<-s.broken
	second := startServer(t, server.Options{Port: port})
	require.Eventually(t, nc.IsConnected, 30*time.Second, time.Millisecond)
	second.Shutdown()
	require.Eventually(t, nc.IsReconnecting, 30*time.Second, time.Millisecond)
	close(s.goOn)
	select {
	case <-s.broken:
	case <-time.After(5 * time.Second):
		require.Fail(t, "the second break was not reported")
	}
	require.NoError(t, tr.Close())
}
