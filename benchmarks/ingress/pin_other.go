//go:build !linux

package main

// pin does nothing here: the system places the processes.
func pin(int) {}
