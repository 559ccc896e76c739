package tally

import (
	"slices"
	"sync"
	"sync/atomic"
)

// ReasonTable numbers the reasons to drop, from 0 to Reasons-1. Reasons are constant text and
// few; if a policy generates more, those beyond the table share its last place. It must be
// made by NewReasonTable, and is safe for concurrent use.
type ReasonTable struct {
	mu    sync.Mutex // guards replacing names
	names atomic.Pointer[[]string]
}

const reasonOther = "other reasons"

// NewReasonTable returns a table with those reasons, numbered by their order. So reasons of a
// policy cannot take their places.
func NewReasonTable(own []string) *ReasonTable {
	t := &ReasonTable{}
	t.names.Store(&own)
	return t
}

// Index returns the number of a reason. It costs a few ns for those known.
func (t *ReasonTable) Index(reason string) int {
	if i := slices.Index(*t.names.Load(), reason); i >= 0 {
		return i
	}
	return t.add(reason)
}

// add is Index for a reason that is not known yet.
//
//go:noinline
func (t *ReasonTable) add(reason string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := t.Names()
	switch i := slices.Index(names, reason); {
	case i >= 0:
		return i
	case len(names) == Reasons-1:
		reason = reasonOther
	case len(names) == Reasons:
		return Reasons - 1
	}
	names = append(names[:len(names):len(names)], reason)
	t.names.Store(&names)
	return len(names) - 1
}

// Names returns the reasons by their numbers. It must not be changed.
func (t *ReasonTable) Names() []string { return *t.names.Load() }
