package remote

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/helixrouter/helix"
)

// Version is the first byte of every frame. A frame of another version is refused, so
// that clients and workers of different versions never misread each other.
const Version = 1

// The most that a field of a frame may hold, in bytes. Longer texts are cut when they
// are written and refused when they are read.
const (
	maxName  = 128     // kinds, workers, reasons, trace contexts
	maxText  = 4 << 10 // texts of errors
	maxStack = 16 << 10
)

// maxSlots bounds the slots, busy slots and queued jobs in a report.
const maxSlots = 1 << 20

// frameType is the second byte of a frame.
type frameType byte

const (
	frameJob frameType = iota + 1
	frameProbe
	frameCancel
	frameReply
	framePresence
)

// errFrame is matched by the error for every frame that cannot be read.
var errFrame = errors.New("remote: malformed frame")

func frameError(what string) error { return fmt.Errorf("%w: %s", errFrame, what) }

// Request is a job on its way to a worker, or a probe, which asks for the worker's load for such
// a job and has no Input.
type Request struct {
	Attempt  uint64 // tells attempts apart: another one at the same job has another; in a probe, the one asked about, or 0
	Kind     string // at most 128 bytes
	Cost     float64
	Budget   time.Duration // what is left of it when the request is sent, so that clocks need not agree; 0 = none
	Priority helix.Priority
	Trace    string // W3C traceparent; "" = none
	Input    []byte // as Kind.Codec wrote it
}

// Load is a worker's report for one kind of job.
type Load struct {
	Slots   int           // jobs that it runs at the same time
	Busy    int           // slots in use
	Queued  int           // jobs that wait for one
	Wait    time.Duration // predicted wait of a job of the kind
	Run     time.Duration // predicted run of a job of the kind; 0 = not known
	Cost    float64       // of the job that Run is for; 0 = not known
	Refuses bool          // it would refuse such a job now
	Leaves  bool          // it takes no more jobs: it is being drained
}

// Status is the outcome of a request at a worker.
type Status uint8

// The answers to a request.
const (
	StatusDone     Status = iota + 1 // ran; Body is the output
	StatusFailed                     // ran and returned an error; Body is its text
	StatusPanicked                   // ran and panicked; Body is the panic's value, Stack where
	StatusExited                     // ran and called runtime.Goexit
	StatusCanceled                   // ran, its ctx was cancelled and it returned ctx's error; Body is its text
	StatusRefused                    // did not run; Reason says why
	StatusProbed                     // a probe: Load is what was asked for
	StatusMissing                    // a probe about an attempt that the worker does not have; Load as well
)

// Reply is a worker's answer to a [Request].
type Reply struct {
	Status     Status
	Reason     string        // why it did not run; "" if it did
	RetryAfter time.Duration // when it could have been run, as predicted; 0 = not known
	Wait, Run  time.Duration // how long it waited there and how long it ran
	Load       Load          // for such a job, now
	Body       []byte
	Stack      []byte
}

// Presence is the message that a worker sends to all clients, once a second for each kind that
// it serves, and when it begins to leave.
type Presence struct {
	Worker string
	Kind   string
	Load   Load
}

// AppendJob appends r as the frame that asks a worker to run it.
func (r *Request) AppendJob(b []byte) []byte { return r.append(b, frameJob) }

// AppendProbe appends r, without its Input, as a probe.
func (r *Request) AppendProbe(b []byte) []byte { return r.append(b, frameProbe) }

func (r *Request) append(b []byte, as frameType) []byte {
	b = append(b, Version, byte(as))
	b = binary.AppendUvarint(b, r.Attempt)
	b = appendText(b, r.Kind, maxName)
	b = appendFloat(b, r.Cost)
	b = appendDuration(b, r.Budget)
	b = append(b, byte(r.Priority-helix.Low))
	b = appendText(b, r.Trace, maxName)
	if as == frameJob {
		b = append(b, r.Input...)
	}
	return b
}

// ParseRequest reads a job or a probe, and reports which it is. The request refers to frame.
func ParseRequest(frame []byte) (r Request, probe bool, err error) {
	d := decoder{left: frame}
	as := d.header()
	if as != frameJob && as != frameProbe {
		d.fail("neither a job nor a probe")
	}
	r.Attempt = d.uvarint("attempt")
	r.Kind = d.text("kind")
	r.Cost = d.cost("cost")
	r.Budget = d.duration("budget")
	r.Priority = helix.Low + helix.Priority(d.byte("priority", byte(helix.High-helix.Low)))
	r.Trace = d.text("trace")
	if as == frameJob {
		r.Input = d.rest()
	}
	return r, as == frameProbe, d.end()
}

// AppendCancel appends the frame that cancels an attempt at a worker.
func AppendCancel(b []byte, attempt uint64) []byte {
	return binary.AppendUvarint(append(b, Version, byte(frameCancel)), attempt)
}

// ParseCancel returns the attempt that a cancel frame names.
func ParseCancel(frame []byte) (attempt uint64, err error) {
	d := decoder{left: frame}
	d.want(frameCancel)
	attempt = d.uvarint("attempt")
	return attempt, d.end()
}

// Append appends r as a frame.
func (r *Reply) Append(b []byte) []byte {
	b = append(b, Version, byte(frameReply), byte(r.Status))
	b = appendText(b, r.Reason, maxName)
	b = appendDuration(b, r.RetryAfter)
	b = appendDuration(b, r.Wait)
	b = appendDuration(b, r.Run)
	b = r.Load.append(b)
	b = appendText(b, string(r.Stack[:min(len(r.Stack), maxStack)]), maxStack)
	body := r.Body
	if r.Status != StatusDone {
		body = body[:min(len(body), maxText)]
	}
	return append(b, body...)
}

