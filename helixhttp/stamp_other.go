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
	came arrival
}

func newTCPConn(c *net.TCPConn) net.Conn { return &tcpConn{TCPConn: c} }

func (c *tcpConn) arrival() *arrival { return &c.came }

// NetConn returns the connection that was accepted.
func (c *tcpConn) NetConn() net.Conn { return c.TCPConn }

// Read does what that of net.TCPConn does, and notes when the data came.
func (c *tcpConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	c.came.note(n, len(b), 0)
	return n, err
}
