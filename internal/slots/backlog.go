package slots

import (
	"math/bits"
	"sync/atomic"

	"github.com/helixrouter/helix/internal/num"
)

// Backlog is the work in a queue by urgency, so that a decision can compute the work before a job
// without reading the queue: an array of classes, each for twice the time until due of the one
// before. Its zero value is empty. It is safe for
// concurrent use and has no lock.
type Backlog struct {
	classes [urgencies]atomic.Uint64 // jobs, in the high bits from workBits on, and their work, in units of Load
}

const (
	// urgencies is how many classes there are: the last is for what is due in more than a
	// day, or never.
	urgencies = 32
	workBits  = 40
)

// ClassOf returns the class of a job that is due in so many ns.
func ClassOf(due int64) uint8 {
	return uint8(min(bits.Len64(uint64(max(due, 0))>>16), urgencies-1))
}

// Add records that one more job of that work waits at n. n.Class must be set.
func (b *Backlog) Add(n *Node, work Load) {
	units := work.Units()
	n.Work += units
	b.classes[n.Class].Add(1<<workBits + uint64(units))
}

// Remove records that jobs with that many units of work no longer wait at n.
func (b *Backlog) Remove(n *Node, jobs int, units uint32) {
	n.Work -= units
	b.classes[n.Class].Add(-(uint64(jobs)<<workBits + uint64(units)))
}

// Before returns the jobs and the work, in ns, before a job that is due in so many ns: those of
// its class, which arrived earlier, and of all more urgent classes.
func (b *Backlog) Before(due int64) (jobs int, work int64) {
	for i := range b.classes[:ClassOf(due)+1] {
		if c := b.classes[i].Load(); c != 0 {
			jobs += int(c >> workBits)
			work += int64(c & (1<<workBits - 1))
		}
	}
	return jobs, work * workUnit
}

// All returns the work in the queue, in ns.
func (b *Backlog) All() int64 {
	_, work := b.Before(num.Never)
	return work
}
