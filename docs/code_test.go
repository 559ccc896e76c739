// The Go code that the README and the pages in this folder show: compiled, and run. A test in
// docs_test.go compares the two.
package docs_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
	"github.com/helixrouter/helix/helixtest"
	"github.com/helixrouter/helix/httpstats"
)

// What the fragments below use: stand-ins for a service's own.
var (
	img    = "image"
	pixels = 2_000_000
	images = []string{"a", "b"}
)

func resize(_ context.Context, img string) (string, error) { return "small " + img, nil }

func report(context.Context) (any, error) { return "report", nil }

type embedder struct{}

func (embedder) Embed(_ context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, len(texts))
	for i, text := range texts {
		out[i] = []float32{float32(len(text))}
	}
	return out, nil
}

// submit is the README's call site.
func submit(ctx context.Context) error {
	router, err := helix.New(helix.RouterConfig{}) // the zero config is ready for use
	if err != nil {
		return err
	}
	defer router.Close()

	result, err := router.Submit(ctx, helix.Job{
		Kind:   "thumbnail",
		Cost:   float64(pixels),       // in a unit of your own: run times are learned per kind
		Budget: 80 * time.Millisecond, // how soon the result is of use
		Run:    func(ctx context.Context) (any, error) { return resize(ctx, img) },
	})
	var drop *helix.DropError
	if errors.As(err, &drop) { // matches helix.ErrNotRun: safe to try elsewhere
		log.Printf("refused: %s, retry after %v", drop.Decision.Reason, drop.RetryAfter)
	}
	if err == nil && result.Value != "small image" {
		return fmt.Errorf("got %v", result.Value)
	}
	return err
}

func TestSubmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { require.NoError(t, submit(t.Context())) })
}

func TestRegister(t *testing.T) {
	ctx, router, model := t.Context(), newRouter(t), embedder{}
	embed, err := helix.Register(router, helix.Kind[string, []float32]{
		Name:    "embed",
		Scaling: 0.9, // 0..1: how well it batches
		Budget:  40 * time.Millisecond,
		Cost:    func(text string) float64 { return float64(len(text)) },
		Batch:   model.Embed, // func(context.Context, []string) ([][]float32, error)
	})
	require.NoError(t, err)
	vector, err := embed.SubmitWith(ctx, "hello", helix.Hints{Budget: helix.NoBudget})
	require.NoError(t, err)
	require.Equal(t, []float32{5}, vector)
}

func TestGo(t *testing.T) {
	ctx, router := t.Context(), newRouter(t)
	future, err := router.Go(ctx, helix.Job{Kind: "report", Run: report}) // err: refused
	require.NoError(t, err)
	result, err := future.Wait(ctx) // leaving early does not stop the job
	require.NoError(t, err)
	require.Equal(t, "report", result.Value)
}

func TestGroup(t *testing.T) {
	ctx, router := t.Context(), newRouter(t)
	thumbnail, err := helix.Register(router, helix.Kind[string, string]{Name: "thumbnail", Run: resize})
	require.NoError(t, err)
	group := helix.NewGroup(thumbnail) // a Task, from Register
	for _, image := range images {
		group.Go(ctx, image)
	}
	thumbnails, err := group.Wait(ctx) // in the order of images
	require.NoError(t, err)
	require.Equal(t, []string{"small a", "small b"}, thumbnails)
}

func TestWaits(t *testing.T) {
	ctx, router := t.Context(), newRouter(t)
	query := func(_ context.Context, id int) (string, error) { return fmt.Sprint("user ", id), nil }
	user, err := helix.Register(router, helix.Kind[int, string]{
		Name: "user", Run: query, Budget: 5 * time.Second,
		Waits: true, Downstream: "db", // shared by all kinds that name it
	})
	require.NoError(t, err)
	name, err := user.Submit(ctx, 7)
	require.NoError(t, err)
	require.Equal(t, "user 7", name)
}

