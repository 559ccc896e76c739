// Command overload measures which contender finishes jobs in budget under overload: helix and
// other ways to run jobs, side by side, one process a point.
//
//	go run ./overload -quick   # a look, under a minute
//	go run ./overload -full    # the table, about ten minutes
//
// The method: an open loop. Poisson arrivals are drawn from a seed before the
// start, and latency counts from the scheduled arrival, whatever the state of
// the generator. Every arrival has its own goroutine, as in net/http. A job is
// a fixed number of iterations, not a time, and the capacity is the
// rate of iterations on all cores, measured just before; load is offered CPU over that
// capacity, batch items counted as if run alone.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "overload:", err)
		os.Exit(1)
	}
}

// plan is the whole of a run: every contender at every load.
type plan struct {
	base       pointSpec // without contender and load
	contenders []string
	loads      []float64
	jsonFile   string
	retries    int // of a point that was disturbed
}

// quick and full are what the two commands stand for; single flags win.
var (
	quick = plan{
		base:  pointSpec{Seconds: 1, Warmup: .4, Calibrate: calibration{Rounds: 5, Round: 25 * time.Millisecond}},
		loads: []float64{.9, 2},
	}
	full = plan{
		base:    pointSpec{Seconds: 6, Warmup: 2, Calibrate: calibration{Rounds: 9, Round: 50 * time.Millisecond}},
		loads:   []float64{.5, .9, 1.2, 2, 5, 10},
		retries: 2,
	}
)

// run is main without the process around it.
func run(ctx context.Context, args []string, out, log io.Writer) error {
	flags := flag.NewFlagSet("overload", flag.ContinueOnError)
	flags.SetOutput(log)
	point := flags.String("point", "", "run the one point that this JSON describes, print its result as JSON (used by the command itself)")
	pl, err := parsePlan(flags, args)
	if err != nil {
		return err
	}
	if *point != "" {
		return runOne(*point, out)
	}

	rep := &Report{Machine: machine(&pl.base), Spec: pl.base}
	fmt.Fprintln(out, rep.title())
	skipped := map[string]bool{}
	for _, load := range pl.loads {
		for _, name := range pl.contenders {
			if skipped[name] {
				continue
			}
			spec := pl.base
			spec.Load, spec.Contender = load, name
			r, err := pl.measure(ctx, spec, rep, log)
			if err != nil {
				return fmt.Errorf("%s at %gx: %w", name, load, err)
			}
			if r.Skipped != "" {
				skipped[name] = true
				fmt.Fprintf(log, "%s is left out: %s\n", name, r.Skipped)
			}
			rep.Results = append(rep.Results, r)
		}
		rep.printLoad(out, load)
	}
	rep.printSummary(out)
	if pl.jsonFile == "" {
		return nil
	}
	data, err := json.MarshalIndent(rep, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(pl.jsonFile, append(data, '\n'), 0o644)
}

// parsePlan reads the command line.
func parsePlan(flags *flag.FlagSet, args []string) (*plan, error) {
	isQuick := flags.Bool("quick", false, "a look, under a minute (the default)")
	isFull := flags.Bool("full", false, "the whole table")
	var (
		mix        = flags.String("mix", "reference", "reference, tight, or a JSON file")
		contenders = flags.String("contenders", "all", "comma-separated names, or beginnings of names")
		loads      = flags.String("loads", "", "comma-separated multiples of the capacity (default: .9,2; with -full .5,.9,1.2,2,5,10; with -bursts 1)")
		seconds    = flags.Float64("seconds", 0, "measured seconds a point (default: 1; with -full 6)")
		warmup     = flags.Float64("warmup", -1, "seconds before arrivals count (default: 0.4; with -full 2)")
		seed       = flags.Uint64("seed", 1, "of the arrivals")
		jsonFile   = flags.String("json", "", "also write all that was measured to this file")
		bursts     = flags.Bool("bursts", false, fmt.Sprintf("%gx with 200 ms at %gx in every second, times the load", calmLoad, burstLoad))
		hintError  = flags.Bool("hint-error", false, fmt.Sprintf("cost hints are wrong by a log-uniform factor of %g to %g", lieLow, lieHigh))
		shift      = flags.String("shift", "", "the true cost of this `class` triples half-way, its hints stay")
		retries    = flags.Int("retries", -1, "how often to repeat a point during which something else used the machine (default: 0; with -full 2)")
		procs      = flags.Int("procs", 0, "GOMAXPROCS (default: as the runtime chooses)")
		weights    = flags.String("weights", "", "class=weight,… for helix and the fair bound")
		yield      = flags.Bool("yield", false, "jobs give way about every 100 µs of work: helix.Yield, elsewhere runtime.Gosched")
		profile    = flags.String("cpuprofile", "", "write a CPU profile of every point to this file, .contender.load appended (costs some CPU)")
		spareP     = flags.Bool("spare-p", false, "GOMAXPROCS is one more than cores; limits stay at cores")
	)
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("what is %q?", flags.Arg(0))
	}
	if *isQuick && *isFull {
		return nil, errors.New("-quick or -full, not both")
	}
	pl := quick
	if *isFull {
		pl = full
	}
	var err error
	b := &pl.base
	if b.Mix, err = findMix(*mix); err != nil {
		return nil, err
	}
	if pl.contenders, err = pickContenders(*contenders); err != nil {
		return nil, err
	}
	b.Seed, b.Yield, b.SpareP, b.Bursts, b.HintError, b.Shift = *seed, *yield, *spareP, *bursts, *hintError, *shift
	pl.jsonFile, b.Profile = *jsonFile, *profile
	if *seconds != 0 {
		b.Seconds = *seconds
	}
	if *warmup >= 0 {
		b.Warmup = *warmup
	}
	if *retries >= 0 {
		pl.retries = *retries
	}
	if b.Procs = *procs; b.Procs == 0 {
		b.Procs = runtime.GOMAXPROCS(0)
	}
	if b.Bursts {
		pl.loads = []float64{1}
		if !*isFull && *seconds == 0 {
			b.Seconds = 2 // whole bursts
		}
	}
	if *loads != "" {
		if pl.loads, err = parseLoads(*loads); err != nil {
			return nil, err
		}
	}
	if b.Weights, err = parseWeights(*weights, b.Mix); err != nil {
		return nil, err
	}
	switch {
	case !(b.Seconds > 0) || b.Seconds > 600 || b.Warmup > 600:
		return nil, errors.New("-seconds must be above 0, and with -warmup at most 600")
	case b.Procs < 1:
		return nil, errors.New("-procs must be at least 1")
	case b.Shift != "" && (b.Mix.index(b.Shift) < 0 || b.Mix.Classes[b.Mix.index(b.Shift)].waits()):
		return nil, fmt.Errorf("-shift: the mix has no class %q that computes", b.Shift)
	}
	return &pl, nil
}

