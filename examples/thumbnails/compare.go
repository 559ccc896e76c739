package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/helixhttp"
)

// class is a kind of request in the load.
type class struct {
	path   string
	budget time.Duration
	share  float64 // of the requests
}

var classes = []class{
	{"/thumb/%d", thumbBudget, 0.35},
	{"/similar/%d", similarBudget, 0.35},
	{"/owner/%d", ownerBudget, 0.30},
}

// tally counts what became of the requests of a run.
type tally struct {
	sent, inBudget, late, refused, failed atomic.Int64
	mu                                    sync.Mutex // guards answered
	answered                              []time.Duration
}

func (t *tally) percent(n *atomic.Int64) float64 {
	return 100 * float64(n.Load()) / float64(max(t.sent.Load(), 1))
}

// quantile is of the latencies of the requests that were answered.
func (t *tally) quantile(q float64) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.answered) == 0 {
		return 0
	}
	slices.Sort(t.answered)
	return t.answered[int(q*float64(len(t.answered)-1))]
}

// compare offers the same requests, at the same times, to the service without and with the
// router, and prints what became of them.
func compare(ctx context.Context, w io.Writer, load float64, lasts time.Duration) error {
	rate := load * capacity()
	fmt.Fprintf(w, "%.0f requests a second for %v, %.3g times what %d processors can do; the client uses them too\n\n",
		rate, lasts, load, runtime.GOMAXPROCS(0))
	plain, err := offer(ctx, plainService(), rate, lasts)
	if err != nil {
		return err
	}
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		return err
	}
	defer router.Close()
	service, err := newService(router, nil)
	if err != nil {
		return err
	}
	routed, err := offer(ctx, service, rate, lasts)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tsent\tin budget\tlate\trefused\tfailed\tp50\tp99\t")
	for _, row := range []struct {
		name string
		*tally
	}{{"net/http alone", plain}, {"with the router", routed}} {
		fmt.Fprintf(table, "%s\t%d\t%.1f %%\t%.1f %%\t%.1f %%\t%.1f %%\t%v\t%v\t\n", row.name, row.sent.Load(),
			row.percent(&row.inBudget), row.percent(&row.late), row.percent(&row.refused), row.percent(&row.failed),
			row.quantile(0.5).Round(100*time.Microsecond), row.quantile(0.99).Round(100*time.Microsecond))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s\n", verdict(plain, routed))
	return nil
}

// verdict says which of the two kept more of what was asked.
func verdict(plain, routed *tally) string {
	a, b := plain.percent(&plain.inBudget), routed.percent(&routed.inBudget)
	switch {
	case b > a+1:
		return fmt.Sprintf("With the router %.1f %% of all requests were answered in their budgets, without it %.1f %%.", b, a)
	case a > b+1:
		return fmt.Sprintf("Without the router %.1f %% of all requests were answered in their budgets, with it %.1f %%: it did harm.", a, b)
	}
	return fmt.Sprintf("No difference: %.1f %% and %.1f %% of all requests were answered in their budgets.", a, b)
}

// capacity is about how many requests of the mix a second the machine can do, one by one.
func capacity() float64 {
	h := plainService()
	const each = 6
	var busy time.Duration
	for _, c := range classes[:2] { // a query waits, and takes no processor
		h.ServeHTTP(discard{}, request(c, 0)) // warm
		start := time.Now()
		for i := range each {
			h.ServeHTTP(discard{}, request(c, i))
		}
		busy += time.Duration(c.share * float64(time.Since(start)) / each)
	}
	return float64(runtime.GOMAXPROCS(0)) / busy.Seconds()
}

// request is one of the class to a handler in this process.
func request(c class, n int) *http.Request {
	r, err := http.NewRequest(http.MethodGet, fmt.Sprintf(c.path, n), nil)
	if err != nil {
		panic(err) // the paths are constant
	}
	return r
}

// discard is a ResponseWriter for which nothing is too much.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

// offer serves h and sends it requests at random times, whether or not the ones before have
// been answered. Latency counts from when a request was to be sent.
func offer(ctx context.Context, h http.Handler, rate float64, lasts time.Duration) (*tally, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: h, ConnContext: helixhttp.ConnContext}
	served := make(chan error, 1)
	go func() { served <- server.Serve(helixhttp.NewListener(l)) }()

	const patience = 2 * time.Second // the timeout of a client
	transport := &http.Transport{MaxIdleConnsPerHost: 512, MaxConnsPerHost: 2048}
	client := &http.Client{Transport: transport, Timeout: patience}
	t := &tally{}
	rng := rand.New(rand.NewPCG(7, 7)) // the same in each run
	var pending sync.WaitGroup
	start := time.Now()
	for at := time.Duration(0); at < lasts && ctx.Err() == nil; at += time.Duration(rng.ExpFloat64() / rate * 1e9) {
		pick, n := rng.Float64(), rng.IntN(1000)
		i := 0
		for i < len(classes)-1 && pick >= classes[i].share {
			pick -= classes[i].share
			i++
		}
		c := classes[i]
		time.Sleep(time.Until(start.Add(at)))
		due := start.Add(at)
		pending.Go(func() { t.send(client, "http://"+l.Addr().String()+fmt.Sprintf(c.path, n), c, due) })
	}
	pending.Wait()
	transport.CloseIdleConnections()
	err = server.Close() // each request has its answer, or its client has given up
	<-served             // http.ErrServerClosed
	return t, errors.Join(err, ctx.Err())
}

// send sends one request that was due then, and counts what became of it.
func (t *tally) send(client *http.Client, url string, c class, due time.Time) {
	t.sent.Add(1)
	res, err := client.Get(url)
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	took := time.Since(due)
	switch {
	case err != nil:
		t.failed.Add(1)
	case res.StatusCode == http.StatusOK:
		if took <= c.budget {
			t.inBudget.Add(1)
		} else {
			t.late.Add(1)
		}
		t.mu.Lock()
		t.answered = append(t.answered, took)
		t.mu.Unlock()
	case res.StatusCode == http.StatusServiceUnavailable, res.StatusCode == http.StatusGatewayTimeout:
		t.refused.Add(1)
	default:
		t.failed.Add(1)
	}
}
