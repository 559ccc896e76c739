package e2e

import (
	"bytes"
	"encoding/json"
	"log"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/httpstats"
)

// TestMounts has the handler below the routers that services use.
func TestMounts(t *testing.T) {
	for _, mount := range []struct {
		name, prefix string
		redirects    bool // the prefix without its slash leads to the page
		router       func(*testing.T, *helix.Router) http.Handler
	}{
		{"chi Mount", "/debug/helix/", true, func(t *testing.T, r *helix.Router) http.Handler {
			mux := chi.NewRouter()
			mux.Mount("/debug/helix", http.StripPrefix("/debug/helix", newHandler(t, r)))
			return mux
		}},
		{"chi wildcard", "/x/", false, func(t *testing.T, r *helix.Router) http.Handler {
			mux := chi.NewRouter()
			mux.Handle("/x/*", http.StripPrefix("/x", newHandler(t, r)))
			return mux
		}},
		{"chi wildcard below a parameter", "/tenants/7/helix/", false, func(t *testing.T, r *helix.Router) http.Handler {
			mux, h := chi.NewRouter(), newHandler(t, r)
			mux.HandleFunc("/tenants/{id}/helix/*", func(w http.ResponseWriter, req *http.Request) {
				http.StripPrefix("/tenants/"+chi.URLParam(req, "id")+"/helix", h).ServeHTTP(w, req)
			})
			return mux
		}},
		{"chi behind its middleware", "/debug/helix/", true, func(t *testing.T, r *helix.Router) http.Handler {
			mux := chi.NewRouter()
			logger := middleware.RequestLogger(&middleware.DefaultLogFormatter{Logger: log.New(new(bytes.Buffer), "", 0), NoColor: true})
			mux.Use(middleware.RequestID, logger, middleware.Recoverer, middleware.Compress(5))
			mux.Route("/debug", func(mux chi.Router) {
				mux.Mount("/helix", http.StripPrefix("/debug/helix", newHandler(t, r)))
			})
			return mux
		}},
		{"net/http Mount", "/helix/", true, func(t *testing.T, r *helix.Router) http.Handler {
			mux := http.NewServeMux()
			h, err := httpstats.Mount(mux, "/helix", r)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, h.Close()) })
			return mux
		}},
		{"net/http Mount at the root", "/", false, func(t *testing.T, r *helix.Router) http.Handler {
			mux := http.NewServeMux()
			h, err := httpstats.Mount(mux, "/", r)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, h.Close()) })
			return mux
		}},
	} {
		t.Run(mount.name, func(t *testing.T) {
			t.Parallel()
			r := newRouter(t, helix.RouterConfig{})
			require.Equal(t, 3, submit(t, r, 3, helix.Job{Kind: "thumbnail"}))
			server := serve(t, mount.router(t, r))
			checkSubtree(t, server+mount.prefix)
			if mount.redirects {
				body, _ := get(t, server+strings.TrimSuffix(mount.prefix, "/"))
				require.Contains(t, body, "<title>HelixRouter</title>")
			}
			_, proxied := startProxy(t, server, "/a/b/c/")
			checkSubtree(t, proxied+strings.TrimPrefix(mount.prefix, "/"))
		})
	}
}

// checkSubtree asks for all that is served below base.
func checkSubtree(t *testing.T, base string) {
	checkFiles(t, base)

	body, head := get(t, base+"api/stats")
	require.Equal(t, "application/json", head.Get("Content-Type"))
	var s statistics
	require.NoError(t, json.Unmarshal([]byte(body), &s))
	require.Equal(t, uint64(3), s.Completed)

	var names []string
	readStream(t, base+"api/stream", patience, func(e event) bool {
		names = append(names, e.name)
		return e.name == "tick"
	})
	require.Equal(t, []string{"hello", "history"}, names[:2])

	body, _ = get(t, base+"api/config")
	require.Contains(t, body, `"cpu_parallelism"`)
	body, _ = get(t, base+"api/explain?kind=thumbnail&budget=80ms")
	require.Contains(t, body, `"strategy"`)
	body, _ = get(t, base+"metrics")
	require.Contains(t, body, "\nhelix_completed 3\n")
	body, _ = get(t, base+"healthz")
	require.Equal(t, "ok\n", body)

	code, body, head := ask(t, http.MethodGet, base+"api/nope")
	require.Equal(t, http.StatusNotFound, code)
	require.Equal(t, "application/json", head.Get("Content-Type"))
	require.Contains(t, body, `"error"`)
	code, _, head = ask(t, http.MethodPost, base+"api/stats")
	require.Equal(t, http.StatusMethodNotAllowed, code)
	require.Equal(t, "GET, HEAD", head.Get("Allow"))
	code, _, _ = ask(t, http.MethodGet, base+"nope.js")
	require.Equal(t, http.StatusNotFound, code)
}

var (
	linked   = regexp.MustCompile(`(?:href|src)="([^"#]+)"`)
	imported = regexp.MustCompile(`(?m)^import (?:[^;']*from )?'([^']+)'`)
)

// checkFiles follows the page's links, and its modules' imports, as a browser
// would.
func checkFiles(t *testing.T, base string) {
	t.Helper()
	page, head := get(t, base)
	require.Contains(t, head.Get("Content-Type"), "text/html")
	require.Contains(t, head.Get("Content-Security-Policy"), "default-src 'none'")
	from, err := url.Parse(base)
	require.NoError(t, err)
	seen := map[string]bool{}
	var follow func(in *url.URL, body string, links *regexp.Regexp)
	follow = func(in *url.URL, body string, links *regexp.Regexp) {
		for _, link := range links.FindAllStringSubmatch(body, -1) {
			to, err := in.Parse(link[1])
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(to.String(), base), "%s leads out of the subtree", link[1])
			if seen[to.Path] {
				continue
			}
			seen[to.Path] = true
			file, head := get(t, to.String())
			kind, known := map[string]string{".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}[path.Ext(to.Path)]
			if known {
				require.True(t, strings.HasPrefix(head.Get("Content-Type"), kind), "%s is %s", to.Path, head.Get("Content-Type"))
				require.Equal(t, "nosniff", head.Get("X-Content-Type-Options"))
			}
			if path.Ext(to.Path) == ".js" {
				follow(to, file, imported)
			}
		}
	}
	follow(from, page, linked)
	require.Greater(t, len(seen), 10, "the page has more files than that: %v", seen)
}
