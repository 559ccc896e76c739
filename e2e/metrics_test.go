package e2e

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// The media types by which Prometheus asks for each format.
const (
	asText     = "text/plain;version=0.0.4"
	asMetrics  = "application/openmetrics-text;version=1.0.0"
	asProtobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)

// startMeasured serves a router that has done 200 jobs, as many as the demo
// does, and refused none.
func startMeasured(t *testing.T) (*helix.Router, string) {
	t.Helper()
	r := newRouter(t, helix.RouterConfig{Policy: byKind{}, CPUParallelism: 2})
	n := submit(t, r, 141, helix.Job{Kind: "inline"})
	n += submit(t, r, 59, helix.Job{Kind: "cpu_pool", Budget: time.Hour, Run: func(context.Context) (any, error) {
		for start := time.Now(); time.Since(start) < 100*time.Microsecond; {
		}
		return nil, nil
	}})
	require.Equal(t, 200, n)
	return r, serve(t, newHandler(t, r))
}

// byKind runs a job by the strategy that its kind names.
type byKind struct{}

func (byKind) Choose(j helix.JobInfo, _ helix.Pressure) helix.Decision {
	return helix.Decision{Strategy: j.Kind, Reason: "its kind says so"}
}

// exposition is what Prometheus' parser made of an answer.
type exposition struct {
	values     map[string]float64 // by series
	types      map[string]model.MetricType
	histograms map[string]*histogram.Histogram // native ones
	labels     []labels.Labels                 // of all series
}

// scrape asks for metrics in a format and parses them as Prometheus does.
func scrape(t *testing.T, url, accept string) (exposition, string) {
	t.Helper()
	body, head := get(t, url+"/metrics", "Accept", accept)
	return parse(t, body, head.Get("Content-Type")), head.Get("Content-Type")
}

func parse(t *testing.T, body, contentType string) exposition {
	t.Helper()
	p, err := textparse.New([]byte(body), contentType, labels.NewSymbolTable(),
		textparse.ParserOptions{KeepClassicOnClassicAndNativeHistograms: true})
	require.NoError(t, err, contentType)
	e := exposition{map[string]float64{}, map[string]model.MetricType{}, map[string]*histogram.Histogram{}, nil}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return e
		}
		require.NoError(t, err)
		var series labels.Labels
		switch entry {
		case textparse.EntrySeries:
			_, stamp, v := p.Series()
			require.Nil(t, stamp)
			p.Labels(&series)
			require.NotContains(t, e.values, series.String(), "twice")
			e.values[series.String()] = v
			e.labels = append(e.labels, series)
		case textparse.EntryHistogram:
			_, _, h, _ := p.Histogram()
			require.NotNil(t, h)
			require.NoError(t, h.Validate())
			p.Labels(&series)
			e.histograms[series.String()] = h
		case textparse.EntryType:
			name, kind := p.Type()
			e.types[string(name)] = kind
		}
	}
}

