package main

import (
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// pin keeps this process to one processor, where the system lets it and there are two. The
// set of its parent, which a process begins with, does not count.
func pin(cpu int) {
	var set unix.CPUSet
	set.Set(cpu)
	// Each thread has a set of its own, and gives it to those that it starts: the second round
	// finds those that were started during the first.
	for range 2 {
		threads, _ := os.ReadDir("/proc/self/task")
		for _, thread := range threads {
			if id, err := strconv.Atoi(thread.Name()); err == nil {
				_ = unix.SchedSetaffinity(id, &set)
			}
		}
	}
}

// cpuTime is what this process has taken so far.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
