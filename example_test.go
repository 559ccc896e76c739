package helix_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/helixrouter/helix"
)

// A one-off job: a closure, run by whatever strategy fits.
func ExampleRouter_Submit() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()

	sum := 0
	result, err := router.Submit(context.Background(), helix.Job{
		Kind:   "sum",
		Cost:   1000, // about a microsecond
		Budget: 50 * time.Millisecond,
		Run: func(context.Context) (any, error) {
			for i := range 100 {
				sum += i
			}
			return nil, nil
		},
	})
	fmt.Println(sum, err)
	fmt.Println(result.Decision.Strategy, "because", result.Decision.Reason)
	// Output:
	// 4950 <nil>
	// inline because predicted within inline_threshold
}

// A batchable kind: declared once, its jobs are plain data.
func ExampleRegister() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()

	upper, err := helix.Register(router, helix.Kind[string, string]{
		Name:    "upper",
		Scaling: 0.9,
		Budget:  time.Second,
		Cost:    func(s string) float64 { return 100_000 * float64(len(s)) },
		Batch: func(_ context.Context, words []string) ([]string, error) {
			out := make([]string, len(words))
			for i, w := range words {
				out[i] = strings.ToUpper(w)
			}
			return out, nil
		},
	})
	if err != nil {
		panic(err)
	}
	word, err := upper.Submit(context.Background(), "helix")
	fmt.Println(word, err)
	// Output: HELIX <nil>
}

// Fire and forget, or collect the result later.
func ExampleRouter_Go() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()

	future, err := router.Go(context.Background(), helix.Job{
		Kind: "report",
		Run:  func(context.Context) (any, error) { return "done", nil },
	})
	if err != nil { // refused, with the reason
		panic(err)
	}
	result, err := future.Wait(context.Background())
	fmt.Println(result.Value, err)
	// Output: done <nil>
}

// What cannot be done in time is refused at once, with the reason.
func ExampleDropError() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()

	_, err = router.Submit(context.Background(), helix.Job{
		Cost:   5_000_000, // about 5 ms
		Budget: time.Millisecond,
		Run:    func(context.Context) (any, error) { return nil, nil },
	})
	var drop *helix.DropError
	if errors.As(err, &drop) {
		fmt.Println(drop.Decision.Reason)
		fmt.Println("needs", drop.Decision.Run, "- safe to try elsewhere:", errors.Is(err, helix.ErrNotRun))
	}
	// Output:
	// budget cannot be met
	// needs 5ms - safe to try elsewhere: true
}

// Ask what would happen, without running anything.
func ExampleRouter_Explain() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()

	d := router.Explain(helix.Job{Kind: "thumbnail", Cost: 2_000_000, Scaling: 0.2})
	fmt.Printf("%s, done in %v: %s\n", d.Strategy, d.Completion(), d.Reason)
	for _, no := range d.Rejected {
		if no.Strategy != "" {
			fmt.Printf("not %s: %s\n", no.Strategy, no.Reason)
		}
	}
	// Output:
	// cpu_pool, done in 2ms: slot free
	// not inline: predicted above inline_threshold
	// not batch: kind has no batch function
}

// tenants is a policy of one's own: it keeps batch work away from the slots
// while interactive work needs them, and leaves the rest to another policy.
type tenants struct{ helix.ThresholdPolicy }

func (t tenants) Choose(j helix.JobInfo, p helix.Pressure) helix.Decision {
	if strings.HasPrefix(j.Kind, "batch/") && p.CPUBusy*2 > p.Slots {
		return helix.Decision{Strategy: helix.Drop, Reason: "slots are kept for interactive work"}
	}
	return t.ThresholdPolicy.Choose(j, p)
}

