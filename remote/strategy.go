package remote

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/helixrouter/helix"
)

// The client is the strategy of its router: add it to RouterConfig.Strategies.
var (
	_ helix.Strategy   = (*Client)(nil)
	_ helix.Forecaster = (*Client)(nil)
	_ helix.Elsewhere  = (*Client)(nil)
)

// Name implements [helix.Strategy].
func (c *Client) Name() string { return c.cfg.Name }

// Elsewhere implements [helix.Elsewhere].
func (c *Client) Elsewhere() bool { return true }

// Load implements [helix.Strategy].
func (c *Client) Load() helix.Load {
	return helix.Load{Running: int(c.flying.Load()), Limit: c.cfg.MaxInFlight}
}

// Forecast implements [helix.Forecaster]: the median prediction of the better of two workers
// drawn at random. It costs about 70 ns.
func (c *Client) Forecast(j helix.JobInfo) helix.Forecast {
	if !j.Portable || c.flying.Load() >= int64(c.cfg.MaxInFlight) {
		return helix.Forecast{}
	}
	slack := time.Duration(0)
	if j.Budget > 0 {
		slack = max(j.Slack, 1)
	}
	wait, run, ok := c.fleet.forecast(j.Kind, j.Cost, slack, time.Now())
	return helix.Forecast{Room: ok, Wait: wait, Run: run}
}

// Offer implements [helix.Strategy]. A job from Submit is sent on its submitter's
// goroutine, which waits for the answer; one from Go on a goroutine of its own. A job that
// no worker ran is declined, as is an idempotent one that is lost.
func (c *Client) Offer(t *helix.Ticket) error {
	info := t.Info()
	if c.fleet.kind(info.Kind, false) == nil {
		return helix.ErrDecline
	}
	if err := c.enter(); err != nil {
		return fmt.Errorf("%w: %w", helix.ErrDecline, err)
	}
	if !info.Async {
		defer c.leave()
		return c.send(t, &info)
	}
	go func() {
		defer c.leave()
		if c.send(t, &info) != nil {
			t.Decline()
		}
	}()
	return nil
}

// send runs the job of the claimed ticket at a worker. It returns helix.ErrDecline if the ticket
// must be given back.
func (c *Client) send(t *helix.Ticket, info *helix.JobInfo) error {
	if !t.Claim() {
		return nil
	}
	buf := frames.Get().(*[]byte)
	defer frames.Put(buf)
	var err error
	if *buf, err = t.AppendInput((*buf)[:0]); err != nil {
		return helix.ErrDecline
	}
	trace, ok := c.trace(t)
	if !ok {
		return nil
	}
	job := Job{Kind: info.Kind, Input: *buf, Cost: info.Cost, Priority: info.Priority, Idempotent: info.Idempotent, Trace: trace}
	if left, ok := t.Left(); ok {
		job.Deadline = time.Now().Add(left)
	}
	r, err := c.do(t.Context(), job)
	if errors.Is(err, helix.ErrNotRun) || info.Idempotent && errors.Is(err, helix.ErrLost) {
		return helix.ErrDecline
	}
	t.At(r.Worker)
	t.Finish(r.Output, err)
	return nil
}

// trace returns what the claimed ticket's job carries to its worker. A panic in Config.Trace
// ends the job, as one in Hooks.Start does; then ok is false.
func (c *Client) trace(t *helix.Ticket) (trace string, ok bool) {
	if c.cfg.Trace == nil {
		return "", true
	}
	defer func() {
		if v := recover(); v != nil {
			t.Finish(nil, &helix.PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	return c.cfg.Trace(t.Context()), true
}

// Jobs is the [Handler] of a worker that runs a router: it serves the kinds that have a Codec
// and are registered there when the worker is made, by the rules of that router.
func Jobs(r *helix.Router) Handler { return jobs{r} }

type jobs struct{ router *helix.Router }

func (j jobs) Kinds() []string { return j.router.PortableKinds() }

func (j jobs) Do(ctx context.Context, r *Request, arrived time.Time) (Output, error) {
	h := helix.Hints{Cost: r.Cost, Budget: r.Budget, Arrived: arrived, Priority: r.Priority}
	if h.Budget == 0 { // the submitter's choice counts, not the default of the kind here
		h.Budget = helix.NoBudget
	}
	if h.Priority == helix.Normal {
		h.Priority = helix.PlainNormal
	}
	result, err := j.router.SubmitBytes(ctx, r.Kind, r.Input, h)
	out := Output{Ran: result.Ran, Wait: result.Wait, Run: result.Run}
	out.Body, _ = result.Value.([]byte)
	return out, err
}

func (j jobs) Load(r *Request) Load {
	info, p, d := j.router.Consider(helix.Job{Kind: r.Kind, Cost: r.Cost, Budget: r.Budget, Priority: r.Priority})
	return Load{
		Slots: p.Slots, Busy: p.CPUBusy, Queued: p.Queued,
		Wait: d.Wait, Run: info.Predicted, Cost: info.Cost, Refuses: d.Strategy == helix.Drop,
	}
}
