package remote

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// network connects clients and workers in virtual time: every frame takes oneWay. Tests
// that use it run in a synctest bubble.
type network struct {
	mu      sync.Mutex
	hosts   map[string]*host
	clients []*link
	made    []*Client    // closed by end
	jobs    atomic.Int64 // frames with jobs that were delivered to a worker
}

const oneWay = 180 * time.Microsecond

// host is a process with a worker in it, and what can happen to a process.
type host struct {
	net    *network
	id     string
	worker *Worker
	gone   chan struct{} // closed once it no longer tells of itself

	mu     sync.Mutex
	killed bool     // it receives nothing any more
	paused bool     // frames to it and from it stand
	deaf   bool     // frames to it get lost, although it lives
	held   []func() // what goes on once it is resumed
}

// link is a client's end.
type link struct {
	net      *network
	receiver Receiver
	mu       sync.Mutex
	down     bool
	most     int                                 // the largest frame that can be sent; 0: any
	loses    func(to Address, frame []byte) bool // frames to workers and answers from them that get lost; nil: none
}

func newNetwork() *network { return &network{hosts: map[string]*host{}} }

// after calls f once a frame has made its way.
func after(f func()) { time.AfterFunc(oneWay, f) }

// add starts a host that tells of itself at once and then once a second.
func (n *network) add(id string, handler Handler) *host {
	h := &host{net: n, id: id, worker: NewWorker(handler, WorkerConfig{}), gone: make(chan struct{})}
	n.mu.Lock()
	n.hosts[id] = h
	n.mu.Unlock()
	h.announce()
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				h.announce()
			case <-h.gone:
				return
			}
		}
	}()
	return h
}

func (h *host) announce() {
	h.worker.Announce(h.id, func(_ string, frame []byte) {
		h.pass(func() {
			h.net.mu.Lock()
			clients := slices.Clone(h.net.clients)
			h.net.mu.Unlock()
			for _, c := range clients {
				c.deliver(func(r Receiver) { r.Present(frame) })
			}
		})
	})
}

// pass has f happen after a way, unless the host is killed by then; it stands while the
// host is paused.
func (h *host) pass(f func()) {
	after(func() { h.do(f) })
}

func (h *host) do(f func()) {
	h.mu.Lock()
	if h.paused {
		h.held = append(h.held, f)
		h.mu.Unlock()
		return
	}
	killed := h.killed
	h.mu.Unlock()
	if !killed {
		f()
	}
}

func (h *host) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

func (h *host) kill() {
	h.set(func() { h.killed = true })
	close(h.gone)
}

func (h *host) pause() { h.set(func() { h.paused = true }) }

func (h *host) resume() {
	h.mu.Lock()
	held := h.held
	h.paused, h.held = false, nil
	h.mu.Unlock()
	for _, f := range held {
		f()
	}
}

// leave is what a worker does on SIGTERM.
func (h *host) leave() {
	h.worker.Leave()
	h.announce()
	_ = h.worker.Wait(context.Background())
	time.Sleep(2 * oneWay) // the last answers
	h.kill()
}

// link is a new client's transport.
func (n *network) link() *link {
	l := &link{net: n}
	n.mu.Lock()
	n.clients = append(n.clients, l)
	n.mu.Unlock()
	return l
}

func (l *link) Listen(r Receiver) error {
	l.mu.Lock()
	l.receiver = r
	l.mu.Unlock()
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	for _, h := range l.net.hosts {
		h.announce()
	}
	return nil
}

func (l *link) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.receiver = nil // frames can still be sent, as over a connection that stays open
	return nil
}

func (l *link) deliver(f func(Receiver)) {
	l.mu.Lock()
	r := l.receiver
	if l.down {
		r = nil
	}
	l.mu.Unlock()
	if r != nil {
		f(r)
	}
}

func (l *link) disconnect() {
	l.mu.Lock()
	l.down = true
	l.mu.Unlock()
	l.receiver.Disconnected()
}

func (l *link) reconnect() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
}

