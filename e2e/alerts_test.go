package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/httpstats"
)

// A scenario goes wrong for its first half, beside a load that is always well. What
// Prometheus would have scraped meanwhile is recorded, in virtual time.
const (
	scenarioHalf  = 12 * time.Minute
	scenarioEvery = 30 * time.Second // between two scrapes
)

// traffic is one kind's: so many jobs a second until it ends.
type traffic struct {
	job   helix.Job
	rate  float64
	until time.Duration
	run   func(rng *rand.Rand) time.Duration // 0 without
}

func takes(d time.Duration) func(*rand.Rand) time.Duration {
	return func(*rand.Rand) time.Duration { return d }
}

// starving refuses all jobs of one kind, as no policy should.
type starving struct {
	helix.Policy
	kind string
}

func (p starving) Choose(j helix.JobInfo, now helix.Pressure) helix.Decision {
	if j.Kind == p.kind {
		return helix.Decision{Strategy: helix.Drop, Reason: "not tonight"}
	}
	return p.Policy.Choose(j, now)
}

// What each alert is for, and what must raise none. Nothing else may fire.
var scenarios = []struct {
	name    string
	slots   int
	policy  helix.Policy
	traffic []traffic
	fires   []string // "alert of kind"
}{
	{name: "all is well", slots: 2, traffic: []traffic{
		{job: helix.Job{Kind: "report", Budget: time.Second}, rate: 5, run: takes(20 * time.Millisecond)},
	}},
	{name: "three times the capacity", slots: 1, traffic: []traffic{
		{job: helix.Job{Kind: "bulk", Budget: time.Second}, rate: 150, run: takes(20 * time.Millisecond)},
	}},
	{name: "runs that are now and then too long", slots: 4, fires: []string{"HelixPromisesBroken of report"}, traffic: []traffic{
		{job: helix.Job{Kind: "report", Budget: 100 * time.Millisecond}, rate: 5, run: func(rng *rand.Rand) time.Duration {
			if rng.Float64() < 0.2 {
				return 300 * time.Millisecond
			}
			return 20 * time.Millisecond
		}},
	}},
	{name: "a kind that never gets its turn", slots: 2, policy: starving{helix.AdaptivePolicy{}, "cleanup"},
		fires: []string{"HelixKindStarved of cleanup"}, traffic: []traffic{
			{job: helix.Job{Kind: "cleanup"}, rate: 1, run: takes(time.Millisecond)},
		}},
	{name: "a budget below the run time", slots: 2, fires: []string{"HelixBudgetImpossible of slow"}, traffic: []traffic{
		{job: helix.Job{Kind: "slow", Budget: 10 * time.Millisecond}, rate: 5, run: takes(50 * time.Millisecond)},
	}},
	{name: "more calls than the database answers", slots: 2, fires: []string{"HelixDownstreamFull of query"}, traffic: []traffic{
		{job: helix.Job{Kind: "query", Waits: true, Budget: time.Second}, rate: 60},
	}},
	{name: "long runs in front of short budgets", slots: 1, fires: []string{"HelixLongRuns of lookup"}, traffic: []traffic{
		{job: helix.Job{Kind: "export"}, rate: 5, run: takes(100 * time.Millisecond)},
	}},
}

// well is there all the time.
var well = traffic{job: helix.Job{Kind: "lookup", Budget: 30 * time.Millisecond}, rate: 10, run: takes(5 * time.Millisecond), until: 2 * scenarioHalf}

func TestEachAlertFiresWhenItShould(t *testing.T) {
	promtool := program(t, "promtool")
	rules, err := filepath.Abs("../deploy/alerts.yml")
	require.NoError(t, err)
	needed := metricsIn(t, ruleExpressions(t))
	var file strings.Builder
	fmt.Fprintf(&file, "rule_files: [%q]\nevaluation_interval: %s\ntests:\n", rules, scenarioEvery)
	for _, s := range scenarios {
		fmt.Fprintf(&file, "  - name: %q\n    interval: %s\n    input_series:\n", s.name, scenarioEvery)
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(t, helix.RouterConfig{CPUParallelism: s.slots, Policy: s.policy})
			for series, values := range record(t, r, s.traffic, needed) {
				fmt.Fprintf(&file, "      - series: '%s'\n        values: '%s'\n", series, strings.Join(values, " "))
			}
		})
		// Before an alert has waited, when it must fire, and after all is well again.
		file.WriteString("    promql_expr_test:\n")
		firing := func(at time.Duration, alerts []string) {
			fmt.Fprintf(&file, "      - expr: count by (alertname, kind) (ALERTS{alertstate=\"firing\"})\n        eval_time: %s\n        exp_samples:\n", at)
			for _, alert := range alerts {
				name, kind, _ := strings.Cut(alert, " of ")
				fmt.Fprintf(&file, "          - {labels: '{alertname=%q, kind=%q}', value: 1}\n", name, kind)
			}
		}
		firing(3*time.Minute, nil)
		firing(scenarioHalf, s.fires)
		firing(2*scenarioHalf, nil)
	}
	path := filepath.Join(t.TempDir(), "alerts_test.yml")
	require.NoError(t, os.WriteFile(path, []byte(file.String()), 0o600))
	for _, args := range [][]string{
		{"check", "rules", rules}, {"check", "config", filepath.Join(filepath.Dir(rules), "prometheus.yml")}, {"test", "rules", path},
	} {
		out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput()
		require.NoError(t, err, "promtool %v: %s", args, out)
	}
}

// record runs the traffic and returns what was scraped: for each series its values, in
// promtool's notation.
func record(t *testing.T, r *helix.Router, faulty []traffic, needed map[string]bool) map[string][]string {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	database := make(chan struct{}, 4) // answers four calls at a time
	for i, from := range append([]traffic{well}, faulty...) {
		rng := rand.New(rand.NewPCG(uint64(i), 17))
		if from.until == 0 {
			from.until = scenarioHalf
		}
		go func() {
			for begun := time.Now(); time.Since(begun) < from.until; {
				time.Sleep(time.Duration(rng.ExpFloat64() / from.rate * 1e9))
				job, d := from.job, time.Duration(0)
				if from.run != nil {
					d = from.run(rng)
				}
				job.Run = func(context.Context) (any, error) {
					if job.Waits {
						database <- struct{}{}
						defer func() { <-database }()
						d = 100 * time.Millisecond
					}
					time.Sleep(d)
					return nil, nil
				}
				go func() { _, _ = r.Submit(ctx, job) }()
			}
		}()
	}
	h, err := httpstats.New(r)
	require.NoError(t, err)
	defer h.Close()
	series := map[string][]string{}
	for n := 0; n <= int(2*scenarioHalf/scenarioEvery); n++ {
		w := httptest.NewRecorder()
		h.Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		scraped := parse(t, w.Body.String(), w.Header().Get("Content-Type")).values
		for at, v := range scraped {
			name, rest, _ := strings.Cut(strings.TrimPrefix(at, `{__name__="`), `"`)
			if !needed[name] {
				continue
			}
			key := fmt.Sprintf(`%s{instance="a:80", job="shop"%s`, name, rest)
			for len(series[key]) < n { // it is new
				series[key] = append(series[key], "_")
			}
			series[key] = append(series[key], strings.TrimPrefix(fmt.Sprint(v), "+"))
		}
		for key, values := range series {
			if len(values) == n { // it is gone
				series[key] = append(values, "stale")
			}
		}
		time.Sleep(scenarioEvery)
	}
	time.Sleep(time.Hour) // for what is in flight
	return series
}
