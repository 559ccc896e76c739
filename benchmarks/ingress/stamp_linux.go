package main

import (
	"io"
	"net"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stamped reads from a connection, and keeps when the kernel received the latest data. It is not
// helixhttp.Listener, which is measured here.
type stamped struct {
	raw    syscall.RawConn
	latest time.Time
}

// stamp has the kernel report when it received the data of a connection.
func stamp(conn net.Conn) (*stamped, error) {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	})
	if err == nil {
		err = failed
	}
	return &stamped{raw: raw}, err
}

func (s *stamped) Read(b []byte) (n int, err error) {
	var control [128]byte
	var told int
	wait := s.raw.Read(func(fd uintptr) bool {
		n, told, _, _, err = unix.Recvmsg(int(fd), b, control[:], 0)
		return err != unix.EAGAIN
	})
	switch {
	case wait != nil:
		return 0, wait
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	s.latest = time.Now()
	if messages, err := unix.ParseSocketControlMessage(control[:told]); err == nil {
		for _, m := range messages {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS {
				received := (*unix.Timespec)(unsafe.Pointer(&m.Data[0]))
				s.latest = s.latest.Add(-time.Duration(s.latest.UnixNano() - received.Nano()))
			}
		}
	}
	return n, nil
}
