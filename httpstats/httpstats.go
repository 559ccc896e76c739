// Package httpstats shows the decisions of a [helix.Router] and their reasons, live: a page,
// JSON, a stream and Prometheus metrics, on any mux and below any prefix.
//
//	stats, err := httpstats.Mount(mux, "/helix/", router)
//	if err != nil {
//		return err
//	}
//	srv.RegisterOnShutdown(func() { stats.Close() })
//
// It cannot change the router without [WithConfigWrites]. It has no authentication: protect the
// path in the mux or in a middleware.
package httpstats

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/helixrouter/helix"
)

// Handler serves one subtree, seen from where it is mounted:
//
//	/             the live page and its files
//	/api/stats    statistics, JSON
//	/api/stream   history, then a tick a second and sampled decisions, SSE
//	/api/config   the configuration in force, JSON; PATCH with WithConfigWrites
//	/api/explain  what would happen to a job: ?kind=&cost=&scaling=&budget=&priority=&waits=
//	/api/burst    only with WithBurst: POST sends extra work
//	/metrics      Prometheus metrics
//	/healthz      200, or 503 once the router drains
//
// It expects paths without the prefix, so it goes behind [http.StripPrefix] or
// a proxy that strips; every URL it gives out is relative. [Mount] does that.
//
// A Handler runs one goroutine, which keeps the last 15 minutes (900 points of
// one second, about a megabyte), until Close. It is safe for concurrent use,
// and one process may have many. A Handler must be made by [New] or [Mount].
type Handler struct {
	router  *helix.Router
	options options
	version string
	started time.Time // when the router was made
	hosts   hostGuard
	sampler *sampler
	metrics http.Handler
	pages   map[string]*asset
	tree    map[string]endpoint // by path below the mount, no leading slash
	page    map[string]endpoint // the part of tree that the page itself needs
	burst   atomic.Bool         // a burst is being sent
}

// New makes a Handler for r and starts to collect its history; the caller must
// Close it. It fails if r is nil or an option cannot be used.
func New(r *helix.Router, opts ...Option) (*Handler, error) {
	if r == nil {
		return nil, errors.New("httpstats: router is nil")
	}
	o := defaultOptions()
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	pages, err := embeddedPages()
	if err != nil {
		return nil, err
	}
	h := &Handler{
		router:  r,
		options: o,
		version: moduleVersion(),
		started: time.Now().Add(-r.Stats().Uptime),
		hosts:   newHostGuard(o.allowedHosts),
		metrics: newMetricsHandler(r),
		pages:   pages,
	}
	h.tree = h.endpoints()
	h.page = make(map[string]endpoint)
	for name, e := range h.tree {
		if isAPI(name) {
			h.page[name] = e
		}
	}
	h.sampler = newSampler(r, h.statsDocument, o)
	return h, nil
}

// Mount makes a Handler for r and registers it on mux below prefix, which
// starts with a slash and has no wildcards ("/", "/helix/", "/a/b"). It fails
// where [New] does, and if mux is nil, the prefix cannot be used or another
// handler already has it. As with New, the caller must Close the Handler.
func Mount(mux *http.ServeMux, prefix string, r *helix.Router, opts ...Option) (*Handler, error) {
	if mux == nil {
		return nil, errors.New("httpstats: mux is nil")
	}
	if !strings.HasPrefix(prefix, "/") || strings.ContainsAny(prefix, "{}") || strings.Contains(prefix, "//") ||
		prefix != "/" && path.Clean(prefix) != strings.TrimSuffix(prefix, "/") {
		return nil, fmt.Errorf("httpstats: prefix %q: must be a clean path that starts with a slash, without wildcards", prefix)
	}
	h, err := New(r, opts...)
	if err != nil {
		return nil, err
	}
	prefix = strings.TrimSuffix(prefix, "/")
	below := http.StripPrefix(prefix, h)
	if err := register(mux, prefix+"/", below); err != nil {
		h.Close()
		return nil, err
	}
	if prefix != "" {
		// By default the mux redirects to prefix/, an absolute path, which is wrong if a proxy
		// has stripped segments before the prefix; the Handler's redirect is relative. If
		// the path is already registered, its handler answers.
		_ = register(mux, prefix, below)
	}
	return h, nil
}

