package helixhttp_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
	"github.com/stretchr/testify/require"
)

func TestRequestsAreJobsOfTheirPatternsKind(t *testing.T) {
	var last helix.JobInfo
	r := newRouter(t, helix.RouterConfig{Policy: deciding{helix.Decision{Strategy: helix.Inline}, &last}})
	m := newMiddleware(t, r, helixhttp.Config{
		Default: helix.Job{Budget: time.Second},
		Routes: map[string]helix.Job{
			"GET /thumb/{id}": {Budget: 80 * time.Millisecond, Cost: 5, Priority: helix.High, Waits: true},
			"/named":          {Kind: "a name"},
		},
		Job: func(r *http.Request, job *helix.Job) {
			if cost := r.URL.Query().Get("cost"); cost != "" {
				job.Cost, _ = strconv.ParseFloat(cost, 64)
			}
		},
	})
	mux := http.NewServeMux()
	for _, pattern := range []string{"GET /thumb/{id}", "/named", "/plain"} {
		mux.HandleFunc(pattern, answering(pattern))
	}
	around := m.Wrap(mux)
	inside := http.NewServeMux()
	for _, pattern := range []string{"GET /thumb/{id}", "/named", "/plain"} {
		inside.Handle(pattern, m.Wrap(answering(pattern)))
	}
	for name, h := range map[string]http.Handler{"around a mux": around, "inside one": inside} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, "GET /thumb/{id}", get(h, "/thumb/7").Body.String())
			require.Equal(t, "GET /thumb/{id}", last.Kind)
			require.Equal(t, 80*time.Millisecond, last.Budget)
			require.Equal(t, 5., last.Cost)
			require.Equal(t, helix.High, last.Priority)
			require.True(t, last.Waits)

			require.Equal(t, 200, get(h, "/named?cost=9").Code)
			require.Equal(t, "a name", last.Kind)
			require.Zero(t, last.Budget, "a route's job is the whole job")
			require.Equal(t, 9., last.Cost)

			require.Equal(t, 200, get(h, "/plain").Code)
			require.Equal(t, "/plain", last.Kind)
			require.Equal(t, time.Second, last.Budget)
		})
	}
	require.Equal(t, 404, get(around, "/nowhere").Code)
	require.Equal(t, "http", last.Kind)
}

// A mux around the middleware has matched "/" by then.
func TestPatternsOfAMuxInsideAMux(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	inner, outer := http.NewServeMux(), http.NewServeMux()
	inner.Handle("GET /report", answering("report"))
	m := newMiddleware(t, r, helixhttp.Config{Routes: map[string]helix.Job{"GET /report": {Budget: time.Minute}}})
	outer.Handle("/", m.Wrap(inner))
	outer.Handle("GET /other", m.Wrap(answering("other")))
	for _, path := range []string{"/report", "/other", "/nowhere"} {
		outer.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	}
	kinds := map[string]uint64{}
	for _, k := range r.Stats().Kinds {
		kinds[k.Name] = k.Promised
	}
	require.Equal(t, map[string]uint64{"GET /report": 1, "GET /other": 0, "/": 0}, kinds)
}

func TestPatternsFromAnotherRouter(t *testing.T) {
	var last helix.JobInfo
	r := newRouter(t, helix.RouterConfig{Policy: deciding{helix.Decision{Strategy: helix.Inline}, &last}})
	m := newMiddleware(t, r, helixhttp.Config{Pattern: func(r *http.Request) string { return "by " + r.Method }})
	require.Equal(t, 200, get(m.Wrap(answering("")), "/a").Code)
	require.Equal(t, "by GET", last.Kind)
}

func TestBadConfigIsAnErrorThatNamesTheField(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	for field, cfg := range map[string]helixhttp.Config{
		"Config.Default.Budget":      {Default: helix.Job{Budget: -1}},
		"Config.Routes[/a].Cost":     {Routes: map[string]helix.Job{"/a": {Cost: math.NaN()}}},
		"Config.Routes[/b].Priority": {Routes: map[string]helix.Job{"/b": {Priority: 3}}},
	} {
		_, err := helixhttp.New(r, cfg)
		var bad *helix.FieldError
		require.ErrorAs(t, err, &bad)
		require.Equal(t, field, bad.Field)
	}
	_, err := helixhttp.New(nil, helixhttp.Config{})
	require.Error(t, err)
}

