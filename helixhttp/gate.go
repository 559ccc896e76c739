package helixhttp

import (
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// gate is in front of net/http's reads from a connection. Only between two requests it inspects
// the data: requests with complete heads may be refused, and the rest is passed on unchanged.
// It reads only when net/http reads.
//
// A connection is between two requests if two conditions hold: net/http has reported that it
// has answered all its data ([ConnState]), and by the gate's count that data ended at the end
// of a request.
type gate struct {
	conn    net.Conn // to write to, and to set deadlines of
	receive func([]byte) (int, error)
	// refuse sends the answer to a request if it is refused, or returns false.
	refuse func(*head, func(answer []byte) error) (bool, error)
	warn   func() // logs that ConnState is not called

	idle    atomic.Bool  // net/http waits for a request. Set by ConnState, cleared by the reader
	wired   atomic.Bool  // ConnState has been called
	readFor atomic.Int64 // ns that net/http last gave a read; 0 for ever

	// Used by the reading goroutine only; there is one at a time.
	passed followed
	skip   int64 // bytes of the body of a refused request that are to come
}

const (
	// mostDrained is the longest body that is discarded after a refusal, as in net/http.
	mostDrained = 256 << 10
	// answerWithin is the write timeout of a refusal.
	answerWithin = 10 * time.Second
)

// Read is net.Conn's.
func (g *gate) Read(b []byte) (int, error) {
	for {
		n, err := g.receive(b)
		if n <= 0 || err != nil {
			return n, err
		}
		data := b[:n]
		if g.skip > 0 {
			part := min(g.skip, int64(n))
			g.skip -= part
			data = data[part:]
		}
		if data, err = g.look(data); err != nil {
			return 0, err
		}
		if len(data) > 0 {
			g.idle.Store(false)
			g.passed.follow(data)
			return copy(b, data), nil
		}
	}
}

// look refuses the requests at the beginning of data if the router refuses them, and returns
// the rest.
func (g *gate) look(data []byte) ([]byte, error) {
	if !g.passed.ended() {
		return data, nil
	}
	if !g.idle.Load() {
		if g.passed.some && !g.wired.Load() {
			g.warn()
		}
		return data, nil
	}
	for len(data) > 0 {
		h, is := readHead(data)
		if is != whole || !h.refusable || h.body > mostDrained {
			break
		}
		refused, err := g.refuse(&h, g.answer)
		if err != nil {
			return nil, err
		}
		if !refused {
			break
		}
		ends := min(int64(h.size)+h.body, int64(len(data)))
		g.skip = int64(h.size) + h.body - ends
		data = data[ends:]
	}
	return data, nil
}

// answer sends a refusal, and restarts the timeout of the wait for the next request.
func (g *gate) answer(text []byte) error {
	_ = g.conn.SetWriteDeadline(time.Now().Add(answerWithin))
	_, err := g.conn.Write(text)
	_ = g.conn.SetWriteDeadline(time.Time{}) // as net/http has left it
	if d := g.readFor.Load(); d > 0 {
		_ = g.conn.SetReadDeadline(time.Now().Add(time.Duration(d)))
	}
	return err
}

// deadline records the read deadline.
func (g *gate) deadline(at time.Time) {
	d := time.Duration(0)
	if !at.IsZero() {
		d = time.Until(at)
	}
	g.readFor.Store(int64(d))
}

// state records the connection's state in net/http.
func (g *gate) state(s http.ConnState) {
	g.wired.Store(true)
	g.idle.Store(s == http.StateIdle)
}

// ConnState is for http.Server.ConnState, if [Middleware.RefuseEarly] is used without [Serve]:
// it informs connections of a [Listener] when they are between two requests.
func ConnState(c net.Conn, s http.ConnState) {
	for {
		switch conn := c.(type) {
		case interface{ gated() *gate }:
			if g := conn.gated(); g != nil {
				g.state(s)
			}
			return
		case interface{ NetConn() net.Conn }:
			c = conn.NetConn()
		default:
			return
		}
	}
}

// followed tracks the data of a connection that was passed to net/http.
type followed struct {
	some   bool   // a whole request
	opaque bool   // the end of requests is no longer known
	head   []byte // of the request that has come in part
	body   int64  // bytes of it that are to come
}

// mostHead is the longest head that is followed.
const mostHead = 8 << 10

// ended reports whether the data ends at the end of a request.
func (f *followed) ended() bool { return !f.opaque && f.body == 0 && len(f.head) == 0 }

// follow records data that is passed to net/http.
func (f *followed) follow(data []byte) {
	for len(data) > 0 && !f.opaque {
		if f.body > 0 {
			part := min(f.body, int64(len(data)))
			f.body -= part
			data = data[part:]
			continue
		}
		was, text := len(f.head), data
		if was > 0 {
			f.head = append(f.head, data...)
			text = f.head
		}
		switch h, is := readHead(text); {
		case is == whole:
			f.head, f.body, f.some = f.head[:0], h.body, true
			data = data[h.size-was:]
		case is == partial && len(text) <= mostHead:
			if was == 0 {
				f.head = append(f.head, data...)
			}
			return
		default:
			f.opaque, f.head = true, nil
		}
	}
}
