package httpstats

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// TestPrefixes reaches every part below several prefixes, both ways to strip
// them, the way a browser does: relative to the page.
func TestPrefixes(t *testing.T) {
	for _, prefix := range []string{"/", "/helix/", "/a/b/c/"} {
		bare := strings.TrimSuffix(prefix, "/")
		ways := map[string]func(http.Handler) http.Handler{
			"strip": func(h http.Handler) http.Handler { return http.StripPrefix(bare, h) },
			"proxy": func(h http.Handler) http.Handler {
				behind := httptest.NewServer(h)
				t.Cleanup(behind.Close)
				to, err := url.Parse(behind.URL)
				require.NoError(t, err)
				return http.StripPrefix(bare, &httputil.ReverseProxy{
					Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
				})
			},
			"mount": nil,
		}
		for way, wrap := range ways {
			t.Run(way+prefix, func(t *testing.T) {
				router, mux := newRouter(t, helix.RouterConfig{}), http.NewServeMux()
				if wrap == nil {
					h, err := Mount(mux, prefix, router)
					require.NoError(t, err)
					t.Cleanup(func() { require.NoError(t, h.Close()) })
				} else {
					mux.Handle(prefix, wrap(newHandler(t, router)))
				}
				server := httptest.NewServer(mux)
				t.Cleanup(server.Close)

				page, err := url.Parse(server.URL + max(bare, "/")) // ServeMux adds the slash
				require.NoError(t, err)
				body, at := fetch(t, page)
				require.Contains(t, strings.ToLower(body), "<!doctype html>")
				require.Equal(t, prefix, at.Path)
				for path, want := range map[string]string{
					"api/stats":             `"routed_by_strategy"`,
					"api/config":            `"inline_threshold"`,
					"api/explain?kind=a":    `"strategy"`,
					"metrics":               "helix_completed 0\n",
					"healthz":               "ok\n",
					"index.html":            body,
					"./api/../api/stats":    `"latency_by_strategy"`,
					"api/explain?waits=1&x": `"error"`,
				} {
					ref, err := url.Parse(path)
					require.NoError(t, err)
					got, _ := fetch(t, at.ResolveReference(ref))
					require.Contains(t, got, want, path)
				}
			})
		}
	}
}

func fetch(t *testing.T, u *url.URL) (body string, at *url.URL) {
	t.Helper()
	res, err := http.Get(u.String())
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(text), res.Request.URL
}

func TestMissingSlash(t *testing.T) {
	h := newHandler(t, newRouter(t, helix.RouterConfig{}))
	for _, test := range []struct{ prefix, target, location string }{
		{"/helix", "/helix", "./helix/"},
		{"/helix", "/helix?x=1&y=%20", "./helix/?x=1&y=%20"},
		{"/a/b", "/a/b", "./b/"},
		{"/a b", "/a%20b", "./a%20b/"},
		{"/javascript:x", "/javascript:x", "./javascript:x/"}, // no scheme
		{"/helix", "/helix/", ""},
		{"/helix/", "/helix/", ""}, // stripped with its slash
		{"", "/", ""},
	} {
		w := ask(http.StripPrefix(test.prefix, h), http.MethodGet, test.target, "")
		if test.location == "" {
			require.Equal(t, http.StatusOK, w.Code, test)
			continue
		}
		require.Equal(t, http.StatusTemporaryRedirect, w.Code, test)
		require.Equal(t, test.location, w.Header().Get("Location"), test)
		base, err := url.Parse("http://h" + test.target)
		require.NoError(t, err)
		to, err := base.Parse(w.Header().Get("Location"))
		require.NoError(t, err)
		require.Equal(t, test.prefix+"/", to.Path, test)
	}
}

