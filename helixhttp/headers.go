package helixhttp

import (
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/helixrouter/helix"
)

// heed applies the headers of a trusted client to its job.
func (h *handler) heed(r *http.Request, job *helix.Job) {
	if v := r.Header["Grpc-Timeout"]; len(v) > 0 {
		if d, ok := grpcTimeout(v[0]); ok {
			shorten(job, d)
		}
	}
	if h.cfg.BudgetHeader != "" {
		if v := r.Header.Get(h.cfg.BudgetHeader); v != "" {
			if d, ok := headerBudget(v); ok {
				shorten(job, d)
			}
		}
	}
	if v := r.Header["Priority"]; len(v) > 0 {
		if urgency, ok := urgency(strings.Join(v, ",")); ok {
			job.Priority = priorityOf(urgency)
		}
	}
}

// shorten makes the budget at most d. If d is not positive the budget is the least one, since 0
// would mean none.
func shorten(job *helix.Job, d time.Duration) {
	if d = max(d, 1); job.Budget == 0 || d < job.Budget {
		job.Budget = d
	}
}

// grpcUnits are those of grpc-timeout.
// See https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
var grpcUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second,
	'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// grpcTimeout reads a grpc-timeout: one to eight digits and a unit.
func grpcTimeout(v string) (time.Duration, bool) {
	if len(v) < 2 || len(v) > 9 {
		return 0, false
	}
	unit, ok := grpcUnits[v[len(v)-1]]
	n, digits := number(v[:len(v)-1])
	if !ok || !digits {
		return 0, false
	}
	return times(unit, n), true
}

// headerBudget reads milliseconds, or a duration as Go writes it.
func headerBudget(v string) (time.Duration, bool) {
	v = textproto.TrimString(v)
	if n, ok := number(v); ok {
		return times(time.Millisecond, n), true
	}
	d, err := time.ParseDuration(v)
	return min(d, longest), err == nil
}

// number reads digits, and nothing but digits.
func number(v string) (uint64, bool) {
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(v, 10, 64)
	return n, err == nil
}

// longest is the longest budget that a header can set.
const longest = 1000 * time.Hour

// times returns n units, at most longest.
func times(unit time.Duration, n uint64) time.Duration {
	if n >= uint64(longest/unit) {
		return longest
	}
	return unit * time.Duration(n)
}

// urgency reads u from a Priority header, a dictionary of structured fields (RFC 9218,
// section 4.1): 0 is the most urgent, 7 the least. Of a name given twice the last counts.
// Other members may be anything.
func urgency(v string) (u int, ok bool) {
	for v != "" {
		var member string
		member, v = cutMember(v)
		member, _, _ = strings.Cut(textproto.TrimString(member), ";") // without parameters
		if value, is := strings.CutPrefix(member, "u="); is {
			value = textproto.TrimString(value)
			ok = len(value) == 1 && value[0] >= '0' && value[0] <= '7'
			if ok {
				u = int(value[0] - '0')
			}
		}
	}
	return u, ok
}

// cutMember splits at the first comma outside of quoted strings.
func cutMember(v string) (member, rest string) {
	quoted := false
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			return v[:i], v[i+1:]
		}
	}
	return v, ""
}

// priorityOf returns the priority for an urgency; 3 is the default of a request.
func priorityOf(urgency int) helix.Priority {
	switch {
	case urgency < 3:
		return helix.High
	case urgency > 3:
		return helix.Low
	}
	return helix.Normal
}

// closeConnection is a header's value: the client's next request goes to another server.
var closeConnection = []string{"close"}

// retryAfter returns the Retry-After header for a wait of at least d, or nil if waiting does not
// help. It adds up to as much again, at random, so that clients that were refused together do
// not return together.
func retryAfter(d time.Duration) []string {
	if d <= 0 {
		return nil
	}
	seconds := int64((min(d, longest) + time.Second - 1) / time.Second)
	return []string{strconv.FormatInt(seconds+rand.Int64N(seconds+1), 10)}
}

// setTiming tells the client about a request that was admitted or refused.
// See https://www.w3.org/TR/server-timing/.
func setTiming(h http.Header, a *Admission) {
	h["Server-Timing"] = append(h["Server-Timing"], string(appendAdmission(make([]byte, 0, 128), a)))
}

// appendAdmission appends the value of that header.
func appendAdmission(b []byte, a *Admission) []byte {
	b = appendTiming(b, "arrival", a.Age)
	b = append(b, ", "...)
	b = appendTiming(b, "queue", a.Wait)
	b = append(b, `;desc="`...)
	b = appendQuotable(b, a.Decision.Strategy)
	if a.Decision.Strategy == helix.Drop {
		b = append(b, ": "...)
		b = appendQuotable(b, a.Decision.Reason)
	}
	return append(b, '"')
}

// appendTiming appends a metric with its milliseconds.
func appendTiming(b []byte, name string, d time.Duration) []byte {
	b = append(append(b, name...), ";dur="...)
	return strconv.AppendFloat(b, float64(max(d, 0).Microseconds())/1000, 'f', -1, 64)
}

// appendQuotable appends what of s may stand in a quoted string.
func appendQuotable(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
			b = append(b, c)
		}
	}
	return b
}

// writeRefusal sends the status, and one line of text with the reason.
func writeRefusal(w http.ResponseWriter, status int, err error) {
	text := err.Error()
	if status == http.StatusInternalServerError {
		text = http.StatusText(status) // details go to the log
	}
	h := w.Header()
	h["Content-Type"] = plainText
	h["X-Content-Type-Options"] = noSniff
	h.Del("Content-Length") // left to net/http: middleware around this one may compress the text
	w.WriteHeader(status)
	_, _ = w.Write(append([]byte(text), '\n')) // a client that has gone needs no answer
}

var (
	plainText = []string{"text/plain; charset=utf-8"}
	noSniff   = []string{"nosniff"}
)
