package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// simulator runs the program in this process and returns what it wrote.
func simulator(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// number finds the number after a word at the start of a line of the summary.
func number(t *testing.T, summary, section, word string) int {
	t.Helper()
	_, rest, found := strings.Cut(summary, section)
	require.True(t, found, "no %q in:\n%s", section, summary)
	m := regexp.MustCompile(`(?m)^ *` + word + ` +(\d+)`).FindStringSubmatch(rest)
	require.NotNil(t, m, "no %q in:\n%s", word, rest)
	n, err := strconv.Atoi(m[1])
	require.NoError(t, err)
	return n
}

func TestDemonstration(t *testing.T) {
	t.Parallel()
	code, out, errs := simulator(t, "-jobs", "200", "-seed", "7", "-exit", "-addr", "127.0.0.1:0")
	require.Equal(t, exitOK, code, errs)
	require.Empty(t, errs)

	total := number(t, out, "Summary", "submitted")
	require.Equal(t, 200, total)
	ended := 0
	for _, word := range []string{"completed", "dropped", "failed", "withdrawn", "in_flight"} {
		ended += number(t, out, "Summary", word)
	}
	require.Equal(t, 200, ended)
	require.Zero(t, number(t, out, "Summary", "in_flight"))
	routed := 0
	for _, strategy := range []string{helix.Inline, helix.Spawn, helix.CPUPool, helix.Batch, helix.Drop} {
		routed += number(t, out, "Routed by strategy", strategy)
		number(t, out, "Latency by strategy", strategy)
	}
	require.Equal(t, 200, routed)
	require.Regexp(t, `Promises kept: \d+ of \d+`, out)
	completed := number(t, out, "Summary", "completed")
	require.Regexp(t, `Checksum: [0-9a-f]{16} over `+strconv.Itoa(completed)+` results`, out)
	require.Regexp(t, `http://127\.0\.0\.1:\d+/metrics`, out)
}

func TestPacedRuns(t *testing.T) {
	t.Parallel()
	trace := filepath.Join(t.TempDir(), "trace.csv")
	require.NoError(t, os.WriteFile(trace, []byte(azureHeader+"2023-11-16 18:17:03,40,1\n2023-11-16 18:17:04,50,2"), 0o600))
	for name, c := range map[string]struct {
		args []string
		want string
		jobs int // 0: whatever the machine can do
	}{
		"rate":   {[]string{"-rate", "1000", "-jobs", "50"}, "Poisson, 1000 a second\n", 50},
		"bursts": {[]string{"-rate", "500", "-bursts", "-jobs", "50"}, "500 a second x 0.6, in bursts x 8", 50},
		"load":   {[]string{"-load", "0.5", "-duration", "20ms"}, "-load 0.5: capacity measured as ", 0},
		"trace":  {[]string{"-trace", trace, "-speed", "20", "-trace-budget", "0"}, "an offered load of ", 2},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := simulator(t, append(c.args, "-exit", "-addr", "off")...)
			require.Equal(t, exitOK, code, errs)
			require.Contains(t, out, c.want)
			require.NotContains(t, out, "http://")
			jobs := number(t, out, "Summary", "submitted")
			require.NotZero(t, jobs)
			if c.jobs > 0 {
				require.Equal(t, c.jobs, jobs)
			}
		})
	}
}

func TestVerboseLogsDecisions(t *testing.T) {
	t.Parallel()
	code, _, errs := simulator(t, "-jobs", "3", "-exit", "-addr", "", "-v")
	require.Equal(t, exitOK, code)
	require.Equal(t, 3, strings.Count(errs, "helix: decision"), errs)
}

func TestHelp(t *testing.T) {
	code, out, errs := simulator(t, "-h")
	require.Equal(t, exitOK, code)
	require.Empty(t, errs)
	require.Contains(t, out, "Examples:")
	for _, name := range []string{"jobs", "seed", "rate", "load", "bursts", "duration", "trace", "speed", "trace-time",
		"trace-cost", "trace-budget", "policy", "addr", "exit", "v"} {
		require.Regexp(t, `(?m)^  -`+name+`\b`, out)
	}
}

