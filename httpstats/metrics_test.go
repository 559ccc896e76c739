package httpstats

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// busyRouter has done a little of everything.
func busyRouter(t testing.TB) *helix.Router {
	r := newRouter(t, helix.RouterConfig{Policy: helix.ThresholdPolicy{}, Strategies: []helix.Strategy{&farm{workers: 1}}})
	for range 3 {
		submit(t, r, helix.Job{Cost: 1, Budget: time.Minute})
		submit(t, r, helix.Job{Cost: 50_000})
		submit(t, r, helix.Job{Kind: "big", Cost: 1e9})
	}
	submit(t, r, helix.Job{Kind: "bad", Run: func(context.Context) (any, error) { return nil, errJob }})
	submit(t, r, helix.Job{Kind: "late", Cost: 1e9, Budget: time.Millisecond})
	for _, kind := range hostileKinds {
		submit(t, r, helix.Job{Kind: kind, Cost: 1})
	}
	_, err := helix.Register(r, helix.Kind[int, int]{Name: "query", Waits: true, Run: func(context.Context, int) (int, error) { return 0, nil }})
	require.NoError(t, err)
	return r
}

func TestMetricsKeepTheirLines(t *testing.T) {
	w := ask(newHandler(t, busyRouter(t)), http.MethodGet, "/metrics", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Header().Get("Content-Type"), "text/plain; version=0.0.4")
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	lines := strings.Split(w.Body.String(), "\n")
	for _, line := range []string{
		`helix_completed 17`,
		`helix_dropped 1`,
		`helix_routed{strategy="batch"} 0`,
		`helix_routed{strategy="cpu_pool"} 4`,
		`helix_routed{strategy="drop"} 1`,
		`helix_routed{strategy="inline"} 11`,
		`helix_routed{strategy="spawn"} 3`,
		`helix_jobs_submitted_total 19`,
		`helix_jobs_completed_total 17`,
		`helix_jobs_failed_total 1`,
		`helix_jobs_dropped_total{reason="budget cannot be met"} 1`,
		`helix_jobs_withdrawn_total 0`,
		`helix_jobs_routed_total{strategy="cpu_pool"} 4`,
		`helix_promises_made_total 3`,
		`helix_promises_kept_total 3`,
		`helix_job_duration_seconds_count{strategy="inline"} 11`,
		`helix_kind_job_duration_seconds_count{kind="bad"} 1`,
		`helix_kind_job_duration_seconds_count{kind="late"} 0`,
		`helix_jobs_in_flight 0`,
		`helix_kind_jobs_total{kind="bad",outcome="failed"} 1`,
		`helix_kind_jobs_total{kind="late",outcome="dropped"} 1`,
		`helix_kind_downstream_calls{kind="query"} 0`,
		`helix_kind_downstream_lost_calls{kind="query"} 0`,
		`helix_kind_downstream_limit_calls{kind="query"} +Inf`,
		fmt.Sprintf(`helix_cpu_slots %d`, helix.DefaultConfig().CPUParallelism),
	} {
		require.Contains(t, lines, line)
	}
	require.NotContains(t, w.Body.String(), `strategy="drop",le=`, "what is dropped takes no time")
}

// TestCollectorIsConsistent lets a registry that checks everything compare what
// is collected with what is described, and with what the handler serves without
// a registry.
func TestCollectorIsConsistent(t *testing.T) {
	synctest.Test(t, testCollectorIsConsistent)
}

func testCollectorIsConsistent(t *testing.T) {
	r := busyRouter(t)
	_, err := helix.Register(r, pairs("pairs"))
	require.NoError(t, err)
	for _, kind := range []string{"rows", "blobs"} { // of one downstream
		calls, err := helix.Register(r, helix.Kind[int, int]{
			Name: kind, Downstream: "database", Waits: true,
			Run: func(_ context.Context, in int) (int, error) { return in, nil },
		})
		require.NoError(t, err)
		_, err = calls.Submit(t.Context(), 1)
		require.NoError(t, err)
	}
	// Long runs, behind which others come too late.
	for range 20 {
		submit(t, r, helix.Job{Kind: "report", Cost: 1e6, Run: func(context.Context) (any, error) {
			time.Sleep(100 * time.Millisecond)
			return nil, nil
		}})
		submit(t, r, helix.Job{Kind: "lookup", Budget: time.Millisecond, Arrived: time.Now().Add(-time.Hour)})
	}
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(NewCollector(r)))
	checked, err := registry.Gather()
	require.NoError(t, err)
	served, err := gatherer{r}.Gather()
	require.NoError(t, err)
	require.Equal(t, families2text(t, checked), families2text(t, served))
	require.Len(t, served, len(families))

	lints, err := promlint.NewWithMetricFamilies(served).Lint()
	require.NoError(t, err)
	require.Empty(t, lints)
}

