package httpstats

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/remote"
)

// farm is a strategy with workers: it has the job done by the first, and knows figures that
// add up.
type farm struct {
	workers   int
	rtt, took helix.Histogram
}

func (*farm) Name() string                { return "farm" }
func (*farm) Load() helix.Load            { return helix.Load{} }
func (*farm) Close(context.Context) error { return nil }

func (f *farm) Offer(t *helix.Ticket) error {
	if t.Claim() {
		t.At("worker 00")
		t.Finish([]byte("7"), nil)
	}
	return nil
}

func (f *farm) Stats() remote.Stats {
	s := remote.Stats{
		Total: remote.WorkerStats{Sent: 100, Answered: 60, Refused: 20, Undelivered: 5, Unsent: 4, Lost: 3, Flying: 8, Probed: 50},
		RTT:   f.rtt.Snapshot(), Took: f.took.Snapshot(),
		Predicted: 24 * time.Millisecond, Off: 4 * time.Millisecond,
	}
	load := func(age time.Duration, busy int, more remote.Load) remote.KindLoad {
		more.Slots, more.Busy, more.Queued = 4, busy, 2
		return remote.KindLoad{Kind: fmt.Sprint("kind ", age), Load: more, Age: age}
	}
	for i := range f.workers {
		w := remote.WorkerStats{
			Worker: fmt.Sprintf("worker %02d", i), Alive: true, RTT: 300 * time.Microsecond, Heard: time.Now(),
			Sent: 10, Answered: 7, Lost: 1, Flying: 2,
			Kinds: []remote.KindLoad{load(time.Second, 1, remote.Load{Wait: 9 * time.Millisecond}), load(time.Millisecond, 3, remote.Load{})},
		}
		switch i {
		case 1:
			w.Silent = 20 * time.Millisecond
		case 2:
			w.Alive, w.Kinds[0].Load.Leaves = false, true
		case 3:
			w.Alive = false
		}
		s.Workers = append(s.Workers, w)
	}
	return s
}

// withFarm is a router that has its jobs done by a farm.
func withFarm(t testing.TB, workers int) (*helix.Router, *farm) {
	f := &farm{workers: workers}
	r := newRouter(t, helix.RouterConfig{Strategies: []helix.Strategy{f}, Policy: toFarm{}})
	for range 4 {
		f.rtt.Record(300 * time.Microsecond)
		f.took.Record(5 * time.Millisecond)
	}
	return r, f
}

type toFarm struct{}

func (toFarm) Choose(helix.JobInfo, helix.Pressure) helix.Decision {
	return helix.Decision{Strategy: "farm", Reason: "there"}
}

func TestStatsTellOfWorkers(t *testing.T) {
	r, _ := withFarm(t, 70)
	stats := func(r *helix.Router) []fleet {
		return decode[struct{ Fleets []fleet }](t, ask(newHandler(t, r), http.MethodGet, "/api/stats", "").Body.String()).Fleets
	}
	fleets := stats(r)
	require.Len(t, fleets, 1)
	f := fleets[0]
	require.Equal(t, "farm", f.Strategy)
	require.Equal(t, attempts{Sent: 100, Answered: 60, Refused: 20, Undelivered: 5, Unsent: 4, Lost: 3, InFlight: 8}, f.attempts)
	require.Equal(t, 70, f.Known)
	require.Equal(t, 68, f.Serving)
	require.InEpsilon(t, 0.3, float64(*f.RoundTripP50Ms), 0.02)
	require.InEpsilon(t, 5, float64(*f.TookMs), 0.02)
	require.InEpsilon(t, 6, float64(*f.PredictedMs), 0.02, "of each")
	require.InEpsilon(t, 1, float64(*f.OffMs), 0.02)
	require.Len(t, f.Workers, maxWorkers, "bounded")
	var states []string
	for _, w := range f.Workers[:5] {
		states = append(states, w.State)
	}
	require.Equal(t, []string{"serving", "silent", "leaving", "gone", "serving"}, states)
	w := f.Workers[0]
	require.Equal(t, "worker 00", w.Worker)
	require.Equal(t, 3, w.Busy, "what it said last")
	require.Equal(t, number(9), w.WaitMs, "the longest")
	require.Equal(t, attempts{Sent: 10, Answered: 7, Lost: 1, InFlight: 2}, w.attempts)

	fleets = stats(newRouter(t, helix.RouterConfig{}))
	require.NotNil(t, fleets, "a list, not null")
	require.Empty(t, fleets)
}

func TestMetricsOfWorkersAreBounded(t *testing.T) {
	r, _ := withFarm(t, 70)
	body := ask(newHandler(t, r), http.MethodGet, "/metrics", "").Body.String()
	lines := strings.Split(body, "\n")
	for _, line := range []string{
		`helix_remote_attempts_total{outcome="answered",strategy="farm"} 60`,
		`helix_remote_attempts_total{outcome="refused",strategy="farm"} 20`,
		`helix_remote_attempts_total{outcome="lost",strategy="farm"} 3`,
		`helix_remote_jobs_in_flight{strategy="farm"} 8`,
		`helix_remote_probes_total{strategy="farm"} 50`,
		`helix_remote_workers{strategy="farm"} 68`,
		`helix_remote_round_trip_seconds_count{strategy="farm"} 4`,
		`helix_remote_job_duration_seconds_count{strategy="farm"} 4`,
		`helix_remote_predicted_seconds_total{strategy="farm"} 0.024`,
		`helix_remote_misprediction_seconds_total{strategy="farm"} 0.004`,
		`helix_remote_worker_attempts_total{outcome="lost",strategy="farm",worker="worker 00"} 1`,
		`helix_remote_worker_jobs_in_flight{strategy="farm",worker="worker 00"} 2`,
		`helix_remote_worker_up{strategy="farm",worker="worker 00"} 1`,
		`helix_remote_worker_up{strategy="farm",worker="worker 03"} 0`,
		`helix_remote_worker_round_trip_seconds{strategy="farm",worker="worker 00"} 0.0003`,
		`helix_remote_worker_slots{strategy="farm",worker="worker 00"} 4`,
		`helix_remote_worker_slots_busy{strategy="farm",worker="worker 00"} 3`,
		`helix_remote_worker_queue_jobs{strategy="farm",worker="worker 00"} 2`,
	} {
		require.Contains(t, lines, line)
	}
	require.Equal(t, maxWorkers, strings.Count(body, "\nhelix_remote_worker_up{"))
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(NewCollector(r)))
	_, err := registry.Gather()
	require.NoError(t, err)
}

func TestDecisionsSayWhereTheJobWas(t *testing.T) {
	r, _ := withFarm(t, 1)
	events, stop := r.Watch(2)
	defer stop()
	task, err := helix.Register(r, helix.Kind[int, int]{Name: "k", Codec: helix.JSON[int, int]{},
		Run: func(context.Context, int) (int, error) { return 0, nil }})
	require.NoError(t, err)
	got, err := task.Submit(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, 7, got)
	e := <-events
	require.Equal(t, "worker 00", *newDecision(&e).Where)
	e.Outcome.Where = ""
	require.Nil(t, newDecision(&e).Where)
}
