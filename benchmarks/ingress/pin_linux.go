package main

import "golang.org/x/sys/unix"

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