// pairs is a kind whose calls take two.
func pairs(name string) helix.Kind[int, int] {
	return helix.Kind[int, int]{
		Name: name, BatchMaxSize: 2, Scaling: 1, Budget: time.Minute,
		Batch: func(_ context.Context, in []int) ([]int, error) { return in, nil },
	}
}

func TestBatchesLateJobsAndVersionInMetrics(t *testing.T) {
	// Once learned, jobs run inline, however slow the machine.
	r := newRouter(t, helix.RouterConfig{Policy: helix.ThresholdPolicy{}, InlineThreshold: time.Second, SpawnThreshold: time.Second})
	task, err := helix.Register(r, pairs("pairs"))
	require.NoError(t, err)
	for range 3 {
		_, err := task.Submit(t.Context(), 1)
		require.NoError(t, err)
	}
	submit(t, r, helix.Job{Kind: "old", Budget: time.Millisecond, Arrived: time.Now().Add(-time.Hour)})
	h := newHandler(t, r)
	text := ask(h, http.MethodGet, "/metrics", "").Body.String()
	for _, line := range []string{
		`helix_kind_batch_calls_total{kind="pairs"} 1`,
		`helix_kind_batch_jobs_total{kind="pairs"} 1`,
		`helix_kind_batch_full_calls_total{kind="pairs"} 0`,
		`helix_kind_batch_limit_jobs{kind="pairs"} 2`,
		`helix_kind_jobs_late_total{kind="old"} 1`,
		`helix_kind_jobs_late_total{kind="pairs"} 0`,
		`helix_kind_limited{kind="pairs"} 0`,
		`helix_library_build_info{goversion="` + runtime.Version() + `",version="` + moduleVersion() + `"} 1`,
	} {
		require.Contains(t, strings.Split(text, "\n"), line)
	}
	require.Contains(t, text, "\nhelix_pressure_capacity_cores ")
	require.Contains(t, text, "\nhelix_kind_turn_seconds{")

	open := ask(h, http.MethodGet, "/metrics", "", "Accept", "application/openmetrics-text;version=1.0.0")
	require.Contains(t, open.Header().Get("Content-Type"), "application/openmetrics-text; version=1.0.0")
	require.True(t, strings.HasSuffix(open.Body.String(), "# EOF\n"))
	require.NotContains(t, open.Body.String(), "_created")
	require.Contains(t, open.Body.String(), "\n# TYPE helix_completed unknown\nhelix_completed 3.0\n", "the aliases stay")
}

// families2text leaves out what moves between two scrapes.
func families2text(t *testing.T, list []*dto.MetricFamily) []string {
	var all []string
	for _, family := range list {
		if name := family.GetName(); name == "helix_uptime_seconds" || strings.HasSuffix(name, "_cores") {
			continue
		}
		for _, m := range family.Metric {
			all = append(all, family.GetName()+family.GetHelp()+family.GetType().String()+m.String())
		}
	}
	require.NotEmpty(t, all)
	return all
}

func TestCollectorOfNoRouter(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(NewCollector(nil)))
	list, err := registry.Gather()
	require.NoError(t, err)
	require.Empty(t, list)
	// It describes what every other does, so a second one is refused.
	require.Error(t, registry.Register(NewCollector(newRouter(t, helix.RouterConfig{}))))
}

// TestTwoCollectorsInOneRegistry is the way for services with several routers.
func TestTwoCollectorsInOneRegistry(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	for _, name := range []string{"a", "b"} {
		wrapped := prometheus.WrapRegistererWith(prometheus.Labels{"router": name}, registry)
		require.NoError(t, wrapped.Register(NewCollector(newRouter(t, helix.RouterConfig{}))))
	}
	list, err := registry.Gather()
	require.NoError(t, err)
	require.NotEmpty(t, list)
}

