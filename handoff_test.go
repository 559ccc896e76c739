package helix_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// lanesByKind sends each kind to the strategy of its name.
type lanesByKind map[string]string

func (l lanesByKind) Choose(j helix.JobInfo, _ helix.Pressure) helix.Decision {
	return helix.Decision{Strategy: l[j.Kind], Reason: "by kind"}
}

// keeper is a strategy that keeps its tickets until it is told what to do with them.
type keeper struct {
	mu      sync.Mutex
	tickets []*helix.Ticket
}

func (*keeper) Name() string     { return "keeper" }
func (*keeper) Load() helix.Load { return helix.Load{} }

func (k *keeper) Offer(t *helix.Ticket) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tickets = append(k.tickets, t)
	return nil
}

func (k *keeper) each(do func(*helix.Ticket)) {
	k.mu.Lock()
	tickets := k.tickets
	k.tickets = nil
	k.mu.Unlock()
	for _, t := range tickets {
		do(t)
	}
}

func (k *keeper) Close(context.Context) error {
	k.each(func(t *helix.Ticket) { t.Refuse("closed") })
	return nil
}

// passage is a router in which a job of kind "job" waits: for a job of kind "holder" to end,
// or for what keeper does.
type passage struct {
	t      *testing.T
	r      *helix.Router
	keeper *keeper
	task   *helix.Task[do, int]

	cancel  context.CancelFunc // of the job's ctx
	future  *helix.Future[int] // of a job from Go
	release chan struct{}      // closed to let the holder end
	err     chan error         // the job's
}

// The places in which a ticket waits: the strategy, and the kind of the job if it is not doKind's.
var waitingPlaces = map[string]struct {
	strategy string
	holder   string // the strategy of the job that holds what it waits for; "" is none
	change   func(*helix.Kind[do, int])
}{
	"pool queue": {helix.CPUPool, helix.CPUPool, nil},
	"batch":      {helix.Batch, helix.CPUPool, nil},
	"gate": {helix.Spawn, helix.Spawn, func(k *helix.Kind[do, int]) {
		k.Waits, k.Batch, k.MaxConcurrent = true, nil, 1
	}},
	"gathering": {helix.Batch, helix.Batch, func(k *helix.Kind[do, int]) {
		k.Waits, k.BatchMaxDelay = true, time.Hour
	}},
	"strategy from outside": {"keeper", "", nil},
}

// What can happen to a waiting ticket, and how it ends then.
var passages = []struct {
	event  string
	places []string // nil is all
	budget time.Duration
	byGo   bool
	do     func(p *passage)
	status helix.Status
	reason string // of a drop
	is     error  // what its error matches
	again  bool   // it is decided on again
}{
	{event: "its turn comes", do: (*passage).turn, status: helix.Completed},
	{event: "its turn comes, from Go", byGo: true, do: (*passage).turn, status: helix.Completed},
	{event: "its ctx ends", do: func(p *passage) { p.cancel() }, status: helix.Withdrawn, is: context.Canceled},
	{event: "its future is cancelled", byGo: true, do: func(p *passage) { p.future.Cancel() }, status: helix.Withdrawn, is: context.Canceled},
	{event: "its budget ends", places: []string{"pool queue", "batch"}, budget: time.Second,
		do: func(*passage) { time.Sleep(time.Second) }, status: helix.Dropped, reason: "its budget ended while it waited for a slot"},
	{event: "its budget ends", places: []string{"gate"}, budget: time.Second,
		do: func(*passage) { time.Sleep(time.Second) }, status: helix.Dropped, reason: "its budget ended while max_concurrent others ran"},
	{event: "half of its budget is over", places: []string{"gathering"}, budget: time.Second,
		do: func(*passage) { time.Sleep(500 * time.Millisecond) }, status: helix.Completed},
	{event: "its turn comes when its budget has ended", places: []string{"strategy from outside"}, budget: time.Second,
		do: func(p *passage) { time.Sleep(time.Hour); p.turn() }, status: helix.Completed},
	{event: "another takes its place", places: []string{"pool queue", "batch"},
		do: (*passage).displace, status: helix.Dropped, reason: "gave its place in the full queue to another"},
	{event: "its strategy refuses it", places: []string{"strategy from outside"},
		do:     func(p *passage) { p.keeper.each(func(t *helix.Ticket) { require.True(p.t, t.Refuse("no room")) }) },
		status: helix.Dropped, reason: "no room"},
	{event: "its strategy declines it", places: []string{"strategy from outside"},
		do:     func(p *passage) { p.keeper.each(func(t *helix.Ticket) { require.True(p.t, t.Claim()); t.Decline() }) },
		status: helix.Dropped, reason: "strategy declined it", again: true},
	{event: "the router is closed", places: []string{"pool queue", "batch", "gate"},
		do: (*passage).close, status: helix.Withdrawn, is: helix.ErrClosed},
	{event: "the router is closed", places: []string{"strategy from outside"},
		do: (*passage).close, status: helix.Dropped, is: helix.ErrDropped, reason: "closed"},
	{event: "the router drains", do: (*passage).drain, status: helix.Completed},
}

