package fair

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// However many are refused, none is told to come in more than mostRetry.
func TestTurnsAreBounded(t *testing.T) {
	var turns Turns
	last := time.Duration(0)
	for range 200 {
		after := turns.After(1000, time.Second, time.Second, 1)
		require.GreaterOrEqual(t, after, last)
		require.LessOrEqual(t, after, mostRetry+1)
		last = after
	}
	require.Equal(t, mostRetry+1, last)
}

// Those refused at the same moment are told to come one after the other, as places come
// free, and each turn is taken once.
func TestTurnsFollowOneAnother(t *testing.T) {
	const ms = int64(time.Millisecond)
	var turns Turns
	for i := range 5 {
		after := turns.After(0, 10*time.Millisecond, 2*time.Millisecond, 1)
		require.Equal(t, time.Duration(10+2*i)*time.Millisecond+1, after)
	}
	require.False(t, turns.Ready(10*ms-1, true))
	require.True(t, turns.Ready(10*ms, false))
	require.True(t, turns.Ready(10*ms, true), "it was not taken")
	require.False(t, turns.Ready(10*ms+1, true), "it has been taken")
	require.True(t, turns.Ready(12*ms+int64(turnLasts), true))
	require.False(t, turns.Ready(14*ms-1, true), "no other is due")
	require.True(t, turns.Ready(16*ms+ms/2, true), "the one of 14 ms was missed, that of 16 ms was not")
	require.False(t, turns.Ready(17*ms, true))
	turns.forget()
	require.False(t, turns.Ready(time.Hour.Nanoseconds(), true))
	require.Equal(t, time.Millisecond+1, turns.After(int64(time.Hour), time.Millisecond, time.Second, 1), "it begins anew")
}

func TestTurnsAreTakenOnce(t *testing.T) {
	var turns Turns
	const given = 100
	for range given {
		turns.After(0, 1, 0, 1)
	}
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range given {
				if turns.Ready(10, true) {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, given, taken.Load())
}