func TestMetricsParse(t *testing.T) {
	r, url := startMeasured(t)
	s := r.Stats()
	for _, format := range []struct {
		name, accept, answer string
		counter              string // the name that the format gives a counter's family
		untyped              model.MetricType
	}{
		{"text", asText, "text/plain; version=0.0.4", "helix_jobs_completed_total", model.MetricTypeUnknown},
		{"OpenMetrics", asMetrics + ";q=0.9,text/plain;q=0.1", "application/openmetrics-text; version=1.0.0", "helix_jobs_completed", model.MetricTypeUnknown},
		{"protobuf", asProtobuf, "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited", "helix_jobs_completed_total", model.MetricTypeUnknown},
	} {
		t.Run(format.name, func(t *testing.T) {
			e, answer := scrape(t, url, format.accept)
			require.True(t, strings.HasPrefix(answer, format.answer), answer)
			for series := range e.values {
				require.NotContains(t, series, "_created")
			}
			for series, want := range map[string]float64{
				`{__name__="helix_completed"}`:                                                   200,
				`{__name__="helix_dropped"}`:                                                     0,
				`{__name__="helix_routed", strategy="cpu_pool"}`:                                 59,
				`{__name__="helix_routed", strategy="inline"}`:                                   141,
				`{__name__="helix_routed", strategy="batch"}`:                                    0,
				`{__name__="helix_jobs_submitted_total"}`:                                        200,
				`{__name__="helix_jobs_completed_total"}`:                                        200,
				`{__name__="helix_jobs_routed_total", strategy="cpu_pool"}`:                      59,
				`{__name__="helix_job_duration_seconds_count", strategy="cpu_pool"}`:             59,
				`{__name__="helix_job_duration_seconds_bucket", le="+Inf", strategy="cpu_pool"}`: 59,
				`{__name__="helix_job_duration_seconds_bucket", le="+Inf", strategy="inline"}`:   141,
				`{__name__="helix_kind_jobs_total", kind="cpu_pool", outcome="completed"}`:       59,
				`{__name__="helix_promises_made_total"}`:                                         float64(s.Promised),
				`{__name__="helix_promises_kept_total"}`:                                         float64(s.Kept),
				`{__name__="helix_cpu_slots"}`:                                                   2,
				`{__name__="helix_jobs_in_flight"}`:                                              0,
			} {
				require.Contains(t, e.values, series)
				require.Equal(t, want, e.values[series], series)
			}
			require.GreaterOrEqual(t, e.values[`{__name__="helix_job_duration_seconds_sum", strategy="cpu_pool"}`], 59*100e-6)
			require.Equal(t, model.MetricTypeHistogram, e.types["helix_job_duration_seconds"])
			require.Equal(t, model.MetricTypeCounter, e.types[format.counter])
			require.Equal(t, format.untyped, e.types["helix_completed"])
			require.Equal(t, model.MetricTypeGauge, e.types["helix_jobs_in_flight"])
			if format.accept == asProtobuf {
				h := e.histograms[`{__name__="helix_job_duration_seconds", strategy="cpu_pool"}`]
				require.NotNil(t, h, "%v", e.histograms)
				require.Equal(t, int32(5), h.Schema)
				require.Equal(t, uint64(59), h.Count)
			}
		})
	}
}

func TestAliasesAreThere(t *testing.T) {
	_, url := startMeasured(t)
	for _, accept := range []string{"", "*/*", asText} { // curl, and a Prometheus that wants text
		body, _ := get(t, url+"/metrics", "Accept", accept)
		for _, line := range []string{"helix_completed 200", "helix_dropped 0", `helix_routed{strategy="cpu_pool"} 59`} {
			require.Contains(t, strings.Split(body, "\n"), line)
		}
	}
}

func TestProtobufHasClassicAndNativeBuckets(t *testing.T) {
	_, url := startMeasured(t)
	body, head := get(t, url+"/metrics", "Accept", asProtobuf)
	format := expfmt.ResponseFormat(http.Header(head))
	require.Equal(t, expfmt.TypeProtoDelim, format.FormatType())
	decoder := expfmt.NewDecoder(strings.NewReader(body), format)
	families := expositionFamilies(t, decoder)
	durations := families["helix_job_duration_seconds"]
	require.NotNil(t, durations)
	for _, m := range durations.GetMetric() {
		h := m.GetHistogram()
		require.Equal(t, int32(5), h.GetSchema())
		require.NotEmpty(t, h.GetPositiveSpan(), "native buckets of %v", m.GetLabel())
		require.NotEmpty(t, h.GetBucket(), "classic buckets of %v", m.GetLabel())
		native, count := int64(h.GetZeroCount()), int64(0)
		for _, delta := range h.GetPositiveDelta() {
			count += delta
			native += count
		}
		require.Equal(t, int64(h.GetSampleCount()), native, "native buckets hold every sample")
		buckets := h.GetBucket()
		require.LessOrEqual(t, buckets[len(buckets)-1].GetCumulativeCount(), h.GetSampleCount())
	}
}

var lint = regexp.MustCompile(`(?m)^(\w+) `)

// TestPromtoolFindsOnlyTheAliases: the short aliases do not follow the conventions
// and stay as they are.
func TestPromtoolFindsOnlyTheAliases(t *testing.T) {
	promtool := program(t, "promtool")
	_, url := startMeasured(t)
	body, _ := get(t, url+"/metrics")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	check := exec.CommandContext(ctx, promtool, "check", "metrics")
	check.Stdin = strings.NewReader(body)
	out, err := check.CombinedOutput()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		require.Equal(t, 3, failed.ExitCode(), "%s", out) // 3: lint; others: it cannot be parsed
	} else {
		require.NoError(t, err, "%s", out)
	}
	for _, about := range lint.FindAllStringSubmatch(string(out), -1) {
		require.Contains(t, []string{"helix_completed", "helix_dropped", "helix_routed"}, about[1], "%s", out)
	}
}
