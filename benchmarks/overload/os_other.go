//go:build !linux

package main

import "time"

var began = time.Now()

// threadCPU stands in with the wall clock, which is more than the CPU time.
func threadCPU() time.Duration { return time.Since(began) }

// processCPU and residentBytes are not known here.
func processCPU() time.Duration { return 0 }
func residentBytes() int64      { return 0 }