func (l *link) Send(to Address, id uint64, frame []byte) error {
	l.mu.Lock()
	down, most, loses := l.down, l.most, l.loses
	l.mu.Unlock()
	switch {
	case down:
		return ErrNotConnected
	case most > 0 && len(frame) > most:
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(frame))
	}
	frame = slices.Clone(frame)
	if loses != nil && loses(to, frame) {
		return nil
	}
	after(func() {
		l.net.mu.Lock()
		h := l.net.hosts[to.Worker]
		l.net.mu.Unlock()
		h.mu.Lock()
		killed, deaf := h.killed, h.deaf
		h.mu.Unlock()
		if killed {
			after(func() { l.deliver(func(r Receiver) { r.Nobody(id) }) })
			return
		}
		if deaf && to.Kind != "" {
			return
		}
		h.do(func() {
			if to.Kind != "" {
				l.net.jobs.Add(1)
			}
			h.worker.Receive(frame, func(answer []byte) {
				if loses != nil && loses(to, answer) {
					return
				}
				h.do(func() { after(func() { l.deliver(func(r Receiver) { r.Answer(id, answer) }) }) })
			})
		})
	})
	return nil
}

// machine is a handler: jobs of one kind, in so many slots, first come first served, each
// as long as run says. It refuses what it could not do within the budget.
type machine struct {
	kind  string
	slots int
	cost  time.Duration                                   // of a job
	run   func(context.Context, *Request) ([]byte, error) // nil: sleeps for cost

	mu      sync.Mutex
	busy    int
	waiting []chan struct{}
	done    int
	full    bool // refuses everything
}

func (m *machine) Kinds() []string { return []string{m.kind} }

func (m *machine) wait() time.Duration {
	if m.busy < m.slots {
		return 0
	}
	return time.Duration(float64(m.cost) * (0.5 + float64(len(m.waiting))) / float64(m.slots))
}

func (m *machine) refuses(r *Request) bool {
	return m.full || r.Budget > 0 && m.wait()+m.cost > r.Budget
}

func (m *machine) Load(r *Request) Load {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Load{Slots: m.slots, Busy: m.busy, Queued: len(m.waiting), Wait: m.wait(), Run: m.cost, Refuses: m.refuses(r)}
}

func (m *machine) Do(ctx context.Context, r *Request, arrived time.Time) (out Output, err error) {
	m.mu.Lock()
	if m.refuses(r) {
		m.mu.Unlock()
		return out, &NotRunError{Reason: "machine is full"}
	}
	if m.busy == m.slots {
		turn := make(chan struct{})
		m.waiting = append(m.waiting, turn)
		m.mu.Unlock()
		<-turn
	} else {
		m.busy++
		m.mu.Unlock()
	}
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.done++
		if len(m.waiting) > 0 {
			close(m.waiting[0])
			m.waiting = m.waiting[1:]
		} else {
			m.busy--
		}
	}()
	started := time.Now()
	out.Body = r.Input
	if m.run != nil {
		out.Body, err = m.run(ctx, r)
	} else {
		time.Sleep(m.cost)
	}
	out.Wait, out.Run, out.Ran = started.Sub(arrived), time.Since(started), !errors.Is(err, errLate)
	return out, err
}

// fill has the machine refuse everything from now on.
func (m *machine) fill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.full = true
}

func (m *machine) ended() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.done
}

// newTestClient makes a client that has heard of all workers. network.end closes it.
func newTestClient(t *testing.T, n *network, cfg Config) (*Client, *link) {
	l := n.link()
	c, err := NewClient(l, cfg)
	require.NoError(t, err)
	n.made = append(n.made, c)
	time.Sleep(2 * oneWay)
	return c, l
}

// end closes the clients, whose accounts must be even, and kills the hosts that live.
func (n *network) end(t *testing.T) {
	for _, c := range n.made {
		if t.Failed() { // the reason is logged; running jobs do no harm
			_ = c.Close(cancelled())
			continue
		}
		even(t, c)
		require.NoError(t, c.Close(context.Background()))
	}
	for _, h := range n.hosts {
		h.mu.Lock()
		killed := h.killed
		h.mu.Unlock()
		if !killed {
			h.kill()
		}
	}
	time.Sleep(time.Minute) // whatever still makes its way
}

// even checks that nothing is under way and that every attempt is accounted for.
func even(t *testing.T, c *Client) {
	t.Helper()
	s := c.Stats()
	require.Zero(t, s.Total.Flying)
	requireAccounts(t, s.Total)
	for _, w := range s.Workers {
		requireAccounts(t, w)
	}
	require.Zero(t, c.flying.Load())
}

func requireAccounts(t *testing.T, w WorkerStats) {
	t.Helper()
	require.Equal(t, w.Sent, w.Answered+w.Refused+w.Undelivered+w.Unsent+w.Lost+uint64(w.Flying), "%+v", w)
}

// errLate is what a machine says of a job that it did not run after all.
var errLate = fmt.Errorf("%w: too late", helix.ErrNotRun)

// exit ends the goroutine, in the disguise of a function that returns.
func exit() { runtime.Goexit() }

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
