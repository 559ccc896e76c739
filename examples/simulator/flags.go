package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helixrouter/helix"
)

// options are the command line, checked.
type options struct {
	arrivals  arrivals
	load      float64 // if above 0, arrivals.rate is to be that multiple of the capacity
	trace     string  // file; "" = none
	traceSpec traceSpec
	router    helix.RouterConfig
	policy    string
	addr      string // "" = no server
	exit      bool
	compare   bool
	json      bool // with compare
	verbose   bool
}

// usageError is a command line that cannot be used.
type usageError struct{ error }

// badFlag says which flag cannot have which value and what it may have.
func badFlag(name string, value any, must string, args ...any) error {
	return usageError{fmt.Errorf("-%s is %v: must be %s", name, value, fmt.Sprintf(must, args...))}
}

// maxAtOnce bounds the jobs that arrive in the same instant: each is a
// goroutine.
const maxAtOnce = 100_000

// defaultJobs is the size of the burst without -load and -trace.
const defaultJobs = 200

const usageText = `Simulator sends a seeded workload through a HelixRouter and shows how it decides.

Usage:

  go run ./examples/simulator [flags]

Examples:

  simulator                                 200 mixed jobs at once; serves http://127.0.0.1:8080/ until Ctrl-C
  simulator -jobs 200 -seed 7 -exit         the same, and stops after the summary
  simulator -load 2 -duration 30s           twice what this machine can do, for 30 s
  simulator -rate 2000 -bursts -duration 1m 0.6 x 2000 jobs a second, in the last 200 ms of each second 8 x
  simulator -compare                        the same jobs with and without a router, at twice the capacity
  simulator -trace FILE -speed 60           the requests of a CSV file, a minute's in each second

The Azure LLM inference traces (AzurePublicDataset) work as they are. Other CSV files need -trace-time and
-trace-cost. Times may be like 2023-11-16 18:17:03.97, RFC 3339 or a number of seconds.

Exit codes: 0 all jobs are accounted for; 1 they are not, or the address cannot be used; 2 a flag or the trace
cannot be used.

Flags:

`

// parseFlags reads the command line. It returns flag.ErrHelp after it has
// written the help to out.
func parseFlags(args []string, out io.Writer) (*options, error) {
	o := &options{router: helix.DefaultConfig()}
	o.traceSpec.cost = columns{{"ContextTokens", 1}, {"GeneratedTokens", 20}}
	fs := flag.NewFlagSet("simulator", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	jobs := fs.Int("jobs", defaultJobs, "stop after `N` jobs; with -duration or -trace there is no such limit unless it is given")
	fs.Uint64Var(&o.arrivals.seed, "seed", 7, "`number` that arrivals, inputs and budgets follow from")
	fs.Float64Var(&o.arrivals.rate, "rate", 0, "`jobs` a second, as a Poisson process; 0: all at once")
	fs.Float64Var(&o.load, "load", 0, "like -rate, as a `multiple` of what this machine can do, which is measured first")
	fs.BoolVar(&o.arrivals.bursts, "bursts", false, "with -rate or -load: 0.6 times as much, in the last 200 ms of each second 8 times")
	duration := fs.Duration("duration", 0, "with -rate, -load or -trace: no arrivals after that `time`; 0: no such limit")
	fs.StringVar(&o.trace, "trace", "", "replay the arrivals of this CSV `file`, with Monte Carlo work in proportion to each request's cost")
	fs.Float64Var(&o.traceSpec.speed, "speed", 60, "with -trace: replay so many `times` as fast")
	fs.StringVar(&o.traceSpec.time, "trace-time", "TIMESTAMP", "with -trace: `name` of the column with the time of arrival")
	fs.Var(&o.traceSpec.cost, "trace-cost", "with -trace: `columns` that make up a request's cost, with their weights")
	fs.DurationVar(&o.traceSpec.budget, "trace-budget", 200*time.Millisecond, "with -trace: latency budget of every request, a `time`; 0: none")
	fs.StringVar(&o.policy, "policy", policyName(o.router), "`name` of the routing policy: "+strings.Join(policyNames(), ", "))
	fs.StringVar(&o.addr, "addr", "127.0.0.1:8080", "`address` to serve page, JSON and metrics on; port 0: any free one; off: do not serve")
	fs.BoolVar(&o.exit, "exit", false, "stop when all jobs have ended, rather than serve until Ctrl-C")
	fs.BoolVar(&o.compare, "compare", false, "run the same jobs through a goroutine each, a FIFO pool, the threshold policy and the adaptive policy, print one table and stop; -load 2 -duration 3s unless arrivals are given")
	fs.BoolVar(&o.json, "json", false, "with -compare: print JSON")
	fs.BoolVar(&o.verbose, "v", false, "log every decision to standard error")

	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(out, usageText)
			fs.SetOutput(out)
			fs.PrintDefaults()
			return nil, err
		}
		return nil, usageError{flagError(err)}
	}
	if fs.NArg() > 0 {
		return nil, usageError{fmt.Errorf("unexpected argument %q: flags only; -h lists them", fs.Arg(0))}
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if o.compare && !given["rate"] && !given["load"] && !given["trace"] && !given["jobs"] && !given["bursts"] {
		o.load, given["load"] = compareLoad, true
		if !given["duration"] {
			*duration = compareTime
		}
	}
	if *jobs < 1 {
		return nil, badFlag("jobs", *jobs, "at least 1")
	}
	o.arrivals.jobs, o.arrivals.duration = *jobs, *duration
	if !given["jobs"] && (*duration > 0 || o.trace != "") {
		o.arrivals.jobs = 0
	}
	o.traceSpec.jobs, o.traceSpec.duration = o.arrivals.jobs, *duration
	return o, o.validate(given)
}