func parseLoads(list string) ([]float64, error) {
	var loads []float64
	for field := range strings.SplitSeq(list, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(field), 64)
		if err != nil || !(v > 0) || v > 100 {
			return nil, fmt.Errorf("-loads: %q is not a number above 0 and up to 100", field)
		}
		loads = append(loads, v)
	}
	return loads, nil
}

func parseWeights(list string, m Mix) (map[string]float64, error) {
	if list == "" {
		return nil, nil
	}
	weights := map[string]float64{}
	for field := range strings.SplitSeq(list, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || !(v > 0) || v > math.MaxFloat32 || m.index(name) < 0 {
			return nil, fmt.Errorf("-weights: %q is not class=weight with a class of the mix and a weight above 0", field)
		}
		weights[name] = v
	}
	return weights, nil
}

// measure runs the point, and again if something disturbed it.
func (pl *plan) measure(ctx context.Context, spec pointSpec, rep *Report, log io.Writer) (*Result, error) {
	for attempt := 1; ; attempt++ {
		r, err := runElsewhere(ctx, spec, log)
		if err != nil {
			return nil, err
		}
		r.Attempts = attempt
		best := max(rep.markDisturbed(), r.fastest())
		if r.Skipped != "" || attempt > pl.retries || !r.disturbed(best) {
			return r, nil
		}
	}
}

// runElsewhere runs the point in a process of its own, so that no point finds
// the heap, the threads or the warm caches of another.
func runElsewhere(ctx context.Context, spec pointSpec, log io.Writer) (*Result, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	arg, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, seconds(spec.horizon())+drainTime+30*time.Second)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, self, "-point", string(arg))
	cmd.Stdout, cmd.Stderr = &out, log
	if err := cmd.Run(); err != nil {
		return nil, errors.Join(err, context.Cause(ctx))
	}
	r := &Result{}
	return r, json.Unmarshal(out.Bytes(), r)
}

// runOne is the other end of runElsewhere.
func runOne(point string, out io.Writer) error {
	var spec pointSpec
	if err := json.Unmarshal([]byte(point), &spec); err != nil {
		return fmt.Errorf("-point: %w", err)
	}
	runtime.GOMAXPROCS(spec.maxProcs())
	if spec.Profile != "" {
		f, err := os.Create(fmt.Sprintf("%s.%s.%g", spec.Profile, spec.Contender, spec.Load))
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	r, err := runPoint(spec)
	if u := (unavailable{}); errors.As(err, &u) {
		r, err = &Result{Contender: spec.Contender, Load: spec.Load, Skipped: u.Error()}, nil
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}
