package remote

import (
	"context"
	"math/rand/v2"
	"time"
)

// chooseTries bounds the pairs of workers that are probed for one attempt.
const chooseTries = 2

// choose returns the worker for the job; nil if there is none. It asks no worker once ctx has
// ended.
func (c *Client) choose(ctx context.Context, job *Job, k *kind, tried []string) *server {
	for range chooseTries {
		now := time.Now()
		slack := job.left(now)
		if slack < 0 || ctx.Err() != nil {
			return nil
		}
		a, b := c.fleet.draw(k, now, slack, job.Cost, tried)
		if a == nil {
			break
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
	now := time.Now()
	return c.fleet.doubtful(k, now, job.left(now), job.Cost, tried)
}

// ask probes both, and returns when both have answered or wait has passed.
func (c *Client) ask(ctx context.Context, job *Job, wait time.Duration, servers ...*server) {
	got := make(chan answer, len(servers))
	now := time.Now()
	waiting := 0
	for _, s := range servers {
		if c.probe(job, s, rand.Uint64()|1, 0, now, got) == nil {
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

// probe asks a worker under that number for its load for such a job, and whether it has that
// attempt (0: do not ask). The answer comes to got, however late.
func (c *Client) probe(job *Job, s *server, id, attempt uint64, now time.Time, got chan answer) error {
	err := c.expect(id, &call{server: s, kind: job.Kind, probe: true, late: attempt != 0, sent: now, got: got})
	if err != nil {
		return err
	}
	q := job.request(attempt, now)
	buf := frames.Get().(*[]byte)
	defer frames.Put(buf)
	*buf = q.AppendProbe((*buf)[:0])
	c.fleet.asked(s)
	err = c.transport.Send(Address{Worker: s.worker.id}, id, *buf)
	if err != nil {
		c.release(id)
	}
	return err
}

// sweep removes probes that will not be answered.
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
