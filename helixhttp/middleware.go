package helixhttp

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/helixrouter/helix"
)

// Config says which job a request becomes. The zero value is ready for use.
type Config struct {
	// Default is the job of a request whose pattern Routes does not name. Its Run and
	// Started are ignored. Defaults to a job without a budget.
	Default helix.Job
	// Routes are the jobs by pattern, spelled as for http.ServeMux: "POST /thumbnails".
	// An empty Kind means the pattern. A pattern that no wrapped mux has is logged at the first
	// request. A route that streams without end, such as server-sent events, needs Waits and no
	// Budget: else each stream holds a slot, or the streams count as calls to a downstream that
	// hangs. Defaults to nil.
	Routes map[string]helix.Job
	// Pattern returns the pattern of a request. Defaults to the match of the wrapped handler if
	// it is an http.ServeMux, else to that of a mux around the middleware. Requests without
	// a pattern share the kind "http".
	Pattern func(*http.Request) string
	// Job edits the job of one request: its cost from the content length, its priority
	// from the client. It must be fast. Defaults to nil.
	Job func(*http.Request, *helix.Job)
	// Skip reports whether a request bypasses the router. Defaults to requests that leave HTTP:
	// CONNECT, and an upgrade such as to WebSocket, but not one to h2c, which some clients offer
	// with every request. If no route upgrades, return false always, because any client can send
	// an upgrade request.
	Skip func(*http.Request) bool
	// Trust reports whether the client's headers count: grpc-timeout and BudgetHeader may
	// shorten the budget, and Priority (RFC 9218) sets the priority. Defaults to never.
	Trust func(*http.Request) bool
	// BudgetHeader is the name of a header with the client's budget, from the arrival on:
	// milliseconds ("250"), or a duration as Go writes it ("250ms"). Defaults to none.
	BudgetHeader string
	// Refused writes the body of a request that was not run; header and status are set
	// then, but not sent: it may change the header and must call WriteHeader(status).
	// Defaults to one line of text with the reason.
	Refused func(w http.ResponseWriter, r *http.Request, status int, err error)
	// HideTiming omits the Server-Timing header, which shows clients how long a request waited
	// and which strategy ran it. Defaults to false.
	HideTiming bool
}

// Middleware turns requests into jobs of a router. It is safe for concurrent use.
type Middleware struct {
	router *helix.Router
	cfg    Config
	around wrapping
}

// New makes a middleware. It fails, with a *helix.FieldError, if a job in cfg has an invalid
// value or, without Config.Pattern, if a pattern in Config.Routes is not valid for an
// http.ServeMux.
func New(router *helix.Router, cfg Config) (*Middleware, error) {
	if router == nil {
		return nil, &helix.FieldError{Field: "router", Value: "nil", Allowed: "a router"}
	}
	if err := validIn("Default", &cfg.Default); err != nil {
		return nil, err
	}
	if cfg.Pattern == nil {
		if err := validPatterns(cfg.Routes); err != nil {
			return nil, err
		}
	}
	routes := make(map[string]helix.Job, len(cfg.Routes))
	for pattern, job := range cfg.Routes {
		if err := validIn("Routes["+pattern+"]", &job); err != nil {
			return nil, err
		}
		if job.Kind == "" {
			job.Kind = pattern
		}
		routes[pattern] = job
	}
	cfg.Routes = routes
	if cfg.Skip == nil {
		cfg.Skip = leavesHTTP
	}
	return &Middleware{router: router, cfg: cfg}, nil
}

// validIn calls job.Validate and names a field of Config in its error.
func validIn(field string, job *helix.Job) error {
	err := job.Validate()
	if bad := (*helix.FieldError)(nil); errors.As(err, &bad) {
		return &helix.FieldError{Field: "Config." + field + strings.TrimPrefix(bad.Field, "Job"), Value: bad.Value, Allowed: bad.Allowed}
	}
	return err
}

// Wrap returns a handler that runs next as a job. Around an http.ServeMux, one call
// serves all its routes.
//
// next gets the original ResponseWriter, so flushing, hijacking and trailers work, and Yield
// and nested jobs work with the request's ctx. It may run on another goroutine than
// ServeHTTP, which waits for it. If it panics, ServeHTTP panics: with http.ErrAbortHandler if
// that was the value, with a *helix.PanicError otherwise.
//
// A request that is not run gets 503, with Retry-After unless waiting cannot help; 503 and
// Connection: close while the router drains; 504 if its budget has
// already passed. If its client has gone, ServeHTTP panics with http.ErrAbortHandler, so that
// net/http sends no answer. If Config.Job makes an invalid job, the request gets 500 and the
// router's Logger an error.
func (m *Middleware) Wrap(next http.Handler) http.Handler {
	pattern := m.cfg.Pattern
	if pattern == nil {
		pattern = patternOf(next)
	}
	m.wraps(next)
	return &handler{m, next, pattern}
}

