// Downstream measures ways to limit calls to a downstream at its capacity: which calls end
// within their budgets, counted from their scheduled times. The downstream is simulated on the
// real clock; real goroutines make the calls.
//
//	go run ./downstream -quick
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// together bounds the total calls a second of contenders that are measured at the same time:
// with more they would disturb one another.
const together = 80_000

// disturbed is a lag beyond which something else must have used the machine.
const disturbed = 5 * time.Millisecond

func main() {
	if err := runAll(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "downstream:", err)
		os.Exit(1)
	}
}

func runAll(args []string) error {
	flags := flag.NewFlagSet("downstream", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "a few scenes: under a minute")
	which := flags.String("downstreams", "fixed,exponential,shared,bimodal", "which downstreams")
	budgets := flags.String("budgets", "50ms,500ms,0", "budgets of the calls; 0 = none")
	loads := flags.String("loads", "0.8,1.5,5", "calls that come, as multiples of what the downstream can do")
	what := flags.String("changes", "none,capacity,slower,hang", "what becomes of an exponential downstream, at 1.5 times; and none")
	only := flags.String("only", strings.Join(order, ","), "which contenders")
	lasts := flags.Duration("for", 2*time.Second, "for how long calls count, after two seconds")
	retries := flags.Int("retries", 0, "how often to measure again what something else on the machine disturbed")
	seed := flags.Uint64("seed", 1, "of the calls drawn")
	if err := flags.Parse(args); err != nil {
		return err
	}
	names, err := list("only", *only, order)
	if err != nil {
		return err
	}
	if *lasts <= 0 {
		return fmt.Errorf("-for is %v: must be more than 0", *lasts)
	}
	var scenes []*scene
	if *quick {
		scenes = quickScenes(*seed)
	} else if scenes, err = allScenes(*which, *budgets, *loads, *what, *lasts, *seed); err != nil {
		return err
	}
	fmt.Printf("%d servers; in budget as %% of the bound / late, %% of those admitted / refused, %% of those offered\n", servers)
	fmt.Printf("%-12s%6s%6s %-9s", "downstream", "budget", "load", "change")
	for _, name := range names {
		fmt.Printf("%15s", name)
	}
	fmt.Printf("%9s\n", "lag p99")
	for _, s := range scenes {
		if err := row(s, names, *retries); err != nil {
			return err
		}
	}
	return nil
}

// row measures a scene and prints it.
func row(s *scene, names []string, retries int) error {
	budget := "none"
	if s.budget > 0 {
		budget = s.budget.String()
	}
	fmt.Printf("%-12s%6s%6s %-9s", s.name, budget, fmt.Sprintf("%gx", s.load), s.what)
	var worst time.Duration
	size := max(int(together/(s.load*servers/s.mean.Seconds())), 1)
	for group := range slices.Chunk(names, size) {
		results, lag, err := run(s, group)
		for try := 0; err == nil && lag > disturbed && try < retries; try++ {
			results, lag, err = run(s, group)
		}
		if err != nil {
			return err
		}
		for _, r := range results {
			fmt.Printf("%15s", r)
		}
		worst = max(worst, lag)
	}
	fmt.Printf("%9s\n", worst.Round(10*time.Microsecond))
	return nil
}

// quickScenes are a representative few.
func quickScenes(seed uint64) []*scene {
	const lasts = 1500 * time.Millisecond
	fixed, random, shared, bimodal := downstreams[0], downstreams[1], downstreams[2], downstreams[3]
	return []*scene{
		newScene(random, 0.8, 50*time.Millisecond, "", lasts, seed),
		newScene(random, 1.5, 50*time.Millisecond, "", lasts, seed),
		newScene(random, 1.5, 50*time.Millisecond, "capacity", lasts, seed),
		newScene(random, 1.5, 500*time.Millisecond, "hang", lasts, seed),
		newScene(fixed, 3, 500*time.Millisecond, "", lasts, seed),
		newScene(shared, 1.5, 50*time.Millisecond, "", lasts, seed),
		newScene(shared, 1.5, 0, "", lasts, seed),
		newScene(bimodal, 1.5, 50*time.Millisecond, "", lasts, seed),
		newScene(bimodal, 1.5, 500*time.Millisecond, "", lasts, seed),
	}
}

// allScenes are all combinations of the flags.
func allScenes(which, budgets, loads, what string, lasts time.Duration, seed uint64) ([]*scene, error) {
	var names, kinds []string
	for _, d := range downstreams {
		names = append(names, d.name)
	}
	for kind := range changes {
		if kind != "" {
			kinds = append(kinds, kind)
		}
	}
	chosen, err := list("downstreams", which, names)
	if err != nil {
		return nil, err
	}
	altered, err := list("changes", what, append(kinds, "none"))
	if err != nil {
		return nil, err
	}
	var times []time.Duration
	for text := range strings.SplitSeq(budgets, ",") {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return nil, fmt.Errorf("-budgets has %q: must be durations", text)
		}
		times = append(times, d)
	}
	var factors []float64
	for text := range strings.SplitSeq(loads, ",") {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || !(f > 0 && f <= 100) {
			return nil, fmt.Errorf("-loads has %q: must be numbers from 0 to 100", text)
		}
		factors = append(factors, f)
	}
	var scenes []*scene
	for _, kind := range altered {
		if kind == "none" {
			kind = ""
		}
		for _, d := range downstreams {
			if !slices.Contains(chosen, d.name) || kind != "" && d.name != "exponential" {
				continue
			}
			for _, budget := range times {
				if kind != "" {
					scenes = append(scenes, newScene(d, 1.5, budget, kind, lasts, seed))
					continue
				}
				for _, load := range factors {
					scenes = append(scenes, newScene(d, load, budget, "", lasts, seed))
				}
			}
		}
	}
	return scenes, nil
}

// list splits text into words that are all known.
func list(flag, text string, known []string) ([]string, error) {
	words := strings.Split(text, ",")
	for _, w := range words {
		if !slices.Contains(known, w) {
			return nil, fmt.Errorf("-%s has %q: must be of %s", flag, w, strings.Join(known, ", "))
		}
	}
	return words, nil
}