// TestHistogramAgainstClientGolang gives the same latencies, exact by the
// bubble's clock, to the router and to client_golang's histogram.
func TestHistogramAgainstClientGolang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: helix.ThresholdPolicy{}})
		reference := prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "x", Help: "x", Buckets: classicBounds[:],
			NativeHistogramBucketFactor: 1.022, NativeHistogramZeroThreshold: nativeZero,
		})
		for i := range 400 {
			latency := time.Duration(1500 * math.Pow(1.05, float64(i))) // 1.5 µs to 7 minutes
			submit(t, r, helix.Job{Cost: 1, Arrived: time.Now().Add(-latency)})
			reference.Observe(latency.Seconds())
		}
		var want dto.Metric
		require.NoError(t, reference.Write(&want))
		got := newHistogram(r.Latency(helix.Inline))
		require.Equal(t, want.Histogram.GetSchema(), got.GetSchema())
		require.Equal(t, want.Histogram.GetSampleCount(), got.GetSampleCount())
		require.InEpsilon(t, want.Histogram.GetSampleSum(), got.GetSampleSum(), 1e-6)
		require.Equal(t, expand(want.Histogram), expand(got))
		for i, bucket := range got.Bucket {
			// A bound may cut a bucket of the router, of 2.2 %, and then has less.
			exact := want.Histogram.Bucket[i].GetCumulativeCount()
			require.LessOrEqual(t, bucket.GetCumulativeCount(), exact)
			require.GreaterOrEqual(t, bucket.GetCumulativeCount()+1, exact, "samples lie 5 %% apart")
			require.Equal(t, want.Histogram.Bucket[i].GetUpperBound(), bucket.GetUpperBound())
		}
	})
}

// expand turns spans and deltas into counts by index, without empty ones,
// by which client_golang bridges short gaps.
func expand(h *dto.Histogram) map[int32]int64 {
	buckets := make(map[int32]int64)
	index, count, delta := int32(0), int64(0), 0
	for _, span := range h.PositiveSpan {
		index += span.GetOffset()
		for range span.GetLength() {
			count += h.PositiveDelta[delta]
			if count > 0 {
				buckets[index] = count
			}
			index++
			delta++
		}
	}
	return buckets
}

func TestHistogramExtremes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{Policy: helix.ThresholdPolicy{}})
		empty := newHistogram(r.Latency(helix.Inline))
		require.Zero(t, empty.GetSampleCount())
		require.NotEmpty(t, empty.PositiveSpan)
		submit(t, r, helix.Job{Cost: 1}) // no time at all, by the bubble's clock
		submit(t, r, helix.Job{Cost: 1, Arrived: time.Now().Add(-1000 * time.Hour)})
		got := newHistogram(r.Latency(helix.Inline))
		require.EqualValues(t, 2, got.GetSampleCount())
		require.EqualValues(t, 1, got.GetZeroCount())
		require.EqualValues(t, 1, got.Bucket[0].GetCumulativeCount())
		require.EqualValues(t, 1, got.Bucket[len(got.Bucket)-1].GetCumulativeCount())
		sum := int64(got.GetZeroCount())
		for _, n := range expand(got) {
			sum += n
		}
		require.EqualValues(t, 2, sum)
	})
}

func TestLabelValues(t *testing.T) {
	require.Equal(t, "plain", labelValue("plain"))
	require.Equal(t, "a\uFFFDb", labelValue("a\xff\xfeb"))
	require.LessOrEqual(t, len(labelValue(strings.Repeat("é", 500))), maxLabel+2)
	s := source{Stats: helix.Stats{DroppedByReason: []helix.ReasonCount{
		{Reason: "x\xff", Count: 1}, {Reason: "x\xfe", Count: 2}, {Reason: "a", Count: 4},
	}}}
	out := series{kind: dto.MetricType_COUNTER, numbers: new(numbers)}
	readDropped(&s, &out)
	require.Len(t, out.metrics, 2, "reasons that became the same must be one")
	require.EqualValues(t, 3, out.metrics[1].Counter.GetValue())
}