// patternOf returns a function that returns the pattern of requests for h.
func patternOf(h http.Handler) func(*http.Request) string {
	mux, ok := h.(matcher)
	return func(r *http.Request) string {
		if ok { // r.Pattern is that of a mux around it
			if _, pattern := mux.Handler(r); pattern != "" {
				return pattern
			}
		}
		return r.Pattern
	}
}

// leavesHTTP reports whether a request switches its connection to another protocol.
func leavesHTTP(r *http.Request) bool {
	if r.Method == http.MethodConnect {
		return true
	}
	if to := r.Header.Get("Upgrade"); to == "" || strings.EqualFold(to, "h2c") { // net/http declines h2c
		return false
	}
	for _, line := range r.Header["Connection"] {
		for token := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "upgrade") {
				return true
			}
		}
	}
	return false
}

// handler is a Middleware around a handler.
type handler struct {
	*Middleware
	next    http.Handler
	pattern func(*http.Request) string
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.cfg.Skip(r) {
		h.next.ServeHTTP(w, r)
		return
	}
	h.around.once.Do(h.checkRoutes)
	job := h.describe(r)
	if x := exchangeOf(r); x != nil && r.ProtoMajor == 1 { // only there the arrival is exact
		// The wait ends with the read, not here: middleware around this one may wait for
		// something else, and refusals would not shorten that.
		h.router.Waited(time.Duration(x.waited.Load()))
	}
	if err := h.submit(w, r, &job); err != nil {
		h.refuse(w, r, &job, err)
	}
}

// describe returns the job of a request, without its Run and Started.
func (h *handler) describe(r *http.Request) helix.Job {
	pattern := h.pattern(r)
	job, ok := h.cfg.Routes[pattern]
	if !ok {
		if job = h.cfg.Default; job.Kind == "" {
			job.Kind = pattern
		}
		if job.Kind == "" {
			job.Kind = "http"
		}
	}
	job.Arrived = Arrived(r)
	if h.cfg.Job != nil {
		h.cfg.Job(r, &job)
	}
	if h.cfg.Trust != nil && h.cfg.Trust(r) {
		h.heed(r, &job)
	}
	if job.Arrived.IsZero() {
		job.Arrived = time.Now()
	}
	return job
}

// submit runs the handler as a job. The error is of a request that was not run.
func (h *handler) submit(w http.ResponseWriter, r *http.Request, job *helix.Job) error {
	admission := &Admission{}
	ctx := context.WithValue(r.Context(), admissionKey{}, admission)
	run, latest := *job, exchangeOf(r)
	if r.ProtoMajor != 1 {
		latest = nil // of several requests at once
	}
	if latest != nil {
		run.Arrived = job.Arrived.Add(-latest.answers.of(job.Budget))
	}
	run.Started = func(d helix.Decision, wait time.Duration) {
		admission.Decision, admission.Wait = d, wait
		admission.Age = max(time.Since(job.Arrived)-wait, 0)
		if !h.cfg.HideTiming {
			setTiming(w.Header(), admission)
		}
	}
	run.Run = func(ctx context.Context) (any, error) {
		own := r.WithContext(ctx)
		defer func() { // for net/http, which removes the form's files, and for logs around the middleware
			r.MultipartForm, r.Pattern = own.MultipartForm, own.Pattern
		}()
		h.next.ServeHTTP(w, own)
		if latest != nil {
			latest.returned()
		}
		return nil, nil
	}
	_, err := h.router.Submit(ctx, run)
	return err
}

// refuse answers a request that was not run.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, job *helix.Job, err error) {
	status := http.StatusServiceUnavailable
	header := w.Header()
	var drop *helix.DropError
	switch {
	case !errors.Is(err, helix.ErrNotRun):
		h.router.Config().Logger.LogAttrs(r.Context(), slog.LevelError, "helixhttp: Config.Job made a job that cannot be used",
			slog.String("kind", job.Kind), slog.String("error", err.Error()))
		status = http.StatusInternalServerError
	case errors.Is(r.Context().Err(), context.Canceled):
		panic(http.ErrAbortHandler)
	case errors.Is(err, context.DeadlineExceeded), job.Budget > 0 && time.Since(job.Arrived) >= job.Budget:
		status = http.StatusGatewayTimeout
	case errors.Is(err, helix.ErrClosed):
		header["Retry-After"] = retryAfter(time.Second)
		header["Connection"] = closeConnection
	case errors.As(err, &drop):
		if retry := retryAfter(drop.RetryAfter); retry != nil {
			header["Retry-After"] = retry
		}
	}
	if errors.As(err, &drop) && !h.cfg.HideTiming {
		setTiming(header, &Admission{Decision: drop.Decision, Wait: drop.Waited, Age: time.Since(job.Arrived) - drop.Waited})
	}
	if h.cfg.Refused != nil {
		h.cfg.Refused(w, r, status, err)
		return
	}
	writeRefusal(w, status, err)
}
