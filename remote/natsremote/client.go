package natsremote

import (
	"fmt"
	"strconv"
	"sync"

	"github.com/helixrouter/helix/remote"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// ClientConfig configures a client. The zero value is ready for use.
type ClientConfig struct {
	remote.Config
	// Namespace is what all subjects begin with. Defaults to "helix".
	Namespace string
	// ID is the client's token in the subject of its answers: different in every process.
	// Defaults to a random one.
	ID string
}

// NewClient makes the strategy that sends jobs over that connection, which must have
// [Options] and stays the caller's: close it after the router.
func NewClient(nc *nats.Conn, cfg ClientConfig) (*remote.Client, error) {
	if err := checkConn(nc); err != nil {
		return nil, err
	}
	s, err := newSubjects(cfg.Namespace)
	if err != nil {
		return nil, err
	}
	if cfg.ID == "" {
		cfg.ID = nuid.Next()
	}
	return remote.NewClient(&transport{nc: nc, subjects: s, answers: s.answers() + token(cfg.ID) + "."}, cfg.Config)
}

// transport is the client's end of a connection.
type transport struct {
	nc       *nats.Conn
	subjects subjects
	answers  string // what the subjects of answers begin with
	subs     []*nats.Subscription
	status   []chan nats.Status
	stop     chan struct{}
	watching sync.WaitGroup
	closed   sync.Once
}

// noResponders is the status of a server's message that a subject has no subscriber.
const noResponders = "503"

// Listen implements [remote.Transport].
func (t *transport) Listen(r remote.Receiver) error {
	answer := func(m *nats.Msg) {
		call, err := strconv.ParseUint(m.Subject[len(t.answers):], 16, 64)
		switch {
		case err != nil:
		case len(m.Data) == 0 && m.Header.Get("Status") == noResponders:
			r.Nobody(call)
		default:
			r.Answer(call, m.Data)
		}
	}
	for subject, f := range map[string]nats.MsgHandler{
		t.answers + "*": answer,
		t.subjects.ns + ".load.*.*": func(m *nats.Msg) {
			// By its subject a worker is permitted to report on itself only.
			if p, err := remote.ParsePresence(m.Data); err == nil && m.Subject == t.subjects.load(p.Kind, p.Worker) {
				r.Present(m.Data)
			}
		},
	} {
		sub, err := t.nc.Subscribe(subject, f)
		if err != nil {
			return fmt.Errorf("natsremote: subscribing to %s: %w", subject, err)
		}
		t.subs = append(t.subs, sub)
	}
	// A channel each: one from which a status has not been read yet gets no other, now or later.
	broken := t.nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	connected := t.nc.StatusChanged(nats.CONNECTED)
	t.status = []chan nats.Status{broken, connected}
	t.stop = make(chan struct{})
	t.watching.Go(func() {
		for {
			select {
			case <-broken:
				r.Disconnected()
			case <-connected:
				_ = t.nc.Publish(t.subjects.hello(), nil) // workers publish their load anyway
			case <-t.stop:
				return
			}
		}
	})
	if err := t.nc.Publish(t.subjects.hello(), nil); err != nil && t.nc.IsConnected() {
		return fmt.Errorf("natsremote: %w", err)
	}
	return nil
}

// Send implements [remote.Transport].
func (t *transport) Send(to remote.Address, call uint64, frame []byte) error {
	if most := t.nc.MaxPayload(); most > 0 && int64(len(frame)) > most {
		return fmt.Errorf("%w: %d bytes, the server takes %d", remote.ErrTooLarge, len(frame), most)
	}
	subject := t.subjects.probes(to.Worker)
	if to.Kind != "" {
		subject = t.subjects.jobs(to.Worker, to.Kind)
	}
	var err error
	if call == 0 {
		err = t.nc.Publish(subject, frame)
	} else {
		err = t.nc.PublishRequest(subject, t.answers+strconv.FormatUint(call, 16), frame)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", remote.ErrNotConnected, err)
	}
	return nil
}

// Close implements [remote.Transport].
func (t *transport) Close() (err error) {
	t.closed.Do(func() {
		for _, sub := range t.subs {
			if e := sub.Unsubscribe(); e != nil && t.nc.IsConnected() {
				err = e
			}
		}
		if t.stop != nil {
			close(t.stop)
			t.watching.Wait()
		}
		for _, status := range t.status {
			t.nc.RemoveStatusListener(status)
		}
	})
	return err
}
