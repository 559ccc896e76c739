package main

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

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
