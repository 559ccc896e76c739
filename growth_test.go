package helix_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

func TestAnIdleRouterTakesLittle(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(16)) // the counters have a shard for each P
	for _, kinds := range []int{0, 64} {
		bytes, goroutines := idleRouter(t, kinds)
		require.LessOrEqual(t, bytes, float64(2<<20), "bytes with %d kinds", kinds)
		require.LessOrEqual(t, goroutines, 0.0, "goroutines with %d kinds", kinds)
	}
}

func TestAWaitingJobTakesLittle(t *testing.T) {
	if helix.RaceEnabled {
		t.Skip("the race detector takes memory too")
	}
	for _, door := range waysToWait {
		bytes, _ := waitingJob(t, door)
		require.LessOrEqual(t, bytes, 512.0, door)
	}
}

// A goroutine that is new has 2 KB of stack, of which half can be used. Were more needed,
// it would be copied, at the cost of several decisions: then a variable moves.
func TestSubmitFitsIntoANewStack(t *testing.T) {
	if helix.RaceEnabled || testing.CoverMode() != "" || runtime.GOARCH != "amd64" || !strings.HasPrefix(runtime.Version(), "go1.26") {
		t.Skip("frames depend on the compiler: known for this one, about 100 B are left")
	}
	for _, strategy := range []string{helix.Inline, helix.CPUPool, helix.Drop, helix.Spawn} {
		task := steered(t, strategy)
		ctx := t.Context()
		moved, done := 0, make(chan struct{})
		for range 1000 {
			go func() {
				if stackMoves(func() { _, _ = task.Submit(ctx, 1) }) {
					moved++
				}
				done <- struct{}{}
			}()
			<-done
		}
		require.Less(t, moved, 500, "%s: but for the first, and the 64 in 100 ms that a watcher is shown", strategy)
	}
}

// A refusal by a busy machine is what must be cheap: it looks at what stands before the job,
// and its numbers are its own, as no two jobs cost the same.
func TestARefusalUnderLoadFitsIntoANewStack(t *testing.T) {
	if helix.RaceEnabled || testing.CoverMode() != "" || runtime.GOARCH != "amd64" || !strings.HasPrefix(runtime.Version(), "go1.26") {
		t.Skip("frames depend on the compiler: known for this one")
	}
	r := newRouter(t, helix.RouterConfig{CPUParallelism: 2})
	batched := register(t, r, helix.Kind[bool, int]{Name: "batched", Budget: time.Minute, Cost: func(bool) float64 { return 1e6 },
		Batch: func(_ context.Context, in []bool) ([]int, error) {
			for start := time.Now(); time.Since(start) < time.Millisecond; { // shorter, it would run inline
			}
			return make([]int, len(in)), nil
		}})
	_, err := batched.SubmitWith(t.Context(), true, helix.Hints{})
	require.NoError(t, err)
	free := make(chan struct{})
	task := register(t, r, helix.Kind[bool, int]{Name: "k", Cost: func(bool) float64 { return 36e11 }, // an hour
		Run: func(context.Context, bool) (int, error) { <-free; return 0, nil }})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(free)
	for range 2 + 20 {
		wg.Go(func() { _, _ = task.Submit(t.Context(), true) })
	}
	require.Eventually(t, func() bool { return r.Stats().Pressure.Queued == 20 }, 10*time.Second, time.Millisecond, "they wait: %+v", r.Stats())
	urgent := register(t, r, helix.Kind[bool, int]{Name: "urgent", Budget: time.Minute, Cost: func(bool) float64 { return 1e6 },
		Run: func(context.Context, bool) (int, error) { return 0, nil }})
	for i, of := range []*helix.Task[bool, int]{urgent, batched} {
		ctx, done, moved, start := t.Context(), make(chan struct{}), 0, time.Now()
		for i := range 1000 {
			hints := helix.Hints{Cost: 1e6 * float64(1+i%7), Priority: helix.High}
			go func() {
				if stackMoves(func() { _, _ = of.SubmitWith(ctx, true, hints) }) {
					moved++
				}
				done <- struct{}{}
			}()
			<-done
		}
		// The decision that finds a tick of the ledger due, one in 10 ms, takes more.
		require.Less(t, moved, 500+int(time.Since(start)/(10*time.Millisecond)), "kind %d", i)
	}
	require.Equal(t, uint64(2000), droppedFor(r.Stats(), "budget would end while it waits for a slot"))
}

//go:noinline
func stackMoves(f func()) bool {
	var here byte
	before := uintptr(unsafe.Pointer(&here))
	f()
	return uintptr(unsafe.Pointer(&here)) != before
}

