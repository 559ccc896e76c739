package helix

import (
	"fmt"
	"maps"
	"sync/atomic"

	"github.com/helixrouter/helix/internal/estimate"
	"github.com/helixrouter/helix/internal/fair"
	"github.com/helixrouter/helix/internal/num"
	"github.com/helixrouter/helix/internal/tally"
)

// kind is all the router keeps of one kind of job. It is never removed.
type kind struct {
	router   *Router
	name     string
	runs     estimate.Runs  // of a kind without a batch function
	calls    estimate.Calls // of a kind with one
	waits    estimate.QueueWait
	account  fair.Account
	prober   estimate.Prober
	weight   num.Float
	template atomic.Pointer[JobInfo] // what Register said; nil for kinds of one-off jobs
	batcher  atomic.Pointer[batcher] // nil without a batch function
	gate     atomic.Pointer[gate]    // nil without Kind.MaxConcurrent
	door     atomic.Pointer[door]    // of its Task, for jobs that come as bytes; nil without a codec
	// downstream is what its jobs that wait are waiting for. Never nil.
	downstream atomic.Pointer[downstream]
	counters   tally.Counters
	latencies  [tally.Lanes]Histogram // of its jobs that ran, by strategy
	yields     atomic.Bool            // a job has called Yield
	nests      atomic.Bool            // there has been work inside a job, or it has blocked
	failures   estimate.Failures      // see kind.guess
	// trials are the jobs that run outside the slots because of their hints, admitted
	// before any run of the kind had confirmed what hints say.
	trials atomic.Int64
	queued atomic.Int64 // jobs that wait for a slot

	elsewhere [tally.Lanes]atomic.Pointer[distant] // by lane; nil: nothing is known

	dropErrors [tally.Reasons]atomic.Pointer[DropError] // the latest for each reason
	rejected   atomic.Pointer[[4]Alternative]           // the latest of a policy from outside
}

// register makes a kind for a Task.
func (r *Router) register(info JobInfo, weight float64, b *batcher, down string, most int) (*kind, error) {
	r.kindsMu.Lock()
	defer r.kindsMu.Unlock()
	k := (*r.kinds.Load())[info.Kind]
	switch {
	case k != nil && k.template.Load() != nil:
		return nil, fieldError("Kind.Name", fmt.Sprintf("%q", info.Kind), "the name of no kind registered before")
	case r.registered >= r.cfg.Load().MaxKinds:
		return nil, fieldError("Kind.Name", fmt.Sprintf("%q", info.Kind),
			fmt.Sprintf("one of at most %d kinds, which is RouterConfig.MaxKinds", r.cfg.Load().MaxKinds))
	}
	r.registered++
	k = r.addKind(info.Kind, true)
	k.weight.Store(weight)
	k.batcher.Store(b)
	k.downstream.Store(r.downstreamNamed(down, k))
	if most > 0 {
		k.gate.Store(r.spawn.newGate(most, r.now))
	}
	k.template.Store(&info)
	return k, nil
}

// kindNamed returns the kind of that name, which need not be clean, and makes
// it if it is new and there is room.
func (r *Router) kindNamed(name string) *kind {
	if name == "" {
		name = kindDefault
	}
	if k := (*r.kinds.Load())[name]; k != nil {
		return k
	}
	name = cleanKind(name)
	r.kindsMu.Lock()
	defer r.kindsMu.Unlock()
	return r.addKind(name, false)
}

// addKind returns the kind of that clean name, new if there is room or it is being
// registered, else the kind "other". It requires r.kindsMu.
func (r *Router) addKind(name string, registered bool) *kind {
	kinds := *r.kinds.Load()
	if k := kinds[name]; k != nil {
		return k
	}
	if !registered && r.kindsFull() {
		if name = kindOther; kinds[name] != nil {
			return kinds[name]
		}
	}
	k := &kind{router: r, name: name, counters: tally.New(r.shards)}
	k.downstream.Store(&downstream{name: name})
	k.weight.Store(1)
	k.account.Open(r.cfg.Load().CPUParallelism)
	kinds = maps.Clone(kinds)
	kinds[name] = k
	r.kinds.Store(&kinds)
	return k
}

// kindsFull reports whether no further name of a one-off job may be told apart; "other" is extra.
func (r *Router) kindsFull() bool {
	kinds := *r.kinds.Load()
	n := len(kinds)
	if kinds[kindOther] != nil {
		n--
	}
	return n >= r.cfg.Load().MaxKinds
}
