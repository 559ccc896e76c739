package helix

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// Job is one piece of work handed to [Router.Submit] or [Router.Go]. Only Run
// is required; every other field helps the router to choose well.
type Job struct {
	// Kind names the sort of work. Run times are learned, and statistics
	// kept, per kind. Beyond RouterConfig.MaxKinds different names, new ones
	// share the kind "other". Defaults to "default".
	Kind string
	// Cost is the estimated compute cost in the kind's own unit (pixels,
	// tokens, rows). Until the kind has been learned one unit counts as
	// RouterConfig.UnitTime. Defaults to 0, which means not known.
	Cost float64
	// Scaling, from 0 to 1, says how well the work parallelises or batches.
	// Defaults to 0.
	Scaling float64
	// Budget is the latency budget, counted from Arrived. It steers the
	// choice and sheds work that cannot meet it; it never cancels a job that
	// runs. For Submit, and with Follow, the deadline of ctx counts as a budget where it is
	// earlier. Defaults to 0, which means none.
	Budget time.Duration
	// Arrived is when the work reached the service. Defaults to the moment
	// of the call.
	Arrived time.Time
	// Priority decides which jobs are refused first under overload. Defaults to Normal.
	Priority Priority
	// Waits says that the job mostly waits (I/O) and so needs no CPU slot.
	// Defaults to false.
	Waits bool
	// Follow has a job from Go end with the ctx that it was submitted with: it is withdrawn if
	// that is done before it starts, and its own ctx is done, with the same cause, when that is.
	// A job of Submit does so anyway. Defaults to false.
	Follow bool
	// Run does the work. Its ctx is the caller's for Submit; for Go it has the
	// caller's values but lives until the job ends, Future.Cancel or
	// Router.Close, unless the job is to Follow.
	Run func(ctx context.Context) (any, error)
	// Started, if not nil, is called on the goroutine of Run, just before it, with the
	// decision and how long the job waited since. A job that never starts does not
	// call it. A panic in it is one of the job's. Defaults to nil.
	Started func(d Decision, wait time.Duration)
}

// Result is what became of a [Job] that ran.
type Result struct {
	Value    any           // what Run returned
	Decision Decision      // the route taken and why
	Wait     time.Duration // from the decision to the start of Run
	Run      time.Duration // how long Run took
	Ran      bool          // Run was called: an error is its own, whatever it matches
}

// Hints are what [Task.SubmitWith] and [Task.GoWith] may say of one item; a zero field falls
// back to the task's [Kind]. See [Job] for the fields' meanings and units.
type Hints struct {
	Cost     float64
	Budget   time.Duration // shorter or longer than the kind's; NoBudget says that there is none
	Arrived  time.Time
	Priority Priority // PlainNormal says Normal where the kind has another
	Follow   bool     // see Job.Follow
}

// NoBudget says in [Hints] that an item has no budget although its kind has one.
const NoBudget time.Duration = math.MinInt64

// Priority decides which jobs are refused first under overload. It never changes the
// order among admitted jobs: that is earliest deadline first.
type Priority int8

// The three priorities. Normal is the zero value.
const (
	Low    Priority = -1
	Normal Priority = 0
	High   Priority = 1
)

// PlainNormal says Normal in [Hints], where the zero value means the kind's priority.
const PlainNormal Priority = math.MaxInt8

// String returns "low", "normal" or "high".
func (p Priority) String() string {
	switch p {
	case Low:
		return "low"
	case Normal, PlainNormal:
		return "normal"
	case High:
		return "high"
	}
	return fmt.Sprintf("Priority(%d)", int8(p))
}

// MarshalText writes the priority as its name.
func (p Priority) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads "low", "normal" or "high".
func (p *Priority) UnmarshalText(text []byte) error {
	for _, known := range []Priority{Low, Normal, High} {
		if string(text) == known.String() {
			*p = known
			return nil
		}
	}
	return fmt.Errorf("helix: priority %q: must be low, normal or high", text)
}

// Validate returns a *FieldError for the first field of j that cannot be used, or nil. It
// does not look at Run, so that a job can be checked before there is anything to run.
func (j *Job) Validate() error {
	if err := validCost("Job.Cost", j.Cost); err != nil {
		return err
	}
	if err := validFraction("Job.Scaling", j.Scaling); err != nil {
		return err
	}
	if err := validBudget("Job.Budget", j.Budget); err != nil {
		return err
	}
	return validPriority("Job.Priority", j.Priority)
}

// validate reports the first field of h that cannot be used.
func (h *Hints) validate() error {
	if err := validCost("Hints.Cost", h.Cost); err != nil {
		return err
	}
	if h.Budget != NoBudget {
		if err := validBudget("Hints.Budget", h.Budget); err != nil {
			return err
		}
	}
	if h.Priority == PlainNormal {
		return nil
	}
	return validPriority("Hints.Priority", h.Priority)
}

func validCost(field string, v float64) error {
	if v >= 0 && v <= math.MaxFloat64 { // also false for NaN
		return nil
	}
	return fieldError(field, v, "a finite number of at least 0")
}

func validFraction(field string, v float64) error {
	if v >= 0 && v <= 1 {
		return nil
	}
	return fieldError(field, v, "from 0 to 1")
}

func validBudget(field string, v time.Duration) error {
	if v >= 0 {
		return nil
	}
	return fieldError(field, v, "at least 0")
}

func validPriority(field string, v Priority) error {
	if v >= Low && v <= High {
		return nil
	}
	return fieldError(field, int8(v), "Low, Normal or High")
}

// maxKindName is the longest kind name kept, in bytes.
const maxKindName = 64

// The kinds that exist without being asked for.
const (
	kindDefault = "default" // jobs that name none
	kindOther   = "other"   // jobs of kinds beyond RouterConfig.MaxKinds
)

// cleanKind makes a name from outside fit for labels, logs and pages: valid
// UTF-8, no control characters, at most maxKindName bytes. A clean name comes
// back as it is, without allocating.
func cleanKind(name string) string {
	if name == "" {
		return kindDefault
	}
	if isCleanKind(name) {
		return name
	}
	if len(name) > 4*maxKindName { // bound the work below
		name = name[:4*maxKindName]
	}
	name = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return utf8.RuneError
		}
		return c
	}, strings.ToValidUTF8(name, "\uFFFD"))
	for len(name) > maxKindName {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return name
}

func isCleanKind(name string) bool {
	if len(name) > maxKindName {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c < ' ' || c == 0x7f {
			return false
		}
	}
	return utf8.ValidString(name)
}
