package helix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Codec writes the inputs and outputs of a [Kind] as bytes and reads them, so that a
// [Strategy] can have its jobs done where only bytes get to. Its methods must be safe for
// concurrent use. Those that append do so like the built-in append; those that decode
// must not keep the bytes.
type Codec[In, Out any] interface {
	AppendInput(b []byte, in In) ([]byte, error)
	DecodeInput(b []byte) (In, error)
	AppendOutput(b []byte, out Out) ([]byte, error)
	DecodeOutput(b []byte) (Out, error)
}

// JSON is the [Codec] of encoding/json.
type JSON[In, Out any] struct{}

// AppendInput implements [Codec].
func (JSON[In, Out]) AppendInput(b []byte, in In) ([]byte, error) { return appendJSON(b, in) }

// DecodeInput implements [Codec].
func (JSON[In, Out]) DecodeInput(b []byte) (in In, err error) { return in, json.Unmarshal(b, &in) }

// AppendOutput implements [Codec].
func (JSON[In, Out]) AppendOutput(b []byte, out Out) ([]byte, error) { return appendJSON(b, out) }

// DecodeOutput implements [Codec].
func (JSON[In, Out]) DecodeOutput(b []byte) (out Out, err error) { return out, json.Unmarshal(b, &out) }

func appendJSON(b []byte, v any) ([]byte, error) {
	text, err := json.Marshal(v)
	return append(b, text...), err
}

// CodecError says that a job's input or output could not be written as bytes or read from
// them. It matches ErrNotRun if the job was therefore not run.
type CodecError struct {
	Kind   string
	Doing  string // "writing input", "reading input", "writing output", "reading output"
	Err    error
	NotRun bool
}

func (e *CodecError) Error() string {
	return fmt.Sprintf("helix: kind %q: %s: %v", e.Kind, e.Doing, e.Err)
}

// Unwrap returns what the codec said.
func (e *CodecError) Unwrap() error { return e.Err }

// Is matches ErrNotRun if the job was not run.
func (e *CodecError) Is(target error) bool { return e.NotRun && target == ErrNotRun }

// errNoCodec is what a codec that is not there says.
var errNoCodec = errors.New("the kind has no codec")

// codecError makes a CodecError of what a codec returned or panicked with, if it is an error.
func codecError(kind, doing string, notRun bool, err error, panicked any) error {
	if panicked != nil {
		err = fmt.Errorf("panic: %v", panicked)
	}
	if err == nil {
		return nil
	}
	return &CodecError{Kind: kind, Doing: doing, Err: err, NotRun: notRun}
}

// portable is work whose input and output can be bytes.
type portable interface {
	appendInput(b []byte) ([]byte, error)
	takeOutput(b []byte) error
}

func (i *taskItem[In, Out]) appendInput(b []byte) (out []byte, err error) {
	defer func() { err = codecError(i.task.spec.Name, "writing input", true, err, recover()) }()
	if i.task.spec.Codec == nil {
		return b, errNoCodec
	}
	return i.task.spec.Codec.AppendInput(b, i.in)
}

func (i *taskItem[In, Out]) takeOutput(b []byte) (err error) {
	defer func() { err = codecError(i.task.spec.Name, "reading output", false, err, recover()) }()
	if i.task.spec.Codec == nil {
		return errNoCodec
	}
	i.out, err = i.task.spec.Codec.DecodeOutput(b)
	return err
}

// door is a Task for callers that have bytes.
type door interface {
	submitBytes(ctx context.Context, in []byte, h *Hints, result *Result) ([]byte, error)
}

// PortableKinds returns the names of the registered kinds that have a Codec, sorted.
func (r *Router) PortableKinds() []string {
	var names []string
	for name, k := range *r.kinds.Load() {
		if of := k.template.Load(); of != nil && of.Portable {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// SubmitBytes is [Task.SubmitWith] for one item of a registered kind with a Codec, whose
// input and output are bytes: what a process does with the jobs that others send it. The
// Value of the result is the output as []byte. Bytes that are no input of the kind, and a
// kind that is not registered or has no Codec, are a [*CodecError] that matches ErrNotRun.
func (r *Router) SubmitBytes(ctx context.Context, kind string, in []byte, h Hints) (result Result, err error) {
	k := (*r.kinds.Load())[kind]
	if k == nil || k.door.Load() == nil {
		return result, codecError(kind, "reading input", true, errNoCodec, nil)
	}
	out, err := (*k.door.Load()).submitBytes(ctx, in, &h, &result)
	if err == nil {
		result.Value = out
	}
	return result, err
}

func (t *Task[In, Out]) submitBytes(ctx context.Context, b []byte, h *Hints, result *Result) (encoded []byte, err error) {
	in, err := t.decodeInput(b)
	if err != nil {
		return nil, err
	}
	item, err := t.admitItem(ctx, in, h)
	if err != nil {
		return nil, err
	}
	if item.job.nested {
		err = item.submitNested()
	} else if err = t.router.admit(&item.Ticket, nil); err == nil {
		err = item.finishSubmit()
	}
	fate := item.exit
	o := item.outcome("")
	result.Decision, result.Wait, result.Run, result.Ran = item.Decision(), o.Wait, o.Run, fate != exitNotRun
	if fate == exitReturned && err == nil {
		encoded, err = t.encodeOutput(item.out)
	}
	t.recycle(item)
	fate.pass(err)
	return encoded, err
}

func (t *Task[In, Out]) decodeInput(b []byte) (in In, err error) {
	defer func() { err = codecError(t.spec.Name, "reading input", true, err, recover()) }()
	return t.spec.Codec.DecodeInput(b)
}

func (t *Task[In, Out]) encodeOutput(out Out) (b []byte, err error) {
	defer func() { err = codecError(t.spec.Name, "writing output", false, err, recover()) }()
	return t.spec.Codec.AppendOutput(nil, out)
}

// AppendInput appends the job's input as bytes, written by its kind's Codec. The error is
// a [*CodecError]; jobs from Router.Submit and Router.Go have no codec. The ticket must
// not have ended.
func (t *Ticket) AppendInput(b []byte) ([]byte, error) {
	if p, ok := t.work.(portable); ok {
		return p.appendInput(b)
	}
	return b, codecError(t.kind.name, "writing input", true, errNoCodec, nil)
}
