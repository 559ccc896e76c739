package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/helixrouter/helix"
)

// ruleExpressions are those of the alerts, by name.
func ruleExpressions(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../deploy/alerts.yml")
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	found := map[string]string{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			found[r.Alert] = r.Expr
		}
	}
	require.NotEmpty(t, found)
	return found
}

// dashboardExpressions are those of the panels, by title and number, with all kinds,
// jobs and instances chosen, and those of the variables and annotations.
func dashboardExpressions(t *testing.T) (panels, others map[string]string) {
	t.Helper()
	text, err := os.ReadFile("../deploy/grafana-dashboard.json")
	require.NoError(t, err)
	type target struct{ Expr string }
	var file struct {
		Panels []struct {
			Title, Type string
			Targets     []target
		}
		Annotations struct{ List []target }
		Templating  struct {
			List []struct{ Name, Type, Definition string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &file))
	fill := strings.NewReplacer("$__rate_interval", "20s", "$job", ".*", "$instance", ".*", "$kind", ".*").Replace
	panels, others = map[string]string{}, map[string]string{}
	for _, p := range file.Panels {
		if p.Type != "row" {
			require.NotEmpty(t, p.Targets, p.Title)
		}
		for i, q := range p.Targets {
			panels[fmt.Sprintf("%s, %d", p.Title, i)] = fill(q.Expr)
		}
	}
	for i, a := range file.Annotations.List {
		others[fmt.Sprintf("annotation %d", i)] = fill(a.Expr)
	}
	for _, v := range file.Templating.List {
		if v.Type == "query" {
			selector, label, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(v.Definition, "label_values("), ")"), ", "+v.Name)
			require.True(t, ok && label == "", v.Definition)
			others["variable "+v.Name] = fmt.Sprintf("count by (%s) (%s)", v.Name, fill(selector))
		}
	}
	require.NotEmpty(t, panels)
	return panels, others
}

// use is a metric that an expression names, and the labels by which it does.
type use struct {
	metric string
	labels []string
}

// usesIn are the metrics of an expression. Where it groups by labels, those count for each
// metric inside.
func usesIn(t *testing.T, expression string) (uses []use) {
	t.Helper()
	tree, err := parser.ParseExpr(expression)
	require.NoError(t, err, expression)
	parser.Inspect(tree, func(node parser.Node, path []parser.Node) error {
		of, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		require.NotEmpty(t, of.Name, expression)
		u := use{metric: of.Name}
		for _, m := range of.LabelMatchers {
			if m.Name != model.MetricNameLabel {
				u.labels = append(u.labels, m.Name)
			}
		}
		for _, around := range path {
			if a, ok := around.(*parser.AggregateExpr); ok && !a.Without {
				u.labels = append(u.labels, a.Grouping...)
			}
		}
		uses = append(uses, u)
		return nil
	})
	require.NotEmpty(t, uses, expression)
	return uses
}

func metricsIn(t *testing.T, expressions map[string]string) map[string]bool {
	names := map[string]bool{}
	for _, e := range expressions {
		for _, u := range usesIn(t, e) {
			names[u.metric] = true
		}
	}
	return names
}

// startEverything serves a router of which every metric has a value, and keeps giving it
// jobs until the end of the test.
func startEverything(t *testing.T) string {
	r := newRouter(t, helix.RouterConfig{CPUParallelism: 1, Strategies: []helix.Strategy{newFleet(t)}})
	elsewhere, err := helix.Register(r, render)
	require.NoError(t, err)
	spin := func(d time.Duration) {
		for start := time.Now(); time.Since(start) < d; {
		}
	}
	double, err := helix.Register(r, helix.Kind[int, int]{Name: "double", Scaling: 1,
		Batch: func(_ context.Context, in []int) ([]int, error) { spin(time.Millisecond); return in, nil }})
	require.NoError(t, err)
	database := make(chan struct{}, 2)
	jobs := []helix.Job{
		{Kind: "report", Run: func(context.Context) (any, error) { spin(5 * time.Millisecond); return nil, nil }},
		{Kind: "late", Budget: 3 * time.Millisecond, Cost: 1},
		{Kind: "kept", Budget: time.Minute},
		{Kind: "flood", Budget: 20 * time.Millisecond, Run: func(context.Context) (any, error) { spin(time.Millisecond); return nil, nil }},
		{Kind: "failing", Run: func(context.Context) (any, error) { return nil, errors.New("no") }},
		{Kind: "query", Waits: true, Budget: 300 * time.Millisecond, Run: func(context.Context) (any, error) {
			database <- struct{}{}
			time.Sleep(20 * time.Millisecond)
			<-database
			return nil, nil
		}},
	}
	ctx, stop := context.WithCancel(context.Background())
	var busy sync.WaitGroup
	t.Cleanup(func() { stop(); busy.Wait() })
	again := func(callers int, f func()) {
		for range callers {
			busy.Go(func() {
				for ctx.Err() == nil {
					f()
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
	}
	for _, job := range jobs {
		if job.Run == nil {
			job.Run = func(context.Context) (any, error) { return nil, nil }
		}
		callers := 4
		if job.Waits || job.Kind == "flood" {
			callers = 40 // more than there is room for
		}
		again(callers, func() {
			job := job
			if job.Kind == "late" {
				job.Arrived = time.Now().Add(-5 * time.Millisecond)
			}
			_, _ = r.Submit(ctx, job)
		})
	}
	again(8, func() { _, _ = double.Submit(ctx, 1) })
	again(20, func() { _, _ = elsewhere.Submit(ctx, 1) }) // more than there is room for here
	return serve(t, newHandler(t, r))
}

// TestEveryMetricOfDeployIsThere compares what the dashboard and the alerts name with what
// a service says.
func TestEveryMetricOfDeployIsThere(t *testing.T) {
	url := startEverything(t)
	panels, others := dashboardExpressions(t)
	expressions := ruleExpressions(t)
	for _, more := range []map[string]string{panels, others} {
		maps.Copy(expressions, more)
	}
	await(t, "a scrape with all metrics", func() error {
		body, head := get(t, url+"/metrics", "Accept", asText)
		known := map[string]map[string]bool{} // labels by name
		for _, series := range parse(t, body, head.Get("Content-Type")).labels {
			name := series.Get(model.MetricNameLabel)
			if known[name] == nil {
				known[name] = map[string]bool{"job": true, "instance": true} // Prometheus adds them
			}
			series.Range(func(l labels.Label) { known[name][l.Name] = true })
		}
		for where, e := range expressions {
			for _, u := range usesIn(t, e) {
				for _, l := range u.labels {
					if !known[u.metric][l] {
						return fmt.Errorf("%s: %s with the label %s is not among %v", where, u.metric, l, slices.Sorted(maps.Keys(known)))
					}
				}
				if known[u.metric] == nil {
					return fmt.Errorf("%s: %s is not among %v", where, u.metric, slices.Sorted(maps.Keys(known)))
				}
			}
		}
		return nil
	})
}

// TestEveryPanelShowsSomething asks a real Prometheus what the dashboard asks.
func TestEveryPanelShowsSomething(t *testing.T) {
	binary := program(t, "prometheus")
	api := startPrometheus(t, binary, startEverything(t))
	panels, others := dashboardExpressions(t)
	delete(others, "annotation 0") // no restart
	maps.Copy(panels, others)
	for where, e := range panels {
		await(t, where+": "+e, func() error { return api.has("clamp(count("+e+"), 1, 1)", 1) })
	}
}