// TestPassages walks the table of handoff.go: from each place that a ticket waits in, along
// each way to leave it, to one end, after which no account has anything left.
func TestPassages(t *testing.T) {
	for place, at := range waitingPlaces {
		for _, c := range passages {
			if c.places != nil && !slices.Contains(c.places, place) {
				continue
			}
			t.Run(place+"/"+c.event, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := &passage{t: t, keeper: &keeper{}, release: make(chan struct{}), err: make(chan error, 1)}
					cfg := helix.RouterConfig{CPUParallelism: 1, CPUQueueCap: 1,
						Policy:     lanesByKind{"job": at.strategy, "holder": at.holder, "high": helix.CPUPool},
						Strategies: []helix.Strategy{p.keeper}}
					if c.again { // the job is routed twice, which newRouter takes for a fault
						r, err := helix.New(cfg)
						require.NoError(t, err)
						t.Cleanup(func() { require.NoError(t, r.Close()) })
						p.r = r
					} else {
						p.r = newRouter(t, cfg)
					}
					kind := doKind("job")
					kind.Budget = c.budget
					if at.change != nil {
						at.change(&kind)
					}
					p.task = register(t, p.r, kind)
					var others sync.WaitGroup
					switch at.holder {
					case "":
					case helix.CPUPool: // another kind has the slot
						others.Go(func() {
							_, err := p.r.Submit(context.Background(), helix.Job{Kind: "holder", Run: func(context.Context) (any, error) { <-p.release; return nil, nil }})
							require.NoError(t, err)
						})
					default: // a job of the same kind is under way
						others.Go(func() {
							_, err := p.task.SubmitWith(context.Background(), func(context.Context) (int, error) { <-p.release; return 0, nil }, helix.Hints{Budget: helix.NoBudget})
							require.NoError(t, err)
						})
					}
					synctest.Wait()
					before := jobStats(p.r)
					ran := false
					p.start(c.byGo, func(context.Context) (int, error) { ran = true; return 7, nil })
					synctest.Wait()
					require.Empty(t, p.err, "it waits")
					require.EqualValues(t, before.InFlight+1, jobStats(p.r).InFlight)

					c.do(p)
					err := <-p.err
					p.end()
					others.Wait()

					after := jobStats(p.r)
					require.Zero(t, after.InFlight)
					ends := map[helix.Status]uint64{
						helix.Completed: after.Completed, helix.Failed: after.Failed,
						helix.Dropped: after.Dropped, helix.Withdrawn: after.Withdrawn,
					}
					if at.holder == at.strategy && at.holder != helix.CPUPool {
						ends[helix.Completed]-- // the holder
					}
					require.Equal(t, map[helix.Status]uint64{helix.Completed: 0, helix.Failed: 0, helix.Dropped: 0, helix.Withdrawn: 0, c.status: 1}, ends)
					require.Equal(t, c.status == helix.Completed, ran)
					require.Equal(t, c.status != helix.Completed, errors.Is(err, helix.ErrNotRun), "%v", err)
					if c.is != nil {
						require.ErrorIs(t, err, c.is)
					}
					if c.reason != "" {
						var dropped *helix.DropError
						require.ErrorAs(t, err, &dropped)
						require.Equal(t, c.reason, dropped.Decision.Reason)
						require.EqualValues(t, 1, droppedFor(p.r.Stats(), c.reason))
					}
				})
			})
		}
	}
}

// jobStats is what the router tells of kind "job".
func jobStats(r *helix.Router) helix.KindStats {
	for _, k := range r.Stats().Kinds {
		if k.Name == "job" {
			return k
		}
	}
	return helix.KindStats{}
}

// start submits the job, which then waits.
func (p *passage) start(byGo bool, work do) {
	ctx, cancel := context.WithCancel(p.t.Context())
	p.cancel = cancel
	if byGo {
		future, err := p.task.Go(ctx, work)
		require.NoError(p.t, err)
		p.future = future
		go func() { _, err := future.Wait(context.Background()); p.err <- err }()
		return
	}
	go func() { _, err := p.task.Submit(ctx, work); p.err <- err }()
}

// turn has what the job waits for come.
func (p *passage) turn() {
	p.end()
	p.keeper.each(func(t *helix.Ticket) { require.True(p.t, t.Run()) })
}

// end lets the holder end.
func (p *passage) end() {
	select {
	case <-p.release:
	default:
		close(p.release)
	}
}

// displace has a job of higher priority come, for which there is no place in the queue.
func (p *passage) displace() {
	done := make(chan error)
	go func() {
		_, err := p.r.Submit(p.t.Context(), helix.Job{Kind: "high", Priority: helix.High, Run: func(context.Context) (any, error) { return nil, nil }})
		done <- err
	}()
	synctest.Wait()
	p.end()
	require.NoError(p.t, <-done)
}

func (p *passage) close() {
	closed := make(chan error)
	go func() { closed <- p.r.Close() }()
	synctest.Wait()
	p.end()
	require.NoError(p.t, <-closed)
}

func (p *passage) drain() {
	drained := make(chan error)
	go func() { drained <- p.r.Drain(context.Background()) }()
	synctest.Wait()
	p.turn()
	require.NoError(p.t, <-drained)
}
