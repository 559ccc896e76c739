package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The test binary is the program too.
const asProgram = "FLEET_TEST_ARGS"

func TestMain(m *testing.M) {
	if args, ok := os.LookupEnv(asProgram); ok {
		os.Args = append(os.Args[:1], strings.Fields(args)...)
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// process is the program as a user starts it.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	read sync.WaitGroup

	mu  sync.Mutex
	out strings.Builder
}

func start(t *testing.T, args string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), asProgram+"="+args)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	p.read.Go(func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.mu.Lock()
			fmt.Fprintln(&p.out, lines.Text())
			p.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		p.read.Wait()
		_ = p.cmd.Wait()
	})
	return p
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// says waits for a line and returns its groups.
func (p *process) says(line string) []string {
	p.t.Helper()
	var found []string
	require.Eventually(p.t, func() bool {
		found = regexp.MustCompile(line).FindStringSubmatch(p.said())
		return found != nil
	}, 30*time.Second, 10*time.Millisecond, line)
	return found
}

// ends waits until the process has ended by itself, well.
func (p *process) ends() string {
	p.t.Helper()
	p.read.Wait()
	require.NoError(p.t, p.cmd.Wait(), p.said())
	return p.said()
}

// account is what the page is told of jobs sent to one worker, or to all.
type account struct {
	Worker         string
	Sent, Answered uint64
	Lost           uint64
	InFlight       int `json:"in_flight"`
}

type fleet struct {
	account
	Workers []account
}

func (f fleet) of(worker string) (a account) {
	for _, w := range f.Workers {
		if w.Worker == worker {
			return w
		}
	}
	return a
}

func ask(t *testing.T, url string) fleet {
	t.Helper()
	r, err := http.Get(url + "api/stats")
	require.NoError(t, err)
	defer r.Body.Close()
	var stats struct{ Fleets []fleet }
	require.NoError(t, json.NewDecoder(r.Body).Decode(&stats))
	require.Len(t, stats.Fleets, 1)
	return stats.Fleets[0]
}

// More load than the service can bear goes over
// to workers; one that is killed loses its own jobs, one that is ended none.
func TestJobsGoOverAndOnlyTheKilledWorkersJobsAreLost(t *testing.T) {
	// A job of 40 ms or more, and 100 a second: more than one slot can do on any machine.
	const job = " -points 80000 -budget 1s"
	service := start(t, "-addr 127.0.0.1:0 -nats 127.0.0.1:0 -rate 100"+job)
	found := service.says(`page (http://\S+/), NATS (\S+)`)
	url, nats := found[1], found[2]
	first := start(t, "-worker -name w1 -nats "+nats+job)
	second := start(t, "-worker -name w2 -nats "+nats+job)
	answered := func(worker string, jobs uint64) {
		t.Helper()
		require.Eventually(t, func() bool { return ask(t, url).of(worker).Answered >= jobs }, 60*time.Second, 20*time.Millisecond, "%s, %s", worker, service.said())
	}
	answered("w1", 5)
	answered("w2", 5)

	require.NoError(t, first.cmd.Process.Kill())
	require.Eventually(t, func() bool { f := ask(t, url); return f.InFlight == f.of("w2").InFlight }, 60*time.Second, 20*time.Millisecond)
	lost := ask(t, url)
	require.Zero(t, lost.of("w2").Lost, "what is lost was the killed worker's")
	answered("w2", lost.of("w2").Answered+5)

	require.NoError(t, second.cmd.Process.Signal(syscall.SIGTERM))
	require.Contains(t, second.ends(), "w2 did ")

	require.NoError(t, service.cmd.Process.Signal(os.Interrupt))
	sums := regexp.MustCompile(`(\d+) submitted = (\d+) done \+ (\d+) refused \+ (\d+) lost \+ (\d+) failed; area (\S+)`).FindStringSubmatch(service.ends())
	require.NotNil(t, sums, service.said())
	var n [5]int
	for i := range n {
		n[i], _ = strconv.Atoi(sums[i+1])
	}
	require.Equal(t, n[0], n[1]+n[2]+n[3]+n[4])
	require.NotZero(t, n[1])
	require.Zero(t, n[4])
	require.EqualValues(t, lost.Lost, n[3], "the worker that was ended has lost nothing")
	area, err := strconv.ParseFloat(sums[6], 64)
	require.NoError(t, err)
	require.InDelta(t, 1.5066, area, 0.05, "the area of the Mandelbrot set: outputs travel")
}

// The oracle is geometry: discs that are inside the set, and points that are outside it.
func TestPointsInsideAndOutside(t *testing.T) {
	for name, c := range map[string]struct {
		re, im float64
		inside bool
	}{
		"origin": {0, 0, true}, "centre of the period-2 disc": {-1, 0, true}, "edge of the cardioid": {0.249, 0, true},
		"beyond the cusp": {0.3, 0, false}, "beyond the antenna": {-2.1, 0, false}, "corner": {0.75, 1.5, false},
	} {
		require.Equal(t, c.inside, escapes(c.re, c.im) >= depth, name)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := inside(ctx, sample{1, 10})
	require.ErrorIs(t, err, context.Canceled)
}

func TestWrongFlags(t *testing.T) {
	for _, args := range []string{"-points 0", "-budget 0s", "-slots 0", "-rate NaN", "-nats nowhere", "-worker -nats 127.0.0.1:1"} {
		require.Error(t, run(t.Context(), strings.Fields(args), io.Discard), args)
	}
}
