package remote

import (
	"context"
	"errors"
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
	// Attempts is to how many workers one job is sent at most. A second one is sent if
	// the first refused it, or lost it and its kind is Idempotent. Defaults to 3.
	Attempts int
	// MaxInFlight is how many jobs may be elsewhere at the same time. Defaults to 1024.
	MaxInFlight int
	// LostAfter is how long a worker that has a job may be silent, although asked, until
	// the job counts as lost. One that has left is noticed sooner: see [Client].
	// Defaults to 3 s.
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

// askAgain is after how long without an answer a worker is asked whether it still has a
// job. Twice no is an answer.
const askAgain = 250 * time.Millisecond

// chooseTries is how many pairs of workers are asked for one attempt.
const chooseTries = 2

// Client sends jobs to workers. It is safe for concurrent use and has no goroutine of
// its own.
//
// How a worker is chosen: two are drawn at random of those that could serve the job in
// time; unless what both last said of themselves is fresh, or the job has no time for
// it, they are asked; the one that is predicted to be done first gets the job. (The
// power of two choices: Mitzenmacher, 2001. That many clients choose the best of all
// by what they last heard would send them all to the same one.)
//
// What fails: a job that was not delivered, or that a worker refused, goes to another
// one as long as there is time, and then back: it did not run. A worker that does not
// answer within 250 ms is asked whether it still has the job. If nobody listens there any
// more, if twice it does not have it, or if it is silent for LostAfter, or if the
// connection breaks, the job is lost: it may have run. An idempotent one is sent again,
// to another worker. Each attempt is delivered at most once.
type Client struct {
	cfg       Config
	transport Transport
	fleet     *fleet

	mu     sync.Mutex
	calls  map[uint64]*call // that an answer may come to; guarded by mu
	closed bool             // guarded by mu
	inUse  sync.WaitGroup   // those in Do; added to under mu while not closed

	flying atomic.Int64
	meter  meter
}

// call is a frame that was sent and that an answer may come to.
type call struct {
	server *server
	kind   string
	probe  bool
	late   bool // a probe of a worker that has been silent: how long it takes says nothing of the way
	sent   time.Time
	got    chan answer // has room for all that can come
}

// answer is what came to a call: a reply, or why there will be none.
type answer struct {
	call  *call
	reply Reply
	at    time.Time
	err   error
}

// What may come instead of a reply.
var (
	errNobody       = errors.New("remote: nobody listens there")
	errGone         = errors.New("remote: worker is gone")
	errDisconnected = errors.New("remote: disconnected")
)

// NewClient makes a client that sends over that transport, which it then owns.
func NewClient(t Transport, cfg Config) (*Client, error) {
	c := &Client{
		cfg: cfg.withDefaults(), transport: t,
		fleet: newFleet(rand.Uint64(), rand.Uint64()),
		calls: map[uint64]*call{},
	}
	return c, t.Listen(c)
}

// Job is what a client sends.
type Job struct {
	Kind       string
	Input      []byte
	Cost       float64
	Priority   helix.Priority
	Deadline   time.Time // zero = none
	Idempotent bool      // may be done twice
	Trace      string    // W3C traceparent; "" = none
}

// left is how long until the deadline; 0 = no end, negative = over.
func (j *Job) left(now time.Time) time.Duration {
	if j.Deadline.IsZero() {
		return 0
	}
	if left := j.Deadline.Sub(now); left != 0 {
		return left
	}
	return -1
}

// Result is what came back.
type Result struct {
	Output    []byte
	Worker    string
	Wait, Run time.Duration // at the worker
	Attempts  int           // how often the job was sent
}

// Do has a worker run a job and returns its output. The error matches helix.ErrNotRun if
// none did, helix.ErrLost if nobody knows; it is a [*JobError] if the job returned an
// error, a [*helix.PanicError] if it panicked, or helix.ErrGoexit. If ctx ends the worker
// is told; Do returns when it has answered.
func (c *Client) Do(ctx context.Context, job Job) (Result, error) {
	if err := c.enter(); err != nil {
		return Result{}, err
	}
	defer c.leave()
	return c.do(ctx, job)
}

// do is Do for those who have entered.
func (c *Client) do(ctx context.Context, job Job) (Result, error) {
	k := c.fleet.kind(job.Kind, false)
	if k == nil {
		return Result{}, &NotRunError{Reason: reasonNoWorker}
	}
	var tried []string
	var last error = &NotRunError{Reason: reasonNoRoom}
	for n := 1; n <= c.cfg.Attempts; n++ {
		if err := ctx.Err(); err != nil {
			return Result{}, errors.Join(last, context.Cause(ctx))
		}
		s := c.choose(ctx, &job, k, tried)
		if s == nil {
			break
		}
		tried = append(tried, s.worker.id)
		reply, err := c.attempt(ctx, &job, s)
		if err == nil {
			r := Result{Worker: s.worker.id, Wait: reply.Wait, Run: reply.Run, Attempts: n}
			r.Output, err = outcome(s.worker.id, &reply)
			return r, err
		}
		last = err
		lost := errors.Is(err, helix.ErrLost)
		if lost && !job.Idempotent || errors.Is(err, errUnsent) {
			break
		}
	}
	return Result{}, last
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

// choose returns the worker that is to have the job; nil if none should.
func (c *Client) choose(ctx context.Context, job *Job, k *kind, tried []string) *server {
	for range chooseTries {
		now := time.Now()
		slack := job.left(now)
		if slack < 0 {
			return nil
		}
		a, b := c.fleet.draw(k, now, slack, job.Cost, tried)
		if a == nil {
			return nil
		}
		known, wait := c.fleet.known(a, b, now, slack, job.Cost)
		if !known {
			c.ask(ctx, job, wait, a, b)
			now = time.Now()
			slack = job.left(now)
		}
		if s := c.fleet.better(a, b, now, slack, job.Cost); s != nil {
			return s
		}
	}
	return nil
}

// ask probes both, and returns when both have answered or that time is over.
func (c *Client) ask(ctx context.Context, job *Job, wait time.Duration, servers ...*server) {
	got := make(chan answer, len(servers))
	now := time.Now()
	waiting := 0
	for _, s := range servers {
		if c.probe(job, s, 0, now, got) == nil {
			waiting++
		}
	}
	if waiting == 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	answered := make([]*server, 0, 2)
	for ; waiting > 0; waiting-- {
		select {
		case a := <-got:
			answered = append(answered, a.call.server)
			continue
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		for _, s := range servers {
			if len(answered) == 0 || answered[0] != s {
				c.fleet.unanswered(s, now)
			}
		}
		c.sweep()
		return
	}
}

// probe asks a worker what would become of the job, and whether it has that attempt
// (0: that is not the question). The answer comes to got, however late.
func (c *Client) probe(job *Job, s *server, attempt uint64, now time.Time, got chan answer) error {
	q := job.request(attempt, now)
	buf := frames.Get().(*[]byte)
	defer frames.Put(buf)
	*buf = q.AppendProbe((*buf)[:0])
	id := rand.Uint64() | 1
	c.expect(id, &call{server: s, kind: job.Kind, probe: true, late: attempt != 0, sent: now, got: got})
	c.fleet.asked(s)
	err := c.transport.Send(Address{Worker: s.worker.id}, id, *buf)
	if err != nil {
		c.release(id)
	}
	return err
}

// sweep forgets probes that are not going to be answered.
func (c *Client) sweep() {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, open := range c.calls {
		if open.probe && now.Sub(open.sent) > goneAfter {
			delete(c.calls, id)
		}
	}
}

// frames are buffers for what is sent.
var frames = sync.Pool{New: func() any { return new([]byte) }}

func (j *Job) request(attempt uint64, now time.Time) Request {
	return Request{Attempt: attempt, Kind: j.Kind, Cost: j.Cost, Budget: max(j.left(now), 0),
		Priority: j.Priority, Trace: j.Trace, Input: j.Input}
}

// errUnsent is matched by the error for a job that this side could not send to anybody.
var errUnsent = errors.New("remote: not sent")

type unsentError struct {
	NotRunError
	cause error
}

func (e *unsentError) Error() string   { return e.NotRunError.Error() + ": " + e.cause.Error() }
func (e *unsentError) Unwrap() []error { return []error{&e.NotRunError, errUnsent, e.cause} }

// attempt sends the job to one worker and returns its reply if the job ran. The error
// says that it did not, or is lost.
func (c *Client) attempt(ctx context.Context, job *Job, s *server) (Reply, error) {
	now := time.Now()
	predicted := c.fleet.sent(s, job.Cost)
	id := rand.Uint64() | 1
	this := &call{server: s, kind: job.Kind, sent: now, got: make(chan answer, 1)}
	c.expect(id, this)
	defer c.release(id)

	q := job.request(id, now)
	buf := frames.Get().(*[]byte)
	*buf = q.AppendJob((*buf)[:0])
	err := c.transport.Send(Address{s.worker.id, job.Kind}, id, *buf)
	frames.Put(buf)
	if err != nil {
		c.fleet.landed(s, countUnsent)
		reason := reasonUnsent
		if errors.Is(err, ErrTooLarge) {
			reason = reasonLarge
		}
		return Reply{}, &unsentError{NotRunError{Reason: reason}, err}
	}
	a := c.wait(ctx, job, id, this)
	switch {
	case a.err == errNobody:
		c.fleet.landed(s, countUndelivered)
		c.fleet.forget(s.worker.id, job.Kind)
		return Reply{}, &NotRunError{Reason: reasonNoWorker}
	case a.err != nil:
		c.fleet.landed(s, countLost)
		c.cancel(s.worker.id, id) // should it run there all the same
		return Reply{}, a.err
	case a.reply.Status == StatusRefused:
		c.fleet.landed(s, countRefused)
		c.fleet.refused(s, a.at, a.reply.RetryAfter)
		return Reply{}, &NotRunError{Reason: a.reply.Reason, RetryAfter: a.reply.RetryAfter}
	}
	took := a.at.Sub(now)
	c.fleet.landed(s, countAnswered)
	c.fleet.tripped(s, took-a.reply.Wait-a.reply.Run)
	c.meter.answered(took, took-a.reply.Wait-a.reply.Run, predicted)
	return a.reply, nil
}

// wait returns what came to a job that was sent. An error other than errNobody is a [*LostError].
func (c *Client) wait(ctx context.Context, job *Job, id uint64, this *call) answer {
	worker := this.server.worker
	lost := func(cause string) answer { return answer{err: &LostError{worker.id, cause}} }
	timer := time.NewTimer(askAgain)
	defer timer.Stop()
	missing := 0
	pings := make(chan answer, 1)
	pinged := false
	done := ctx.Done()
	for {
		select {
		case a := <-this.got:
			switch {
			case a.err == errNobody || a.err == nil:
				return a
			case a.err == errGone:
				return lost(causeGone)
			case a.err == errDisconnected:
				return lost(causeDisconnected)
			}
			return lost(causeMalformed)
		case <-done:
			c.cancel(worker.id, id)
			done = nil
		case a := <-pings:
			pinged = false
			if a.err == nil && a.reply.Status != StatusMissing {
				missing = 0
				continue
			}
			if a.err != nil {
				continue // told to this call too, if it matters
			}
			if missing++; missing == 2 && len(this.got) == 0 { // what it sent before has come
				return lost(causeMissing)
			}
		case now := <-timer.C:
			heard := c.fleet.heardAt(worker)
			if heard.Before(this.sent) {
				heard = this.sent
			}
			if pinged && now.Sub(heard) >= c.cfg.LostAfter {
				return lost(causeSilent)
			}
			if !pinged {
				pinged = c.probe(job, this.server, id, now, pings) == nil
			}
			timer.Reset(askAgain)
		}
	}
}

// cancel tells a worker that an attempt is not wanted any more.
func (c *Client) cancel(worker string, attempt uint64) {
	var buf [16]byte
	_ = c.transport.Send(Address{Worker: worker}, 0, AppendCancel(buf[:0], attempt)) // best effort
}

// outcome is what a job that ran gives its submitter.
func outcome(worker string, r *Reply) ([]byte, error) {
	switch r.Status {
	case StatusDone:
		return r.Body, nil
	case StatusPanicked:
		return nil, &helix.PanicError{Value: string(r.Body), Stack: r.Stack}
	case StatusExited:
		return nil, helix.ErrGoexit
	}
	return nil, &JobError{Worker: worker, Text: string(r.Body), Canceled: r.Status == StatusCanceled}
}

func (c *Client) expect(id uint64, call *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[id] = call
}

func (c *Client) release(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, id)
}

// take returns the call of that number, to which nothing else will come.
func (c *Client) take(id uint64) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := c.calls[id]
	delete(c.calls, id)
	return call
}

// give passes on what has come to a call. There is room, unless nobody waits any more.
func (c *call) give(a answer) {
	a.call = c
	select {
	case c.got <- a:
	default:
	}
}

// Answer implements [Receiver].
func (c *Client) Answer(id uint64, frame []byte) {
	to := c.take(id)
	if to == nil {
		return // given up
	}
	now := time.Now()
	reply, err := ParseReply(frame)
	if probed := reply.Status == StatusProbed || reply.Status == StatusMissing; err == nil && probed != to.probe {
		err = frameError("an answer to something else")
	}
	if err == nil {
		c.fleet.report(to.server.worker.id, to.kind, reply.Load, now, false)
		if reply.Status == StatusProbed && !to.late {
			c.fleet.tripped(to.server, now.Sub(to.sent))
		}
	}
	to.give(answer{reply: reply, at: now, err: err})
}

// Nobody implements [Receiver].
func (c *Client) Nobody(id uint64) {
	to := c.take(id)
	if to == nil {
		return
	}
	if to.probe { // the whole worker is gone, and with it what it had
		worker := to.server.worker
		c.fleet.forget(worker.id, "")
		c.failAll(func(other *call) bool { return other.server.worker == worker }, errGone)
	}
	to.give(answer{err: errNobody})
}

// Present implements [Receiver].
func (c *Client) Present(frame []byte) {
	if p, err := ParsePresence(frame); err == nil {
		c.fleet.report(p.Worker, p.Kind, p.Load, time.Now(), true)
	}
}

// Disconnected implements [Receiver].
func (c *Client) Disconnected() { c.failAll(func(*call) bool { return true }, errDisconnected) }

// failAll ends calls that no answer can be expected to.
func (c *Client) failAll(which func(*call) bool, err error) {
	c.mu.Lock()
	var failed []*call
	for id, open := range c.calls {
		if which(open) {
			failed = append(failed, open)
			delete(c.calls, id)
		}
	}
	c.mu.Unlock()
	for _, call := range failed {
		call.give(answer{err: err})
	}
}

// Close refuses new jobs, waits for those that are elsewhere, or for ctx, whose cause it
// then returns, and closes the transport: what is elsewhere then is lost.
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
	err = errors.Join(err, c.transport.Close())
	c.Disconnected()
	<-idle
	return err
}