func ExamplePolicy() {
	p := helix.Pressure{Slots: 8, CPUBusy: 5, QueueCap: 512, BusyThreshold: 7, UnitTime: time.Nanosecond}
	fmt.Println(tenants{}.Choose(helix.JobInfo{Kind: "batch/nightly", Cost: 1e9}, p).Reason)
	fmt.Println(tenants{}.Choose(helix.JobInfo{Kind: "quote", Cost: 1e9}, p).Strategy)
	// Output:
	// slots are kept for interactive work
	// cpu_pool
}

// gpu is a strategy of one's own: one device that takes one job at a time.
type gpu struct {
	queue chan *helix.Ticket
	done  chan struct{}
}

func newGPU() *gpu {
	g := &gpu{queue: make(chan *helix.Ticket, 16), done: make(chan struct{})}
	go func() {
		defer close(g.done)
		for t := range g.queue {
			t.Run()
		}
	}()
	return g
}

func (g *gpu) Name() string { return "gpu" }

func (g *gpu) Offer(t *helix.Ticket) error {
	select {
	case g.queue <- t:
		return nil
	default:
		return errors.New("gpu queue is full") // the job is dropped
	}
}

func (g *gpu) Load() helix.Load { return helix.Load{Queued: len(g.queue), Limit: 1} }

func (g *gpu) Close(context.Context) error {
	close(g.queue) // what is queued still runs
	<-g.done
	return nil
}

// toGPU sends inference there and leaves the rest alone.
type toGPU struct{ helix.ThresholdPolicy }

func (t toGPU) Choose(j helix.JobInfo, p helix.Pressure) helix.Decision {
	if j.Kind == "inference" {
		return helix.Decision{Strategy: "gpu", Reason: "has a device of its own"}
	}
	return t.ThresholdPolicy.Choose(j, p)
}

func ExampleStrategy() {
	router, err := helix.New(helix.RouterConfig{Policy: toGPU{}, Strategies: []helix.Strategy{newGPU()}})
	if err != nil {
		panic(err)
	}
	result, err := router.Submit(context.Background(), helix.Job{
		Kind: "inference",
		Run:  func(context.Context) (any, error) { return "a cat", nil },
	})
	fmt.Println(result.Value, "by", result.Decision.Strategy, err)
	if err := router.Close(); err != nil {
		panic(err)
	}
	for _, s := range router.Stats().RoutedByStrategy {
		fmt.Println(s.Strategy, s.Count)
	}
	// Output:
	// a cat by gpu <nil>
	// batch 0
	// cpu_pool 0
	// drop 0
	// gpu 1
	// inline 0
	// spawn 0
}

// Change the thresholds while the router runs.
func ExampleRouter_Update() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()

	err = router.Update(func(c *helix.RouterConfig) { c.InlineThreshold = 20 * time.Microsecond })
	fmt.Println(router.Config().InlineThreshold, err)
	err = router.Update(func(c *helix.RouterConfig) { c.CPUQueueCap = -5 })
	fmt.Println(err)
	// Output:
	// 20µs <nil>
	// helix: RouterConfig.CPUQueueCap is -5: must be from 0 (which means the default) to 16777216
}

func ExampleRouterConfig() {
	cfg := helix.DefaultConfig()
	if err := json.Unmarshal([]byte(`{"cpu_parallelism": 4, "batch_max_delay_ms": 2.5}`), &cfg); err != nil {
		panic(err)
	}
	fmt.Println(cfg.CPUParallelism, cfg.BatchMaxDelay, cfg.CPUQueueCap)
	// Output: 4 2.5ms 512
}

// Watch decisions as they are made.
func ExampleRouter_Watch() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	events, stop := router.Watch(16)
	defer stop()

	_, _ = router.Submit(context.Background(), helix.Job{Kind: "quote", Cost: 100, Run: func(context.Context) (any, error) { return nil, nil }})
	e := <-events
	fmt.Println(e.Info.Kind, e.Decision.Strategy, e.Outcome.Status)
	// Output: quote inline completed
}

