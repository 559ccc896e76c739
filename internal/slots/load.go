package slots

import "time"

// Load is the number of slots in use, in its low bits, and above them the
// predicted work of all that is queued or in a slot, in units of 1024 ns: one word, so that
// taking a free slot is one compare-and-swap and no lock. Work
// beyond 12 days wraps around, which touches no other bit and is undone when the
// work is taken off.
type Load uint64

// One is the load of a slot without work.
const One Load = 1

const (
	slotBits = 24   // any number of slots that the configuration allows fits
	workUnit = 1024 // ns
	mostWork = 1 << 30
)

// Work returns the load of that many ns of work, without a slot.
func Work(ns int64) Load { return Load(min((ns+workUnit-1)/workUnit, mostWork)) << slotBits }

// Busy returns the number of slots in use.
func (l Load) Busy() int64 { return int64(l & (1<<slotBits - 1)) }

// Work returns the work.
func (l Load) Work() time.Duration { return time.Duration(l >> slotBits * workUnit) }

// Units returns the work in its own units, as Node and Backlog have it.
func (l Load) Units() uint32 { return uint32(l >> slotBits) }
