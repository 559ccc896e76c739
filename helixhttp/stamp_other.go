//go:build !linux

package helixhttp

import (
	"net"
	"syscall"
)

// askForStamps does nothing: reads take the time themselves.
func askForStamps(syscall.Conn) {}

// tcpConn is a TCP connection that takes the time of its reads.
type tcpConn struct {
	*net.TCPConn
	latest exchange
	gate   *gate // nil unless requests are refused early
}

func newTCPConn(c *net.TCPConn, l *Listener) net.Conn {
	t := &tcpConn{TCPConn: c, latest: exchange{answers: &l.answers}}
	t.gateTCP(l.early)
	return t
}

// receive is Read without early refusals.
func (c *tcpConn) receive(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	c.latest.arrives(n, len(b), 0)
	return n, err
}
