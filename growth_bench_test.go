package helix_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// BenchmarkGrowth shows what grows with the number of kinds, of jobs that wait,
// of callers and of routers.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("kinds=%d", n), func(b *testing.B) { growKinds(b, n) })
	}
	for _, n := range []int{0, 100, 10_000} {
		b.Run(fmt.Sprintf("queued=%d", n), func(b *testing.B) { growQueue(b, n) })
	}
	for _, n := range []int{1, 100, 10_000} {
		for _, strategy := range []string{helix.Inline, helix.CPUPool} {
			b.Run(fmt.Sprintf("callers=%d/%s", n, strategy), func(b *testing.B) { growCallers(b, n, strategy) })
		}
	}
	b.Run("memory", growMemory)
	b.Run("idle/kinds=0", func(b *testing.B) { idleRouters(b, 0) })
	b.Run("idle/kinds=64", func(b *testing.B) { idleRouters(b, 64) })
}

// growKinds submits to so many kinds in turn; n is a power of two.
func growKinds(b *testing.B, n int) {
	r := newRouter(b, helix.RouterConfig{})
	tasks := registerMany(b, r, n)
	ctx := context.Background()
	b.Run("callers=1", func(b *testing.B) {
		i := 0
		for b.Loop() {
			_, _ = tasks[i&(n-1)].Submit(ctx, 1)
			i++
		}
	})
	b.Run("callers=many", func(b *testing.B) {
		var callers atomic.Int64
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for i := int(callers.Add(1)); pb.Next(); i++ {
				_, _ = tasks[i&(n-1)].Submit(ctx, 1)
			}
		})
	})
}

func registerMany(t testing.TB, r *helix.Router, n int) []*helix.Task[int, int] {
	tasks := make([]*helix.Task[int, int], n)
	for i := range tasks {
		tasks[i] = register(t, r, unbatched(emptyKind(fmt.Sprint("kind", i))))
	}
	return tasks
}

// oneSlot is a router with one slot, for which any number of jobs may wait.
func oneSlot(b testing.TB) *helix.Router {
	return newRouter(b, helix.RouterConfig{InlineThreshold: 1, SpawnThreshold: 1, CPUParallelism: 1, CPUQueueCap: 1 << 20})
}

// holding calls f on this goroutine, in a job that holds the router's one slot
// and is due in an hour.
func holding(b testing.TB, r *helix.Router, f func(ctx context.Context)) {
	_, err := r.Submit(context.Background(), helix.Job{Kind: "holder", Budget: time.Hour,
		Run: func(ctx context.Context) (any, error) { f(ctx); return nil, nil }})
	require.NoError(b, err)
}

// growQueue has n jobs wait, due in a day, behind one that holds the only slot
// and is due in an hour. So the slot goes to nobody but jobs that are due earlier,
// and from them back to the holder: the queue stays as long as it is.
func growQueue(b *testing.B, n int) {
	ctx := context.Background()
	with := func(b *testing.B, measure func(b *testing.B, slot context.Context, urgent *helix.Task[int, int])) {
		r := oneSlot(b)
		day := unbatched(emptyKind("late"))
		day.Budget = 24 * time.Hour
		late, urgent := register(b, r, day), register(b, r, unbatched(emptyKind("urgent")))
		holding(b, r, func(slot context.Context) {
			waiting := make([]*helix.Future[int], n)
			for i := range waiting {
				waiting[i], _ = late.Go(ctx, 1)
			}
			measure(b, slot, urgent)
			require.Equal(b, n, r.Stats().Pressure.Queued, "the queue has kept its length")
			for _, f := range waiting {
				f.Cancel()
			}
		})
	}
	// One job goes into the queue, gets the slot, runs and gives it back: that is
	// two passages through the queue, its own and the holder's.
	b.Run("Go+Wait", func(b *testing.B) {
		with(b, func(b *testing.B, slot context.Context, urgent *helix.Task[int, int]) {
			for b.Loop() {
				f, _ := urgent.Go(ctx, 1)
				helix.Yield(slot)
				_, _ = f.Wait(ctx)
			}
		})
	})
	b.Run("Go+Cancel", func(b *testing.B) {
		with(b, func(b *testing.B, _ context.Context, urgent *helix.Task[int, int]) {
			for b.Loop() {
				f, _ := urgent.Go(ctx, 1)
				f.Cancel()
			}
		})
	})
}