// register turns ServeMux's panic into an error: a panic is its only way to report a malformed
// or registered pattern.
func register(mux *http.ServeMux, pattern string, h http.Handler) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("httpstats: prefix %q: %v", pattern, v)
		}
	}()
	mux.Handle(pattern, h)
	return nil
}

// Close ends the open streams and stops collecting; everything except the stream is still
// served. [http.Server.Shutdown] waits for open streams, so a server
// that is to stop while pages are open needs
//
//	srv.RegisterOnShutdown(func() { h.Close() })
//
// Close returns nil, always, and may be called more than once.
func (h *Handler) Close() error {
	h.sampler.close()
	return nil
}

// ServeHTTP serves the whole subtree.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.serveTree(w, r, h.tree) }

// UI serves the page and the api/ it talks to, but neither metrics nor
// healthz, for services that have those elsewhere. It is mounted like the
// Handler itself.
func (h *Handler) UI() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.serveTree(w, r, h.page) })
}

// Stats serves api/stats under any path.
func (h *Handler) Stats() http.Handler { return h.single(true, false, h.serveStats) }

// Metrics serves the metrics under any path.
func (h *Handler) Metrics() http.Handler { return h.single(false, true, h.metrics.ServeHTTP) }

func (h *Handler) single(api, public bool, serve http.HandlerFunc) http.Handler {
	e := endpoint{http.MethodGet: serve}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.admit(w, r, api, public) {
			e.serve(w, r, api)
		}
	})
}

// endpoints returns the endpoints other than the page's files.
func (h *Handler) endpoints() map[string]endpoint {
	tree := map[string]endpoint{
		"api/stats":   {http.MethodGet: h.serveStats},
		"api/stream":  {http.MethodGet: h.serveStream},
		"api/config":  {http.MethodGet: h.serveConfig},
		"api/explain": {http.MethodGet: h.serveExplain},
		"metrics":     {http.MethodGet: h.metrics.ServeHTTP},
		"healthz":     {http.MethodGet: h.serveHealth},
	}
	if h.options.configWrites {
		tree["api/config"][http.MethodPatch] = sameOrigin(h.patchConfig)
	}
	if h.options.burst != nil {
		tree["api/burst"] = endpoint{http.MethodPost: sameOrigin(h.postBurst)}
	}
	return tree
}

func (h *Handler) serveTree(w http.ResponseWriter, r *http.Request, tree map[string]endpoint) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	if !h.admit(w, r, isAPI(name), isPublic(name)) {
		return
	}
	if location := missingSlash(r); location != "" {
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusTemporaryRedirect)
		return
	}
	e, ok := tree[name]
	if !ok {
		if a := h.pages[name]; a != nil {
			e, ok = endpoint{http.MethodGet: a.serve}, true
		}
	}
	if !ok {
		fail(w, isAPI(name), http.StatusNotFound, failure{
			Error: fmt.Sprintf("there is no %.200q here; below a prefix this handler needs http.StripPrefix", r.URL.Path),
		})
		return
	}
	e.serve(w, r, isAPI(name))
}

// serveHealth is for load balancers: 503 as soon as new jobs are refused.
func (h *Handler) serveHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if h.router.Stats().Draining {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("draining\n"))
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

// postBurst sends extra work through the function of WithBurst, one burst at a
// time: a button is easily pressed twice.
func (h *Handler) postBurst(w http.ResponseWriter, r *http.Request) {
	if !h.burst.CompareAndSwap(false, true) {
		fail(w, true, http.StatusTooManyRequests, failure{Error: "a burst is being sent already"})
		return
	}
	defer h.burst.Store(false)
	if err := h.options.burst(r.Context()); err != nil {
		fail(w, true, http.StatusInternalServerError, failure{Error: "burst: " + err.Error()})
		return
	}
	writeJSON(w, http.StatusAccepted, struct {
		Accepted bool `json:"accepted"`
	}{true})
}

// moduleVersion returns the version of this module in the running binary.
func moduleVersion() string {
	const module = "github.com/helixrouter/helix"
	version := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Path == module {
			version = info.Main.Version
		}
		for _, dep := range info.Deps {
			if dep.Path == module {
				version = dep.Version
			}
		}
	}
	if version == "" {
		return "(devel)"
	}
	return version
}

// binaryName returns the default of WithName.
func binaryName() string {
	name := "helix"
	if len(os.Args) > 0 && os.Args[0] != "" {
		name = filepath.Base(os.Args[0])
	}
	return strings.TrimSuffix(name, ".exe")
}
