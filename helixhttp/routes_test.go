package helixhttp_test

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
)

func TestPatternsThatAreNoneAreErrors(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	for _, pattern := range []string{"", "report", "GET report", "GET /{", "GET /a/{x...}/b", "GET  "} {
		_, err := helixhttp.New(r, helixhttp.Config{Routes: map[string]helix.Job{pattern: {}}})
		field := (*helix.FieldError)(nil)
		require.True(t, errors.As(err, &field), pattern)
		require.Equal(t, "Config.Routes["+pattern+"]", field.Field)
	}
	_, err := helixhttp.New(r, helixhttp.Config{Routes: map[string]helix.Job{"by hand": {}},
		Pattern: func(*http.Request) string { return "by hand" }})
	require.NoError(t, err)
}

func TestRoutesThatNoHandlerHasAreTold(t *testing.T) {
	patterns := []string{"GET /a", "/b/", "GET /c/{id}/d", "POST /e/{rest...}", "GET /f/{$}", "example.com/g", "/"}
	routes := map[string]helix.Job{}
	for _, p := range patterns {
		routes[p] = helix.Job{}
	}
	mistakes := map[string]string{"GET /typo": "/", "POST /b/": "/b/", "GET /c/{name}/d": "GET /c/{id}/d", "PUT /nothing": "/"}
	logged := func(extra map[string]string, wrap func(*helixhttp.Middleware, *http.ServeMux) http.Handler) string {
		var log lockedBuffer
		r := newRouter(t, helix.RouterConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		all := map[string]helix.Job{}
		for p := range routes {
			all[p] = helix.Job{}
		}
		for p := range extra {
			all[p] = helix.Job{}
		}
		m := newMiddleware(t, r, helixhttp.Config{Routes: all})
		mux := http.NewServeMux()
		h := wrap(m, mux)
		for _, p := range patterns { // after Wrap, which is allowed
			mux.Handle(p, answering("ok"))
		}
		for range 2 {
			require.Equal(t, 200, get(h, "/a").Code)
		}
		return log.String()
	}
	around := func(m *helixhttp.Middleware, mux *http.ServeMux) http.Handler { return m.Wrap(mux) }
	require.Empty(t, logged(nil, around))
	text := logged(mistakes, around)
	require.Equal(t, len(mistakes), strings.Count(text, "level=WARN"), text)
	for pattern, matches := range mistakes {
		line := `pattern="` + pattern + `" "such requests match"=`
		if strings.Contains(matches, " ") || matches == "" {
			matches = `"` + matches + `"`
		}
		require.Contains(t, text, line+matches)
	}
	require.Empty(t, logged(mistakes, func(m *helixhttp.Middleware, mux *http.ServeMux) http.Handler {
		m.Wrap(answering("another")) // may be in a mux that has the rest
		return m.Wrap(mux)
	}))
}