// TestMountBehindAProxy asks for the page without its final slash, through a proxy that
// has stripped what was before the prefix.
func TestMountBehindAProxy(t *testing.T) {
	mux := http.NewServeMux()
	h, err := Mount(mux, "/debug/helix/", newRouter(t, helix.RouterConfig{}))
	require.NoError(t, err)
	defer h.Close()
	w := ask(mux, http.MethodGet, "/debug/helix?theme=dark", "")
	require.Equal(t, http.StatusTemporaryRedirect, w.Code)
	location, err := url.Parse(w.Header().Get("Location"))
	require.NoError(t, err)
	for asked, want := range map[string]string{
		"https://example.com/debug/helix?theme=dark":         "https://example.com/debug/helix/?theme=dark",
		"https://example.com/tools/a/debug/helix?theme=dark": "https://example.com/tools/a/debug/helix/?theme=dark",
	} {
		base, err := url.Parse(asked)
		require.NoError(t, err)
		require.Equal(t, want, base.ResolveReference(location).String())
	}
	require.Equal(t, http.StatusOK, ask(mux, http.MethodGet, "/debug/helix/", "").Code)

	// The path without the slash may be taken already.
	mux = http.NewServeMux()
	mux.HandleFunc("/helix", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	h, err = Mount(mux, "/helix/", newRouter(t, helix.RouterConfig{}))
	require.NoError(t, err)
	defer h.Close()
	require.Equal(t, http.StatusTeapot, ask(mux, http.MethodGet, "/helix", "").Code)
	require.Equal(t, http.StatusOK, ask(mux, http.MethodGet, "/helix/", "").Code)
}

func TestBadRequests(t *testing.T) {
	h := newHandler(t, newRouter(t, helix.RouterConfig{}), WithConfigWrites(),
		WithBurst(func(context.Context) error { return nil }))
	for _, test := range []struct {
		method, target string
		code           int
		allow          string
	}{
		{"GET", "/api/none", 404, ""},
		{"GET", "/api", 404, ""},
		{"GET", "/api/", 404, ""},
		{"GET", "/api/stats/", 404, ""},
		{"GET", "/api//stats", 404, ""},
		{"GET", "/none", 404, ""},
		{"GET", "//", 404, ""},
		{"GET", "/../options.go", 404, ""},
		{"GET", "/ui/index.html", 404, ""},
		{"POST", "/", 405, "GET, HEAD"},
		{"POST", "/metrics", 405, "GET, HEAD"},
		{"OPTIONS", "/healthz", 405, "GET, HEAD"},
		{"DELETE", "/api/stats", 405, "GET, HEAD"},
		{"PUT", "/api/config", 405, "GET, HEAD, PATCH"},
		{"GET", "/api/burst", 405, "POST"},
		{"<script>", "/api/stream", 405, "GET, HEAD"},
		{"GET", "/api/stream?last_id=-1", 400, ""},
		{"GET", "/api/stream?x=1", 400, ""},
	} {
		name := test.method + " " + test.target
		req := httptest.NewRequest("GET", test.target, nil)
		req.Method = test.method
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		require.Equal(t, test.code, w.Code, name)
		require.Equal(t, test.allow, w.Header().Get("Allow"), name)
		require.Equal(t, contentSecurityPolicy, w.Header().Get("Content-Security-Policy"), name)
		require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"), name)
		require.Equal(t, "no-referrer", w.Header().Get("Referrer-Policy"), name)
		require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"), name)
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"), name)
		if strings.HasPrefix(test.target, "/api") {
			require.Equal(t, "application/json", w.Header().Get("Content-Type"), name)
			require.NotEmpty(t, decode[failure](t, w.Body.String()).Error, name)
		} else {
			require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"), name)
		}
	}
}

func TestReadOnlyByDefault(t *testing.T) {
	h := newHandler(t, newRouter(t, helix.RouterConfig{}))
	w := ask(h, http.MethodPatch, "/api/config", `{}`, "Content-Type", "application/json")
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
	require.Equal(t, http.StatusNotFound, ask(h, http.MethodPost, "/api/burst", "").Code)
}

func TestHead(t *testing.T) {
	server := httptest.NewServer(newHandler(t, newRouter(t, helix.RouterConfig{})))
	defer server.Close()
	for _, path := range []string{"/", "/api/stats", "/api/stream", "/api/config", "/api/explain", "/metrics", "/healthz"} {
		res, err := http.Head(server.URL + path)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode, path)
	}
}

