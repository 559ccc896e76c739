//go:build !linux

package main

import "time"

// pin does nothing here: the system places the processes.
func pin(int) {}

// cpuTime is not known here.
func cpuTime() time.Duration { return 0 }
