package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"
)

// expositionFamilies decodes to the end, by name.
func expositionFamilies(t *testing.T, d expfmt.Decoder) map[string]*dto.MetricFamily {
	t.Helper()
	families := map[string]*dto.MetricFamily{}
	for {
		var f dto.MetricFamily
		err := d.Decode(&f)
		if errors.Is(err, io.EOF) {
			return families
		}
		require.NoError(t, err)
		families[f.GetName()] = &f
	}
}

// program finds one of Prometheus' programs or skips the test.
func program(t *testing.T, name string) string {
	t.Helper()
	binary, err := exec.LookPath(name)
	if err != nil && os.Getenv("HELIX_REQUIRE_PROMETHEUS") != "1" {
		t.Skipf("no %s in PATH; HELIX_REQUIRE_PROMETHEUS=1 makes that an error", name)
	}
	require.NoError(t, err)
	return binary
}

// TestPrometheusScrapes has a real Prometheus scrape a router's metrics, as text and, for
// native histograms, as protobuf.
func TestPrometheusScrapes(t *testing.T) {
	binary := program(t, "prometheus")
	_, target := startMeasured(t)
	for _, format := range []struct {
		name    string
		flags   []string
		queries map[string]float64
	}{
		{"text", nil, map[string]float64{
			"helix_completed":                   200,
			"helix_dropped":                     0,
			`helix_routed{strategy="cpu_pool"}`: 59,
			"helix_jobs_completed_total":        200,
			`helix_job_duration_seconds_bucket{strategy="cpu_pool",le="+Inf"}`:                               59,
			`helix_job_duration_seconds_count{strategy="inline"}`:                                            141,
			`histogram_quantile(0.5, helix_job_duration_seconds_bucket{strategy="cpu_pool"}) >= bool 100e-6`: 1,
		}},
		{"protobuf", []string{"--enable-feature=native-histograms"}, map[string]float64{
			"helix_completed": 200,
			`histogram_count(helix_job_duration_seconds{strategy="cpu_pool"})`:                               59,
			`histogram_quantile(0.5, helix_job_duration_seconds{strategy="cpu_pool"}) >= bool 100e-6 * 0.97`: 1,
		}},
	} {
		t.Run(format.name, func(t *testing.T) {
			t.Parallel()
			api := startPrometheus(t, binary, target, format.flags...)
			for query, want := range format.queries {
				await(t, query, func() error { return api.has(query, want) })
			}
		})
	}
}

// prometheus is the address of a running one.
type prometheus string

// startPrometheus runs it until the end of the test, on a loopback address.
func startPrometheus(t *testing.T, binary, target string, flags ...string) prometheus {
	t.Helper()
	to, err := url.Parse(target)
	require.NoError(t, err)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := free.Addr().String()
	require.NoError(t, free.Close())

	folder := t.TempDir()
	config := filepath.Join(folder, "prometheus.yml")
	require.NoError(t, os.WriteFile(config, []byte(fmt.Sprintf(`global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: helix
    static_configs:
      - targets: [%q]
`, to.Host)), 0o600))
	cmd := exec.Command(binary, append([]string{
		"--config.file=" + config,
		"--storage.tsdb.path=" + filepath.Join(folder, "data"),
		"--web.listen-address=" + address,
	}, flags...)...)
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(out.String())
		}
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	return prometheus("http://" + address)
}

// has reports that a query does not have that one value.
func (p prometheus) has(query string, want float64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, string(p)+"/api/v1/query?"+url.Values{"query": {query}}.Encode(), nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err // it is starting
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any // time, number as text
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("%w: %s", err, body)
	}
	if len(answer.Data.Result) != 1 {
		return fmt.Errorf("not one result: %s", strings.TrimSpace(string(body)))
	}
	got, err := strconv.ParseFloat(fmt.Sprint(answer.Data.Result[0].Value[1]), 64)
	if err == nil && got != want {
		err = fmt.Errorf("%v, not %v", got, want)
	}
	return err
}
