package httpstats

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/helixrouter/helix"
)

// decision is a [helix.Event] as the page gets it; unknown and inapplicable fields are null.
type decision struct {
	Seq      uint64       `json:"seq"`
	TimeMs   int64        `json:"t_ms"`
	Kind     string       `json:"kind"`
	Strategy string       `json:"strategy"`
	Reason   string       `json:"reason"`
	Status   helix.Status `json:"status"`

	PredictedMs     *number `json:"predicted_ms"` // wait and run
	PredictedWaitMs *number `json:"predicted_wait_ms"`
	PredictedRunMs  *number `json:"predicted_run_ms"`
	SpreadMs        *number `json:"spread_ms"`
	Samples         uint64  `json:"samples"`

	TookMs  *number `json:"took_ms"` // null if it did not run
	WaitMs  *number `json:"wait_ms"` // until it started, was refused after admission or withdrawn
	RunMs   *number `json:"run_ms"`
	Members int     `json:"members"`
	Where   *string `json:"where"` // the worker that ran it, if its strategy reports one

	SoonestMs *number `json:"soonest_ms"` // predicted time until its earliest slot
	TurnMs    *number `json:"turn_ms"`    // the kind's admitted work, divided by its guaranteed rate
	InFlight  *int    `json:"in_flight"`  // calls of its downstream; only of a job that waits
	Limit     *int    `json:"limit"`      // on them, for its priority; null while there is none
	ExcessMs  *number `json:"excess_ms"`  // how far its kind's virtual queue was too long; only of a refusal
	RetryMs   *number `json:"retry_ms"`   // as its DropError says; only of a refusal

	BudgetMs *number `json:"budget_ms"`
	SlackMs  *number `json:"slack_ms"`
	InBudget *bool   `json:"in_budget"` // null if it had no budget or did not run

	Cost     *number        `json:"cost"`
	Scaling  number         `json:"scaling"`
	Priority helix.Priority `json:"priority"`
	Async    bool           `json:"async"`
	Demand   number         `json:"demand"`
	Share    number         `json:"share"`
	CPUBusy  int            `json:"cpu_busy"`
	Slots    int            `json:"slots"`
	Queued   int            `json:"queued"`
	Rejected []alternative  `json:"rejected"`
	Admitted *admission     `json:"admitted"` // null unless it was refused after it had been admitted
	Error    *string        `json:"error"`    // what the job returned, for one that failed
}

// admission is the decision that admitted a job that was refused later. The other fields are
// then those of the refusal.
type admission struct {
	Strategy        string  `json:"strategy"`
	Reason          string  `json:"reason"`
	PredictedMs     *number `json:"predicted_ms"`
	PredictedWaitMs *number `json:"predicted_wait_ms"`
	SlackMs         *number `json:"slack_ms"`
}

func newAdmission(e *helix.Event) *admission {
	a := e.Admission
	if a == nil {
		return nil
	}
	wait, _, both := predicted(&e.Info, a)
	return &admission{
		Strategy:        a.Strategy,
		Reason:          a.Reason,
		PredictedMs:     both,
		PredictedWaitMs: wait,
		SlackMs:         known(milliseconds(a.Slack), e.Info.Budget > 0),
	}
}

// predicted returns what a decision predicts of a job: its wait, its run, and the sum; nil if not
// known.
func predicted(j *helix.JobInfo, d *helix.Decision) (wait, run, both *number) {
	runs := d.Run
	if runs == 0 {
		runs = j.Predicted // a custom policy may leave it empty
	}
	w, r := milliseconds(d.Wait), milliseconds(runs)
	return known(w, runs > 0 || d.Wait > 0), known(r, runs > 0), known(w+r, runs > 0) // as durations they might overflow
}

type alternative struct {
	Strategy string `json:"strategy"`
	Reason   string `json:"reason"`
}

