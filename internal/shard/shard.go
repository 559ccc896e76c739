// Package shard spreads counters that many cores write over several cache lines: a word that
// one core writes and others use has to travel between their caches, which costs more than
// the addition. Every count is then a sum over the shards.
//
// There are two ways to choose a shard. An object that stays with a P, as one from a
// sync.Pool does for the most part, keeps the number of its shard. Code without such an
// object takes the goroutine's ([Hint]).
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

// Hint returns a number that tells goroutines apart: a hash of where the stack of the
// calling one lies. It stays the same for as long as the goroutine runs and its stack does
// not grow, so that the cache lines it chooses stay with the core (decision 4). It costs
// less than 1 ns. Two goroutines may have the same.
func Hint() uint32 {
	var here byte
	const golden = 0x9e3779b97f4a7c15 // 2^64 over the golden ratio (Knuth, TAOCP 3, 6.4)
	return uint32(uint64(uintptr(unsafe.Pointer(&here))>>stackAlign) * golden >> 32)
}

// stackAlign is the logarithm of the least size of a stack.
const stackAlign = 11
