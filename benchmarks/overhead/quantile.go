package main

import (
	"fmt"
	"math"

	"github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Some histograms leave quantiles to the server that scrapes them; these do
// what it does.

// bucket is what a histogram counted above lower and up to upper.
type bucket struct{ lower, upper, count float64 }

// quantileOf finds the bucket, and with between the place in it.
func quantileOf(buckets []bucket, q float64, between func(lower, upper, part float64) float64) float64 {
	rank := 0.0
	for _, b := range buckets {
		rank += q * b.count
	}
	for _, b := range buckets {
		if rank <= b.count {
			return between(b.lower, b.upper, rank/b.count)
		}
		rank -= b.count
	}
	return math.NaN()
}

func linear(lower, upper, part float64) float64 { return lower + (upper-lower)*part }

func exponential(lower, upper, part float64) float64 { return lower * math.Pow(upper/lower, part) }

// victoriaQuantile does as MetricsQL's histogram_quantile.
func victoriaQuantile(h *metrics.Histogram, q float64) float64 {
	var buckets []bucket
	h.VisitNonZeroBuckets(func(vmrange string, count uint64) {
		b := bucket{count: float64(count)}
		_, err := fmt.Sscanf(vmrange, "%e...%e", &b.lower, &b.upper)
		must(err)
		buckets = append(buckets, b)
	})
	return quantileOf(buckets, q, linear)
}

// classicQuantile does as PromQL's histogram_quantile.
func classicQuantile(h prometheus.Histogram, q float64) float64 {
	var buckets []bucket
	last := bucket{}
	for _, b := range collect(h).GetBucket() {
		next := bucket{last.upper, b.GetUpperBound(), float64(b.GetCumulativeCount())}
		buckets = append(buckets, bucket{next.lower, next.upper, next.count - last.count})
		last = next
	}
	return quantileOf(buckets, q, linear)
}

// nativeQuantile does as PromQL's histogram_quantile.
func nativeQuantile(h prometheus.Histogram, q float64) float64 {
	m := collect(h)
	factor := math.Exp2(math.Exp2(-float64(m.GetSchema())))
	var buckets []bucket
	index, count, at := 0, int64(0), 0
	for _, span := range m.GetPositiveSpan() {
		index += int(span.GetOffset())
		for range span.GetLength() {
			count += m.GetPositiveDelta()[at]
			at++
			upper := math.Pow(factor, float64(index))
			buckets = append(buckets, bucket{upper / factor, upper, float64(count)})
			index++
		}
	}
	return quantileOf(buckets, q, exponential)
}

func collect(h prometheus.Histogram) *dto.Histogram {
	var m dto.Metric
	must(h.Write(&m))
	return m.GetHistogram()
}
