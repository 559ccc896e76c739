package helixhttp_test

import (
	"compress/gzip"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
	"github.com/helixrouter/helix/helixtest"
)

// net/http removes the files of a form if its own request has it.
func TestAFormIsThatOfTheServersRequest(t *testing.T) {
	for _, panics := range []bool{false, true} {
		var form *multipart.Form
		h := newMiddleware(t, newRouter(t, helix.RouterConfig{}), helixhttp.Config{}).Wrap(
			http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				require.NoError(t, r.ParseMultipartForm(1))
				form = r.MultipartForm
				if panics {
					panic("after the form")
				}
			}))
		r := httptest.NewRequest("POST", "/", strings.NewReader("--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--x--\r\n"))
		r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		func() {
			defer func() { require.Equal(t, panics, recover() != nil) }()
			h.ServeHTTP(httptest.NewRecorder(), r)
		}()
		require.NotNil(t, form)
		require.Same(t, form, r.MultipartForm)
	}
}

func TestMiddlewareAroundKnowsThePattern(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("GET /orders/{id}", answering("an order"))
	h := newMiddleware(t, newRouter(t, helix.RouterConfig{}), helixhttp.Config{}).Wrap(mux)
	r := httptest.NewRequest("GET", "/orders/7", nil)
	h.ServeHTTP(httptest.NewRecorder(), r)
	require.Equal(t, "GET /orders/{id}", r.Pattern)
}

// Middleware as it is often written compresses and leaves the header as it is.
func TestARefusalMayBeCompressed(t *testing.T) {
	router := helixtest.New(t, helix.RouterConfig{})
	router.Refuse("", "shut", time.Second)
	h := newMiddleware(t, router.Router, helixhttp.Config{}).Wrap(answering("ok"))
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		zip := gzip.NewWriter(w)
		h.ServeHTTP(compressing{w, zip}, r)
		require.NoError(t, zip.Close())
	}))
	res, err := http.Get("http://" + addr)
	require.NoError(t, err)
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), "shut")
	http.DefaultClient.CloseIdleConnections()
}

type compressing struct {
	http.ResponseWriter
	zip *gzip.Writer
}

func (c compressing) Write(b []byte) (int, error) { return c.zip.Write(b) }
