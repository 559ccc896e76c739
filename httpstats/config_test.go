package httpstats

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

func TestPatchConfig(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	h := newHandler(t, r, WithConfigWrites())
	require.Contains(t, ask(h, http.MethodGet, "/api/config", "").Body.String(), `"cpu_queue_cap":512`)
	w := ask(h, http.MethodPatch, "/api/config", `{"cpu_queue_cap": 99, "batch_max_delay_ms": 2.5}`,
		"Content-Type", "application/json; charset=utf-8", "Sec-Fetch-Site", "same-origin")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.Contains(t, w.Body.String(), `"cpu_queue_cap":99`)
	require.Equal(t, 99, r.Config().CPUQueueCap)
	require.Equal(t, "2.5ms", r.Config().BatchMaxDelay.String())

	// What was served can be sent back.
	whole := ask(h, http.MethodGet, "/api/config", "").Body.String()
	require.Equal(t, http.StatusOK, patch(h, whole).Code)
}

func patch(h http.Handler, body string) *httptest.ResponseRecorder {
	return ask(h, http.MethodPatch, "/api/config", body, "Content-Type", "application/json")
}

func TestPatchConfigRefuses(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	h := newHandler(t, r, WithConfigWrites())
	before := ask(h, http.MethodGet, "/api/config", "").Body.String()
	for body, want := range map[string]failure{
		`{"cpu_queue_cap":-1}`:                          {Field: "cpu_queue_cap", Value: -1.0},
		`{"batch_max_size":7,"cpu_queue_cap":-1}`:       {Field: "cpu_queue_cap", Value: -1.0},
		`{"cpu_queue_cap":99999999999}`:                 {Field: "cpu_queue_cap", Value: 99999999999.0},
		`{"cpu_queue_cap":1.5}`:                         {Field: "cpu_queue_cap", Value: 1.5},
		`{"cpu_queue_cap":"many"}`:                      {Field: "cpu_queue_cap", Value: "many"},
		`{"cpu_queue_cap":{"a":[1]}}`:                   {Field: "cpu_queue_cap", Value: map[string]any{"a": []any{1.0}}},
		`{"inline_threshold":90000}`:                    {Field: "inline_threshold", Value: 90000.0},
		`{"spawn_threshold":1}`:                         {Field: "inline_threshold", Value: "8µs"},
		`{"batch_max_delay_ms":-1}`:                     {Field: "batch_max_delay_ms", Value: -1.0},
		`{"policy":"lottery"}`:                          {Field: "policy", Value: "lottery"},
		`{"max_kinds":7}`:                               {Field: "max_kinds", Value: 7.0},
		`{"color":"red"}`:                               {Field: "color", Value: "red"},
		`{"CPU_QUEUE_CAP":7}`:                           {Field: "CPU_QUEUE_CAP", Value: 7.0},
		`{"cpu_queue_cap":null}`:                        {Field: "cpu_queue_cap"},
		`{"batch_max_size":7,"cpu_queue_cap":null}`:     {Field: "cpu_queue_cap"},
		`{"cpu_queue_cap":7,"cpu_queue_cap":8}`:         {Field: "cpu_queue_cap", Value: 8.0},
		`{"cpu_queue_cap":7,"cpu\u005fqueue_cap":7}`:    {Field: "cpu_queue_cap", Value: 7.0},
		`{"unit_time_ns":1e999}`:                        {Field: "unit_time_ns", Value: "1e999"},
		`{"policy":"` + strings.Repeat("x", 500) + `"}`: {Field: "policy", Value: `"` + strings.Repeat("x", 255) + "…"},
	} {
		w := patch(h, body)
		require.Equal(t, http.StatusBadRequest, w.Code, body)
		got := decode[failure](t, w.Body.String())
		require.NotEmpty(t, got.Error, body)
		require.Equal(t, want.Field, got.Field, body)
		require.Equal(t, want.Value, got.Value, body)
	}
	for _, body := range []string{``, `null`, `[]`, `7`, `"x"`, `{`, `{"a":1} {"b":2}`, `{"cpu_queue_cap":}`, "\xff"} {
		w := patch(h, body)
		require.Equal(t, http.StatusBadRequest, w.Code, body)
		require.NotEmpty(t, decode[failure](t, w.Body.String()).Error)
	}
	require.Equal(t, http.StatusRequestEntityTooLarge, patch(h, `{"policy":"`+strings.Repeat("x", maxPatch)+`"}`).Code)
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/json/x", ";"} {
		w := ask(h, http.MethodPatch, "/api/config", `{"cpu_queue_cap":9}`, "Content-Type", kind)
		require.Equal(t, http.StatusUnsupportedMediaType, w.Code, kind)
	}
	for _, header := range [][2]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
		w := ask(h, http.MethodPatch, "/api/config", `{"cpu_queue_cap":9}`, "Content-Type", "application/json", header[0], header[1])
		require.Equal(t, http.StatusForbidden, w.Code, header)
	}
	require.Equal(t, before, ask(h, http.MethodGet, "/api/config", "").Body.String(), "nothing may have changed")
}

