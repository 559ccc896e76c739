package e2e

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// Long runs that do not give way, beside a budget that suffers: the page says what
// would help, and no longer once the long jobs call Yield.
func TestThePageSaysWhenYieldWouldHelp(t *testing.T) {
	p := newPage(t, 1280, 1000)
	r := newRouter(t, helix.RouterConfig{})
	v, url := startService(t, r)
	p.open(url)

	ctx := context.Background()
	report := func(yield bool) {
		_, _ = r.Submit(ctx, helix.Job{Kind: "report", Run: func(ctx context.Context) (any, error) {
			for start := time.Now(); time.Since(start) < 5*time.Millisecond; {
				if yield {
					helix.Yield(ctx)
				}
			}
			return nil, nil
		}})
	}
	late := func() { // as it would have been behind such a run
		_, _ = r.Submit(ctx, helix.Job{Kind: "lookup", Budget: 3 * time.Millisecond, Cost: 1,
			Arrived: time.Now().Add(-5 * time.Millisecond),
			Run:     func(context.Context) (any, error) { return nil, nil }})
	}
	shows := func() bool { return eval[bool](p, "!document.getElementById('notice').hidden") }
	await(t, "the notice", func() error {
		report(false)
		late()
		if !shows() {
			return context.DeadlineExceeded
		}
		return nil
	})
	words := p.text("#notice")
	require.Contains(t, words, "report runs")
	require.Contains(t, words, "of lookup, with a budget of 3 ms, come too late")
	require.Contains(t, words, "call helix.Yield in report")
	p.screenshot("page-long-runs")

	// Screen readers read out each change of it, which figures alone do not make every second.
	var reports sync.WaitGroup
	seen := v.ticks.Load() + 3
	reports.Go(func() {
		for v.ticks.Load() < seen {
			report(false)
			late()
		}
	})
	p.soon(v, 2)
	require.Equal(t, words, p.text("#notice"))
	reports.Wait()

	report(true)
	p.until("document.getElementById('notice').hidden")
}
