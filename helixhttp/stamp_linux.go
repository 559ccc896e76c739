package helixhttp

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// askForStamps makes the kernel report with each read when it received the data.
func askForStamps(c syscall.Conn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // if that fails, the time of the read counts
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_TIMESTAMPNS, 1)
	})
}

// tcpConn is a TCP connection that reads with recvmsg, which also returns the arrival time.
type tcpConn struct {
	*net.TCPConn
	latest exchange
	gate   *gate // nil unless requests are refused early
	raw    syscall.RawConn

	mu     sync.Mutex         // guards what follows: one Read at a time
	buffer []byte             // of the current Read
	n      int                // what recvmsg returned
	err    error              // likewise
	stamp  stamp              // likewise
	recv   func(uintptr) bool // recvmsg, bound once
}

// stamp is the control message of a received timestamp.
type stamp struct {
	header syscall.Cmsghdr
	time   syscall.Timespec
	_      [64]byte // room for a message that we did not ask for
}

func newTCPConn(c *net.TCPConn, l *Listener) net.Conn {
	raw, err := c.SyscallConn()
	if err != nil {
		return newOtherConn(c, l)
	}
	askForStamps(c)
	t := &tcpConn{TCPConn: c, raw: raw, latest: exchange{answers: &l.answers}}
	t.recv = t.recvmsg
	t.gateTCP(l.early)
	return t
}

// receive is Read without early refusals.
func (c *tcpConn) receive(b []byte) (int, error) {
	if len(b) == 0 {
		return c.TCPConn.Read(b)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buffer, c.n, c.err = b, 0, nil
	err := c.raw.Read(c.recv)
	c.buffer = nil
	switch {
	case err != nil:
		if op, ok := err.(*net.OpError); ok {
			op.Op = "read" // it was "raw-read", which net/http does not recognise
		}
		return 0, err
	case c.err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(),
			Err: os.NewSyscallError("recvmsg", c.err)}
	case c.n == 0:
		return 0, io.EOF
	}
	c.latest.arrives(c.n, len(b), c.age())
	return c.n, nil
}

// recvmsg reads the available data, and returns false if there is none yet.
// It requires c.mu, and the descriptor's lock for reading.
func (c *tcpConn) recvmsg(fd uintptr) bool {
	for {
		c.stamp.header = syscall.Cmsghdr{}
		control := unsafe.Slice((*byte)(unsafe.Pointer(&c.stamp)), unsafe.Sizeof(c.stamp))
		n, _, _, _, err := syscall.Recvmsg(int(fd), c.buffer, control, 0)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		}
		c.n, c.err = max(n, 0), err
		return true
	}
}

// age returns how long ago the data just read arrived; 0 if the kernel did not report it. It
// requires c.mu.
func (c *tcpConn) age() time.Duration {
	if h := &c.stamp.header; h.Level != syscall.SOL_SOCKET || h.Type != syscall.SCM_TIMESTAMPNS ||
		uintptr(h.Len) < unsafe.Sizeof(c.stamp.header)+unsafe.Sizeof(c.stamp.time) {
		return 0
	}
	return time.Duration(time.Now().UnixNano() - c.stamp.time.Nano())
}