// Hooks put a job into a trace, or time it some other way.
func ExampleHooks() {
	router, err := helix.New(helix.RouterConfig{Hooks: helix.Hooks{
		Start: func(ctx context.Context, j helix.JobInfo, d helix.Decision) context.Context {
			fmt.Println("start", j.Kind, d.Strategy)
			return ctx
		},
		Done: func(_ context.Context, j helix.JobInfo, o helix.Outcome) {
			fmt.Println("done", j.Kind, o.Status, o.Err)
		},
	}})
	if err != nil {
		panic(err)
	}
	defer router.Close()
	_, _ = router.Submit(context.Background(), helix.Job{
		Kind: "quote", Cost: 100,
		Run: func(context.Context) (any, error) { return nil, errors.New("no price") },
	})
	// Output:
	// start quote inline
	// done quote failed no price
}

// One line of log a decision.
func ExampleRouter_logging() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	router, err := helix.New(helix.RouterConfig{Logger: logger})
	if err != nil {
		panic(err)
	}
	defer router.Close()
	_, _ = router.Submit(context.Background(), helix.Job{
		Kind: "quote", Cost: 100, Budget: 5 * time.Millisecond,
		Run: func(context.Context) (any, error) { return nil, nil },
	})
	// Output:
	// level=DEBUG msg="helix: decision" kind=quote cost=100 scaling=0 budget=5ms strategy=inline reason="predicted within inline_threshold" cpu_busy=0
}

// A long job gives way to more urgent ones.
func ExampleYield() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()
	result, err := router.Submit(context.Background(), helix.Job{
		Kind: "render", Cost: 50_000_000,
		Run: func(ctx context.Context) (any, error) {
			rows := 0
			for range 1080 {
				rows++ // stands for about 100 µs of work
				helix.Yield(ctx)
			}
			return rows, nil
		},
	})
	fmt.Println(result.Value, err)
	// Output: 1080 <nil>
}

// Fail single items of a batch, and only those.
func ExampleItemErrors() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()
	half, err := helix.Register(router, helix.Kind[int, int]{
		Name: "half", Scaling: 1,
		Batch: func(_ context.Context, ins []int) ([]int, error) {
			outs, errs := make([]int, len(ins)), make(helix.ItemErrors, len(ins))
			for i, in := range ins {
				if outs[i] = in / 2; in%2 != 0 {
					errs[i] = fmt.Errorf("%d is odd", in)
				}
			}
			return outs, errs
		},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(half.Submit(context.Background(), 8))
	fmt.Println(half.Submit(context.Background(), 7))
	// Output:
	// 4 <nil>
	// 3 7 is odd
}

// A panic in a job is raised where it was submitted, with its own stack.
func ExamplePanicError() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()
	defer func() {
		p := recover().(*helix.PanicError)
		fmt.Println(p.Value, len(p.Stack) > 0)
	}()
	_, _ = router.Submit(context.Background(), helix.Job{Run: func(context.Context) (any, error) { panic("boom") }})
	// Output: boom true
}

// Leave early; the job goes on.
func ExampleFuture() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()
	free := make(chan struct{})
	future, err := router.Go(context.Background(), helix.Job{Run: func(context.Context) (any, error) { <-free; return 42, nil }})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = future.Wait(ctx)
	fmt.Println(err)
	close(free)
	result, err := future.Wait(context.Background())
	fmt.Println(result.Value, err)
	// Output:
	// context canceled
	// 42 <nil>
}

func ExampleRouter_Stats() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()
	for range 3 {
		_, _ = router.Submit(context.Background(), helix.Job{Kind: "quote", Cost: 100, Budget: time.Second,
			Run: func(context.Context) (any, error) { return nil, nil }})
	}
	s := router.Stats()
	fmt.Println(s.Submitted, "=", s.Completed, "+", s.Failed, "+", s.Dropped, "+", s.Withdrawn, "+", s.InFlight)
	fmt.Println("promises kept:", s.Kept, "of", s.Promised)
	// Output:
	// 3 = 3 + 0 + 0 + 0 + 0
	// promises kept: 3 of 3
}

