package estimate

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProber(t *testing.T) {
	for name, c := range map[string]struct {
		doubtful bool
		first    time.Duration
	}{
		"the estimate rests on little": {true, time.Second},
		"it rests on much":             {false, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			var p Prober
			now := int64(time.Hour)
			require.False(t, p.Due(now, c.doubtful), "nothing was refused")
			p.Refuse(now)
			require.False(t, p.Due(now+int64(c.first)-1, c.doubtful))
			for _, times := range []int64{1, 1, 2, 4, 8, 16, 32, 64, 64} {
				now += times * int64(c.first)
				require.False(t, p.Due(now-1, c.doubtful), "%d times", times)
				require.True(t, p.Due(now, c.doubtful), "%d times", times)
				require.True(t, p.Take(now, c.doubtful))
				require.False(t, p.Take(now, c.doubtful), "it has been taken")
				p.Start(true)
				require.False(t, p.Due(now, c.doubtful), "one has started")
				p.Refuse(now)
			}
			p.Start(false) // a job got in without a probe
			p.Refuse(now)
			require.True(t, p.Due(now+int64(c.first), c.doubtful), "it begins anew")
		})
	}
}

func TestAProbeIsTakenOnce(t *testing.T) {
	var p Prober
	p.Refuse(1)
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if p.Take(int64(time.Minute), true) {
				taken.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, taken.Load())
}
