package httpstats

import (
	"compress/gzip"
	"io"
	"net/http"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

func TestStaticFiles(t *testing.T) {
	h := newHandler(t, newRouter(t, helix.RouterConfig{}))
	for name, a := range h.pages {
		plain := ask(h, http.MethodGet, "/"+name, "")
		require.Equal(t, http.StatusOK, plain.Code, name)
		require.Equal(t, a.body, plain.Body.Bytes(), name)
		require.Empty(t, plain.Header().Get("Content-Encoding"))
		require.Equal(t, "no-cache", plain.Header().Get("Cache-Control"))
		require.NotEmpty(t, plain.Header().Get("Content-Type"))

		zipped := ask(h, http.MethodGet, "/"+name, "", "Accept-Encoding", "br, gzip")
		body := io.Reader(zipped.Body)
		if a.zipped != nil {
			require.Equal(t, "gzip", zipped.Header().Get("Content-Encoding"), name)
			require.Equal(t, "Accept-Encoding", zipped.Header().Get("Vary"))
			require.NotEqual(t, plain.Header().Get("ETag"), zipped.Header().Get("ETag"), "two bodies, two tags")
			unzip, err := gzip.NewReader(zipped.Body)
			require.NoError(t, err)
			body = unzip
		}
		text, err := io.ReadAll(body)
		require.NoError(t, err)
		require.Equal(t, a.body, text, name)

		for _, first := range []http.Header{plain.Header(), zipped.Header()} {
			etag := first.Get("ETag")
			again := ask(h, http.MethodGet, "/"+name, "", "If-None-Match", `"x", W/`+etag, "Accept-Encoding", first.Get("Content-Encoding"))
			require.Equal(t, http.StatusNotModified, again.Code, name)
			require.Zero(t, again.Body.Len())
			require.Equal(t, etag, again.Header().Get("ETag"))
		}
	}
}

// TestPageIsSmallAndSelfContained holds the page to its budget and to the
// content security policy it is served with.
func TestPageIsSmallAndSelfContained(t *testing.T) {
	pages, err := embeddedPages()
	require.NoError(t, err)
	total := 0
	for name, a := range pages {
		ext := path.Ext(name)
		if _, served := contentTypes[ext]; !served || name == "" {
			continue
		}
		if a.zipped != nil {
			total += len(a.zipped)
		} else {
			total += len(a.body)
		}
		if ext == ".html" {
			require.NotRegexp(t, regexp.MustCompile(`(?i)(src|href|action)\s*=\s*["']?\s*(/|[a-z]+:)`), string(a.body), "URLs must be relative")
			require.NotRegexp(t, regexp.MustCompile(`(?i)\s(on[a-z]+|style)\s*=`), string(a.body), "nothing inline")
			require.NotRegexp(t, regexp.MustCompile(`(?i)<style|<script[^>]*>[^<]`), string(a.body), "nothing inline")
		}
	}
	require.LessOrEqual(t, total, 120<<10)
}

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "deflate, gzip;q=0.5": true, "gzip;q=0": false, "gzip; q=0.000": false,
		"*": true, "*;q=0": false, "*, gzip;q=0": false, "gzip;q=0, *": false, "identity": false, "x-gzip2": false, "gzip;q=x": false,
	} {
		require.Equal(t, want, acceptsGzip([]string{header}), header)
	}
}

func TestLoadPagesNeedsAnIndex(t *testing.T) {
	_, err := loadPages(fstest.MapFS{"ui/app.js": {}}, "ui")
	require.ErrorContains(t, err, "no index.html")
	_, err = loadPages(fstest.MapFS{}, "ui")
	require.Error(t, err)
	pages, err := loadPages(fstest.MapFS{
		"ui/index.html": {Data: []byte(strings.Repeat("x", 1000))}, "ui/v/a.js": {Data: []byte("1")}, "ui/LICENSE": {Data: []byte("free")},
	}, "ui")
	require.NoError(t, err)
	require.Equal(t, "text/javascript; charset=utf-8", pages["v/a.js"].contentType)
	require.Nil(t, pages["v/a.js"].zipped, "one byte does not shrink")
	require.NotNil(t, pages[""].zipped)
	require.Equal(t, "text/plain; charset=utf-8", pages["LICENSE"].contentType)
}
