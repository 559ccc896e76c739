package httpstats_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/httpstats"
)

func ExampleNew() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()

	stats, err := httpstats.New(router, httpstats.WithName("checkout"))
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/debug/helix/", http.StripPrefix("/debug/helix", stats))
	server := &http.Server{Addr: "127.0.0.1:8080", Handler: mux}
	server.RegisterOnShutdown(func() { stats.Close() }) // or open pages hold Shutdown up
	defer stats.Close()

	w := httptest.NewRecorder()
	server.Handler.ServeHTTP(w, httptest.NewRequest("GET", "/debug/helix/healthz", nil))
	fmt.Print(w.Code, " ", w.Body)
	// Output: 200 ok
}

func ExampleMount() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()

	mux := http.NewServeMux()
	stats, err := httpstats.Mount(mux, "/helix/", router)
	if err != nil {
		panic(err)
	}
	defer stats.Close()

	server := httptest.NewServer(mux)
	defer server.Close()
	_, err = router.Submit(context.Background(), helix.Job{
		Cost: 100,
		Run:  func(context.Context) (any, error) { return "done", nil },
	})
	if err != nil {
		panic(err)
	}
	res, err := http.Get(server.URL + "/helix/metrics")
	if err != nil {
		panic(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "helix_completed") || strings.HasPrefix(line, "helix_dropped") {
			fmt.Print(line)
		}
	}
	// Output:
	// helix_completed 1
	// helix_dropped 0
}

func ExampleNewCollector() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()

	registry := prometheus.NewRegistry() // the service's own
	registry.MustRegister(httpstats.NewCollector(router))

	families, err := registry.Gather()
	if err != nil {
		panic(err)
	}
	fmt.Println(families[0].GetName(), families[0].GetMetric()[0].GetUntyped().GetValue())
	// Output: helix_completed 0
}