func TestARefusalIs503WithRetryAfter(t *testing.T) {
	ran := false
	run := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran = true })
	refusing := func(excess time.Duration) http.Handler {
		r := newRouter(t, helix.RouterConfig{Policy: deciding{Decision: helix.Decision{
			Strategy: helix.Drop, Reason: `not "today"`, Excess: excess,
		}}})
		return newMiddleware(t, r, helixhttp.Config{}).Wrap(run)
	}
	seen := map[string]bool{}
	for range 50 {
		h := refusing(1500 * time.Millisecond)
		w := get(h, "/")
		require.Equal(t, 503, w.Code)
		seconds, err := strconv.Atoi(w.Header().Get("Retry-After"))
		require.NoError(t, err, "whole seconds")
		require.GreaterOrEqual(t, seconds, 2, "never sooner than predicted, rounded up")
		require.Contains(t, w.Body.String(), `not "today"`)
		require.Regexp(t, `^arrival;dur=[0-9.]+, queue;dur=0;desc="drop: not today"$`, w.Header().Get("Server-Timing"))
		seen[w.Header().Get("Retry-After")] = true
	}
	require.Greater(t, len(seen), 1, "those refused together do not come back together")

	w := get(refusing(0), "/")
	require.Equal(t, 503, w.Code)
	require.NotContains(t, w.Header(), "Retry-After", "waiting cannot help")
	require.False(t, ran)
}

