package helixhttp

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Listener accepts connections that know when their latest data reached the machine. On
// Linux, for TCP, that is when the kernel received it (SO_TIMESTAMPNS); elsewhere when it
// was read. TLS belongs outside: tls.NewListener(listener, config), as http.Server.ServeTLS
// does it.
type Listener struct {
	net.Listener
	early *early // nil unless requests are refused before they are parsed
}

// NewListener returns a listener around l. It is for http.Server.Serve; set
// Server.ConnContext to [ConnContext].
func NewListener(l net.Listener) *Listener {
	if c, ok := l.(*net.TCPListener); ok {
		askForStamps(c) // connections inherit it, so what comes before Accept has its stamp too
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
		return newOtherConn(c, l.early), nil
	}
	return newTCPConn(tcp, l.early), nil
}

// ConnContext is for http.Server.ConnContext: it lets [Arrived] find the connection of a
// request.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	for {
		switch conn := c.(type) {
		case interface{ arrival() *arrival }:
			return context.WithValue(ctx, arrivalKey{}, conn.arrival())
		case interface{ NetConn() net.Conn }: // tls.Conn
			c = conn.NetConn()
		default:
			return ctx
		}
	}
}

type arrivalKey struct{}

// Arrived returns when a request reached the machine: when the last data came that its
// connection had read by now. So ask before the body is read; a slow client's time
// to send the head does not count. Never too early, it may be too late where data of another
// request has come since: on HTTP/2, and with pipelining. Zero if the server does not use a
// [Listener] and [ConnContext].
func Arrived(r *http.Request) time.Time {
	a, ok := r.Context().Value(arrivalKey{}).(*arrival)
	if !ok {
		return time.Time{}
	}
	return a.time()
}

// epoch is what arrivals are counted from, by the monotonic clock.
var epoch = time.Now()

// arrival is when the latest data of a connection reached the machine, as nanoseconds
// since epoch; 0 if none has. Written by whoever reads the connection.
type arrival struct{ at atomic.Int64 }

func (a *arrival) time() time.Time {
	at := a.at.Load()
	if at == 0 {
		return time.Time{}
	}
	return epoch.Add(time.Duration(at))
}

// longestAge is the most that data is taken to have waited in the kernel: a longer time is
// that of a clock that was set.
const longestAge = time.Minute

// note takes down that n bytes of at most room were read now, and how long ago they came.
//
// A read of one byte is net/http's in the background, while a handler runs: it belongs to
// the next request, of which more is to come.
func (a *arrival) note(n, room int, age time.Duration) {
	if n == 0 || room == 1 {
		return
	}
	if age < 0 || age > longestAge {
		age = 0
	}
	a.at.Store(int64(max(time.Since(epoch)-age, 1)))
}

// otherConn is a connection whose kernel does not say when data came.
type otherConn struct {
	net.Conn
	came arrival
	gate *gate // nil unless requests are refused early
}

func newOtherConn(c net.Conn, by *early) *otherConn {
	o := &otherConn{Conn: c}
	if by != nil {
		o.gate = by.gate(c, &o.came, o.receive)
	}
	return o
}

func (c *otherConn) arrival() *arrival { return &c.came }

func (c *otherConn) gated() *gate { return c.gate }

func (c *otherConn) Read(b []byte) (int, error) {
	if c.gate != nil {
		return c.gate.Read(b)
	}
	return c.receive(b)
}

func (c *otherConn) receive(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.came.note(n, len(b), 0)
	return n, err
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

// gateTCP puts a gate in front of reads, if requests are to be refused early.
func (c *tcpConn) gateTCP(by *early) {
	if by != nil {
		c.gate = by.gate(c.TCPConn, &c.came, c.receive)
	}
}

func (c *tcpConn) arrival() *arrival { return &c.came }

func (c *tcpConn) gated() *gate { return c.gate }

// NetConn returns the connection that was accepted.
func (c *tcpConn) NetConn() net.Conn { return c.TCPConn }

// Read does what that of net.TCPConn does, and notes when the data came.
func (c *tcpConn) Read(b []byte) (int, error) {
	if c.gate != nil {
		return c.gate.Read(b)
	}
	return c.receive(b)
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
	if c.gate != nil {
		c.gate.deadline(at)
	}
	return c.TCPConn.SetDeadline(at)
}
