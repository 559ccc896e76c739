package helixhttp_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
)

func ExampleNew() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()

	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		admission, _ := helixhttp.AdmissionFrom(r.Context()) // for logs
		fmt.Fprintf(w, "hello %s, by %s", r.PathValue("name"), admission.Decision.Strategy)
	})
	admit, err := helixhttp.New(router, helixhttp.Config{
		Default: helix.Job{Budget: 500 * time.Millisecond},
		Routes: map[string]helix.Job{
			"GET /hello/{name}": {Budget: 80 * time.Millisecond},
		},
	})
	if err != nil {
		panic(err)
	}

	w := httptest.NewRecorder()
	admit.Wrap(mux).ServeHTTP(w, httptest.NewRequest("GET", "/hello/world", nil))
	fmt.Println(w.Code, w.Body)
	fmt.Println(router.Stats().Kinds[0].Name)
	// Output:
	// 200 hello world, by cpu_pool
	// GET /hello/{name}
}

// A request that is late when it arrives is refused at once.
func ExampleMiddleware_Wrap() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()
	admit, err := helixhttp.New(router, helixhttp.Config{
		Default:      helix.Job{Budget: time.Second},
		Trust:        func(r *http.Request) bool { return r.Header.Get("X-Internal") != "" },
		BudgetHeader: "X-Budget-Ms",
	})
	if err != nil {
		panic(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-Internal", "1")
	r.Header.Set("X-Budget-Ms", "0")
	w := httptest.NewRecorder()
	admit.Wrap(http.NotFoundHandler()).ServeHTTP(w, r)
	fmt.Print(w.Code, " ", w.Body)
	// Output: 504 helix: job dropped: already late
}

func ExampleServe() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background()) // in a service: signal.NotifyContext
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "known when it arrived: ", !helixhttp.Arrived(r).IsZero())
	})}
	served := make(chan error)
	go func() { served <- helixhttp.Serve(ctx, server, l, 10*time.Second) }()

	res, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		panic(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	fmt.Println(string(body), err)
	stop()
	fmt.Println(<-served)
	// Output:
	// known when it arrived: true <nil>
	// <nil>
}
