package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// result is what became of the requests of a point.
type result struct {
	sent, inBudget, late, refused, failed int64
	lagged                                int64   // of the late ones: only because the client was late to send them
	goodput                               float64 // CPU seconds a second of work answered in budget
	cpu, client                           float64 // CPU seconds a second that the server took, and the client
}

func (r result) String() string {
	part := func(n int64) float64 { return 100 * float64(n) / float64(max(r.sent, 1)) }
	return fmt.Sprintf("%.1f/%.2f+%.2f/%.1f g%.2f c%.2f/%.2f", part(r.inBudget), part(r.late-r.lagged), part(r.lagged), part(r.failed), r.goodput, r.cpu, r.client)
}

// client sends requests at times that are fixed before, each on a kept connection that is
// free, or on a new one.
type client struct {
	addr    string
	classes []class
	load    float64

	open chan struct{} // a place for each connection in use
	mu   sync.Mutex    // guards free
	free []*connection

	sent, inBudget, late, lagged, refused, failed, goodWork atomic.Int64
}

type connection struct {
	net.Conn
	from *stamped
	in   *bufio.Reader
}

func newClient(addr string, classes []class, load float64) *client {
	return &client{addr: addr, classes: classes, load: load, open: make(chan struct{}, connections)}
}

// connections bounds the open connections, as a proxy does: a request waits in the client until
// one is free. Without the bound, an overloaded server would do little but accept.
const connections = 512

// patience is the timeout of a request.
const patience = 2 * time.Second

// run sends for so long. What was to be sent in the first quarter does not count.
func (c *client) run(lasts time.Duration) result {
	rng := rand.New(rand.NewPCG(11, 13))
	next := make([]time.Duration, len(c.classes))
	gap := func(i int) time.Duration {
		rate := c.load * c.classes[i].share / c.classes[i].work.Seconds()
		return time.Duration(rng.ExpFloat64() / rate * 1e9)
	}
	for i := range next {
		next[i] = gap(i)
	}
	var pending sync.WaitGroup
	start := time.Now()
	for {
		i := 0
		for j := range next {
			if next[j] < next[i] {
				i = j
			}
		}
		at := next[i]
		if at >= lasts {
			break
		}
		next[i] += gap(i)
		if ahead := time.Until(start.Add(at)); ahead > 0 {
			time.Sleep(ahead)
		}
		pending.Go(func() { c.send(&c.classes[i], start.Add(at), at >= lasts/4) })
	}
	pending.Wait()
	for _, conn := range c.free {
		_ = conn.Close()
	}
	counted := (lasts - lasts/4).Seconds()
	return result{sent: c.sent.Load(), inBudget: c.inBudget.Load(), late: c.late.Load(), lagged: c.lagged.Load(), refused: c.refused.Load(), failed: c.failed.Load(),
		goodput: float64(c.goodWork.Load()) / 1e9 / counted}
}

// send sends a request that was due then. Its latency ends when the answer reaches the machine:
// the client may be busy with other answers.
func (c *client) send(of *class, due time.Time, counts bool) {
	lag := time.Since(due)
	c.open <- struct{}{}
	status, answered, err := c.exchange(of.path)
	<-c.open
	took := answered.Sub(due)
	if !counts {
		return
	}
	c.sent.Add(1)
	switch {
	case err != nil:
		c.failed.Add(1)
	case status != http.StatusOK:
		c.refused.Add(1)
	case took <= of.budget:
		c.inBudget.Add(1)
		c.goodWork.Add(int64(of.work))
	default:
		c.late.Add(1)
		if took-lag <= of.budget {
			c.lagged.Add(1)
		}
	}
}

func (c *client) exchange(path string) (status int, answered time.Time, err error) {
	conn, err := c.take()
	if err != nil {
		return 0, answered, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close()
			return
		}
		c.mu.Lock()
		c.free = append(c.free, conn)
		c.mu.Unlock()
	}()
	if err = conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, answered, err
	}
	if _, err = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		return 0, answered, err
	}
	status, err = readAnswer(conn.in)
	return status, conn.from.latest, err
}

var errAnswer = errors.New("not an answer of a length that is told")

// readAnswer reads an answer, and returns its status. It parses only what the contenders send:
// with http.ReadResponse the client would be slower than the server at ten times the load.
func readAnswer(in *bufio.Reader) (status int, err error) {
	length := -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if status == 0 {
			proto, rest, _ := bytes.Cut(line, []byte(" "))
			code, _, _ := bytes.Cut(rest, []byte(" "))
			if status, err = strconv.Atoi(string(code)); err != nil || string(proto) != "HTTP/1.1" {
				return 0, errAnswer
			}
			continue
		}
		if len(line) == 0 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(": ")); string(name) == "Content-Length" {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, err
			}
		}
	}
	if length < 0 {
		return 0, errAnswer
	}
	_, err = in.Discard(length)
	return status, err
}

func (c *client) take() (*connection, error) {
	c.mu.Lock()
	if n := len(c.free); n > 0 {
		conn := c.free[n-1]
		c.free = c.free[:n-1]
		c.mu.Unlock()
		return conn, nil
	}
	c.mu.Unlock()
	conn, err := net.DialTimeout("tcp", c.addr, patience)
	if err != nil {
		return nil, err
	}
	from, err := stamp(conn)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &connection{conn, from, bufio.NewReader(from)}, nil
}