// idleRouter measures the heap and the goroutines that a router takes that nobody
// has used yet, with so many kinds registered.
func idleRouter(t testing.TB, kinds int) (bytes, goroutines float64) {
	routers := make([]*helix.Router, 8)
	tasks := make([][]*helix.Task[int, int], len(routers))
	before, _ := inUse()
	goroutinesBefore := runtime.NumGoroutine()
	for i := range routers {
		r, err := helix.New(helix.RouterConfig{})
		require.NoError(t, err)
		routers[i], tasks[i] = r, registerMany(t, r, kinds)
	}
	after, _ := inUse()
	n := float64(len(routers))
	goroutines = float64(goroutinesBeyond(goroutinesBefore)) / n
	for _, r := range routers {
		require.NoError(t, r.Close())
	}
	runtime.KeepAlive(tasks)
	return float64(after-before) / n, goroutines
}

// goroutinesBeyond returns how many goroutines stay beyond the n that were there before:
// one that ends, or that the runtime takes for a finalizer, is given time to go.
func goroutinesBeyond(n int) int {
	for start := time.Now(); runtime.NumGoroutine() > n && time.Since(start) < 10*time.Second; {
		runtime.Gosched()
	}
	return max(0, runtime.NumGoroutine()-n)
}

// byKind is a policy that takes a kind's name for the strategy.
type byKind struct{}

func (byKind) Choose(j helix.JobInfo, _ helix.Pressure) helix.Decision {
	return helix.Decision{Strategy: j.Kind, Reason: "its kind says so"}
}

// soakItem is what becomes of an item.
type soakItem int

const (
	soakCompletes soakItem = iota
	soakFails
	soakPanics
)

var errSoak = errors.New("as asked")

func soakKind(name string) helix.Kind[soakItem, int] {
	run := func(_ context.Context, item soakItem) (int, error) {
		switch item {
		case soakFails:
			return 0, errSoak
		case soakPanics:
			panic(errSoak)
		}
		return 1, nil
	}
	return helix.Kind[soakItem, int]{Name: name, Run: run, Batch: func(ctx context.Context, items []soakItem) ([]int, error) {
		errs := make(helix.ItemErrors, len(items))
		for i, item := range items {
			_, errs[i] = run(ctx, item)
		}
		return make([]int, len(items)), errs
	}}
}

// BenchmarkSoak sends jobs of every sort through every strategy, and reports the
// heap in use after a tenth of them and after all: no difference, no leak. Then
// it checks that each has ended once. Ten million jobs take under a minute:
//
//	go test -run '^$' -bench Soak -benchtime 10000000x .
func BenchmarkSoak(b *testing.B) {
	r := newRouter(b, helix.RouterConfig{Policy: byKind{}, Logger: slog.New(slog.DiscardHandler)})
	var tasks []*helix.Task[soakItem, int]
	for _, strategy := range []string{helix.Inline, helix.Spawn, helix.CPUPool, helix.Batch, helix.Drop} {
		tasks = append(tasks, register(b, r, soakKind(strategy)))
	}
	ctx := context.Background()
	given, giveUp := context.WithCancel(ctx)
	giveUp()
	one := func(i int) {
		// In a batch, one member's panic is everybody's.
		defer func() { _ = recover() }()
		task, way := tasks[i%len(tasks)], i/len(tasks)%16 // every pair comes
		switch way {
		case 0: // given up before
			_, _ = task.Submit(given, soakCompletes)
		case 1, 2: // given up after
			if f, err := task.Go(ctx, soakCompletes); err == nil {
				f.Cancel()
				_, _ = f.Wait(ctx)
			}
		case 3:
			if f, err := task.Go(ctx, soakFails); err == nil {
				_, _ = f.Wait(ctx)
			}
		case 4:
			_, _ = task.Submit(ctx, soakPanics)
		default:
			_, _ = task.Submit(ctx, soakCompletes)
		}
	}
	callers := 8 * runtime.GOMAXPROCS(0)
	part := func(name string, from, to int) {
		b.StopTimer()
		run := divide(to-from, callers, func(i int) { one(from + i) })
		b.StartTimer()
		run()
		b.StopTimer()
		heap, _ := inUse()
		b.ReportMetric(float64(heap)/(1<<20), name)
	}
	part("heap10-MiB", 0, b.N/10)
	part("heap100-MiB", b.N/10, b.N)

	s := r.Stats()
	requireConserved(b, s)
	require.Zero(b, s.InFlight)
	require.EqualValues(b, b.N, s.Submitted)
	require.Equal(b, s.Submitted, s.Completed+s.Failed+s.Dropped+s.Withdrawn)
}
