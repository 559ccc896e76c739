// Package frameworks has package helixhttp at work in routers other than net/http's. All
// find the pattern of a request before the middleware runs, so kinds are told apart by route.
package frameworks

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/labstack/echo/v4"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
)

// Chi returns a router whose requests are jobs. Use the middleware with With or in a Group:
// chi runs what is given to Use before it knows the route.
func Chi(router *helix.Router, routes map[string]helix.Job, h http.HandlerFunc) (http.Handler, error) {
	admit, err := helixhttp.New(router, helixhttp.Config{
		Routes: routes,
		Pattern: func(r *http.Request) string {
			return r.Method + " " + chi.RouteContext(r.Context()).RoutePattern()
		},
	})
	if err != nil {
		return nil, err
	}
	mux := chi.NewRouter()
	mux.With(admit.Wrap).Get("/items/{id}", h)
	return mux, nil
}

// The keys of the contexts of gin and echo in that of a request.
type (
	ginKey  struct{}
	echoKey struct{}
)

// Gin returns an engine whose requests are jobs.
func Gin(router *helix.Router, routes map[string]helix.Job, h gin.HandlerFunc) (http.Handler, error) {
	admit, err := helixhttp.New(router, helixhttp.Config{
		Routes: routes,
		Pattern: func(r *http.Request) string {
			return r.Method + " " + r.Context().Value(ginKey{}).(*gin.Context).FullPath()
		},
	})
	if err != nil {
		return nil, err
	}
	next := admit.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		c := r.Context().Value(ginKey{}).(*gin.Context)
		c.Request = r
		c.Next()
	}))
	engine := gin.New()
	engine.Use(func(c *gin.Context) {
		next.ServeHTTP(c.Writer, c.Request.WithContext(context.WithValue(c.Request.Context(), ginKey{}, c)))
		c.Abort() // the handlers have run within, or must not
	})
	engine.GET("/items/:id", h)
	return engine, nil
}

// Echo returns a server whose requests are jobs.
func Echo(router *helix.Router, routes map[string]helix.Job, h echo.HandlerFunc) (http.Handler, error) {
	admit, err := helixhttp.New(router, helixhttp.Config{
		Routes: routes,
		Pattern: func(r *http.Request) string {
			return r.Method + " " + r.Context().Value(echoKey{}).(echo.Context).Path()
		},
	})
	if err != nil {
		return nil, err
	}
	server := echo.New()
	server.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) (err error) {
			admit.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				c.SetRequest(r)
				err = next(c)
			})).ServeHTTP(c.Response(), c.Request().WithContext(context.WithValue(c.Request().Context(), echoKey{}, c)))
			return err
		}
	})
	server.GET("/items/:id", h)
	return server, nil
}
