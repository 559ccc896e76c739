package shard

import (
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCount(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for procs, want := range map[int]int{1: 1, 2: 2, 3: 4, 8: 8, 9: 16, 64: 64, 65: 64, 500: 64} {
		runtime.GOMAXPROCS(procs)
		require.Equal(t, want, Count(), "%d P", procs)
	}
}

// Goroutines that are alive at the same time are spread over the shards.
func TestHintSpreadsGoroutines(t *testing.T) {
	const goroutines, shards = 4096, 16
	var hints [goroutines]uint32
	var started, done sync.WaitGroup
	started.Add(goroutines)
	for i := range hints {
		done.Go(func() {
			hints[i] = Hint()
			started.Done()
			started.Wait() // so that no stack is used twice
		})
	}
	done.Wait()
	var used [shards]int
	for _, h := range hints {
		used[h&(shards-1)]++
	}
	for i, n := range used {
		require.Greater(t, n, goroutines/shards/4, "shard %d of %v", i, used)
	}
}

func TestHintStaysTheSame(t *testing.T) {
	var hints [100]uint32 // compared at the end: require may grow the stack, and move it
	for i := range hints {
		runtime.Gosched()
		hints[i] = Hint()
	}
	for _, h := range hints {
		require.Equal(t, hints[0], h)
	}
}

func BenchmarkHint(b *testing.B) {
	for b.Loop() {
		Hint()
	}
}