// TestOwnConfigIsAccepted sends back what was served, of a router with a policy that no
// name can set.
func TestOwnConfigIsAccepted(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{Policy: ownPolicy{}})
	h := newHandler(t, r, WithConfigWrites())
	whole := ask(h, http.MethodGet, "/api/config", "").Body.String()
	require.Contains(t, whole, `"policy":"httpstats.ownPolicy"`)
	w := patch(h, whole)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	require.Equal(t, ownPolicy{}, r.Config().Policy)
	w = patch(h, strings.Replace(whole, `"cpu_queue_cap":512`, `"cpu_queue_cap":7`, 1))
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	require.Equal(t, 7, r.Config().CPUQueueCap)
	require.Equal(t, ownPolicy{}, r.Config().Policy)
	require.Equal(t, http.StatusBadRequest, patch(h, `{"policy":"httpstats.otherPolicy"}`).Code)
	require.Equal(t, http.StatusOK, patch(h, `{"policy":"threshold"}`).Code)
	require.Equal(t, helix.ThresholdPolicy{}, r.Config().Policy)
}

type ownPolicy struct{ helix.ThresholdPolicy }

func (ownPolicy) String() string { return "httpstats.ownPolicy" }

// TestPatchThatNeverEnds trickles a body for as long as it may.
func TestPatchThatNeverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, newRouter(t, helix.RouterConfig{}), WithConfigWrites())
		server := newPipeServer(t, h)
		conn, err := server.dial(t.Context(), "", "") // below HTTP: its client minds that the body is not read
		require.NoError(t, err)
		var client sync.WaitGroup
		defer client.Wait()
		defer conn.Close()
		start := time.Now()
		_, err = io.WriteString(conn, "PATCH /api/config HTTP/1.1\r\nHost: helix\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n")
		require.NoError(t, err)
		client.Go(func() {
			for {
				time.Sleep(time.Second)
				if _, err := io.WriteString(conn, " "); err != nil {
					return
				}
			}
		})
		res, err := http.ReadResponse(newScan(conn), nil)
		require.NoError(t, err)
		answer, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusRequestTimeout, res.StatusCode)
		require.Contains(t, decode[failure](t, string(answer)).Error, "10s")
		require.Equal(t, 10*time.Second, time.Since(start))
	})
}

// FuzzPatchConfig sends arbitrary bodies: each is either refused, and then
// nothing has changed, or leaves a configuration that is valid.
func FuzzPatchConfig(f *testing.F) {
	for _, body := range []string{
		`{}`, `{"cpu_queue_cap":1}`, `{"inline_threshold":0,"spawn_threshold":1}`, `{"policy":"threshold"}`,
		`{"batch_max_delay_ms":1e300}`, `{"batch_max_delay_ms":-1e300}`, `{"a":1,"a":2}`, `null`, `[{}]`, `{"":0}`,
		`{"cpu_parallelism":1000}`, "{\"\xff\":1}",
	} {
		f.Add([]byte(body))
	}
	r := newRouter(f, helix.RouterConfig{})
	f.Fuzz(func(t *testing.T, body []byte) {
		before, err := json.Marshal(r.Config())
		require.NoError(t, err)
		bad := applyPatch(r, body)
		after, err := json.Marshal(r.Config())
		require.NoError(t, err)
		if bad != nil {
			require.JSONEq(t, string(before), string(after))
			_, err := json.Marshal(bad)
			require.NoError(t, err)
			require.NotEmpty(t, bad.Error)
			return
		}
		require.NoError(t, r.Update(func(*helix.RouterConfig) {}), "what is in force must be valid")
	})
}

// The page explains every field of the configuration.
func TestThePageKnowsEveryConfigField(t *testing.T) {
	page, err := os.ReadFile("ui/js/config.js")
	require.NoError(t, err)
	for _, f := range helix.ConfigFields() {
		if f.JSON != "" {
			require.Contains(t, string(page), "\n  "+f.JSON+": {")
		}
	}
}
