package helix

import (
	"slices"
	"sync"
	"sync/atomic"
)

// reasonTable numbers the reasons to drop. Reasons are constant text and few;
// should a policy make them up, those beyond the table share its last place.
type reasonTable struct {
	mu    sync.Mutex // guards replacing names
	names atomic.Pointer[[]string]
}

const reasonOther = "other reasons"

// ownReasons are the router's own: their places are taken from the beginning, so that a
// policy that makes up reasons cannot take them.
var ownReasons = []string{
	reasonBusy, reasonLate, reasonBudget, reasonWait, reasonShare, reasonQueueFull, reasonSpawnLimit,
	reasonDownstream, reasonExpired, reasonDisplaced, reasonNoTime, reasonGateTime, reasonClosed, reasonRefused, reasonNoStrategy,
	reasonDeclined,
}

// index returns the place of a reason. It costs a few ns for those known.
func (r *reasonTable) index(reason string) int {
	if i := slices.Index(r.list(), reason); i >= 0 {
		return i
	}
	return r.add(reason)
}

// add is index for a reason that is not known yet.
//
//go:noinline
func (r *reasonTable) add(reason string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := r.list()
	switch i := slices.Index(names, reason); {
	case i >= 0:
		return i
	case len(names) == maxReasons-1:
		reason = reasonOther
	case len(names) == maxReasons:
		return maxReasons - 1
	}
	names = append(names[:len(names):len(names)], reason)
	r.names.Store(&names)
	return len(names) - 1
}

func (r *reasonTable) list() []string {
	if names := r.names.Load(); names != nil {
		return *names
	}
	return ownReasons
}