// growCallers divides the jobs among so many goroutines, which stand ready.
func growCallers(b *testing.B, callers int, strategy string) {
	cfg := helix.RouterConfig{CPUQueueCap: 1 << 20}
	if strategy != helix.Inline {
		cfg.InlineThreshold = 1 // ns: nothing is as short
	}
	task := register(b, newRouter(b, cfg), unbatched(emptyKind("empty")))
	run := divide(b.N, callers, func(int) { _, _ = task.Submit(context.Background(), 1) })
	b.ResetTimer()
	run()
}

// divide has so many goroutines stand ready to call f for 0 to n-1, each for a
// part in order. The function returned lets them go and waits for them.
func divide(n, callers int, f func(i int)) (run func()) {
	var ready, ended sync.WaitGroup
	start := make(chan struct{})
	ready.Add(callers)
	for c := range callers {
		ended.Go(func() {
			ready.Done()
			<-start
			for i := n * c / callers; i < n*(c+1)/callers; i++ {
				f(i)
			}
		})
	}
	ready.Wait()
	return func() { close(start); ended.Wait() }
}

// inUse is the memory in use once garbage is gone. Twice, because a sync.Pool keeps
// its content through one collection.
func inUse() (heap, stacks int64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), int64(m.StackInuse)
}

// waitingJob measures what a job takes that waits for a slot: bytes of heap, and of
// stack. From Submit, where the caller waits too, that is without what a goroutine takes
// that waits for a channel and a ctx by itself, but with what its stack has grown by.
func waitingJob(t testing.TB, door string) (heap, stack float64) {
	const jobs = 10_000
	ctx := context.Background()
	futures := make([]interface{ Cancel() }, jobs)
	// taken is the bytes a job while all wait. Each start is called once a job, on
	// this goroutine; those it starts must end with ctx.
	taken := func(parked func() bool, start func(ctx context.Context, i int, wg *sync.WaitGroup)) (heap, stack float64) {
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(ctx)
		heapBefore, stackBefore := inUse()
		for i := range jobs {
			start(ctx, i, &wg)
		}
		for !parked() {
			runtime.Gosched()
		}
		heapAfter, stackAfter := inUse()
		cancel()
		wg.Wait()
		for i, f := range futures {
			if f != nil {
				f.Cancel()
				futures[i] = nil
			}
		}
		return float64(heapAfter-heapBefore) / jobs, float64(stackAfter-stackBefore) / jobs
	}
	bare := func() (heap, stack float64) {
		var waiting atomic.Int64
		never := make(chan int)
		return taken(func() bool { return waiting.Load() == jobs }, func(ctx context.Context, _ int, wg *sync.WaitGroup) {
			wg.Go(func() {
				waiting.Add(1)
				select {
				case <-never:
				case <-ctx.Done():
				}
			})
		})
	}
	if door == "Task.Submit" {
		bare() // the runtime keeps what describes a goroutine, and must have it before
		h, s := bare()
		heap, stack = -h, -s
	}
	r := oneSlot(t)
	task := register(t, r, unbatched(emptyKind("empty")))
	holding(t, r, func(context.Context) {
		parked := func() bool { return r.Stats().Pressure.Queued == jobs }
		h, s := taken(parked, func(waitCtx context.Context, i int, wg *sync.WaitGroup) {
			switch door {
			case "Task.Submit":
				wg.Go(func() { _, _ = task.Submit(waitCtx, 1) })
			case "Task.Go":
				futures[i], _ = task.Go(ctx, 1)
			default:
				futures[i], _ = r.Go(ctx, helix.Job{Kind: "empty", Run: nothing})
			}
		})
		heap, stack = heap+h, stack+s
	})
	return heap, stack
}

var waysToWait = []string{"Task.Submit", "Task.Go", "Router.Go"}

func growMemory(b *testing.B) {
	for _, door := range waysToWait {
		b.Run(door, func(b *testing.B) {
			var heap, stack float64
			for b.Loop() {
				heap, stack = waitingJob(b, door)
			}
			b.ReportMetric(0, "ns/op") // of no interest: not shown
			b.ReportMetric(heap, "B/job")
			b.ReportMetric(stack, "stack-B/job")
		})
	}
}

// idleRouters measures what a router takes that nobody has used yet.
func idleRouters(b *testing.B, kinds int) {
	var bytes, goroutines float64
	for b.Loop() {
		bytes, goroutines = idleRouter(b, kinds)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(bytes, "B/router")
	b.ReportMetric(goroutines, "goroutines/router")
}
