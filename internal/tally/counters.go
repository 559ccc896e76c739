// Package tally counts the outcomes of jobs, so that a lost job always shows.
//
// Each event of a job's life is one addition to one word. Words never decrease, and every figure
// is a sum of such words. Submissions and outcomes are counted separately; the jobs in flight
// are the difference. So in every [Sums], at any time,
//
//	submitted = completed + failed + dropped + withdrawn + in flight
//
// since outcomes are read before submissions: a job that ends meanwhile shows as in flight, and
// none can end before it began. A job that is lost, or counted twice, shows as
// one in flight in an idle router.
//
// The words are sharded ([shard]): a job writes to one shard only, so that cores rarely
// share a cache line.
package tally

import (
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix/internal/shard"
)

// Bounds of the counters.
const (
	Lanes   = 16 // strategies, Drop not counted
	AtOnce  = 3  // of them, the first, which may take a job at its admission
	Reasons = 24 // different reasons to drop; later ones share the last
)

// Counters are those of one kind of job. They must be made by New.
type Counters struct {
	shards   []Shard    // a power of two of them
	refusals []Refusals // likewise
}

// Shard has the counters that a ticket writes to. All its words are written by any goroutine
// that owns a ticket of the shard.
type Shard struct {
	Submitted atomic.Uint64          // jobs that the decision admitted, other than those in Taken
	Taken     [AtOnce]atomic.Uint64  // likewise, and accepted at once by a strategy of the router's own
	Routed    [Lanes]atomic.Uint64   // accepted later than that, by strategy
	Bounced   [Reasons]atomic.Uint64 // dropped because the strategy did not take it
	late      [Reasons]atomic.Uint64 // dropped after that
	ended     [2][3]atomic.Uint64    // ran: completed, failed × no budget, kept, not kept

	// CPU ns. Their sum is all work ever offered. Jobs that run in place, and short ones that get a
	// slot at once, are never in Admitted: they are accounted for in one step at their end. First
	// what each job writes, beside ended.
	//
	// AllWork is as Served, of jobs that worked from their arrival to their end: their CPU time is
	// their latency, too, and one addition counts both.
	AllWork  [AtOnce]atomic.Int64
	Admitted atomic.Int64 // predicted, of jobs that have not ended
	Served   atomic.Int64 // of jobs that ran; a batched one's part of a full batch
	Shed     atomic.Int64 // predicted, of jobs that were admitted and never ran
	Unfilled atomic.Int64 // time of calls beyond what is in Served, because their batches were not full

	broken    atomic.Uint64 // late ones that had a budget
	Withdrawn atomic.Uint64 // after admission

	Goroutines atomic.Int64 // of the router's own, that are alive
	_          [96]byte     // six pairs of lines, as the processor prefetches them
}

// Refusals is one shard of the counters of jobs that never had a ticket: each is
// submitted and ends by one addition.
type Refusals struct {
	Refused   [Reasons]atomic.Uint64 // dropped by the decision
	Withdrawn atomic.Uint64          // ctx was done at Submit
	Shed      atomic.Int64           // predicted CPU ns of those that were refused
	_         [48]byte               // two pairs of lines
}

// The submitter's goroutine, not its P, selects a shard of Refusals. So there are more of them
// than shards, to make collisions between two cores rare.
const (
	refusalShards     = 4 // for each shard
	mostRefusalShards = 64
)

// New returns counters in that many shards, a power of two.
func New(shards int) Counters {
	return Counters{make([]Shard, shards), make([]Refusals, min(refusalShards*shards, mostRefusalShards))}
}

// Shard returns the shard of that number; any number will do.
func (c *Counters) Shard(number uint8) *Shard { return &c.shards[int(number)&(len(c.shards)-1)] }

// Refusals returns the shard for the calling goroutine.
func (c *Counters) Refusals() *Refusals {
	return &c.refusals[int(shard.Hint())&(len(c.refusals)-1)]
}

