package remote

import (
	"errors"
	"time"
)

// call is a sent frame that expects an answer.
type call struct {
	server *server
	kind   string
	probe  bool
	late   bool // a probe of a silent worker: its time is not a round trip
	sent   time.Time
	got    chan answer // has room for all possible answers
}

// answer is the result of a call: a reply, or why there will be none.
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

// expect makes the call the receiver of answers under that number. It fails once the transport
// is being closed: what is sent then gets no answer.
func (c *Client) expect(id uint64, call *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return ErrNotConnected
	}
	c.calls[id] = call
	return nil
}

func (c *Client) release(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, id)
}

// take removes and returns the call of that number.
func (c *Client) take(id uint64) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := c.calls[id]
	delete(c.calls, id)
	return call
}

// give passes an answer to the waiter of a call. There is room, unless the waiter has left.
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
	if to.probe { // the whole worker is gone, with its jobs
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

// failAll ends calls that can get no answer.
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
