package httpstats

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helixrouter/helix"
)

// explanation is the answer of api/explain.
type explanation struct {
	Strategy        string        `json:"strategy"`
	Reason          string        `json:"reason"`
	PredictedWaitMs *number       `json:"predicted_wait_ms"`
	PredictedRunMs  *number       `json:"predicted_run_ms"` // null if not known
	PredictedMs     *number       `json:"predicted_ms"`     // wait and run
	SlackMs         *number       `json:"slack_ms"`         // null without a budget
	ExcessMs        *number       `json:"excess_ms"`        // how far its kind's virtual queue is too long; null unless it is refused for that
	InFlight        *int          `json:"in_flight"`        // calls of its downstream; null unless it waits
	Limit           *int          `json:"limit"`            // on them, for its priority; null while there is none
	Demand          number        `json:"demand"`
	Share           number        `json:"share"`
	Rejected        []alternative `json:"rejected"`
}

// serveExplain answers with the decision that a job would get; no job is run.
func (h *Handler) serveExplain(w http.ResponseWriter, r *http.Request) {
	job, bad := parseExplain(r)
	if bad != nil {
		fail(w, true, http.StatusBadRequest, *bad)
		return
	}
	info, p, d := h.router.Consider(job)
	wait, run, both := predicted(&info, &d)
	inFlight, limit := calls(&info, &p)
	writeJSON(w, http.StatusOK, explanation{
		Strategy:        d.Strategy,
		Reason:          d.Reason,
		PredictedWaitMs: wait,
		PredictedRunMs:  run,
		PredictedMs:     both,
		SlackMs:         known(milliseconds(info.Slack), info.Budget > 0), // the kind may have one
		ExcessMs:        known(milliseconds(d.Excess), d.Excess > 0),
		InFlight:        inFlight,
		Limit:           limit,
		Demand:          number(p.Demand),
		Share:           number(p.Share),
		Rejected:        alternatives(d),
	})
}

// parseExplain reads the query. An empty parameter counts as absent, as an
// empty field of a form should.
func parseExplain(r *http.Request) (helix.Job, *failure) {
	job := helix.Job{Run: func(context.Context) (any, error) { return nil, nil }}
	q, bad := parseQuery(r, "kind", "cost", "scaling", "budget", "priority", "waits")
	if bad != nil {
		return job, bad
	}
	wrong := func(name, must string) (helix.Job, *failure) {
		return job, &failure{Error: name + " must be " + must, Field: name, Value: q[name]}
	}
	job.Kind = q["kind"]
	var ok bool
	if job.Cost, ok = parseNumber(q["cost"], math.MaxFloat64); !ok {
		return wrong("cost", "a finite number of at least 0")
	}
	if job.Scaling, ok = parseNumber(q["scaling"], 1); !ok {
		return wrong("scaling", "a number from 0 to 1")
	}
	if job.Budget, ok = parseBudget(q["budget"]); !ok {
		return wrong("budget", "a duration such as 80ms, or a number of milliseconds, of at least 0")
	}
	if text := q["priority"]; text != "" {
		if err := job.Priority.UnmarshalText([]byte(text)); err != nil {
			return wrong("priority", "low, normal or high")
		}
	}
	switch q["waits"] {
	case "", "0", "false", "off":
	case "1", "true", "on":
		job.Waits = true
	default:
		return wrong("waits", "true or false")
	}
	return job, nil
}

const (
	maxQuery = 4 << 10 // bytes
	maxText  = 256     // bytes of one value
)

// parseQuery returns the parameters of r, each at most once and all of them
// among names.
func parseQuery(r *http.Request, names ...string) (map[string]string, *failure) {
	if len(r.URL.RawQuery) > maxQuery {
		return nil, &failure{Error: fmt.Sprintf("the query is longer than %d bytes", maxQuery)}
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &failure{Error: "the query cannot be read: " + err.Error()}
	}
	q := make(map[string]string, len(values))
	for name, all := range values {
		switch {
		case !slices.Contains(names, name):
			return nil, &failure{
				Error: fmt.Sprintf("there is no parameter %.100q; there are %s", name, strings.Join(names, ", ")),
				Field: shorten(name), Value: shorten(all[0]),
			}
		case len(all) > 1:
			return nil, &failure{Error: name + " is given more than once", Field: name, Value: shorten(all[1])}
		case len(all[0]) > maxText:
			return nil, &failure{
				Error: fmt.Sprintf("%s is longer than %d bytes", name, maxText),
				Field: name, Value: shorten(all[0]),
			}
		}
		q[name] = all[0]
	}
	return q, nil
}

// parseNumber reads a number from 0 to most.
func parseNumber(text string, most float64) (float64, bool) {
	if text == "" {
		return 0, true
	}
	v, err := strconv.ParseFloat(text, 64)
	return v + 0, err == nil && v >= 0 && v <= most // false for NaN too
}

// parseBudget reads a duration, or a bare number of milliseconds.
func parseBudget(text string) (time.Duration, bool) {
	if text == "" {
		return 0, true
	}
	if d, err := time.ParseDuration(text); err == nil {
		return d, d >= 0
	}
	const most = float64(math.MaxInt64 / int64(time.Millisecond))
	ms, ok := parseNumber(text, most)
	return time.Duration(ms * float64(time.Millisecond)), ok
}