func newDecision(e *helix.Event) decision {
	ran, budgeted := e.Outcome.Members > 0, e.Info.Budget > 0
	wait, run, both := predicted(&e.Info, &e.Decision)
	slack := e.Info.Slack
	if e.Admission != nil {
		slack = e.Decision.Slack // what was left when it was refused
	}
	d := decision{
		Seq:      e.Seq,
		TimeMs:   e.Time.UnixMilli(),
		Kind:     e.Info.Kind,
		Strategy: e.Decision.Strategy,
		Reason:   e.Decision.Reason,
		Status:   e.Outcome.Status,

		PredictedMs:     both,
		PredictedWaitMs: wait,
		PredictedRunMs:  run,
		SpreadMs:        known(milliseconds(e.Info.Spread), e.Info.Samples > 0),
		Samples:         e.Info.Samples,

		TookMs:  known(milliseconds(e.Outcome.Latency), ran),
		WaitMs:  known(milliseconds(e.Outcome.Wait), ran || e.Admission != nil || e.Outcome.Status == helix.Withdrawn),
		RunMs:   known(milliseconds(e.Outcome.Run), ran),
		Members: e.Outcome.Members,

		SoonestMs: known(milliseconds(e.Pressure.Soonest), !e.Info.Waits && (e.Pressure.Soonest > 0 || e.Pressure.CPUBusy < e.Pressure.Slots)),
		TurnMs:    known(milliseconds(e.Pressure.Turn), !e.Info.Waits),
		ExcessMs:  known(milliseconds(e.Decision.Excess), e.Decision.Excess > 0),

		BudgetMs: known(milliseconds(e.Info.Budget), budgeted),
		SlackMs:  known(milliseconds(slack), budgeted),

		Cost:     known(number(e.Info.Cost), e.Info.Cost > 0),
		Scaling:  number(e.Info.Scaling),
		Priority: e.Info.Priority,
		Async:    e.Info.Async,
		Demand:   number(e.Pressure.Demand),
		Share:    number(e.Pressure.Share),
		CPUBusy:  e.Pressure.CPUBusy,
		Slots:    e.Pressure.Slots,
		Queued:   e.Pressure.Queued,
		Rejected: alternatives(e.Decision),
		Admitted: newAdmission(e),
	}
	d.InFlight, d.Limit = calls(&e.Info, &e.Pressure)
	if ran && budgeted {
		inBudget := e.Outcome.InBudget
		d.InBudget = &inBudget
	}
	if drop := new(helix.DropError); errors.As(e.Outcome.Err, &drop) {
		d.RetryMs = known(milliseconds(drop.RetryAfter), drop.RetryAfter > 0)
	}
	if where := e.Outcome.Where; where != "" {
		where = labelValue(where)
		d.Where = &where
	}
	if e.Outcome.Status == helix.Failed && e.Outcome.Err != nil {
		text := errorText(e.Outcome.Err)
		d.Error = &text
	}
	return d
}

// calls returns how many calls of the downstream of a job are in flight, nil unless it waits, and
// how many there may be, nil without a limit.
func calls(j *helix.JobInfo, p *helix.Pressure) (inFlight, limit *int) {
	if j.Waits {
		inFlight = &p.InFlight
		if p.DownstreamLimit > 0 {
			limit = &p.DownstreamLimit
		}
	}
	return inFlight, limit
}

func alternatives(d helix.Decision) []alternative {
	list := make([]alternative, 0, len(d.Rejected))
	for _, a := range d.Rejected {
		if a.Strategy != "" {
			list = append(list, alternative(a))
		}
	}
	return list
}

const maxErrorText = 200 // bytes

// errorText returns the start of the text of a job's error, without the stack of a panic. The
// error is the user's: its Error method may panic, too.
func errorText(err error) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprintf("%T (its Error method panicked)", err)
		}
	}()
	var panicked *helix.PanicError
	if errors.As(err, &panicked) {
		text = fmt.Sprintf("panic: %v", panicked.Value)
	} else {
		text = err.Error()
	}
	if len(text) > maxErrorText {
		text = text[:maxErrorText] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// sample returns at most n of events, oldest first, so that no strategy hides another: it takes
// the newest of each in turn. turn is the strategy to begin with, for more strategies than
// n; drops always come first.
func sample(events []helix.Event, n, turn int) []helix.Event {
	if len(events) <= n {
		return events
	}
	byStrategy := make(map[string][]helix.Event)
	for _, e := range events {
		byStrategy[e.Decision.Strategy] = append(byStrategy[e.Decision.Strategy], e)
	}
	var names []string
	for name := range byStrategy {
		if name != helix.Drop {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) > 0 {
		turn %= len(names)
		names = slices.Concat(names[turn:], names[:turn])
	}
	if byStrategy[helix.Drop] != nil {
		names = slices.Insert(names, 0, helix.Drop)
	}
	picked := make([]helix.Event, 0, n)
	for i := 0; len(picked) < n; i = (i + 1) % len(names) {
		left := byStrategy[names[i]]
		if len(left) == 0 {
			continue
		}
		picked = append(picked, left[len(left)-1])
		byStrategy[names[i]] = left[:len(left)-1]
	}
	slices.SortFunc(picked, func(a, b helix.Event) int {
		switch {
		case a.Seq < b.Seq:
			return -1
		case a.Seq > b.Seq:
			return 1
		}
		return 0
	})
	return picked
}
