package httpstats

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// inPool is a policy that sends all to cpu_pool.
type inPool struct{}

func (inPool) Choose(j helix.JobInfo, _ helix.Pressure) helix.Decision {
	if j.Waits {
		return helix.Decision{Strategy: helix.Spawn}
	}
	return helix.Decision{Strategy: helix.CPUPool}
}

// All times in metrics are in seconds, whatever unit Stats has.
func TestMetricsInSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: inPool{}, CPUParallelism: 1})
		take := func(d time.Duration) helix.Job {
			return helix.Job{Kind: "k", Run: func(context.Context) (any, error) { time.Sleep(d); return nil, nil }}
		}
		for i := range 40 {
			_, err := r.Submit(t.Context(), take(time.Duration(1+i%3)*time.Second))
			require.NoError(t, err)
		}
		waits := take(2 * time.Second)
		waits.Kind, waits.Waits = "waits", true
		for range 40 {
			_, err := r.Submit(t.Context(), waits)
			require.NoError(t, err)
		}
		for range 3 {
			go func() { _, _ = r.Submit(t.Context(), take(2*time.Second)) }()
		}
		synctest.Wait()

		registry := prometheus.NewRegistry()
		registry.MustRegister(NewCollector(r))
		families, err := registry.Gather()
		require.NoError(t, err)
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.Metric {
				name := f.GetName()
				if len(m.Label) == 1 && m.Label[0].GetName() == "kind" {
					name += " " + m.Label[0].GetValue()
				}
				got[name] = m.GetGauge().GetValue()
				if h := m.Histogram; h != nil {
					got[name+" "+m.Label[0].GetValue()] = h.GetSampleSum() / float64(h.GetSampleCount())
				}
			}
		}
		for name, want := range map[string]float64{
			"helix_pressure_work_seconds":                 6,
			"helix_pressure_wait_seconds":                 6,
			"helix_kind_run_seconds k":                    2,
			"helix_kind_run_spread_seconds k":             2. / 3,
			"helix_kind_downstream_base_seconds waits":    2,
			"helix_kind_downstream_latency_seconds waits": 2,
			"helix_job_duration_seconds cpu_pool":         2,
			"helix_uptime_seconds":                        160,
		} {
			require.InEpsilon(t, want, got[name], .5, name)
		}
	})
}