// ParseReply reads a reply, which refers to frame.
func ParseReply(frame []byte) (r Reply, err error) {
	d := decoder{left: frame}
	d.want(frameReply)
	if r.Status = Status(d.byte("status", byte(StatusMissing))); r.Status == 0 {
		d.fail("status 0")
	}
	r.Reason = d.text("reason")
	r.RetryAfter = d.duration("retry after")
	r.Wait = d.duration("wait")
	r.Run = d.duration("run")
	r.Load = d.load()
	r.Stack = d.bytes("stack", maxStack)
	if r.Body = d.rest(); r.Status != StatusDone && len(r.Body) > maxText {
		d.fail("text too long")
	}
	return r, d.end()
}

// Append appends p as a frame.
func (p *Presence) Append(b []byte) []byte {
	b = append(b, Version, byte(framePresence))
	b = appendText(b, p.Worker, maxName)
	b = appendText(b, p.Kind, maxName)
	return p.Load.append(b)
}

// ParsePresence reads a presence message.
func ParsePresence(frame []byte) (p Presence, err error) {
	d := decoder{left: frame}
	d.want(framePresence)
	if p.Worker = d.text("worker"); p.Worker == "" {
		d.fail("worker without a name")
	}
	p.Kind = d.text("kind")
	p.Load = d.load()
	return p, d.end()
}

// The bits of a load's flags.
const (
	flagRefuses = 1 << iota
	flagLeaves
	flagsAll = flagRefuses | flagLeaves
)

func (l *Load) append(b []byte) []byte {
	flags := byte(0)
	if l.Refuses {
		flags |= flagRefuses
	}
	if l.Leaves {
		flags |= flagLeaves
	}
	b = append(b, flags)
	for _, n := range [...]int{l.Slots, l.Busy, l.Queued} {
		b = binary.AppendUvarint(b, uint64(min(max(n, 0), maxSlots)))
	}
	b = appendDuration(b, l.Wait)
	b = appendDuration(b, l.Run)
	return appendFloat(b, l.Cost)
}

func appendText(b []byte, s string, most int) []byte {
	s = s[:min(len(s), most)]
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendDuration(b []byte, d time.Duration) []byte {
	return binary.AppendUvarint(b, uint64(max(d, 0)))
}

func appendFloat(b []byte, f float64) []byte {
	return binary.BigEndian.AppendUint64(b, math.Float64bits(f))
}

// decoder reads a frame's fields one after the other. After the first invalid field all others
// are zero; end returns which it was. It never reads beyond the frame and
// allocates at most what the frame holds.
type decoder struct {
	left []byte
	err  error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = frameError(what)
	}
	d.left = nil
}

// end returns the error of the frame, which must have been read to its end.
func (d *decoder) end() error {
	if len(d.left) > 0 {
		d.fail("bytes after the end")
	}
	return d.err
}

func (d *decoder) header() frameType {
	if len(d.left) < 2 {
		d.fail("shorter than its header")
		return 0
	}
	if d.left[0] != Version {
		d.fail(fmt.Sprintf("version %d, want %d", d.left[0], Version))
		return 0
	}
	as := frameType(d.left[1])
	d.left = d.left[2:]
	return as
}

func (d *decoder) want(as frameType) {
	if got := d.header(); d.err == nil && got != as {
		d.fail(fmt.Sprintf("type %d, want %d", got, as))
	}
}

func (d *decoder) uvarint(field string) uint64 {
	v, n := binary.Uvarint(d.left)
	if n <= 0 {
		d.fail(field)
		return 0
	}
	d.left = d.left[n:]
	return v
}

func (d *decoder) count(field string) int {
	v := d.uvarint(field)
	if v > maxSlots {
		d.fail(field)
		return 0
	}
	return int(v)
}

func (d *decoder) duration(field string) time.Duration {
	v := d.uvarint(field)
	if v > math.MaxInt64 {
		d.fail(field)
		return 0
	}
	return time.Duration(v)
}

func (d *decoder) byte(field string, most byte) byte {
	if len(d.left) == 0 || d.left[0] > most {
		d.fail(field)
		return 0
	}
	v := d.left[0]
	d.left = d.left[1:]
	return v
}

func (d *decoder) cost(field string) float64 {
	if len(d.left) < 8 {
		d.fail(field)
		return 0
	}
	v := math.Float64frombits(binary.BigEndian.Uint64(d.left))
	d.left = d.left[8:]
	if !(v >= 0 && v <= math.MaxFloat64) { // also NaN
		d.fail(field)
		return 0
	}
	return v
}

func (d *decoder) bytes(field string, most int) []byte {
	n := d.uvarint(field)
	if n > uint64(most) || n > uint64(len(d.left)) {
		d.fail(field)
		return nil
	}
	v := d.left[:n:n]
	d.left = d.left[n:]
	return v
}

func (d *decoder) text(field string) string { return string(d.bytes(field, maxName)) }

func (d *decoder) load() (l Load) {
	flags := d.byte("flags", flagsAll)
	l.Refuses, l.Leaves = flags&flagRefuses != 0, flags&flagLeaves != 0
	l.Slots, l.Busy, l.Queued = d.count("slots"), d.count("busy"), d.count("queued")
	l.Wait, l.Run = d.duration("wait"), d.duration("run")
	l.Cost = d.cost("cost")
	return l
}

// rest returns the bytes that no field has read.
func (d *decoder) rest() []byte {
	rest := d.left
	d.left = nil
	return rest
}
