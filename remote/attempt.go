package remote

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/helixrouter/helix"
)

// askAgain is the interval at which a worker is asked whether it still has a job. Two negative
// replies count as an answer.
const askAgain = 250 * time.Millisecond

// frames are buffers for outgoing frames.
var frames = sync.Pool{New: func() any { return new([]byte) }}

// request makes the job's request. If its time is up it has a nanosecond left: 0 would be no end.
func (j *Job) request(attempt uint64, now time.Time) Request {
	r := Request{Attempt: attempt, Kind: j.Kind, Cost: j.Cost, Priority: j.Priority, Trace: j.Trace, Input: j.Input}
	if !j.Deadline.IsZero() {
		r.Budget = max(j.left(now), 1)
	}
	return r
}

// errUnsent is matched by the error for a job that this side could not send.
var errUnsent = errors.New("remote: not sent")

type unsentError struct {
	NotRunError
	cause error
}

func (e *unsentError) Error() string   { return e.NotRunError.Error() + ": " + e.cause.Error() }
func (e *unsentError) Unwrap() []error { return []error{&e.NotRunError, errUnsent, e.cause} }

// attempt sends the job to one worker and returns its reply if the job ran. It returns an error
// if the job did not run or is lost.
func (c *Client) attempt(ctx context.Context, job *Job, s *server) (Reply, error) {
	now := time.Now()
	predicted := c.fleet.sent(s, now, job.Cost)
	id := rand.Uint64() | 1
	this := &call{server: s, kind: job.Kind, sent: now, got: make(chan answer, 1)}
	q := job.request(id, now)
	err := c.expect(id, this)
	defer c.release(id)
	if err == nil {
		buf := frames.Get().(*[]byte)
		*buf = q.AppendJob((*buf)[:0])
		err = c.transport.Send(Address{s.worker.id, job.Kind}, id, *buf)
		frames.Put(buf)
	}
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
		c.cancel(s.worker.id, id) // in case it runs there anyway
		return Reply{}, a.err
	case a.reply.Status == StatusRefused:
		c.fleet.landed(s, countRefused)
		c.fleet.refused(s, a.at, a.reply.RetryAfter, q.Budget)
		return Reply{}, &NotRunError{Reason: a.reply.Reason, RetryAfter: a.reply.RetryAfter}
	}
	took := a.at.Sub(now)
	c.fleet.landed(s, countAnswered)
	c.fleet.tripped(s, took-a.reply.Wait-a.reply.Run)
	c.meter.answered(took, took-a.reply.Wait-a.reply.Run, predicted)
	return a.reply, nil
}

// wait returns the answer to a job that was sent. An error other than errNobody is a [*LostError].
func (c *Client) wait(ctx context.Context, job *Job, id uint64, this *call) answer {
	worker := this.server.worker
	lost := func(cause string) answer { return answer{err: &LostError{worker.id, cause}} }
	timer := time.NewTimer(askAgain)
	defer timer.Stop()
	missing := 0
	pings := make(chan answer, 1)
	ping := rand.Uint64() | 1 // the number of all its probes
	defer c.release(ping)
	var asked time.Time // of the first probe since the last answer to one; zero: all are answered
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
			if a.err != nil {
				continue // told to this call too, if it matters
			}
			asked = time.Time{}
			if a.reply.Status != StatusMissing {
				missing = 0
				continue
			}
			if missing++; missing == 2 && len(this.got) == 0 { // what it sent before has come
				return lost(causeMissing)
			}
		case now := <-timer.C:
			if !asked.IsZero() {
				if now.Sub(asked) >= c.cfg.LostAfter {
					return lost(causeSilent)
				}
				c.fleet.unanswered(this.server, now.Add(-askAgain))
			}
			// Also if the last one has not been answered, which may have got lost. One that could
			// not be sent has no answer either.
			_ = c.probe(job, this.server, ping, id, now, pings)
			if asked.IsZero() {
				asked = now
			}
			if ctx.Err() != nil { // the cancellation, too, may have got lost
				c.cancel(worker.id, id)
			}
			timer.Reset(askAgain)
		}
	}
}

// cancel sends the worker a cancellation of an attempt.
func (c *Client) cancel(worker string, attempt uint64) {
	var buf [16]byte
	_ = c.transport.Send(Address{Worker: worker}, 0, AppendCancel(buf[:0], attempt)) // best effort
}

// outcome returns the output or error of a job that ran.
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
