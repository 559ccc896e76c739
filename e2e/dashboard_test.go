package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	promquery "github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/remote"
)

// schema is that of the version which every Grafana imports; it turns that into the newer one.
//
//lint:ignore SA1019 the newer one is another format
type schema = dashboard.Dashboard

// TestTheDashboardIsOne reads the dashboard by Grafana's own schema, which knows every field
// and option of these panels. Without the plug-ins named here it would skip what is theirs.
func TestTheDashboardIsOne(t *testing.T) {
	grafana := cog.NewRuntime()
	grafana.RegisterDataqueryVariant(promquery.VariantConfig())
	grafana.RegisterPanelcfgVariant(stat.VariantConfig())
	grafana.RegisterPanelcfgVariant(table.VariantConfig())
	grafana.RegisterPanelcfgVariant(timeseries.VariantConfig())

	text, err := os.ReadFile("../deploy/grafana-dashboard.json")
	require.NoError(t, err)
	var faults cog.BuildErrors // an empty list if there are none
	if err := new(schema).UnmarshalJSONStrict(text); !errors.As(err, &faults) {
		require.NoError(t, err)
	}
	require.Empty(t, faults, "%v", faults)
	var d schema // the strict way leaves panels out that are without fault
	require.NoError(t, json.Unmarshal(text, &d))
	require.NoError(t, d.Validate())

	ids, taken := map[uint32]string{}, map[[2]uint32]string{} // by number, and by field of the grid
	for _, of := range d.Panels {
		if row := of.RowPanel; row != nil {
			require.Empty(t, ids[row.Id], row.Title)
			ids[row.Id] = *row.Title
			continue
		}
		p := of.Panel
		require.Contains(t, []string{"stat", "table", "timeseries"}, p.Type)
		require.Empty(t, ids[*p.Id], *p.Title)
		ids[*p.Id] = *p.Title
		require.NotEmpty(t, *p.Description, *p.Title)
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				require.Less(t, x, uint32(24), *p.Title)
				require.Empty(t, taken[[2]uint32{x, y}], *p.Title)
				taken[[2]uint32{x, y}] = *p.Title
			}
		}
	}
}

// wire joins a client to workers of the same process.
type wire struct {
	workers map[string]*remote.Worker
	ctx     context.Context // ends with the wire
	end     context.CancelFunc
	busy    sync.WaitGroup

	mu sync.RWMutex // held for reading while something is delivered
	to remote.Receiver
}

func (w *wire) deliver(f func(remote.Receiver)) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.ctx.Err() == nil {
		f(w.to)
	}
}

// Listen implements [remote.Transport]. Workers tell of themselves at once and every second.
func (w *wire) Listen(r remote.Receiver) error {
	w.to = r
	tell := func() {
		for id, worker := range w.workers {
			worker.Announce(id, func(_ string, frame []byte) { w.deliver(func(r remote.Receiver) { r.Present(frame) }) })
		}
	}
	tell()
	w.busy.Go(func() {
		again := time.NewTicker(time.Second)
		defer again.Stop()
		for {
			select {
			case <-again.C:
				tell()
			case <-w.ctx.Done():
				return
			}
		}
	})
	return nil
}

// Send implements [remote.Transport].
func (w *wire) Send(to remote.Address, call uint64, frame []byte) error {
	w.workers[to.Worker].Receive(slices.Clone(frame), func(answer []byte) {
		go w.deliver(func(r remote.Receiver) { r.Answer(call, answer) }) // the sender may hold a lock
	})
	return nil
}

// Close implements [remote.Transport].
func (w *wire) Close() error {
	w.mu.Lock()
	w.end()
	w.mu.Unlock()
	w.busy.Wait()
	return nil
}

// fussy is a handler that refuses every third job.
type fussy struct {
	remote.Handler
	jobs atomic.Int64
}

// Do implements [remote.Handler].
func (f *fussy) Do(ctx context.Context, r *remote.Request, arrived time.Time) (remote.Output, error) {
	if f.jobs.Add(1)%3 == 0 {
		return remote.Output{}, &remote.NotRunError{Reason: "one in three"}
	}
	return f.Handler.Do(ctx, r, arrived)
}

// render is a kind that can be done elsewhere.
var render = helix.Kind[int, int]{
	Name: "render", Codec: helix.JSON[int, int]{}, Budget: 200 * time.Millisecond,
	Run: func(_ context.Context, in int) (int, error) { time.Sleep(4 * time.Millisecond); return in, nil },
}

// newFleet starts two workers, and is the strategy that has jobs done by them.
func newFleet(t *testing.T) *remote.Client {
	w := &wire{workers: map[string]*remote.Worker{}}
	w.ctx, w.end = context.WithCancel(context.Background())
	for _, id := range []string{"worker-1", "worker-2"} {
		r := newRouter(t, helix.RouterConfig{CPUParallelism: 2})
		_, err := helix.Register(r, render)
		require.NoError(t, err)
		w.workers[id] = remote.NewWorker(&fussy{Handler: remote.Jobs(r)}, remote.WorkerConfig{})
	}
	client, err := remote.NewClient(w, remote.Config{})
	require.NoError(t, err)
	return client
}
