package httpstats

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// endpoint serves one path, by method. HEAD goes where GET does.
type endpoint map[string]http.HandlerFunc

func (e endpoint) serve(w http.ResponseWriter, r *http.Request, api bool) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if serve := e[method]; serve != nil {
		serve(w, r)
		return
	}
	allow := e.allow()
	w.Header().Set("Allow", allow)
	fail(w, api, http.StatusMethodNotAllowed, failure{
		Error: fmt.Sprintf("method %.20q is not allowed here: use %s", r.Method, allow),
	})
}

func (e endpoint) allow() string {
	var methods []string
	for m := range e {
		methods = append(methods, m)
		if m == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// isAPI reports whether a path below the mount answers in JSON, errors too.
func isAPI(name string) bool { return name == "api" || strings.HasPrefix(name, "api/") }

// contentSecurityPolicy allows the page only its own files and requests: no data: images, no
// inline scripts and styles.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; " +
	"img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// isPublic reports whether a path is answered under any host name. Sidecars and
// scrapers use names of their own, and these paths have no secrets: a page that rebinds DNS
// could read figures, but neither jobs nor the configuration.
func isPublic(name string) bool { return name == "healthz" || name == "metrics" }

// admit sets the headers that every answer carries and refuses requests that
// reached a loopback address under a foreign name, unless public.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request, api, public bool) bool {
	header := w.Header()
	header.Set("Content-Security-Policy", contentSecurityPolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	if public || h.hosts.allows(r) {
		return true
	}
	fail(w, api, http.StatusForbidden, failure{
		Error: fmt.Sprintf("host %.200q is not answered on a loopback address; httpstats.WithAllowedHosts adds it", r.Host),
	})
	return false
}

// hostGuard is the check against DNS rebinding, see WithAllowedHosts.
type hostGuard struct {
	all   bool
	names map[string]bool
}

func newHostGuard(allowed []string) hostGuard {
	g := hostGuard{names: make(map[string]bool)}
	for _, host := range allowed {
		g.all = g.all || host == "*"
		g.names[hostName(host)] = true
	}
	return g
}

func (g hostGuard) allows(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok || !isLoopback(local.String()) || g.all {
		return true
	}
	name := hostName(r.Host)
	// Browsers always name a host; HTTP/1.0 health checks do not.
	return name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") || isLoopback(name) || g.names[name]
}

// isLoopback reports whether host, with or without a port, is an address of
// 127.0.0.0/8 or ::1, also as an IPv4 address inside an IPv6 one.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(hostName(host))
	return err == nil && addr.IsLoopback()
}

// hostName strips port, brackets and the final dot, and folds case.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// sameOrigin refuses requests that a browser sends on behalf of another site. Other clients
// send neither Sec-Fetch-Site nor Origin and pass.
func sameOrigin(serve http.HandlerFunc) http.HandlerFunc {
	protection := http.NewCrossOriginProtection()
	return func(w http.ResponseWriter, r *http.Request) {
		if err := protection.Check(r); err != nil {
			fail(w, true, http.StatusForbidden, failure{Error: err.Error()})
			return
		}
		serve(w, r)
	}
}

// missingSlash returns the redirect target for a request for the mount point without the final
// slash, and "" for all others: without the slash, relative URLs are wrong. The handler does
// not know its prefix, so the target is relative too: the last segment of the path as the
// client wrote it. This is right even if a proxy has stripped segments before it.
func missingSlash(r *http.Request) string {
	if r.URL.Path != "" {
		return ""
	}
	asked, err := url.ParseRequestURI(r.RequestURI)
	if err != nil {
		return ""
	}
	escaped := asked.EscapedPath()
	last := escaped[strings.LastIndexByte(escaped, '/')+1:]
	if last == "" {
		return ""
	}
	location := "./" + last + "/" // the dot keeps a colon in last from making a scheme
	if r.URL.RawQuery != "" {
		location += "?" + r.URL.RawQuery
	}
	return location
}

// failure is the body of an error under api/.
type failure struct {
	Error string `json:"error"`
	Field string `json:"field,omitempty"` // the parameter or key at fault
	Value any    `json:"value,omitempty"` // what it was
}

func fail(w http.ResponseWriter, api bool, code int, f failure) {
	if api {
		writeJSON(w, code, f)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, f.Error, code)
}

// writeJSON answers with v. A write error means that the client has left, so it is ignored.
func writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		code = http.StatusInternalServerError
		body, _ = json.Marshal(failure{Error: err.Error()})
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n'))
}
