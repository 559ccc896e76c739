package e2e

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/remote"
)

// farm is a strategy that sends jobs to workers, with made-up statistics.
type farm struct {
	workers atomic.Pointer[[]remote.WorkerStats]
}

func (*farm) Name() string                { return "remote" }
func (*farm) Load() helix.Load            { return helix.Load{} }
func (*farm) Close(context.Context) error { return nil }

func (*farm) Offer(t *helix.Ticket) error {
	if t.Claim() {
		t.At("worker-1")
		t.Finish([]byte("1"), nil)
	}
	return nil
}

func (f *farm) Stats() (s remote.Stats) {
	s.Workers = *f.workers.Load()
	for i := range s.Workers {
		s.Total.Sent += s.Workers[i].Sent
		s.Total.Answered += s.Workers[i].Answered
		s.Total.Lost += s.Workers[i].Lost
	}
	return s
}

func farmhand(name string, alive bool, silent time.Duration, lost uint64) remote.WorkerStats {
	return remote.WorkerStats{
		Worker: name, Alive: alive, Silent: silent, RTT: 310 * time.Microsecond, Heard: time.Now(),
		Sent: 1000 + lost, Answered: 1000, Lost: lost,
		Kinds: []remote.KindLoad{{Kind: "render", Load: remote.Load{Slots: 8, Busy: 6, Queued: 3}}},
	}
}

func TestWorkersAreShown(t *testing.T) {
	p := newPage(t, 1280, 1500)
	f := &farm{}
	f.workers.Store(&[]remote.WorkerStats{
		farmhand("worker-1", true, 0, 0), farmhand("worker-2", true, time.Second, 0), farmhand(`<b class="injected">3</b>`, false, 0, 7),
	})
	r := newRouter(t, helix.RouterConfig{Strategies: []helix.Strategy{f}, Policy: toFarm{}})
	task, err := helix.Register(r, helix.Kind[int, int]{Name: "render", Codec: helix.JSON[int, int]{}, Budget: time.Second,
		Run: func(context.Context, int) (int, error) { return 0, nil }})
	require.NoError(t, err)
	_, url := startService(t, r)
	p.open(url)
	await(t, "a decision that says where", func() error {
		if _, err := task.Submit(t.Context(), 1); err != nil {
			return err
		}
		if !eval[bool](p, "[...document.querySelectorAll('#feed .c-why')].some((e) => e.textContent.includes('at worker-1'))") {
			return fmt.Errorf("the feed says %q", p.text("#feed tbody"))
		}
		return nil
	})
	p.until("document.querySelectorAll('#fleet tbody tr').length === 3")
	require.Equal(t, []string{"serving", "silent", "gone"}, p.texts("#fleet td.w-state"))
	require.Equal(t, []string{"6 of 8, 3 wait", "6 of 8, 3 wait", "6 of 8, 3 wait"}, p.texts("#fleet .w-load .num"))
	require.Equal(t, []string{"0", "0", "7"}, p.texts("#fleet td.w-lost"))
	require.Contains(t, p.text("#fleet"), `<b class="injected">3</b>`)
	require.Zero(t, eval[int](p, "document.querySelectorAll('.injected').length"))
	require.Contains(t, p.text("#fleet-sums"), "2 of 3 workers serving")
	require.Contains(t, p.text("#fleet-sums"), "3,007 sent = 3,000 answered + 0 refused + 7 lost + 0 in flight")
	p.do(chromedp.ScrollIntoView(chromedp.CSS("#fleet-panel")))
	p.screenshot("workers")

	f.workers.Store(&[]remote.WorkerStats{farmhand("worker-2", true, 0, 0)})
	p.until("document.querySelectorAll('#fleet tbody tr').length === 1")
	require.Equal(t, []string{"serving"}, p.texts("#fleet td.w-state"))
	p.do(chromedp.EmulateViewport(360, 740, chromedp.EmulateMobile))
	p.painted()
	p.noSidewaysScroll(360)
}

func TestAServiceWithoutWorkersShowsNone(t *testing.T) {
	p := newPage(t, 1280, 1000)
	r := newRouter(t, helix.RouterConfig{})
	submit(t, r, 1, helix.Job{})
	_, url := startService(t, r)
	p.open(url)
	p.until("document.querySelectorAll('#kinds tbody tr').length === 1")
	require.True(t, eval[bool](p, "document.getElementById('fleet-panel').hidden"))
}

type toFarm struct{}

func (toFarm) Choose(helix.JobInfo, helix.Pressure) helix.Decision {
	return helix.Decision{Strategy: "remote", Reason: "always"}
}
