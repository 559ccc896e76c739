package natsremote

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
)

// Options returns the options that a connection must have: with a reconnect buffer, jobs sent
// while it is broken would arrive after their submitters have left.
func Options() []nats.Option {
	return []nats.Option{nats.ReconnectBufSize(-1), nats.MaxReconnects(-1)}
}

func checkConn(nc *nats.Conn) error {
	if nc.Opts.ReconnectBufSize >= 0 {
		return fmt.Errorf("natsremote: nats.Options.ReconnectBufSize is %d: must be -1, see natsremote.Options", nc.Opts.ReconnectBufSize)
	}
	return nil
}

// subjects are the subjects of a namespace.
type subjects struct{ ns string }

// newSubjects checks a namespace; "" is "helix".
func newSubjects(ns string) (subjects, error) {
	if ns == "" {
		ns = "helix"
	}
	for _, part := range strings.Split(ns, ".") {
		if part == "" || part != token(part) {
			return subjects{}, fmt.Errorf("natsremote: Namespace is %q: must be letters, digits, - and _, in parts separated by dots", ns)
		}
	}
	return subjects{ns}, nil
}

func (s subjects) jobs(worker, kind string) string {
	return s.ns + ".w." + token(worker) + "." + token(kind)
}
func (s subjects) probes(worker string) string { return s.ns + ".p." + token(worker) }
func (s subjects) load(kind, worker string) string {
	return s.ns + ".load." + token(kind) + "." + token(worker)
}
func (s subjects) hello() string   { return s.ns + ".hello" }
func (s subjects) answers() string { return s.ns + ".c." }

// token returns a name as one token of a subject: a byte other than a letter, a digit, - or _
// becomes = and two hexadecimal digits. Different names stay different.
func token(name string) string {
	if strings.IndexFunc(name, special) < 0 {
		return name
	}
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; special(rune(c)) {
			fmt.Fprintf(&b, "=%02x", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func special(c rune) bool {
	return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_')
}
