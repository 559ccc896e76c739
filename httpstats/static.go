package httpstats

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:embed ui
var uiFiles embed.FS

// asset is one file of the page, ready to be sent. It is never written to.
type asset struct {
	contentType string
	body        []byte
	zipped      []byte // nil if gzip does not make it smaller
	etag        string // without quotes
}

// embeddedPages returns the page's files by path below the mount, "" being the
// page itself. They are read and compressed once in a process.
var embeddedPages = sync.OnceValues(func() (map[string]*asset, error) { return loadPages(uiFiles, "ui") })

func loadPages(files fs.FS, root string) (map[string]*asset, error) {
	pages := make(map[string]*asset)
	err := fs.WalkDir(files, root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		a, err := newAsset(name, body)
		if err != nil {
			return err
		}
		pages[strings.TrimPrefix(name, root+"/")] = a
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("httpstats: reading the page: %w", err)
	}
	if pages["index.html"] == nil {
		return nil, fmt.Errorf("httpstats: reading the page: %s has no index.html", root)
	}
	pages[""] = pages["index.html"]
	return pages, nil
}

// contentTypes replaces the operating system's tables, which differ: with nosniff a module of
// the wrong type does not run.
var contentTypes = map[string]string{
	".html":  "text/html; charset=utf-8",
	".css":   "text/css; charset=utf-8",
	".js":    "text/javascript; charset=utf-8",
	".svg":   "image/svg+xml",
	".json":  "application/json",
	".woff2": "font/woff2",
}

func newAsset(name string, body []byte) (*asset, error) {
	sum := sha256.Sum256(body)
	a := &asset{contentType: contentTypes[path.Ext(name)], body: body, etag: hex.EncodeToString(sum[:12])}
	if a.contentType == "" {
		a.contentType = "text/plain; charset=utf-8"
	}
	var zipped bytes.Buffer
	zip, err := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := zip.Write(body); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	if zipped.Len() < len(body) {
		a.zipped = zipped.Bytes()
	}
	return a, nil
}

// serve sends the file. Names carry no hash, so a browser revalidates its copy each time, and
// an old page never shows an upgraded service.
func (a *asset) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	body, etag := a.body, `"`+a.etag+`"`
	if a.zipped != nil {
		header.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header.Values("Accept-Encoding")) {
			body, etag = a.zipped, `"`+a.etag+`-gzip"`
			header.Set("Content-Encoding", "gzip")
		}
	}
	header.Set("ETag", etag)
	header.Set("Cache-Control", "no-cache")
	if matchesETag(r.Header.Values("If-None-Match"), etag) {
		header.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Type", a.contentType)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // fails only if the client has left
	}
}

// acceptsGzip reads Accept-Encoding (RFC 9110, 12.5.3).
func acceptsGzip(values []string) bool {
	wildcard := false
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			coding, params, _ := strings.Cut(item, ";")
			coding = strings.ToLower(strings.TrimSpace(coding))
			if coding != "gzip" && coding != "*" {
				continue
			}
			accepted := true
			if key, q, ok := strings.Cut(strings.TrimSpace(params), "="); ok && strings.EqualFold(key, "q") {
				quality, err := strconv.ParseFloat(q, 64)
				accepted = err == nil && quality > 0
			}
			if coding == "gzip" {
				return accepted
			}
			wildcard = accepted
		}
	}
	return wildcard
}

// matchesETag reads If-None-Match, with weak comparison.
func matchesETag(values []string, etag string) bool {
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			item = strings.TrimPrefix(strings.TrimSpace(item), "W/")
			if item == etag || item == "*" {
				return true
			}
		}
	}
	return false
}