func TestBlock(t *testing.T) {
	ctx, router := t.Context(), newRouter(t)
	answers := make(chan string, 1)
	_, err := router.Submit(ctx, helix.Job{Run: func(ctx context.Context) (any, error) {
		var answer string
		go func() { answers <- "hello" }()
		helix.Block(ctx, func() { answer = <-answers }) // another job may have the slot meanwhile
		return answer, nil
	}})
	require.NoError(t, err)
}

func TestYield(t *testing.T) {
	ctx, router := t.Context(), newRouter(t)
	rows, drawn := make([]int, 100), 0
	render := func(int) { drawn++ }
	_, err := router.Submit(ctx, helix.Job{Run: func(ctx context.Context) (any, error) {
		for _, row := range rows {
			render(row) // about 100 µs
			helix.Yield(ctx)
		}
		return nil, nil
	}})
	require.NoError(t, err)
	require.Equal(t, len(rows), drawn)
}

// serve is the guide's server.
func serve(ctx context.Context, router *helix.Router, mux *http.ServeMux, addr string) error {
	admit, err := helixhttp.New(router, helixhttp.Config{
		Default: helix.Job{Budget: 500 * time.Millisecond},
		Routes: map[string]helix.Job{ // by pattern, as in your ServeMux
			"POST /thumbnails": {Budget: 80 * time.Millisecond},
		},
	})
	if err != nil {
		return err
	}
	server := &http.Server{Addr: addr, Handler: admit.Wrap(mux)}
	return helixhttp.ListenAndServe(ctx, server, 10*time.Second, router) // until ctx ends: then requests, then jobs finish
}

// serveEarly is that of in-your-service.md which refuses before it parses.
func serveEarly(ctx context.Context, router *helix.Router, server *http.Server, admit *helixhttp.Middleware) error {
	l, err := net.Listen("tcp", server.Addr)
	if err != nil {
		return err
	}
	listener := helixhttp.NewListener(l)
	if err := admit.RefuseEarly(listener, "GET /report"); err != nil { // a pattern of Config.Routes
		return err
	}
	return helixhttp.Serve(ctx, server, listener, 10*time.Second, router)
}

func TestServeEarly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	router := newRouter(t)
	admit, err := helixhttp.New(router, helixhttp.Config{Routes: map[string]helix.Job{"GET /report": {}}})
	require.NoError(t, err)
	require.NoError(t, serveEarly(ctx, router, &http.Server{Addr: "127.0.0.1:0", ReadHeaderTimeout: time.Minute}, admit))
}

func TestServe(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, serve(ctx, newRouter(t), http.NewServeMux(), "127.0.0.1:0"))
}

// mount is the guide's page.
func mount(router *helix.Router, mux *http.ServeMux, srv *http.Server) error {
	h, err := httpstats.Mount(mux, "/helix/", router)
	if err != nil {
		return err
	}
	srv.RegisterOnShutdown(func() { _ = h.Close() }) // ends open streams
	return nil
}

func TestMount(t *testing.T) {
	mux, srv := http.NewServeMux(), &http.Server{}
	require.NoError(t, mount(newRouter(t), mux, srv))
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/helix/healthz", nil))
	require.Equal(t, "ok", strings.TrimSpace(w.Body.String()))
	require.NoError(t, srv.Shutdown(t.Context()))
}

func TestThumbnailOnABusyDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time is virtual
		router := helixtest.New(t, helix.RouterConfig{})
		router.Refuse("thumbnail", "over its fair share", 2*time.Second)

		_, err := router.Submit(t.Context(), helix.Job{Kind: "thumbnail", Run: report})

		var drop *helix.DropError
		require.ErrorAs(t, err, &drop)
		require.Equal(t, 2*time.Second, drop.RetryAfter.Round(time.Second))
	})
}

// newRouter is a router that is closed when the test ends.
func newRouter(t *testing.T) *helix.Router {
	router, err := helix.New(helix.RouterConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, router.Close()) })
	return router
}
