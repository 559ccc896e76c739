package httpstats

import (
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/helixrouter/helix"
)

// NewCollector returns a collector of r's metrics for a registry that the
// service already has:
//
//	prometheus.MustRegister(httpstats.NewCollector(router))
//
// Two routers share a registry if their collectors differ in a label, see
// [prometheus.WrapRegistererWith]. It is safe for concurrent use, holds no
// goroutine and reads the router only when it is collected. With a nil r it has no metrics, but the same descriptions.
func NewCollector(r *helix.Router) prometheus.Collector { return collector{r} }

type collector struct{ router *helix.Router }

// Describe implements [prometheus.Collector].
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for i := range families {
		ch <- families[i].desc
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) {
	if c.router == nil {
		return
	}
	scrape(c.router, func(f *family, metrics []*dto.Metric) {
		for _, m := range metrics {
			ch <- sampled{f.desc, m}
		}
	})
}

// sampled is a metric of one collection. Const metrics of client_golang cannot
// hold classic and native buckets at once.
type sampled struct {
	desc *prometheus.Desc
	m    *dto.Metric
}

// Desc implements [prometheus.Metric].
func (s sampled) Desc() *prometheus.Desc { return s.desc }

// Write implements [prometheus.Metric].
func (s sampled) Write(out *dto.Metric) error {
	out.Label = s.m.Label
	out.Counter, out.Gauge, out.Untyped, out.Histogram = s.m.Counter, s.m.Gauge, s.m.Untyped, s.m.Histogram
	return nil
}

// gatherer passes a scrape to promhttp unchecked. A registry would check every metric of every
// scrape for errors that the table of families rules out, at more than the cost of the
// scrape; a test has a registry check it instead.
type gatherer struct{ router *helix.Router }

// Gather implements [prometheus.Gatherer].
func (g gatherer) Gather() ([]*dto.MetricFamily, error) {
	list := make([]*dto.MetricFamily, 0, len(families))
	scrape(g.router, func(f *family, metrics []*dto.Metric) {
		if len(metrics) > 0 {
			list = append(list, &dto.MetricFamily{Name: &f.name, Help: &f.help, Type: &f.kind, Metric: metrics})
		}
	})
	slices.SortFunc(list, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return list, nil
}

func newMetricsHandler(r *helix.Router) http.Handler {
	// Without created timestamps: they would double the series of every counter.
	serve := promhttp.HandlerFor(gatherer{r}, promhttp.HandlerOpts{EnableOpenMetrics: true})
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		serve.ServeHTTP(w, req)
	})
}

// scrape reads r once and calls each for every family.
func scrape(r *helix.Router, each func(*family, []*dto.Metric)) {
	s := source{Stats: r.Stats(), router: r, fleets: readFleets(r)}
	s.kinds = make([]*dto.LabelPair, len(s.Kinds))
	for i := range s.Kinds {
		s.kinds[i] = pair("kind", s.Kinds[i].Name)
	}
	var numbers numbers
	for i := range families {
		f := &families[i]
		out := series{kind: f.kind, numbers: &numbers}
		f.read(&s, &out)
		each(f, out.metrics)
	}
}

// source has the statistics behind a scrape.
type source struct {
	helix.Stats
	router *helix.Router
	kinds  []*dto.LabelPair // of Stats.Kinds, made once
	fleets []fleetStats
}

// kind returns the labels of series that have only the label kind.
func (s *source) kind(i int) []*dto.LabelPair { return s.kinds[i : i+1 : i+1] }

// series are the metrics of one family.
type series struct {
	kind    dto.MetricType
	metrics []*dto.Metric
	*numbers
}

// numbers are the numeric parts of metrics, allocated by the hundred.
type numbers struct {
	values   slab[float64]
	metric   slab[dto.Metric]
	counters slab[dto.Counter]
	gauges   slab[dto.Gauge]
	untyped  slab[dto.Untyped]
}

// slab is memory for many values of a type.
type slab[T any] []T

func (s *slab[T]) next() *T {
	if len(*s) == 0 {
		*s = make([]T, 100)
	}
	next := &(*s)[0]
	*s = (*s)[1:]
	return next
}

// add adds a number. Labels must be sorted by name, and are not copied.
func (s *series) add(number float64, labels ...*dto.LabelPair) {
	m, value := s.metric.next(), s.values.next()
	m.Label, *value = labels, number
	switch s.kind {
	case dto.MetricType_COUNTER:
		m.Counter = s.counters.next()
		m.Counter.Value = value
	case dto.MetricType_GAUGE:
		m.Gauge = s.gauges.next()
		m.Gauge.Value = value
	default:
		m.Untyped = s.untyped.next()
		m.Untyped.Value = value
	}
	s.metrics = append(s.metrics, m)
}

func (s *series) addCount(value uint64, labels ...*dto.LabelPair) { s.add(float64(value), labels...) }

// addHistogram adds a histogram.
func (s *series) addHistogram(latencies helix.Snapshot, labels ...*dto.LabelPair) {
	m := s.metric.next()
	m.Label, m.Histogram = labels, newHistogram(latencies)
	s.metrics = append(s.metrics, m)
}

// perKind adds one number a kind.
func (s *series) perKind(from *source, value func(*helix.KindStats) float64) {
	s.metrics = slices.Grow(s.metrics, len(from.Kinds))
	for i := range from.Kinds {
		s.add(value(&from.Kinds[i]), from.kind(i)...)
	}
}

// perBatch adds one number for each kind that has a batch function.
func (s *series) perBatch(from *source, value func(*helix.BatchStats) float64) {
	for i := range from.Kinds {
		if b := from.Kinds[i].Batch; b != nil {
			s.add(value(b), from.kind(i)...)
		}
	}
}

// maxLabel bounds label values, in bytes. Kinds and strategies are shorter;
// reasons may come from a custom policy.
const maxLabel = 128

// labelValue returns text as a label value: short, and valid UTF-8, the only requirement of
// Prometheus.
func labelValue(text string) string {
	if len(text) > maxLabel {
		text = text[:maxLabel]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

func pair(name, value string) *dto.LabelPair {
	value = labelValue(value)
	return &dto.LabelPair{Name: &name, Value: &value}
}
