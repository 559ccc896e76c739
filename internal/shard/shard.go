// Package shard spreads counters that many cores write over several cache lines: a word that
// one core writes and others use has to travel between their caches, which costs more than
// the addition. Every count is then a sum over the shards.
//
// There are two ways to select a shard. An object that mostly stays with a P, such as one from a
// sync.Pool, keeps the number of its shard. Code without such an object uses the goroutine's
// ([Hint]).
package shard

import (
	"runtime"
	"unsafe"
)

// most bounds the shards of one counter.
const most = 64

// Count returns the number of shards that a counter is split into: a power of two, at
// least one for each P, at most 64.
func Count() int {
	n := 1
	for n < runtime.GOMAXPROCS(0) && n < most {
		n *= 2
	}
	return n
}

// Hint returns a number that distinguishes goroutines: a hash of the address of the caller's
// stack. It stays the same while the goroutine runs and its stack does not grow, so that the
// cache lines it selects stay with the core (decision 4). It costs less than 1 ns. Two
// goroutines may have the same number.
func Hint() uint32 {
	var here byte
	const golden = 0x9e3779b97f4a7c15 // 2^64 over the golden ratio (Knuth, TAOCP 3, 6.4)
	return uint32(uint64(uintptr(unsafe.Pointer(&here))>>stackAlign) * golden >> 32)
}

// stackAlign is the logarithm of the least size of a stack.
const stackAlign = 11
