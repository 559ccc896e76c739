// Package num has what Go's numbers lack here: a float64 that can be read while it is
// written, and arithmetic with times that saturates instead of overflowing.
package num

import (
	"math"
	"sync/atomic"
	"time"
)

// Never is the time, in nanoseconds, of what does not happen.
const Never int64 = math.MaxInt64

// Float is a float64 that can be read while it is written. Its zero value is 0.
type Float struct{ bits atomic.Uint64 }

// Load returns the value.
func (f *Float) Load() float64 { return math.Float64frombits(f.bits.Load()) }

// Store sets the value.
func (f *Float) Store(v float64) { f.bits.Store(math.Float64bits(v)) }

// Scale returns d × f, or the longest Duration where that is more. f must not be negative.
func Scale(d time.Duration, f float64) time.Duration {
	if v := float64(d) * f; v < float64(math.MaxInt64) {
		return time.Duration(v)
	}
	return math.MaxInt64
}

// Add returns a + b, or Never where that overflows. b must not be negative.
func Add(a, b int64) int64 {
	if sum := a + b; sum >= a {
		return sum
	}
	return Never
}
