package frameworks

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/labstack/echo/v4"
	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
	"github.com/helixrouter/helix/helixtest"
)

// show is what every handler answers: the id, and the strategy that runs it.
func show(r *http.Request, id string) string {
	a, _ := helixhttp.AdmissionFrom(r.Context())
	return id + " by " + a.Decision.Strategy
}

func TestEveryFramework(t *testing.T) {
	gin.SetMode(gin.TestMode)
	for name, f := range map[string]struct {
		kind string
		make func(*helix.Router, map[string]helix.Job) (http.Handler, error)
	}{
		"chi": {"GET /items/{id}", func(r *helix.Router, routes map[string]helix.Job) (http.Handler, error) {
			return Chi(r, routes, func(w http.ResponseWriter, r *http.Request) {
				_, _ = w.Write([]byte(show(r, chi.URLParam(r, "id"))))
			})
		}},
		"gin": {"GET /items/:id", func(r *helix.Router, routes map[string]helix.Job) (http.Handler, error) {
			return Gin(r, routes, func(c *gin.Context) { c.String(http.StatusOK, show(c.Request, c.Param("id"))) })
		}},
		"echo": {"GET /items/:id", func(r *helix.Router, routes map[string]helix.Job) (http.Handler, error) {
			return Echo(r, routes, func(c echo.Context) error {
				return c.String(http.StatusOK, show(c.Request(), c.Param("id")))
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			router := helixtest.New(t, helix.RouterConfig{})
			h, err := f.make(router.Router, map[string]helix.Job{f.kind: {Budget: time.Minute}})
			require.NoError(t, err)
			get := func() *httptest.ResponseRecorder {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest("GET", "/items/7", nil))
				return w
			}
			for _, lane := range []string{helix.Inline, helix.Spawn, helix.CPUPool} {
				router.Force(f.kind, lane)
				w := get()
				require.Equal(t, 200, w.Code)
				require.Equal(t, "7 by "+lane, w.Body.String())
				require.Contains(t, w.Header().Get("Server-Timing"), lane)
			}
			require.EqualValues(t, 3, router.Stats().Promised, "the route's budget")

			router.Refuse(f.kind, "not today", time.Second)
			w := get()
			require.Equal(t, 503, w.Code)
			require.NotEmpty(t, w.Header().Get("Retry-After"))
			require.Contains(t, w.Body.String(), "not today")
			require.NotContains(t, w.Body.String(), "7 by")
		})
	}
}