// flagError makes package flag's messages fit ours.
func flagError(err error) error {
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: "); ok {
		return fmt.Errorf("unknown flag %s: -h lists those there are", name)
	}
	return err // names flag and value
}

// validate reports the first option that cannot be used.
func (o *options) validate(given map[string]bool) error {
	if err := o.validateArrivals(given); err != nil {
		return err
	}
	if err := o.validateTrace(given); err != nil {
		return err
	}
	switch {
	case o.json && !o.compare:
		return usageError{errors.New("-json needs -compare")}
	case o.compare && given["policy"]:
		return usageError{errors.New("-compare and -policy exclude each other: it tries both")}
	}
	// The names of the policies are the library's business.
	config, err := json.Marshal(map[string]string{"policy": o.policy})
	if err == nil {
		err = json.Unmarshal(config, &o.router)
	}
	if err != nil {
		return badFlag("policy", strconv.Quote(o.policy), "one of %s", strings.Join(policyNames(), ", "))
	}
	if o.addr == "off" {
		o.addr = ""
	}
	return validAddr(o.addr)
}

func (o *options) validateArrivals(given map[string]bool) error {
	a := &o.arrivals
	switch {
	case !(a.rate >= 0 && a.rate <= 1e7): // also true for NaN
		return badFlag("rate", a.rate, "from 0 to 1e7 jobs a second")
	case given["load"] && !(o.load > 0 && o.load <= 1000):
		return badFlag("load", o.load, "above 0, at most 1000")
	case a.duration < 0 || a.duration > maxSpan:
		return badFlag("duration", a.duration, "from 0 to %v", maxSpan)
	}
	paced := ""
	for _, name := range []string{"rate", "load", "trace"} {
		if !given[name] || name == "rate" && a.rate == 0 {
			continue
		}
		if paced != "" {
			return usageError{fmt.Errorf("-%s and -%s exclude each other", paced, name)}
		}
		paced = name
	}
	switch {
	case a.bursts && (paced == "" || paced == "trace"):
		return usageError{errors.New("-bursts needs -rate or -load")}
	case a.duration > 0 && paced == "":
		return usageError{errors.New("-duration needs -rate, -load or -trace: else all jobs arrive at once")}
	case paced == "" && a.jobs > maxAtOnce:
		return badFlag("jobs", a.jobs, "at most %d where all arrive at once: spread them out with -rate or -load", maxAtOnce)
	}
	return nil
}

func (o *options) validateTrace(given map[string]bool) error {
	t := &o.traceSpec
	for _, name := range []string{"speed", "trace-time", "trace-cost", "trace-budget"} {
		if given[name] && o.trace == "" {
			return usageError{fmt.Errorf("-%s needs -trace", name)}
		}
	}
	switch {
	case given["trace"] && o.trace == "":
		return badFlag("trace", `""`, "the name of a CSV file")
	case !(t.speed >= 1e-3 && t.speed <= 1e9):
		return badFlag("speed", t.speed, "from 0.001 to 1e9")
	case t.time == "":
		return badFlag("trace-time", `""`, "the name of a column")
	case t.budget < 0:
		return badFlag("trace-budget", t.budget, "at least 0")
	}
	return nil
}

// policyNames lists the policies that can be chosen by name: of those there
// could be, those the library has.
func policyNames() []string {
	return slices.DeleteFunc([]string{"threshold", "adaptive"}, func(name string) bool {
		var c helix.RouterConfig
		return json.Unmarshal(fmt.Appendf(nil, `{"policy":%q}`, name), &c) != nil
	})
}

// policyName returns the name of a configuration's policy.
func policyName(c helix.RouterConfig) string {
	var named struct {
		Policy string `json:"policy"`
	}
	text, err := json.Marshal(c)
	if err == nil {
		err = json.Unmarshal(text, &named)
	}
	if err != nil {
		panic(err) // the library writes its configuration as it documents
	}
	return named.Policy
}

// validAddr reports an address that is not host:port.
func validAddr(addr string) error {
	if addr == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return badFlag("addr", strconv.Quote(addr), "host:port, like 127.0.0.1:8080, or off")
	}
	return nil
}
