package helix

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// ErrNotRun is matched (errors.Is) by every error that means the job was never
// started, whatever the reason: it is safe to try elsewhere or again.
var ErrNotRun = errors.New("helix: job was not run")

// ErrDropped is matched by every refusal that the router decided on; see
// [DropError] for the reason. It matches ErrNotRun.
var ErrDropped = fmt.Errorf("%w: dropped", ErrNotRun)

// ErrClosed is returned while the router drains and once it is closed. It
// matches ErrNotRun.
var ErrClosed = fmt.Errorf("%w: router is closed", ErrNotRun)

// ErrInsideJob is returned by [Router.Close], [Router.Shutdown] and [Router.Drain] when a
// job of the same router calls them: they would wait for it. Nothing has changed then.
var ErrInsideJob = errors.New("helix: called from inside a job of the same router, for which it would wait")

// ErrGoexit is returned by [Future.Wait] for a job that called
// runtime.Goexit. Submit does not return it: there the exit carries on in the
// submitting goroutine, whichever strategy ran the job.
var ErrGoexit = errors.New("helix: job called runtime.Goexit")

// ErrLost is matched by the error for a job that a strategy sent elsewhere, where its
// outcome got lost: it may have run, or may still run. It does not match ErrNotRun;
// whether to try again depends on whether the work may be done twice.
var ErrLost = errors.New("helix: job was sent elsewhere, its outcome is unknown")

// DropError says why a job was refused. It matches ErrDropped and ErrNotRun.
//
// Refusing must cost next to nothing when everything is being refused, so jobs
// of one kind with the same cost, budget and priority that are refused for the
// same reason within the same millisecond, and had about the same time left, share
// one DropError.
type DropError struct {
	Decision Decision
	// RetryAfter is in how long to submit the job again: when, as predicted, it will be
	// admitted if all refused jobs keep to theirs. 0 where waiting cannot help, as with
	// a budget shorter than the run.
	RetryAfter time.Duration
	// Admission is the decision that had admitted the job, with what was expected then, if
	// it was refused only later; nil for a job refused at once.
	Admission *Decision
	Waited    time.Duration // since then

	closed bool // because the router closed: matches ErrClosed too

	// What must be alike, and how new, for another refusal to share it.
	shared   atomic.Int64 // refusals that do
	at       int64
	budget   time.Duration
	priority Priority
}

// Error names the reason, what was expected of a job that had been admitted, and, where it
// helps, when to try again.
func (e *DropError) Error() string {
	text := "helix: job dropped: " + e.Decision.Reason
	if e.Admission != nil {
		text += fmt.Sprintf(" (it waited %v, %v were expected)", e.Waited, e.Admission.Wait)
	}
	if e.RetryAfter > 0 {
		text += fmt.Sprintf(" (retry after %v)", e.RetryAfter)
	}
	return text
}

// Is matches ErrDropped and ErrNotRun, and ErrClosed if the job was refused while the
// router closed.
func (e *DropError) Is(target error) bool {
	return target == ErrDropped || target == ErrNotRun || target == ErrClosed && e.closed
}

// withdrawnError is returned for a job whose ctx ended before it started.
type withdrawnError struct{ err, cause error } // ctx.Err() and context.Cause(ctx)

func (e *withdrawnError) Error() string { return ErrNotRun.Error() + ": " + e.cause.Error() }

func (e *withdrawnError) Unwrap() []error { return []error{ErrNotRun, e.err, e.cause} }

// PanicError carries a panic of user code from the goroutine that ran it to
// the one that submitted it: Submit and [Future.Wait] panic with a
// *PanicError; when a batch function panics, every member's does. A panic that passes
// through several jobs is wrapped once, where it began. One with net/http's
// ErrAbortHandler, wrapped or not, is raised as that, unwrapped, and never logged.
type PanicError struct {
	Value any    // what was passed to panic
	Stack []byte // of the goroutine that panicked, as debug.Stack formats it
}

// Error shows the panic's value and the stack it came from.
func (e *PanicError) Error() string {
	return fmt.Sprintf("helix: job panicked: %v\n\n%s", e.Value, e.Stack)
}

// Unwrap returns Value if it is an error, so that errors.Is and As see it.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// abortText is that of net/http's ErrAbortHandler, which this package does not import.
const abortText = "net/http: abort Handler"

// abort is net/http's ErrAbortHandler if the panic was with it, wrapped or not. Handlers
// panic with it to end a request without a word; a server knows it only as itself.
func (e *PanicError) abort() error {
	err, _ := e.Value.(error)
	for ; err != nil; err = errors.Unwrap(err) {
		if err.Error() == abortText {
			return err
		}
	}
	return nil
}

// raise carries on the panic of a job; err is its *PanicError.
func raise(err error) {
	p := err.(*PanicError)
	if abort := p.abort(); abort != nil {
		panic(abort)
	}
	panic(p)
}

// ItemErrors is returned by a batch function to fail single items: element i,
// if not nil, is the error of item i alone. It must be as long as the batch.
type ItemErrors []error

// Error counts the failed items and shows the first.
func (e ItemErrors) Error() string {
	failed, first := 0, error(nil)
	for _, err := range e {
		if err != nil {
			if failed++; first == nil {
				first = err
			}
		}
	}
	if first == nil {
		return "helix: no item of the batch failed"
	}
	return fmt.Sprintf("helix: %d of %d items of the batch failed, the first: %v", failed, len(e), first)
}

// Unwrap returns the items' errors, so that errors.Is and As see them.
func (e ItemErrors) Unwrap() []error {
	var errs []error
	for _, err := range e {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// BatchLengthError is returned to every member of a batch whose function did
// not return one result (or one of its ItemErrors) for each item.
type BatchLengthError struct {
	Kind      string
	Want, Got int
}

func (e *BatchLengthError) Error() string {
	return fmt.Sprintf("helix: batch function of kind %q returned %d results for %d items", e.Kind, e.Got, e.Want)
}

// FieldError reports a value that cannot be used, before anything has changed.
type FieldError struct {
	Field   string // as in "RouterConfig.CPUQueueCap"
	Value   any
	Allowed string // what would have been allowed
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("helix: %s is %v: must be %s", e.Field, e.Value, e.Allowed)
}

func fieldError(field string, value any, allowed string) error {
	return &FieldError{Field: field, Value: value, Allowed: allowed}
}