// End counts a job that ran: whether it failed, its budget, 0 = none, and how long it took
// from its arrival.
func (s *Shard) End(failed bool, budget, latency time.Duration) {
	how, promise := 0, 0
	if failed {
		how = 1
	}
	if budget > 0 {
		if promise = 1; latency > budget {
			promise = 2
		}
	}
	s.ended[how][promise].Add(1)
}

// DropLate counts a job that was refused after a strategy had accepted it.
func (s *Shard) DropLate(reason int, budget time.Duration) {
	if budget > 0 {
		s.broken.Add(1)
	}
	s.late[reason].Add(1)
}

// Work returns the CPU ns demanded by all jobs so far, including refused ones, and the CPU ns of
// those that ran.
func (c *Counters) Work() (offered, worked int64) {
	for i := range c.shards {
		s := &c.shards[i]
		served := s.Served.Load()
		for l := range s.AllWork {
			served += s.AllWork[l].Load()
		}
		offered += s.Shed.Load() + s.Admitted.Load() + served
		worked += served + s.Unfilled.Load()
	}
	for i := range c.refusals {
		offered += c.refusals[i].Shed.Load()
	}
	return offered, worked
}

// AllWork returns the sum of the latencies of jobs that worked all the time, in one lane.
func (c *Counters) AllWork(lane int) (ns uint64) {
	if lane < AtOnce {
		for i := range c.shards {
			ns += uint64(c.shards[i].AllWork[lane].Load())
		}
	}
	return ns
}

// Charged returns the predicted CPU ns of jobs that have been admitted and have not ended.
func (c *Counters) Charged() (ns int64) {
	for i := range c.shards {
		ns += c.shards[i].Admitted.Load()
	}
	return ns
}

// Sums are the sums of a kind's counters.
type Sums struct {
	Routed  [Lanes]uint64
	Dropped [Reasons]uint64
	Refused uint64 // by the decision or the strategy; the rest of Dropped were accepted first

	Submitted, Completed, Failed, Withdrawn uint64
	Promised, Kept                          uint64 // ran, or were refused late, with a budget; those that ended inside it
	Goroutines                              int64

	admitted uint64
	away     uint64 // ended without a ticket
}

// InFlight returns the number of jobs submitted and not ended.
func (s *Sums) InFlight() uint64 { return s.Submitted - s.ended() }

// Running returns the number of jobs admitted and not ended.
func (s *Sums) Running() uint64 { return s.admitted - (s.ended() - s.away) }

func (s *Sums) ended() uint64 {
	sum := s.Completed + s.Failed + s.Withdrawn
	for _, dropped := range s.Dropped {
		sum += dropped
	}
	return sum
}

// Sum adds up the shards.
func (c *Counters) Sum() Sums {
	var n Sums
	for i := range c.shards {
		s := &c.shards[i]
		for how, sum := range []*uint64{&n.Completed, &n.Failed} {
			none, kept, missed := s.ended[how][0].Load(), s.ended[how][1].Load(), s.ended[how][2].Load()
			*sum += none + kept + missed
			n.Kept += kept
			n.Promised += kept + missed
		}
		n.Withdrawn += s.Withdrawn.Load()
		n.Promised += s.broken.Load()
		for r := range s.late {
			bounced := s.Bounced[r].Load()
			n.Refused += bounced
			n.Dropped[r] += bounced + s.late[r].Load()
		}
	}
	for i := range c.refusals {
		a := &c.refusals[i]
		withdrawn := a.Withdrawn.Load()
		n.away += withdrawn
		n.Withdrawn += withdrawn
		for r := range a.Refused {
			refused := a.Refused[r].Load()
			n.away += refused
			n.Refused += refused
			n.Dropped[r] += refused
		}
	}
	for i := range c.shards {
		s := &c.shards[i]
		n.admitted += s.Submitted.Load()
		for l := range s.Taken {
			taken := s.Taken[l].Load()
			n.admitted += taken
			n.Routed[l] += taken
		}
		for l := range s.Routed {
			n.Routed[l] += s.Routed[l].Load()
		}
		n.Goroutines += s.Goroutines.Load()
	}
	n.Submitted = n.admitted + n.away
	return n
}
