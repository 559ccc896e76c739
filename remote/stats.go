package remote

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix"
)

// Stats is a snapshot of a [Client].
type Stats struct {
	Total   WorkerStats   // of all workers, including former ones; only the counters are set
	Workers []WorkerStats // those that are known, by name

	RTT       helix.Snapshot // of jobs that ran: time to the answer, without wait and run
	Took      helix.Snapshot // of jobs that ran: from sending to the answer
	Predicted time.Duration  // the sum of the predictions of Took
	Off       time.Duration  // the sum of their absolute errors
}

// WorkerStats has the state and the counters of one worker. In every snapshot
//
//	Sent = Answered + Refused + Undelivered + Unsent + Lost + Flying
type WorkerStats struct {
	Worker string
	Alive  bool          // may be sent jobs: has sent a message recently and is not leaving
	Silent time.Duration // for how long an answer has been overdue; 0: none is
	RTT    time.Duration // a moving mean
	Heard  time.Time     // time of its last message
	Kinds  []KindLoad    // by name

	Sent        uint64 // attempts
	Answered    uint64 // it ran the job, which may have failed
	Refused     uint64 // it did not take the job
	Undelivered uint64 // the message had no receiver
	Unsent      uint64 // this side could not send it
	Lost        uint64 // the outcome is unknown
	Flying      int    // jobs under way
	Probed      uint64 // how often it was asked
}

// KindLoad is a worker's last report for one kind.
type KindLoad struct {
	Kind string
	Load Load
	Age  time.Duration // of the report
}

// landing is how an attempt ended.
type landing int

const (
	countAnswered landing = iota
	countRefused
	countUndelivered
	countUnsent
	countLost
)

func (s *WorkerStats) count(as landing) {
	*[...]*uint64{&s.Answered, &s.Refused, &s.Undelivered, &s.Unsent, &s.Lost}[as]++
}

// meter measures the jobs that ran.
type meter struct {
	rtt, took      helix.Histogram
	predicted, off atomic.Int64
}

func (m *meter) answered(took, rtt, predicted time.Duration) {
	m.rtt.Record(rtt)
	m.took.Record(took)
	m.predicted.Add(int64(predicted))
	m.off.Add(int64(max(predicted-took, took-predicted)))
}

// Stats returns a snapshot.
func (c *Client) Stats() Stats {
	s := Stats{
		RTT: c.meter.rtt.Snapshot(), Took: c.meter.took.Snapshot(),
		Predicted: time.Duration(c.meter.predicted.Load()), Off: time.Duration(c.meter.off.Load()),
	}
	c.fleet.stats(&s, time.Now())
	return s
}

func (f *fleet) stats(s *Stats, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.Total = f.total
	for _, w := range f.workers {
		stats := w.stats
		stats.RTT, stats.Heard = w.rtt, w.heard
		stats.Alive, stats.Silent = now.Sub(w.heard) < goneAfter, w.silent(now)
		for name, server := range w.servers {
			stats.Kinds = append(stats.Kinds, KindLoad{name, server.load, now.Sub(server.at)})
			stats.Alive = stats.Alive && !server.load.Leaves
		}
		slices.SortFunc(stats.Kinds, func(a, b KindLoad) int { return cmp.Compare(a.Kind, b.Kind) })
		s.Workers = append(s.Workers, stats)
	}
	slices.SortFunc(s.Workers, func(a, b WorkerStats) int { return cmp.Compare(a.Worker, b.Worker) })
}
