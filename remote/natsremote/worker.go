package natsremote

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/remote"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// WorkerConfig configures a worker. The zero value is ready for use.
type WorkerConfig struct {
	remote.WorkerConfig
	// Namespace is what all subjects begin with. Defaults to "helix".
	Namespace string
	// ID is the worker's name, different in every process and for every start of it, of at
	// most 128 bytes. Defaults to a random one.
	ID string
	// Drain is how long jobs may go on when the worker leaves; then their ctx is cancelled, and
	// they have as long again. Defaults to 30 s.
	Drain time.Duration
}

// maxID is the length of the longest name that fits into a worker's messages.
const maxID = 128

// tellEvery is the interval at which a worker publishes its load, and tellAgain the least
// interval if new clients ask for it.
const (
	tellEvery = time.Second
	tellAgain = 10 * time.Millisecond
)

// Serve runs the jobs that clients send in that router, until ctx is done. Then it leaves: it
// refuses new jobs, which clients send to other workers, and returns nil when all its jobs
// have been answered. If the connection is closed before ctx is done, Serve leaves as well, and
// returns an error that matches nats.ErrConnectionClosed. Kinds that are registered later are
// not served. The connection must have [Options].
func Serve(ctx context.Context, nc *nats.Conn, r *helix.Router, cfg WorkerConfig) error {
	if err := checkConn(nc); err != nil {
		return err
	}
	s, err := newSubjects(cfg.Namespace)
	if err != nil {
		return err
	}
	if cfg.ID == "" {
		cfg.ID = nuid.Next()
	}
	if len(cfg.ID) > maxID {
		return fmt.Errorf("natsremote: WorkerConfig.ID has %d bytes: must be at most %d", len(cfg.ID), maxID)
	}
	if cfg.Drain <= 0 {
		cfg.Drain = 30 * time.Second
	}
	kinds := r.PortableKinds()
	if len(kinds) == 0 {
		return errors.New("natsremote: the router has no kind with a Codec")
	}
	w := &worker{nc: nc, subjects: s, id: cfg.ID, Worker: remote.NewWorker(remote.Jobs(r), cfg.WorkerConfig), came: make(chan struct{}, 1)}
	defer w.unsubscribe(&w.others)
	defer w.unsubscribe(&w.jobs)
	closed := nc.StatusChanged(nats.CLOSED)
	defer nc.RemoveStatusListener(closed)
	if err := w.subscribe(kinds); err != nil {
		return err
	}
	served := w.tellUntil(ctx.Done(), closed)

	w.Leave()
	w.tell()
	w.drain(cfg.Drain)
	if err = w.waitFor(cfg.Drain); err != nil {
		w.Cancel()
		err = w.waitFor(cfg.Drain)
	}
	err = errors.Join(served, err)
	if e := nc.FlushTimeout(5 * time.Second); e != nil && !errors.Is(e, nats.ErrConnectionClosed) {
		err = errors.Join(err, fmt.Errorf("natsremote: sending the last answers: %w", e))
	}
	return err
}

// worker is a remote.Worker on a connection.
type worker struct {
	*remote.Worker
	nc           *nats.Conn
	subjects     subjects
	id           string
	jobs, others []*nats.Subscription
	came         chan struct{} // a client has come
}

func (w *worker) subscribe(kinds []string) error {
	add := func(to *[]*nats.Subscription, subject string, f nats.MsgHandler) error {
		sub, err := w.nc.Subscribe(subject, f)
		if err != nil {
			return fmt.Errorf("natsremote: subscribing to %s: %w", subject, err)
		}
		*to = append(*to, sub)
		return nil
	}
	err := add(&w.others, w.subjects.probes(w.id), w.receive)
	for _, kind := range kinds {
		err = errors.Join(err, add(&w.jobs, w.subjects.jobs(w.id, kind), w.receive))
	}
	err = errors.Join(err, add(&w.others, w.subjects.hello(), func(*nats.Msg) {
		select {
		case w.came <- struct{}{}:
		default:
		}
	}))
	if err != nil {
		return err
	}
	return w.nc.Flush() // before clients learn of the worker
}

func (w *worker) unsubscribe(subs *[]*nats.Subscription) {
	for _, sub := range *subs {
		_ = sub.Unsubscribe() // the connection may be closed
	}
}

// receive takes a message. It does not block.
func (w *worker) receive(m *nats.Msg) {
	if m.Reply != "" && !strings.HasPrefix(m.Reply, w.subjects.answers()) {
		return // not from a client: the worker must not be made to write to other subjects
	}
	w.Receive(m.Data, func(frame []byte) {
		if m.Reply == "" {
			return
		}
		if most := w.nc.MaxPayload(); most > 0 && int64(len(frame)) > most {
			frame = tooLarge(frame, most)
		}
		_ = m.Respond(frame) // broken connection: the client knows as well
	})
}

// tooLarge returns the answer in place of a reply that the server does not take: the job failed.
// What the reply says of its times and of the worker's load stays.
func tooLarge(frame []byte, most int64) []byte {
	r, _ := remote.ParseReply(frame) // the worker wrote it
	r.Status, r.Stack = remote.StatusFailed, nil
	r.Body = fmt.Appendf(nil, "natsremote: output larger than what can be sent: %d bytes, the server takes %d", len(frame), most)
	return r.Append(nil)
}

// tellUntil publishes the worker's load until done is closed, and then returns nil, or until the
// connection is closed.
func (w *worker) tellUntil(done <-chan struct{}, closed <-chan nats.Status) error {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	var again <-chan time.Time // while a new client waits to be told
	w.tell()
	for {
		select {
		case <-w.came:
			if again == nil {
				again = time.After(tellAgain) // other clients may start at the same time
			}
			continue
		case <-tick.C:
		case <-again:
			again = nil
		case <-closed:
			return fmt.Errorf("natsremote: %w before the worker was to leave", nats.ErrConnectionClosed)
		case <-done:
			return nil
		}
		w.tell()
	}
}

func (w *worker) tell() {
	w.Announce(w.id, func(kind string, frame []byte) {
		_ = w.nc.Publish(w.subjects.load(kind, w.id), frame) // again in a second
	})
}

// drain ends the subscriptions to jobs, and waits until all messages that the server had sent
// have been refused: a discarded request would count as lost at its client.
func (w *worker) drain(most time.Duration) {
	var closed []<-chan nats.SubStatus
	for _, sub := range w.jobs {
		c := sub.StatusChanged(nats.SubscriptionClosed)
		if sub.Drain() == nil { // else the connection is closed
			closed = append(closed, c)
		}
	}
	timeout := time.After(most)
	for _, c := range closed {
		select {
		case <-c:
		case <-timeout:
			return
		}
	}
}

func (w *worker) waitFor(d time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), d, errors.New("natsremote: jobs did not end in time"))
	defer cancel()
	return w.Wait(ctx)
}
