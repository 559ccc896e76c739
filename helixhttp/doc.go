// Package helixhttp puts a [helix.Router] in front of net/http: every request becomes a
// job, which runs within its budget or is refused at once.
//
//	admit, err := helixhttp.New(router, helixhttp.Config{
//		Default: helix.Job{Budget: 500 * time.Millisecond},
//		Routes: map[string]helix.Job{
//			"POST /thumbnails": {Budget: 80 * time.Millisecond},
//			"GET /orders/{id}": {Budget: 50 * time.Millisecond, Waits: true},
//		},
//	})
//	if err != nil {
//		return err
//	}
//	server := &http.Server{Addr: ":8080", Handler: admit.Wrap(mux)}
//	return helixhttp.ListenAndServe(ctx, server, 10*time.Second, router)
//
// [ListenAndServe] serves until ctx ends, then finishes the requests that have arrived, and
// shuts the router down. It listens through a [Listener], which knows when a request reached
// the machine: on Linux when the kernel received it. Under load a request waits in sockets and
// in Go's run queue before any handler sees it; its budget runs from its arrival, so that this
// wait counts. On HTTP/1.1 it covers the answer, too: the job is counted as older by the time
// that answers were found to take from the end of the handler until they are written.
//
// If most requests are refused, refusals take CPU from requests that could be answered.
// [Middleware.RefuseEarly] makes them cheaper on plain HTTP/1.1: before the request is parsed.
//
// The package works with every router that speaks net/http, on HTTP/1.1 and HTTP/2, with
// TLS and without.
package helixhttp