func TestBadCommandLines(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "none.csv")
	for _, c := range []struct {
		args string
		want string
	}{
		{"-nope", "unknown flag -nope: -h lists"},
		{"run", `unexpected argument "run"`},
		{"-jobs x", `invalid value "x" for flag -jobs`},
		{"-jobs", "flag needs an argument: -jobs"},
		{"-jobs 0", "-jobs is 0: must be at least 1"},
		{"-jobs -3", "-jobs is -3"},
		{"-jobs 5000000 -rate 1", "would last longer than 720h0m0s: choose another -rate"},
		{"-jobs 100001", "-jobs is 100001: must be at most 100000 where all arrive at once"},
		{"-seed -1", `invalid value "-1" for flag -seed`},
		{"-rate -1", "-rate is -1: must be from 0"},
		{"-rate NaN", "-rate is NaN"},
		{"-rate 1e8", "-rate is 1e+08"},
		{"-load 0", "-load is 0: must be above 0"},
		{"-load +Inf", "-load is +Inf"},
		{"-rate 5 -load 1", "-rate and -load exclude each other"},
		{"-rate 5 -trace x.csv", "-rate and -trace exclude each other"},
		{"-bursts", "-bursts needs -rate or -load"},
		{"-bursts -rate 0", "-bursts needs -rate or -load"},
		{"-duration 1s", "-duration needs -rate"},
		{"-duration 1 -rate 1", `invalid value "1" for flag -duration`},
		{"-duration -1s -rate 1", "-duration is -1s"},
		{"-rate 1 -duration 1ns", "no job arrives within -duration"},
		{"-speed 2", "-speed needs -trace"},
		{"-trace-budget 1s", "-trace-budget needs -trace"},
		{"-trace=", `-trace is "": must be the name`},
		{"-trace x.csv -speed 0", "-speed is 0: must be from 0.001"},
		{"-trace x.csv -trace-budget -1s", "-trace-budget is -1s: must be at least 0"},
		{"-trace x.csv -trace-cost a=x", `invalid value "a=x" for flag -trace-cost: weight "x" is not a number`},
		{"-trace x.csv -trace-time=", `-trace-time is "": must be the name`},
		{"-trace " + missing, missing + ": no such file"},
		{"-policy best", `-policy is "best": must be one of threshold`},
		{"-policy=", `-policy is "": must be one of`},
		{"-addr 8080", `-addr is "8080": must be host:port`},
		{"-addr :http", `-addr is ":http": must be host:port`},
		{"-addr 127.0.0.1:70000", `-addr is "127.0.0.1:70000": must be host:port`},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, out, errs := simulator(t, append([]string{"-exit"}, strings.Fields(c.args)...)...)
			require.Equal(t, exitUsage, code)
			require.Contains(t, errs, c.want)
			require.Equal(t, 1, strings.Count(errs, "\n"), "one line says it all")
			require.Empty(t, out, "nothing is run")
		})
	}
}

// What is wrong with the flags is said also while the default address is in use, as
// by another run of the program.
func TestBadFlagsComeBeforeTheAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	code, _, errs := simulator(t, "-exit", "-addr", l.Addr().String(), "-rate", "1", "-duration", "1ns")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "no job arrives within -duration")
}

func TestBadTraceStopsBeforeAnyJob(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace.csv")
	require.NoError(t, os.WriteFile(trace, []byte(azureHeader+"2,1,1\n1,1,1\n"), 0o600))
	code, out, errs := simulator(t, "-trace", trace, "-exit")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, trace+`:3: time is "1": 1s before the line above it`)
	require.Empty(t, out)
}

func TestTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	code, out, errs := simulator(t, "-exit", "-addr", l.Addr().String())
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, l.Addr().String())
	require.Contains(t, errs, "choose another address with -addr")
	require.Empty(t, out, "nothing is run")
}

