package helixhttp

import (
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/helixrouter/helix"
)

// matcher is the method of an http.ServeMux that returns the pattern of a request.
type matcher interface {
	Handler(*http.Request) (http.Handler, string)
}

// validPatterns returns an error if a pattern of Routes is not valid for an http.ServeMux.
func validPatterns(routes map[string]helix.Job) error {
	for pattern := range routes {
		var mux http.ServeMux // one for each: those of many muxes may conflict
		if err := register(&mux, pattern); err != nil {
			return &helix.FieldError{Field: "Config.Routes[" + pattern + "]", Value: err.Error(), Allowed: "a pattern as for http.ServeMux"}
		}
	}
	return nil
}

// wrapping has the handlers that a Middleware wraps.
type wrapping struct {
	mu    sync.Mutex
	muxes []matcher
	other bool // a handler without accessible patterns
	once  sync.Once
}

// wraps records that the middleware wraps h.
func (m *Middleware) wraps(h http.Handler) {
	m.around.mu.Lock()
	defer m.around.mu.Unlock()
	if mux, ok := h.(matcher); ok {
		m.around.muxes = append(m.around.muxes, mux)
	} else {
		m.around.other = true
	}
}

// checkRoutes logs, at the first request, patterns in Routes that no handler has: their requests
// would become jobs of Default unnoticed. It does not check in Wrap, because patterns may be
// registered later.
func (m *Middleware) checkRoutes() {
	if m.cfg.Pattern != nil {
		return
	}
	m.around.mu.Lock()
	muxes, other := m.around.muxes, m.around.other
	m.around.mu.Unlock()
	if other {
		return
	}
	for _, pattern := range slices.Sorted(maps.Keys(m.cfg.Routes)) {
		if found, ok := lookUp(muxes, pattern); !ok {
			m.router.Config().Logger.Warn("helixhttp: Config.Routes has a pattern that no handler has: its job is never used",
				slog.String("pattern", pattern), slog.String("such requests match", found))
		}
	}
}

// lookUp reports whether one of the muxes has the pattern, or returns the pattern that its
// requests match.
func lookUp(muxes []matcher, pattern string) (found string, ok bool) {
	r := sample(pattern)
	for _, mux := range muxes {
		_, is := mux.Handler(r)
		if is == pattern {
			return is, true
		}
		if is != "" {
			found = is
		}
	}
	return found, false
}

// sample returns a request that matches a pattern and no more specific one, as far as possible.
func sample(pattern string) *http.Request {
	method, rest, ok := strings.Cut(pattern, " ")
	if !ok {
		method, rest = http.MethodGet, pattern
	}
	rest = strings.TrimLeft(rest, " \t")
	slash := max(strings.IndexByte(rest, '/'), 0)
	host, path := rest[:slash], strings.TrimSuffix(rest[slash:], "{$}")
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if strings.HasPrefix(s, "{") {
			segments[i] = "-helixhttp-"
		}
	}
	if n := len(segments) - 1; segments[n] == "" && !strings.HasSuffix(rest, "{$}") {
		segments[n] = "-helixhttp-"
	}
	return &http.Request{Method: method, Host: host, URL: &url.URL{Path: strings.Join(segments, "/")}}
}