func TestRefusedWritesTheAnswer(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{Policy: deciding{Decision: helix.Decision{Strategy: helix.Drop, Excess: time.Second}}})
	m := newMiddleware(t, r, helixhttp.Config{
		HideTiming: true,
		Refused: func(w http.ResponseWriter, r *http.Request, status int, err error) {
			require.ErrorIs(t, err, helix.ErrDropped)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"retry":true}`))
		},
	})
	w := get(m.Wrap(answering("")), "/")
	require.Equal(t, 503, w.Code)
	require.Equal(t, `{"retry":true}`, w.Body.String())
	require.NotEmpty(t, w.Header().Get("Retry-After"))
	require.NotContains(t, w.Header(), "Server-Timing")
}

func TestADrainingRouterSendsClientsElsewhere(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	require.NoError(t, r.Drain(t.Context()))
	w := get(newMiddleware(t, r, helixhttp.Config{}).Wrap(answering("")), "/")
	require.Equal(t, 503, w.Code)
	require.Equal(t, "close", w.Header().Get("Connection"))
	require.NotEmpty(t, w.Header().Get("Retry-After"))
}

// occupy holds the only slot of a router until release is called.
func occupy(t *testing.T, r *helix.Router) (release func()) {
	end := make(chan struct{})
	f, err := r.Go(context.Background(), helix.Job{Kind: "occupant", Run: func(context.Context) (any, error) { <-end; return nil, nil }})
	require.NoError(t, err)
	synctest.Wait()
	return func() {
		close(end)
		_, err := f.Wait(context.Background())
		require.NoError(t, err)
	}
}

func TestABudgetThatPassesWhileTheRequestWaitsIs504(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 1, Policy: deciding{Decision: helix.Decision{Strategy: helix.CPUPool}}})
		release := occupy(t, r)
		m := newMiddleware(t, r, helixhttp.Config{
			Default: helix.Job{Budget: 30 * time.Millisecond},
			Routes:  map[string]helix.Job{"/patient": {}},
		})
		start := time.Now()
		w := get(m.Wrap(answering("")), "/")
		require.Equal(t, 504, w.Code)
		require.Equal(t, 30*time.Millisecond, time.Since(start), "told when it passes, not when a slot comes")
		require.NotContains(t, w.Header(), "Retry-After")

		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		rec := httptest.NewRecorder()
		mux := http.NewServeMux()
		mux.HandleFunc("/patient", answering(""))
		m.Wrap(mux).ServeHTTP(rec, httptest.NewRequestWithContext(ctx, "GET", "/patient", nil))
		require.Equal(t, 504, rec.Code, "the deadline of the ctx is a budget too")
		release()
	})
}

func TestNothingIsAnsweredToAClientThatHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 1, Policy: deciding{Decision: helix.Decision{Strategy: helix.CPUPool}}})
		release := occupy(t, r)
		ctx, leave := context.WithCancel(t.Context())
		go func() {
			time.Sleep(time.Millisecond)
			leave()
		}()
		w := httptest.NewRecorder()
		h := newMiddleware(t, r, helixhttp.Config{}).Wrap(answering("never"))
		require.PanicsWithValue(t, http.ErrAbortHandler, func() {
			h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/", nil))
		})
		require.Empty(t, w.Result().Header)
		require.Zero(t, w.Body.Len())
		release()
		require.EqualValues(t, 1, r.Stats().Withdrawn)
	})
}

func TestPanicsAreWhatNetHTTPExpects(t *testing.T) {
	for _, strategy := range []string{helix.Inline, helix.Spawn, helix.CPUPool} {
		t.Run(strategy, func(t *testing.T) {
			r := newRouter(t, helix.RouterConfig{Policy: deciding{Decision: helix.Decision{Strategy: strategy}}})
			m := newMiddleware(t, r, helixhttp.Config{})
			h := m.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
			require.PanicsWithValue(t, http.ErrAbortHandler, func() { get(h, "/") })

			cause := errors.New("a fault")
			h = m.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(cause) }))
			func() {
				defer func() {
					err, ok := recover().(error)
					require.True(t, ok)
					require.ErrorIs(t, err, cause)
					require.Contains(t, err.Error(), "middleware_test.go", "the stack is the handler's")
				}()
				get(h, "/")
			}()

			h = m.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { runtime.Goexit() }))
			returned := true
			var wait sync.WaitGroup
			wait.Go(func() {
				get(h, "/")
				returned = false
			})
			wait.Wait()
			require.True(t, returned, "runtime.Goexit carries on in the goroutine that serves")
			require.EqualValues(t, 3, r.Stats().Failed)
		})
	}
}

func TestAJobThatCannotBeUsedIs500AndLogged(t *testing.T) {
	var log bytes.Buffer
	r := newRouter(t, helix.RouterConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	m := newMiddleware(t, r, helixhttp.Config{Job: func(_ *http.Request, job *helix.Job) { job.Cost = math.Inf(1) }})
	w := get(m.Wrap(answering("")), "/")
	require.Equal(t, 500, w.Code)
	require.NotContains(t, w.Body.String(), "Cost")
	require.Contains(t, log.String(), "Job.Cost is +Inf")
	require.Zero(t, r.Stats().Submitted)
}

func TestBudgetsAreTheLeastOfAllThatAreTrusted(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   time.Duration
		header []string
		trust  bool
		want   time.Duration
	}{
		{"the kind's", time.Second, nil, true, time.Second},
		{"not trusted", time.Second, []string{"Grpc-Timeout", "5m", "X-Budget", "7"}, false, time.Second},
		{"gRPC's", time.Second, []string{"Grpc-Timeout", "5m"}, true, 5 * time.Millisecond},
		{"gRPC's is more", time.Millisecond, []string{"Grpc-Timeout", "5m"}, true, time.Millisecond},
		{"gRPC's without the kind's", 0, []string{"Grpc-Timeout", "3H"}, true, 3 * time.Hour},
		{"gRPC's is up", time.Second, []string{"Grpc-Timeout", "0n"}, true, 1},
		{"gRPC's, nine digits", time.Second, []string{"Grpc-Timeout", "000000005m"}, true, time.Second},
		{"gRPC's, no unit", time.Second, []string{"Grpc-Timeout", "5"}, true, time.Second},
		{"gRPC's, signed", time.Second, []string{"Grpc-Timeout", "-5m"}, true, time.Second},
		{"gRPC's, far too much", 0, []string{"Grpc-Timeout", "99999999H"}, true, 1000 * time.Hour},
		{"milliseconds", time.Second, []string{"X-Budget", "7"}, true, 7 * time.Millisecond},
		{"a duration", time.Second, []string{"X-Budget", " 1.5ms "}, true, 1500 * time.Microsecond},
		{"a duration, far too much", 0, []string{"X-Budget", "2000000h"}, true, 1000 * time.Hour},
		{"negative", time.Second, []string{"X-Budget", "-2ms"}, true, 1},
		{"nonsense", time.Second, []string{"X-Budget", "soon"}, true, time.Second},
		{"far too much", time.Second, []string{"X-Budget", "99999999999999999999"}, true, time.Second},
		{"the least", time.Second, []string{"X-Budget", "7", "Grpc-Timeout", "5m"}, true, 5 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			var last helix.JobInfo
			r := newRouter(t, helix.RouterConfig{Policy: deciding{helix.Decision{Strategy: helix.Inline}, &last}})
			m := newMiddleware(t, r, helixhttp.Config{
				Default:      helix.Job{Budget: c.kind},
				BudgetHeader: "x-budget",
				Trust:        func(*http.Request) bool { return c.trust },
			})
			get(m.Wrap(answering("")), "/", c.header...)
			require.Equal(t, c.want, last.Budget)
		})
	}
}

func TestPriorityIsThatOfTheHeaderIfTrusted(t *testing.T) {
	for _, c := range []struct {
		header string
		want   helix.Priority
	}{
		{"u=0", helix.High}, {"u=2, i", helix.High}, {"u=3", helix.Normal}, {"i, u=7;x=1", helix.Low},
		{"u=1, u=5", helix.Low}, {`x="a, u=0", u=6`, helix.Low}, {`x="\", u=0", u=3`, helix.Normal},
		{"i", helix.Low}, {"u=9", helix.Low}, {"u=", helix.Low}, {"u=01", helix.Low}, {`u="0"`, helix.Low}, {",,,", helix.Low},
	} {
		for _, trust := range []bool{true, false} {
			var last helix.JobInfo
			r := newRouter(t, helix.RouterConfig{Policy: deciding{helix.Decision{Strategy: helix.Inline}, &last}})
			m := newMiddleware(t, r, helixhttp.Config{
				Default: helix.Job{Priority: helix.Low},
				Trust:   func(*http.Request) bool { return trust },
			})
			get(m.Wrap(answering("")), "/", "Priority", c.header)
			want := c.want
			if !trust {
				want = helix.Low
			}
			require.Equal(t, want, last.Priority, "%s, trusted %v", c.header, trust)
		}
	}
}

func TestTheHandlerKnowsHowItWasAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 1, Policy: deciding{Decision: helix.Decision{Strategy: helix.CPUPool, Reason: "as always"}}})
		release := occupy(t, r)
		go func() {
			time.Sleep(4 * time.Millisecond)
			release()
		}()
		arrived := time.Now()
		time.Sleep(3 * time.Millisecond)
		m := newMiddleware(t, r, helixhttp.Config{Job: func(_ *http.Request, job *helix.Job) { job.Arrived = arrived }})
		w := get(m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a, ok := helixhttp.AdmissionFrom(r.Context())
			require.True(t, ok)
			require.Equal(t, helix.CPUPool, a.Decision.Strategy)
			require.Equal(t, time.Millisecond, a.Wait)
			require.Equal(t, 3*time.Millisecond, a.Age)
			require.Equal(t, `[strategy=cpu_pool reason=as always age=3ms wait=1ms]`, a.LogValue().String())
		})), "/")
		require.Equal(t, `arrival;dur=3, queue;dur=1;desc="cpu_pool"`, w.Header().Get("Server-Timing"))
		_, ok := helixhttp.AdmissionFrom(t.Context())
		require.False(t, ok)
	})
}

func TestUpgradesGoPastTheRouter(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	h := newMiddleware(t, r, helixhttp.Config{}).Wrap(answering("past"))
	require.Equal(t, "past", get(h, "/", "Connection", "keep-alive, Upgrade", "Upgrade", "websocket").Body.String())
	require.Zero(t, r.Stats().Submitted)
	get(h, "/", "Connection", "close", "Upgrade", "websocket")
	get(h, "/", "Connection", "upgrade")
	require.EqualValues(t, 2, r.Stats().Submitted, "neither alone is an upgrade")
	get(h, "/", "Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "HTTP2-Settings", "AAMAAABk")
	require.EqualValues(t, 3, r.Stats().Submitted, "nor is an offer of h2c, as of Java's client")

	h = newMiddleware(t, r, helixhttp.Config{Skip: func(*http.Request) bool { return false }}).Wrap(answering(""))
	get(h, "/", "Connection", "Upgrade", "Upgrade", "websocket")
	require.EqualValues(t, 4, r.Stats().Submitted)
}
