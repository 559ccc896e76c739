package remote

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix"
)

// Config configures a [Client]. The zero value is ready for use.
type Config struct {
	// Name is the strategy's, by which policies, statistics and pages know it.
	// Defaults to "remote".
	Name string
	// Attempts is the most workers that one job is sent to. It is sent to a second one if the
	// first refused it, or lost it and its kind is Idempotent. Defaults to 3.
	Attempts int
	// MaxInFlight is the most jobs that may be at workers at the same time. Defaults to 1024.
	MaxInFlight int
	// LostAfter is how long a worker with a job may leave probes unanswered until the job
	// counts as lost. A worker that has left is detected sooner: see [Client]. Defaults to
	// 3 s.
	LostAfter time.Duration
	// Trace returns the W3C traceparent that a job with that ctx carries to its worker.
	// Defaults to none.
	Trace func(ctx context.Context) string
}

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = "remote"
	}
	if c.Attempts <= 0 {
		c.Attempts = 3
	}
	if c.MaxInFlight <= 0 {
		c.MaxInFlight = 1024
	}
	if c.LostAfter <= 0 {
		c.LostAfter = 3 * time.Second
	}
	return c
}

// Client sends jobs to workers. It is safe for concurrent use and has no goroutine of
// its own.
//
// Choice of a worker: the client draws two at random of those that could serve the job in time.
// It probes both, unless their last reports are fresh or the job has no time for it. The one
// with the earliest predicted completion gets the job. (The power of two choices:
// Mitzenmacher, 2001. If many clients chose the best of all workers by old reports, they would
// all choose the same one.) If a worker has not answered in time, its round trip is taken to
// be as long as its silence, and it is drawn only if all others are silent too: a busy machine
// is slow, not gone.
//
// Failures: a job that was not delivered, or that a worker refused, goes to another worker as
// long as there is time, and then back: it did not run. A worker that does not answer within
// 250 ms is asked whether it still has the job, again and again. The job is lost, and may have
// run, if no process receives on the worker's subject any more, if the worker twice does not
// have it, if the worker answers no such question for LostAfter, or if the connection breaks.
// An idempotent job is sent again, to another worker. Each attempt is delivered at most once.
type Client struct {
	cfg       Config
	transport Transport
	fleet     *fleet

	mu     sync.Mutex
	calls  map[uint64]*call // that expect an answer; guarded by mu
	closed bool             // guarded by mu
	ended  bool             // the transport is being closed, too; guarded by mu
	inUse  sync.WaitGroup   // those in Do; added to under mu while not closed

	flying atomic.Int64
	meter  meter
}

// NewClient makes a client that sends over that transport, which it then owns. If the transport
// cannot listen, NewClient closes it and returns the error.
func NewClient(t Transport, cfg Config) (*Client, error) {
	c := &Client{
		cfg: cfg.withDefaults(), transport: t,
		fleet: newFleet(rand.Uint64(), rand.Uint64()),
		calls: map[uint64]*call{},
	}
	if err := t.Listen(c); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return c, nil
}

// Job is a job that a client sends.
type Job struct {
	Kind       string
	Input      []byte
	Cost       float64
	Priority   helix.Priority
	Deadline   time.Time // zero = none
	Idempotent bool      // may run twice
	Trace      string    // W3C traceparent; "" = none
}

// left returns the time until the deadline; 0 = no deadline, negative = passed.
func (j *Job) left(now time.Time) time.Duration {
	if j.Deadline.IsZero() {
		return 0
	}
	if left := j.Deadline.Sub(now); left != 0 {
		return left
	}
	return -1
}

// Result is the result of a job.
type Result struct {
	Output    []byte
	Worker    string        // the last one that the job was sent to; "" if it was sent to none
	Wait, Run time.Duration // at the worker
	Attempts  int           // how often the job was sent
}

// Do runs a job at a worker and returns its output. The error matches helix.ErrNotRun if the job
// did not run, helix.ErrLost if that is not known; it is a [*JobError] if the job returned an
// error, a [*helix.PanicError] if it panicked, or helix.ErrGoexit. If ctx ends, Do sends the
// worker a cancellation and returns when the worker has answered.
func (c *Client) Do(ctx context.Context, job Job) (Result, error) {
	if err := c.enter(); err != nil {
		return Result{}, err
	}
	defer c.leave()
	return c.do(ctx, job)
}

// do is Do after the check for Close.
func (c *Client) do(ctx context.Context, job Job) (Result, error) {
	k := c.fleet.kind(job.Kind, false)
	if k == nil {
		return Result{}, &NotRunError{Reason: reasonNoWorker}
	}
	var r Result
	var tried []string
	var last error
	for n := 1; n <= c.cfg.Attempts; n++ {
		s := c.choose(ctx, &job, k, tried)
		if ctx.Err() != nil { // perhaps while workers were asked
			if last == nil {
				last = helix.ErrNotRun
			}
			return r, fmt.Errorf("%w: %w", last, context.Cause(ctx))
		}
		if s == nil {
			break
		}
		tried = append(tried, s.worker.id)
		r.Worker, r.Attempts = s.worker.id, n
		reply, err := c.attempt(ctx, &job, s)
		if err == nil {
			r.Wait, r.Run = reply.Wait, reply.Run
			r.Output, err = outcome(s.worker.id, &reply)
			return r, err
		}
		if !errors.Is(last, helix.ErrLost) { // else it may have run, whatever comes of other attempts
			last = err
		}
		if errors.Is(err, helix.ErrLost) && !job.Idempotent || errors.Is(err, errUnsent) {
			break
		}
	}
	if last == nil {
		last = &NotRunError{Reason: reasonNoRoom}
		if job.left(time.Now()) < 0 {
			last = &NotRunError{Reason: reasonNoTime}
		}
	}
	return r, last
}

func (c *Client) enter() error {
	if c.flying.Add(1) > int64(c.cfg.MaxInFlight) {
		c.flying.Add(-1)
		return &NotRunError{Reason: reasonLimit}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		c.flying.Add(-1)
		return &NotRunError{Reason: reasonClosed}
	}
	c.inUse.Add(1)
	return nil
}

func (c *Client) leave() {
	c.flying.Add(-1)
	c.inUse.Done()
}

// Close refuses new jobs, waits until all jobs at workers have been answered or ctx is done, and
// closes the transport: jobs still at workers are then lost. It returns the cause of ctx if
// that is done.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	idle := make(chan struct{})
	go func() {
		c.inUse.Wait()
		close(idle)
	}()
	var err error
	select {
	case <-idle:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	err = errors.Join(err, c.transport.Close())
	c.Disconnected()
	<-idle
	return err
}
