package helixhttp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAWaitEndsWithTheRead(t *testing.T) {
	var x exchange
	x.arrives(100, 4096, 5*time.Millisecond)
	require.EqualValues(t, 5*time.Millisecond, x.waited.Load())
	x.arrives(1, 1, 7*time.Millisecond) // of the next request
	require.EqualValues(t, 5*time.Millisecond, x.waited.Load())
	x.arrives(100, 4096, 2*longestAge) // the clock was set
	require.Zero(t, x.waited.Load())
}
