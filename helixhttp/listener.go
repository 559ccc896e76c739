package helixhttp

import (
	"context"
	"net"
	"net/http"
	"time"
)

// Listener accepts connections that know when their latest data reached the machine: on Linux,
// for TCP, the time when the kernel received it (SO_TIMESTAMPNS); elsewhere the time of the
// read. TLS belongs outside: tls.NewListener(listener, config), as http.Server.ServeTLS
// does it.
type Listener struct {
	net.Listener
	early   *early // nil unless requests are refused before they are parsed
	answers answerTime
}

// NewListener returns a listener around l. It is for http.Server.Serve; set
// Server.ConnContext to [ConnContext].
func NewListener(l net.Listener) *Listener {
	if c, ok := l.(*net.TCPListener); ok {
		askForStamps(c) // connections inherit it, so data before Accept has its stamp, too
	}
	return &Listener{Listener: l}
}

// Accept waits for the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return newOtherConn(c, l), nil
	}
	return newTCPConn(tcp, l), nil
}

// ConnContext is for http.Server.ConnContext: it lets [Arrived] find the connection of a
// request.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	for {
		switch conn := c.(type) {
		case interface{ exchange() *exchange }:
			return context.WithValue(ctx, exchangeKey{}, conn.exchange())
		case interface{ NetConn() net.Conn }: // tls.Conn
			c = conn.NetConn()
		default:
			return ctx
		}
	}
}

type exchangeKey struct{}

// Arrived returns when a request reached the machine: the arrival of the latest data that its
// connection has read by now. So call it before the body is read; the time that a slow client
// takes to send the head does not count. It is never too early, and too late if data of
// another request has arrived since: on HTTP/2, and with pipelining. It is zero if the server
// does not use a [Listener] and [ConnContext].
func Arrived(r *http.Request) time.Time {
	if x := exchangeOf(r); x != nil {
		return x.arrived()
	}
	return time.Time{}
}

// exchangeOf returns the exchange of the request's connection; nil without a [Listener].
func exchangeOf(r *http.Request) *exchange {
	x, _ := r.Context().Value(exchangeKey{}).(*exchange)
	return x
}

// otherConn is a connection without arrival times from the kernel.
type otherConn struct {
	net.Conn
	latest exchange
	gate   *gate // nil unless requests are refused early
}

func newOtherConn(c net.Conn, l *Listener) *otherConn {
	o := &otherConn{Conn: c, latest: exchange{answers: &l.answers}}
	if l.early != nil {
		o.gate = l.early.gate(c, &o.latest, o.receive)
	}
	return o
}

func (c *otherConn) exchange() *exchange { return &c.latest }

func (c *otherConn) gated() *gate { return c.gate }

func (c *otherConn) Read(b []byte) (int, error) {
	if c.gate != nil {
		return c.gate.Read(b)
	}
	return c.receive(b)
}

func (c *otherConn) receive(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.latest.arrives(n, len(b), 0)
	return n, err
}

// Write is net.Conn's.
func (c *otherConn) Write(b []byte) (int, error) {
	c.latest.answering()
	return c.Conn.Write(b)
}

// SetReadDeadline is net.Conn's.
func (c *otherConn) SetReadDeadline(at time.Time) error {
	if c.gate != nil {
		c.gate.deadline(at)
	}
	return c.Conn.SetReadDeadline(at)
}

// SetDeadline is net.Conn's.
func (c *otherConn) SetDeadline(at time.Time) error {
	c.latest.deadline(at)
	if c.gate != nil {
		c.gate.deadline(at)
	}
	return c.Conn.SetDeadline(at)
}

// CloseWrite lets net/http end its side first, so that the client gets all of the answer.
func (c *otherConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// NetConn returns the connection that was accepted.
func (c *otherConn) NetConn() net.Conn { return c.Conn }

// gateTCP puts a gate in front of reads, if requests may be refused early.
func (c *tcpConn) gateTCP(by *early) {
	if by != nil {
		c.gate = by.gate(c.TCPConn, &c.latest, c.receive)
	}
}

func (c *tcpConn) exchange() *exchange { return &c.latest }

func (c *tcpConn) gated() *gate { return c.gate }

// NetConn returns the connection that was accepted.
func (c *tcpConn) NetConn() net.Conn { return c.TCPConn }

// Read reads like net.TCPConn, and records when the data arrived.
func (c *tcpConn) Read(b []byte) (int, error) {
	if c.gate != nil {
		return c.gate.Read(b)
	}
	return c.receive(b)
}

// Write is net.Conn's.
func (c *tcpConn) Write(b []byte) (int, error) {
	c.latest.answering()
	return c.TCPConn.Write(b)
}

// SetReadDeadline is net.Conn's.
func (c *tcpConn) SetReadDeadline(at time.Time) error {
	if c.gate != nil {
		c.gate.deadline(at)
	}
	return c.TCPConn.SetReadDeadline(at)
}

// SetDeadline is net.Conn's.
func (c *tcpConn) SetDeadline(at time.Time) error {
	c.latest.deadline(at)
	if c.gate != nil {
		c.gate.deadline(at)
	}
	return c.TCPConn.SetDeadline(at)
}
