package helixhttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/helixrouter/helix"
)

// RefuseEarly makes the connections of l refuse requests of some patterns before net/http has
// parsed them, if the router would refuse them. That takes about a quarter less CPU than a
// refusal by the handler; most of the rest is the kernel's. Other requests are passed on
// unchanged, and the handler decides on them as usual. An early refusal is counted and
// answered like any other. Call it before l is served; [Serve] does the rest. With a server of
// your own, set http.Server.ConnState to [ConnState], or nothing is refused early.
//
// It works for complete heads of HTTP/1.1 that arrive in one piece (4 KiB), on connections
// without TLS, from the second request of a connection on. After an unusual request the rest
// of the connection is passed on unchanged: a chunked body, Expect, Upgrade, a line that does
// not end in CRLF, HTTP/1.0, Connection: close. Middleware around the handler, such as access
// logs and request counters, does not see requests that are refused early.
//
// The patterns are some of Config.Routes, without a host. The pattern of a request is the one
// of Config.Routes that an http.ServeMux would choose, so put all more specific patterns
// there. Config.Skip and Config.Pattern are not called. It fails, with a *helix.FieldError, if
// a pattern is not in Config.Routes, and with Config.Job, Config.Trust or Config.Refused,
// since their results depend on the rest of the request.
func (m *Middleware) RefuseEarly(l *Listener, patterns ...string) error {
	for field, is := range map[string]bool{"Job": m.cfg.Job != nil, "Trust": m.cfg.Trust != nil, "Refused": m.cfg.Refused != nil} {
		if is {
			return &helix.FieldError{Field: "Config." + field, Value: "set", Allowed: "nil, where requests are refused before they are parsed"}
		}
	}
	e := &early{m: m, literal: map[string]*helix.Job{}, byPattern: map[string]*helix.Job{}}
	e.texts.New = func() any { return new([]byte) }
	for _, pattern := range patterns {
		job, ok := m.cfg.Routes[pattern]
		if !ok {
			return &helix.FieldError{Field: "patterns", Value: strconv.Quote(pattern), Allowed: "patterns of Config.Routes"}
		}
		method, rest, found := strings.Cut(pattern, " ")
		if !found {
			method, rest = "", pattern
		}
		if rest = strings.TrimLeft(rest, " \t"); !strings.HasPrefix(rest, "/") {
			return &helix.FieldError{Field: "patterns", Value: strconv.Quote(pattern), Allowed: "patterns without a host"}
		}
		e.byPattern[pattern] = &job
		if method != "" && !strings.Contains(rest, "{") && !strings.HasSuffix(rest, "/") {
			e.literal[method+" "+rest] = &job
		}
	}
	for pattern := range m.cfg.Routes {
		if err := register(&e.mux, pattern); err != nil {
			return &helix.FieldError{Field: "Config.Routes[" + pattern + "]", Value: err.Error(), Allowed: "patterns that an http.ServeMux takes together"}
		}
		if !strings.HasPrefix(strings.TrimLeft(pattern[strings.IndexByte(pattern, ' ')+1:], " \t"), "/") {
			e.literal = nil // the host decides
		}
	}
	l.early = e
	return nil
}

// register registers a pattern on mux, or returns why it is invalid.
func register(mux *http.ServeMux, pattern string) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%v", v)
		}
	}()
	mux.Handle(pattern, http.NotFoundHandler())
	return nil
}

// early refuses requests by their heads alone.
type early struct {
	m         *Middleware
	literal   map[string]*helix.Job // by method and path, of patterns that match nothing else
	byPattern map[string]*helix.Job
	mux       http.ServeMux // has all patterns of Config.Routes
	texts     sync.Pool     // of *[]byte, for answers
	warned    sync.Once
}

// gate returns the gate that inspects the reads from a connection.
func (e *early) gate(conn net.Conn, latest *exchange, receive func([]byte) (int, error)) *gate {
	return &gate{conn: conn, receive: receive, warn: e.warn,
		refuse: func(h *head, send func([]byte) error) (bool, error) { return e.refuse(h, latest, send) }}
}

// refuse sends the answer to the latest request of a connection, if it is refused.
func (e *early) refuse(h *head, latest *exchange, send func([]byte) error) (bool, error) {
	job := e.job(h)
	if job == nil {
		return false, nil
	}
	arrived := latest.arrived()
	if arrived.IsZero() {
		arrived = time.Now()
	}
	of := *job
	of.Arrived = arrived.Add(-latest.answers.of(job.Budget))
	var drop *helix.DropError
	if err := e.m.router.Screen(of); !errors.As(err, &drop) {
		return false, nil
	}
	now := time.Now()
	age := now.Sub(arrived)
	e.m.router.Waited(age)
	text, _ := e.texts.Get().(*[]byte)
	*text = appendRefusal((*text)[:0], now, age, of.Budget, drop, e.m.cfg.HideTiming)
	err := send(*text)
	e.texts.Put(text)
	return true, err
}

// job returns the job of a request, or nil if it must not be refused here.
func (e *early) job(h *head) *helix.Job {
	if job := e.literal[string(h.route)]; job != nil {
		return job
	}
	if len(e.literal) == len(e.byPattern) {
		return nil
	}
	_, pattern := e.mux.Handler(&http.Request{Method: string(h.route[:h.method]), Host: string(h.host),
		URL: &url.URL{Path: string(h.path())}})
	return e.byPattern[pattern]
}

// appendRefusal appends the answer that net/http would send for a job refused at time now.
func appendRefusal(b []byte, now time.Time, age, budget time.Duration, drop *helix.DropError, hideTiming bool) []byte {
	status := http.StatusServiceUnavailable
	var retry []string
	if budget > 0 && age >= budget {
		status = http.StatusGatewayTimeout
	} else {
		retry = retryAfter(drop.RetryAfter)
	}
	text := drop.Error()
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(append(b, ' '), http.StatusText(status)...)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(text)+1), 10)
	b = append(b, "\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nDate: "...)
	b = now.UTC().AppendFormat(b, http.TimeFormat)
	if retry != nil {
		b = append(append(b, "\r\nRetry-After: "...), retry[0]...)
	}
	if !hideTiming {
		b = append(b, "\r\nServer-Timing: "...)
		b = appendAdmission(b, &Admission{Decision: drop.Decision, Wait: drop.Waited, Age: age - drop.Waited})
	}
	b = append(append(b, emptyLine...), text...)
	return append(b, '\n')
}

// warn logs, once, that the gate cannot know when connections are between two requests.
func (e *early) warn() {
	e.warned.Do(func() {
		e.m.router.Config().Logger.LogAttrs(context.Background(), slog.LevelWarn, "helixhttp: RefuseEarly has no effect: http.Server.ConnState is not helixhttp.ConnState")
	})
}
