package pace

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Pacer sleeps more precisely than time.Sleep, which an idle Go process rounds
// up to 1 ms because epoll_wait takes milliseconds. The kernel's timer wakes an
// idle process. When all Ps are busy, no P polls for it, but the deadline of the read is a
// runtime timer, which its P checks between goroutines.
type Pacer struct {
	timer *os.File
	fd    int
	buf   [8]byte
}

// New makes a Pacer, for one goroutine.
func New() *Pacer {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return &Pacer{}
	}
	return &Pacer{timer: os.NewFile(uintptr(fd), "timer"), fd: fd}
}

// Sleep sleeps for d.
func (p *Pacer) Sleep(d time.Duration) {
	if p.timer == nil {
		time.Sleep(d)
		return
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if unix.TimerfdSettime(p.fd, 0, &spec, nil) != nil || p.timer.SetReadDeadline(time.Now().Add(d)) != nil {
		time.Sleep(d)
		return
	}
	_, _ = p.timer.Read(p.buf[:]) // the deadline is the other way to wake
}

// Close frees the timer.
func (p *Pacer) Close() {
	if p.timer != nil {
		_ = p.timer.Close()
	}
}
