package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary stand in for the command, which runs itself for
// every point.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-point" {
		main()
		return
	}
	os.Exit(m.Run())
}

func smokeSpec(contender string) pointSpec {
	return pointSpec{
		Contender: contender, Mix: mixes[0], Load: .4, Seconds: .2, Warmup: .05, Seed: 3,
		Procs: runtime.GOMAXPROCS(0), Calibrate: calibration{Rounds: 1, Round: 5 * time.Millisecond},
	}
}

// TestEveryContenderAccountsForAllJobs asserts no time: only that every job
// has exactly one outcome, with every contender.
func TestEveryContenderAccountsForAllJobs(t *testing.T) {
	for i := range candidates {
		c := &candidates[i]
		t.Run(c.name, func(t *testing.T) {
			spec := smokeSpec(c.name)
			spec.Yield = true
			p := newPoint(spec)
			r, err := p.execute(c)
			require.NoError(t, err)
			requireConserved(t, r)
			offered := 0
			segments := spec.segments()
			for i := range p.jobs {
				j := &p.jobs[i]
				require.NotZero(t, j.ended.Load(), "every call returned")
				if spec.measured(segments[j.segment]) {
					offered++
				}
				if j.state.Load() == jobWaiting {
					require.Zero(t, j.executed.Load())
				}
			}
			require.Equal(t, offered, r.Offered)

			if h, ok := p.who.(*router); ok {
				finished, refused := uint64(0), uint64(0)
				for i := range p.jobs {
					if p.jobs[i].state.Load() == jobWaiting {
						refused++
					} else {
						finished++
					}
				}
				stats := h.router.Stats()
				require.EqualValues(t, len(p.jobs), stats.Submitted)
				require.Equal(t, finished, stats.Completed)
				require.Equal(t, refused, stats.Dropped+stats.Withdrawn)
			}
		})
	}
}

func requireConserved(t *testing.T, r *Result) {
	t.Helper()
	require.Positive(t, r.Offered)
	require.Equal(t, r.Offered, r.InBudget+r.Late+r.Refused)
	offered := 0
	for _, c := range r.Classes {
		require.Equal(t, c.Offered, c.InBudget+c.Late+c.Refused, c.Name)
		offered += c.Offered
	}
	require.Equal(t, offered, r.Offered)
}

// TestWorkIsWhatTheClassSays: iterations, alone and in a batch.
func TestWorkIsWhatTheClassSays(t *testing.T) {
	spec := smokeSpec("")
	spec.Shift = "batch"
	p := newPoint(spec)
	p.speed = 1e6 // as if: an iteration a µs
	p.start, p.horizon = time.Now(), int64(time.Hour)
	for i := range p.classes {
		c := &p.classes[i]
		c.need = c.alone() * p.speed
		if c.Batch != nil {
			c.call, c.item = c.Batch.CallUs, c.Batch.ItemUs
		}
	}
	give := 0
	large := &job{arrival: arrival{class: 3, factor: 1}}
	p.run(large, func() { give++ })
	require.EqualValues(t, 5000, large.executed.Load())
	require.Equal(t, jobFinished, large.state.Load())
	require.Equal(t, 5000/100-1, give, "every 100 µs, but not at the end")

	alone := &job{arrival: arrival{class: 4, factor: 3}}
	p.run(alone, nil)
	require.EqualValues(t, 3*420, alone.executed.Load())
	together := []*job{{arrival: arrival{class: 4, factor: 1}}, {arrival: arrival{class: 4, factor: 1}}}
	p.runBatch(together, nil)
	require.EqualValues(t, (400+2*20)/2, together[1].executed.Load())
	require.Equal(t, jobFinished, together[1].state.Load())

	p.horizon = 0
	cut := &job{arrival: arrival{class: 3, factor: 1}}
	p.run(cut, nil)
	require.Equal(t, jobStarted, cut.state.Load(), "the end cuts short")
	require.Zero(t, cut.executed.Load())
}

func TestSpinIsAsLongAsAsked(t *testing.T) {
	one := spin(1, 1)
	require.Equal(t, spin(one, 2), spin(1, 3))
	require.Positive(t, calibration{Rounds: 1, Round: time.Millisecond}.measure(1))
}

func TestUnknownPolicyIsSkipped(t *testing.T) {
	_, err := helixWith("there is none")(newPoint(smokeSpec("")))
	require.True(t, errors.As(err, &unavailable{}))
}

// TestCommand runs the command as a user does, with a process a point.
func TestCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.json")
	profile := filepath.Join(t.TempDir(), "cpu")
	var out, log strings.Builder
	args := []string{"-contenders", "helix-threshold,goroutines", "-loads", "0.3,3", "-seconds", "0.2", "-warmup", "0.05", "-weights", "tiny=2", "-json", file, "-cpuprofile", profile}
	require.NoError(t, run(context.Background(), args, &out, &log), log.String())
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	var rep Report
	require.NoError(t, json.Unmarshal(data, &rep))
	require.Len(t, rep.Results, 4)
	for _, r := range rep.Results {
		requireConserved(t, r)
		require.Positive(t, r.Speed)
	}
	require.Equal(t, rep.Results[0].Offered, rep.Results[1].Offered, "the same arrivals for all")
	require.Equal(t, runtime.Version(), rep.Machine.Go)
	require.FileExists(t, profile+".goroutines.0.3")
	for _, want := range []string{"mix reference", "3x of capacity", "helix-threshold", "max-min fair less generator", "weights map[tiny:2]"} {
		require.Contains(t, out.String(), want)
	}
}

func TestBadCommandLines(t *testing.T) {
	for _, args := range []string{
		"-quick -full", "-mix nowhere.json", "-contenders nobody", "-loads 0", "-loads 1,x", "-seconds -1", "-procs -1",
		"-shift nobody", "-shift io", "-weights tiny", "-weights tiny=0", "-weights nobody=1", "leftover", "-point {",
	} {
		var out, log strings.Builder
		require.Error(t, run(context.Background(), strings.Fields(args), &out, &log), args)
		require.Empty(t, out.String(), args)
	}
}

func TestPickContenders(t *testing.T) {
	names, err := pickContenders("failsafe,pool,helix-adaptive")
	require.NoError(t, err)
	require.Equal(t, []string{"failsafe-bulkhead", "failsafe-adaptive", "pool", "helix-adaptive"}, names)
	names, err = pickContenders("all")
	require.NoError(t, err)
	require.Len(t, names, len(candidates))
}