// A job that waits for something the router cannot see lends its slot meanwhile: here the
// only one, which the other job needs.
func ExampleBlock() {
	router, err := helix.New(helix.RouterConfig{CPUParallelism: 1})
	if err != nil {
		panic(err)
	}
	defer router.Close()
	ctx := context.Background()
	res, err := router.Submit(ctx, helix.Job{Run: func(ctx context.Context) (any, error) {
		answers := make(chan string)
		_, err := router.Go(ctx, helix.Job{Run: func(context.Context) (any, error) {
			answers <- "hello"
			return nil, nil
		}})
		if err != nil {
			return nil, err
		}
		answer := ""
		helix.Block(ctx, func() { answer = <-answers })
		return answer, nil
	}})
	fmt.Println(res.Value, err)
	// Output: hello <nil>
}

// GoWith says more of one item.
func ExampleTask_GoWith() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()
	double, err := helix.Register(router, helix.Kind[int, int]{
		Name: "double",
		Run:  func(_ context.Context, n int) (int, error) { return 2 * n, nil },
	})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	future, err := double.GoWith(ctx, 21, helix.Hints{Budget: time.Second, Priority: helix.High})
	if err != nil {
		panic(err)
	}
	fmt.Println(future.Wait(ctx))
	// Output: 42 <nil>
}

// A group fans out over a slice: the results come in order, and the first error would have
// cancelled the rest.
func ExampleNewGroup() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()
	square, err := helix.Register(router, helix.Kind[int, int]{
		Name: "square",
		Run:  func(_ context.Context, n int) (int, error) { return n * n, nil },
	})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	group := helix.NewGroup(square)
	for n := range 5 {
		group.Go(ctx, n)
	}
	fmt.Println(group.Wait(ctx))
	// Output: [0 1 4 9 16] <nil>
}

// The first error cancels the others, whose ctx tells why, and Wait waits for all of them.
func ExampleGroup_Wait() {
	router, err := helix.New(helix.RouterConfig{CPUParallelism: 2})
	if err != nil {
		panic(err)
	}
	defer router.Close()
	connected := make(chan struct{})
	fetch, err := helix.Register(router, helix.Kind[string, string]{
		Name: "fetch", Waits: true,
		Run: func(ctx context.Context, page string) (string, error) {
			if page == "missing" {
				<-connected
				return "", errors.New("no such page")
			}
			close(connected)
			<-ctx.Done() // a slow server
			fmt.Println(page, "was left:", context.Cause(ctx))
			return "", ctx.Err()
		},
	})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	group := helix.NewGroup(fetch)
	group.Go(ctx, "slow")
	group.Go(ctx, "missing")
	_, err = group.Wait(ctx)
	fmt.Println(err)
	// Output:
	// slow was left: no such page
	// no such page
}

// A job from Go that follows its submitter ends with the ctx it was submitted with.
func ExampleTask_GoWith_follow() {
	router, err := helix.New(helix.RouterConfig{})
	if err != nil {
		panic(err)
	}
	defer router.Close()
	watch, err := helix.Register(router, helix.Kind[string, int]{
		Name: "watch", Waits: true,
		Run: func(ctx context.Context, _ string) (int, error) {
			<-ctx.Done()
			return 0, context.Cause(ctx)
		},
	})
	if err != nil {
		panic(err)
	}
	request, cancel := context.WithCancelCause(context.Background())
	future, err := watch.GoWith(request, "prices", helix.Hints{Follow: true})
	if err != nil {
		panic(err)
	}
	cancel(errors.New("the client has left"))
	_, err = future.Wait(context.Background())
	fmt.Println(strings.TrimPrefix(err.Error(), "helix: job was not run: ")) // maybe it had not started
	// Output: the client has left
}
