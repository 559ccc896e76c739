package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// pin keeps this process to one processor, where the system lets it and there are two.
func pin(cpu int) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil || !set.IsSet(cpu) || set.Count() < 2 {
		return
	}
	set.Zero()
	set.Set(cpu)
	_ = unix.SchedSetaffinity(0, &set)
}

// cpuTime is what this process has taken so far.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
