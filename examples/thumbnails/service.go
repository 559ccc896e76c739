package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
	"github.com/helixrouter/helix/httpstats"
)

// The latency budgets of the three kinds of work.
const (
	thumbBudget   = 150 * time.Millisecond
	similarBudget = 60 * time.Millisecond
	ownerBudget   = 50 * time.Millisecond
)

// plainService is the service as net/http alone would serve it.
func plainService() http.Handler {
	return routes(func(_ *http.Request, image int) ([]float32, error) {
		return embedAll([]int{image})[0], nil
	})
}

// newService is the service behind a router, with the live page. onShutdown is told what to
// do when the server shuts down; it may be nil.
func newService(router *helix.Router, onShutdown func(func())) (http.Handler, error) {
	embed, err := helix.Register(router, helix.Kind[int, []float32]{
		Name: "embed", Scaling: 0.9, Budget: similarBudget, BatchMaxSize: 32,
		Batch: func(_ context.Context, images []int) ([][]float32, error) { return embedAll(images), nil },
	})
	if err != nil {
		return nil, err
	}
	mux := routes(func(r *http.Request, image int) ([]float32, error) {
		return embed.SubmitWith(r.Context(), image, helix.Hints{Arrived: helixhttp.Arrived(r)})
	})
	page, err := httpstats.Mount(mux, "/helix/", router)
	if err != nil {
		return nil, err
	}
	if onShutdown != nil {
		onShutdown(func() { _ = page.Close() })
	}
	admit, err := helixhttp.New(router, helixhttp.Config{
		Routes: map[string]helix.Job{
			"GET /thumb/{image}": {Budget: thumbBudget},
			"GET /owner/{image}": {Budget: ownerBudget, Waits: true},
		},
		Job: func(r *http.Request, job *helix.Job) {
			if job.Budget == thumbBudget {
				job.Cost = float64(pixels(imageOf(r)))
			}
		},
		// The page must be seen under load, and similar images are jobs of their own: what a
		// request does there is for the most part a call of a batch.
		Skip: func(r *http.Request) bool {
			return strings.HasPrefix(r.URL.Path, "/helix/") || strings.HasPrefix(r.URL.Path, "/similar/")
		},
	})
	if err != nil {
		return nil, err
	}
	return admit.Wrap(mux), nil
}

// routes are those of the service; embed finds what the model says about an image.
func routes(embed func(r *http.Request, image int) ([]float32, error)) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "try /thumb/7, /similar/7, /owner/7 and /helix/")
	})
	mux.HandleFunc("GET /thumb/{image}", func(w http.ResponseWriter, r *http.Request) {
		out, err := thumbnail(imageOf(r))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "image/jpeg")
		_, _ = w.Write(out)
	})
	mux.HandleFunc("GET /similar/{image}", func(w http.ResponseWriter, r *http.Request) {
		vector, err := embed(r, imageOf(r))
		if err != nil {
			w.Header().Set("Retry-After", "1")
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, nearest(vector))
	})
	mux.HandleFunc("GET /owner/{image}", func(w http.ResponseWriter, r *http.Request) {
		owner, err := askDatabase(r.Context(), imageOf(r))
		if err != nil {
			http.Error(w, err.Error(), http.StatusGatewayTimeout)
			return
		}
		fmt.Fprintln(w, owner)
	})
	return mux
}

// imageOf is the image that a request names; there are as many as there are numbers.
func imageOf(r *http.Request) int {
	n, _ := strconv.Atoi(r.PathValue("image"))
	return n
}
