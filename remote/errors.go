package remote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/helixrouter/helix"
)

// The errors of a [Transport] for a frame that was not sent. Any other error that it
// returns means the same.
var (
	ErrNotConnected = errors.New("remote: not connected")
	ErrTooLarge     = errors.New("remote: larger than what can be sent")
)

// NotRunError reports why no worker ran a job. It matches helix.ErrNotRun.
type NotRunError struct {
	Reason     string
	RetryAfter time.Duration // when the last worker could have run it; 0 = not known
}

func (e *NotRunError) Error() string { return helix.ErrNotRun.Error() + ": " + e.Reason }

// Is matches helix.ErrNotRun.
func (e *NotRunError) Is(target error) bool { return target == helix.ErrNotRun }

// Reasons that no worker ran a job, other than those that workers send.
const (
	reasonNoWorker  = "no worker for this kind"
	reasonNoRoom    = "no worker has room in time"
	reasonNoTime    = "no time left to send it"
	reasonUnsent    = "it could not be sent"
	reasonLarge     = "larger than what can be sent"
	reasonLimit     = "as many jobs are elsewhere as may be"
	reasonClosed    = "client is closed"
	reasonMalformed = "worker could not read it"
)

// LostError reports that the outcome of a job is unknown: its worker died or fell silent, or the
// connection broke. It matches helix.ErrLost.
type LostError struct {
	Worker string
	Cause  string
}

func (e *LostError) Error() string {
	return fmt.Sprintf("%v: worker %s: %s", helix.ErrLost, e.Worker, e.Cause)
}

// Is matches helix.ErrLost.
func (e *LostError) Is(target error) bool { return target == helix.ErrLost }

// Why a job is lost.
const (
	causeGone         = "it is gone"
	causeSilent       = "it is silent"
	causeMissing      = "it does not have the job"
	causeDisconnected = "the connection broke"
	causeMalformed    = "its answer cannot be read"
)

// JobError is the error that a job returned at a worker; only its text is transferred.
// It matches context.Canceled if the job ended early because its submitter had left.
type JobError struct {
	Worker   string
	Text     string
	Canceled bool
}

func (e *JobError) Error() string { return e.Text }

// Is matches context.Canceled where the job was canceled.
func (e *JobError) Is(target error) bool { return e.Canceled && target == context.Canceled }
