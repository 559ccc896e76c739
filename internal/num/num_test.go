package num

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestScale(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		by   float64
		want time.Duration
	}{
		{0, 7, 0},
		{time.Second, 0, 0},
		{time.Second, .25, 250 * time.Millisecond},
		{math.MaxInt64, 2, math.MaxInt64},
		{time.Hour, math.MaxFloat64, math.MaxInt64},
		{time.Hour, math.Inf(1), math.MaxInt64},
	} {
		require.Equal(t, c.want, Scale(c.d, c.by), "%v × %v", c.d, c.by)
	}
}

func TestAdd(t *testing.T) {
	for _, c := range [][3]int64{
		{1, 2, 3},
		{-5, 3, -2},
		{math.MinInt64, math.MaxInt64, -1},
		{1, math.MaxInt64, Never},
		{Never, 0, Never},
		{Never, Never, Never},
	} {
		require.Equal(t, c[2], Add(c[0], c[1]), "%d + %d", c[0], c[1])
	}
}

func TestFloat(t *testing.T) {
	var f Float
	require.Zero(t, f.Load())
	f.Store(-1.5)
	require.InDelta(t, -1.5, f.Load(), 0)
}
