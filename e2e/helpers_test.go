package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/httpstats"
)

// patience is how long a test waits for what should come within a second or a
// few. It is generous: machines that run tests are busy.
const patience = 45 * time.Second

// await asks again and again until check returns nil.
func await(t testing.TB, what string, check func() error) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(40 * time.Millisecond)
	defer again.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-deadline.C:
			require.FailNow(t, "waited in vain for "+what, "%v", err)
		}
	}
}

// work is everything that outlives a test: TestMain removes it.
var work string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if work, err = os.MkdirTemp("", "helix-e2e-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(work)
		defer closeChrome()
		return m.Run()
	}())
}

// buildSimulator compiles the real program, once.
var buildSimulator = sync.OnceValues(func() (string, error) {
	binary := filepath.Join(work, "simulator")
	build := exec.Command("go", "build", "-o", binary, "./examples/simulator")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return binary, nil
})

// simulator is the running program.
type simulator struct {
	t    *testing.T
	url  string // of the page, without the final slash
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how; valid after done
	out  output
}

// output is what a program has written.
type output struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

var pageLink = regexp.MustCompile(`(?m)^ *page +(http://\S+)/$`)

// startSimulator runs the simulator with those flags until the end of the test.
func startSimulator(t *testing.T, flags ...string) *simulator {
	t.Helper()
	binary, err := buildSimulator()
	require.NoError(t, err)
	s := &simulator{t: t, cmd: exec.Command(binary, flags...), done: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	require.NoError(t, s.cmd.Start())
	go func() {
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // it may have ended
		<-s.done
	})
	await(t, "the simulator's link to its page", func() error {
		if link := pageLink.FindStringSubmatch(s.out.String()); link != nil {
			s.url = link[1]
			return nil
		}
		select {
		case <-s.done:
			require.FailNow(t, "the simulator has ended", "%v: %s", s.err, &s.out)
		default:
		}
		return errors.New(s.out.String())
	})
	return s
}

// stop is Ctrl-C. The program must end in order, also while pages are open.
func (s *simulator) stop() {
	s.t.Helper()
	require.NoError(s.t, s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.done:
		require.NoError(s.t, s.err, &s.out)
	case <-time.After(patience):
		require.FailNow(s.t, "the simulator does not end", &s.out)
	}
}

// newRouter makes a router that is closed at the end of the test.
func newRouter(t *testing.T, cfg helix.RouterConfig) *helix.Router {
	t.Helper()
	r, err := helix.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// newHandler makes a handler that is closed at the end of the test.
func newHandler(t *testing.T, r *helix.Router, opts ...httpstats.Option) *httpstats.Handler {
	t.Helper()
	h, err := httpstats.New(r, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h
}

// serve serves h until the end of the test and returns the URL.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections() // streams never end by themselves
		s.Close()
	})
	return s.URL
}

// submit runs jobs of that kind and returns how many of them completed.
func submit(t *testing.T, r *helix.Router, n int, job helix.Job) (completed int) {
	t.Helper()
	if job.Run == nil {
		job.Run = func(context.Context) (any, error) { return nil, nil }
	}
	for range n {
		_, err := r.Submit(t.Context(), job)
		if err == nil {
			completed++
		}
	}
	return completed
}

// get returns the body of what must be there.
func get(t testing.TB, url string, header ...string) (string, http.Header) {
	t.Helper()
	code, body, head := ask(t, http.MethodGet, url, header...)
	require.Equal(t, http.StatusOK, code, "%s: %s", url, body)
	return body, head
}

// ask sends a request and reads the answer, after redirects.
func ask(t testing.TB, method, url string, header ...string) (int, string, http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(body), res.Header
}

// statistics are those fields of api/stats that tests look at.
type statistics struct {
	Submitted uint64
	Completed uint64
	Routed    []struct {
		Strategy string
		Count    uint64
	} `json:"routed_by_strategy"`
}

func stats(t testing.TB, base string) statistics {
	t.Helper()
	var s statistics
	body, _ := get(t, base+"/api/stats")
	require.NoError(t, json.Unmarshal([]byte(body), &s), body)
	return s
}

// event is one of a stream.
type event struct{ id, name, data string }

// readStream opens a stream and gives see its events until that returns true,
// which it must do within that time.
func readStream(t testing.TB, url string, within time.Duration, see func(event) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	lines := bufio.NewReader(res.Body)
	for e := (event{}); ; {
		line, err := lines.ReadString('\n')
		require.NoError(t, err, "the stream broke off")
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case key == "id":
			e.id = value
		case key == "event":
			e.name = value
		case key == "data":
			e.data += value
		case key == "" && e.name != "":
			if see(e) {
				return
			}
			e = event{}
		}
	}
}

// points counts the points of a history event.
func points(t testing.TB, e event) int {
	t.Helper()
	var h struct{ Points []json.RawMessage }
	require.NoError(t, json.Unmarshal([]byte(e.data), &h), e.data)
	return len(h.Points)
}

// collect waits until the server at base has n points of history.
func collect(t testing.TB, base string, n int) {
	t.Helper()
	have := 0
	readStream(t, base+"/api/stream", patience+time.Duration(n)*time.Second, func(e event) bool {
		switch e.name {
		case "history":
			have = points(t, e)
		case "tick":
			have++
		}
		return have >= n
	})
}
