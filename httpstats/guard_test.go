package httpstats

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

func TestHostGuard(t *testing.T) {
	router := newRouter(t, helix.RouterConfig{})
	plain := newHandler(t, router)
	named := newHandler(t, router, WithAllowedHosts("Helix.Example.com", "other:8080"))
	all := newHandler(t, router, WithAllowedHosts("*"))
	at := "/api/stats"
	code := func(h http.Handler, local net.Addr, host string) int {
		req := httptest.NewRequest(http.MethodGet, at, nil)
		req.Host = host
		if local != nil {
			req = req.WithContext(context.WithValue(req.Context(), http.LocalAddrContextKey, local))
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		return w.Code
	}
	loopbacks := []net.Addr{
		&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80},
		&net.TCPAddr{IP: net.IPv4(127, 9, 9, 9), Port: 80},
		&net.TCPAddr{IP: net.IPv6loopback, Port: 80},
	}
	for _, local := range loopbacks {
		for host, want := range map[string]int{
			"localhost": 200, "LOCALHOST:8080": 200, "localhost.:8080": 200, "app.localhost": 200,
			"127.0.0.1": 200, "127.0.0.1:8080": 200, "127.8.8.8": 200, "[::1]": 200, "[::1]:8080": 200,
			"[::ffff:127.0.0.1]:1": 200,
			"evil.example":         403, "evil.example:8080": 403, "localhost.evil.example": 403, "notlocalhost": 403,
			"127.0.0.1.evil.example": 403, "10.0.0.1": 403, "[::2]": 403, "<script>": 403, "0.0.0.0": 403,
			"helix.example.com": 403,
		} {
			require.Equal(t, want, code(plain, local, host), "%s at %v", host, local)
		}
		require.Equal(t, 200, code(named, local, "helix.example.com"))
		require.Equal(t, 200, code(named, local, "HELIX.example.com.:9000"))
		require.Equal(t, 200, code(named, local, "other"))
		require.Equal(t, 200, code(named, local, "localhost"))
		require.Equal(t, 403, code(named, local, "sub.helix.example.com"))
		require.Equal(t, 200, code(all, local, "anything.example"))
	}
	// A sidecar that probes or scrapes comes under the name that it knows.
	for path, want := range map[string]int{"/healthz": 200, "/metrics": 200, "/": 403, "/api/config": 403, "/api/stream": 403, "/healthz/": 403, "/nope": 403} {
		at = path
		require.Equal(t, want, code(plain, loopbacks[0], "pod-7.cluster.local:8080"), path)
	}
	at = "/any/path"
	require.Equal(t, 200, code(plain.Metrics(), loopbacks[0], "pod-7.cluster.local:8080"))
	require.Equal(t, 403, code(plain.Stats(), loopbacks[0], "pod-7.cluster.local:8080"))
	at = "/api/stats"
	// Where every client is admitted anyway, and behind a socket file, there is
	// nothing to check.
	for _, local := range []net.Addr{nil, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}, &net.UnixAddr{Name: "/run/x"}} {
		require.Equal(t, 200, code(plain, local, "service.example"))
	}
}

// TestRebinding is the attack itself: a page of evil.example, whose name has
// been pointed to 127.0.0.1, asks for the statistics.
func TestRebinding(t *testing.T) {
	server := httptest.NewServer(newHandler(t, newRouter(t, helix.RouterConfig{})))
	defer server.Close()
	req, err := http.NewRequest(http.MethodGet, server.URL+"/api/stats", nil)
	require.NoError(t, err)
	req.Host = "evil.example"
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusForbidden, res.StatusCode)
}