func TestNewAndMountRefuse(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	_, err := New(nil)
	require.ErrorContains(t, err, "router is nil")
	for want, opt := range map[string]Option{
		"WithStreamLimit is 0": WithStreamLimit(0),
		"WithAllowedHosts has": WithAllowedHosts("http://example.com"),
		"WithName is empty":    WithName(""),
	} {
		_, err = New(r, opt)
		require.ErrorContains(t, err, want)
	}
	_, err = Mount(nil, "/", r)
	require.ErrorContains(t, err, "mux is nil")
	mux := http.NewServeMux()
	for _, prefix := range []string{"", "helix", "/a/../b", "//", "/a//b", "/{x}/", "GET /x"} {
		_, err = Mount(mux, prefix, r)
		require.ErrorContains(t, err, "prefix", prefix)
	}
	h, err := Mount(mux, "/helix", r)
	require.NoError(t, err)
	require.NoError(t, h.Close())
	_, err = Mount(mux, "/helix/", r)
	require.ErrorContains(t, err, "conflicts")
}

// TestSeveralRouters shows that handlers in one process share nothing.
func TestSeveralRouters(t *testing.T) {
	a, b := newRouter(t, helix.RouterConfig{}), newRouter(t, helix.RouterConfig{})
	mux := http.NewServeMux()
	for prefix, r := range map[string]*helix.Router{"/a/": a, "/b/": b} {
		h, err := Mount(mux, prefix, r, WithName("service"+prefix))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, h.Close()) })
	}
	submit(t, a, helix.Job{Kind: "only in a"})
	require.Contains(t, ask(mux, "GET", "/a/metrics", "").Body.String(), "helix_completed 1\n")
	require.Contains(t, ask(mux, "GET", "/b/metrics", "").Body.String(), "helix_completed 0\n")
	require.Contains(t, ask(mux, "GET", "/b/api/stats", "").Body.String(), `"name":"service/b/"`)
	require.NotContains(t, ask(mux, "GET", "/b/api/stats", "").Body.String(), "only in a")
}

func TestSeparateHandlers(t *testing.T) {
	h := newHandler(t, newRouter(t, helix.RouterConfig{}))
	require.Contains(t, ask(h.Stats(), "GET", "/any/path", "").Body.String(), `"submitted":0`)
	require.Contains(t, ask(h.Metrics(), "GET", "/any/path", "").Body.String(), "helix_completed 0")
	require.Equal(t, 405, ask(h.Stats(), "POST", "/", "").Code)
	require.Equal(t, 200, ask(h.UI(), "GET", "/", "").Code)
	require.Equal(t, 200, ask(h.UI(), "GET", "/api/config", "").Code)
	require.Equal(t, 404, ask(h.UI(), "GET", "/metrics", "").Code)
	for _, part := range []http.Handler{h.Stats(), h.Metrics(), h.UI()} {
		require.Equal(t, contentSecurityPolicy, ask(part, "GET", "/", "").Header().Get("Content-Security-Policy"))
	}
}

func TestHealthWhileDraining(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	h := newHandler(t, r)
	w := ask(h, "GET", "/healthz", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "ok\n", w.Body.String())
	require.Contains(t, ask(h, "GET", "/api/stats", "").Body.String(), `"draining":false`)
	require.NoError(t, r.Drain(context.Background()))
	w = ask(h, "GET", "/healthz", "")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "draining\n", w.Body.String())
	require.Contains(t, ask(h, "GET", "/api/stats", "").Body.String(), `"draining":true`)
}

func TestBurst(t *testing.T) {
	var outcome error
	calls, inside := 0, func() {}
	h := newHandler(t, newRouter(t, helix.RouterConfig{}), WithBurst(func(ctx context.Context) error {
		calls++
		inside()
		return outcome
	}))
	post := func(header ...string) int { return ask(h, "POST", "/api/burst", "", header...).Code }
	require.Equal(t, http.StatusAccepted, post())
	require.Equal(t, http.StatusAccepted, post("Sec-Fetch-Site", "same-origin", "Origin", "http://example.com"))
	require.Equal(t, http.StatusForbidden, post("Sec-Fetch-Site", "cross-site"))
	require.Equal(t, http.StatusForbidden, post("Sec-Fetch-Site", "same-site"))
	require.Equal(t, http.StatusForbidden, post("Origin", "http://evil.example"))
	require.Equal(t, 2, calls)

	second := 0
	inside = func() { inside = func() {}; second = post() } // while the first is under way
	require.Equal(t, http.StatusAccepted, post())
	require.Equal(t, http.StatusTooManyRequests, second)

	outcome = errors.New("no capacity")
	w := ask(h, "POST", "/api/burst", "")
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.Equal(t, "burst: no capacity", decode[failure](t, w.Body.String()).Error)
}