func TestServesUntilInterrupted(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithTimeout(t.Context(), 30*time.Second)
	defer interrupt()
	out, writes := io.Pipe()
	var errs bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"-addr", "127.0.0.1:0", "-jobs", "20"}, writes, &errs)
		_ = writes.Close()
	}()
	lines := bufio.NewScanner(out)
	url := ""
	for lines.Scan() {
		if u, ok := strings.CutPrefix(lines.Text(), "Serving "); ok {
			url, _, _ = strings.Cut(u, " ")
			break
		}
	}
	require.NotEmpty(t, url)

	get := func(path, contentType string) []byte {
		res, err := http.Get(url + path)
		require.NoError(t, err)
		defer res.Body.Close()
		require.Equal(t, http.StatusOK, res.StatusCode, path)
		require.Contains(t, res.Header.Get("Content-Type"), contentType, path)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return body
	}
	submitted := func() uint64 {
		var stats helix.Stats
		require.NoError(t, json.Unmarshal(get("api/stats", "application/json"), &stats))
		return stats.Submitted
	}
	get("", "text/html")
	require.Contains(t, string(get("metrics", "text/plain")), "\nhelix_completed ")
	require.Equal(t, uint64(20), submitted())
	res, err := http.Post(url+"api/burst", "", nil)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusAccepted, res.StatusCode)
	require.Equal(t, uint64(20+burstJobs), submitted())

	// An open page must not hold up the end.
	stream, err := http.Get(url + "api/stream")
	require.NoError(t, err)
	defer stream.Body.Close()
	interrupted := time.Now()
	interrupt()
	go func() { _, _ = io.Copy(io.Discard, out) }()
	require.Equal(t, exitOK, <-code, errs.String())
	require.Less(t, time.Since(interrupted), shutdownTimeout)
	_, err = http.Get(url)
	require.Error(t, err)
}

func TestInterruptedRunIsAccountedFor(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out, writes := io.Pipe()
	var errs bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"-rate", "100", "-jobs", "100000", "-addr", "off"}, writes, &errs)
		_ = writes.Close()
	}()
	var text strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), " of 100000 jobs: ") { // the first line of progress
			interrupt()
		}
	}
	require.Equal(t, exitOK, <-code, errs.String())
	jobs := number(t, text.String(), "Summary", "submitted")
	require.Positive(t, jobs)
	require.Less(t, jobs, 50_000)
}

// TestReadmeShowsWhatIsPrinted compares the sample in README.md with a run, except the
// figures that depend on the machine.
func TestReadmeShowsWhatIsPrinted(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, sample, ok := strings.Cut(string(readme), "```\nHelixRouter simulator: 200 jobs")
	require.True(t, ok, "README.md has no sample")
	sample, _, _ = strings.Cut(sample, "```")
	sample = "HelixRouter simulator: 200 jobs" + sample
	var out, errs bytes.Buffer
	require.Equal(t, exitOK, run(t.Context(), []string{"-exit", "-addr", "127.0.0.1:0"}, &out, &errs), errs.String())
	require.Equal(t, skeleton(out.String()), skeleton(sample))

	checksum := regexp.MustCompile(`Checksum: \w+ over 200 results`) // of any run in which all complete
	if here, shown := checksum.FindString(out.String()), checksum.FindString(sample); here != "" && shown != "" {
		require.Equal(t, here, shown)
	}
}

var (
	figures = regexp.MustCompile(`[\d.]+(µs|ms|s)?\b|\s-|[0-9a-f]{16}`)
	reasons = regexp.MustCompile(`(?s)\nDropped by reason\n.*?\n\n`)
	blanks  = regexp.MustCompile(` +`)
)

// skeleton is what a run prints on every machine: reasons to drop are there or not.
func skeleton(text string) []string {
	text = reasons.ReplaceAllString(text, "\n")
	text = regexp.MustCompile(` over \d+ results`).ReplaceAllString(text, " over results")
	text = regexp.MustCompile(`(?m)^ *[\d.]+s  \d+ of 200 jobs: .*\n|( \([\d.]+ %\))$`).ReplaceAllString(text, "") // of long runs; if any was promised
	text = regexp.MustCompile(`Checksum: \w+`).ReplaceAllString(text, "Checksum:")
	text = blanks.ReplaceAllString(figures.ReplaceAllString(text, " "), " ")
	return strings.Split(strings.TrimSpace(text), "\n")
}
