package main

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pacer sleeps more precisely than time.Sleep, which an idle Go process rounds
// up to 1 ms because epoll_wait takes milliseconds. The kernel's timer wakes an
// idle process; when all Ps are busy, nobody polls for it, but the deadline of
// the read is a runtime timer, which the P that has it looks at between goroutines.
type pacer struct {
	timer *os.File
	fd    int
	buf   [8]byte
}

func newPacer() *pacer {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return &pacer{}
	}
	return &pacer{timer: os.NewFile(uintptr(fd), "timer"), fd: fd}
}

func (p *pacer) sleep(d time.Duration) {
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

func (p *pacer) close() {
	if p.timer != nil {
		_ = p.timer.Close()
	}
}

// threadCPU is the CPU time of this thread; 0 if not known. Getrusage will not
// do: it is brought up to date only at ticks and switches.
func threadCPU() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// processCPU is the CPU time of this process; 0 if not known.
func processCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// residentBytes is the resident memory of this process, or 0.
func residentBytes() int64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var pages int64
	field := 0
	for _, c := range data {
		if c == ' ' {
			if field++; field == 2 {
				break
			}
			pages = 0
			continue
		}
		pages = pages*10 + int64(c-'0')
	}
	return pages * int64(syscall.Getpagesize())
}
