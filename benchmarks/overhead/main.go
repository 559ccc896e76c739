// Command overhead measures what it costs to have a job run for you: an empty
// job, one item of a batch, one record of a latency, one decision, by helix and
// by what it replaces, side by side.
//
//	go run ./overhead
//
// An operation is called through a function value, alike for all. Figures are
// medians of the rounds; every round measures every contender.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "overhead:", err)
		os.Exit(1)
	}
}

func run(args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("overhead", flag.ExitOnError)
	benchtime := flags.Duration("benchtime", 250*time.Millisecond, "how long one measurement takes, about")
	count := flags.Int("count", 3, "rounds; figures are the medians")
	only := flags.String("only", "", "a `regexp` of group/name, such as 'submit/helix' or 'batch'")
	asJSON := flags.Bool("json", false, "print JSON")
	asMarkdown := flags.Bool("markdown", false, "print Markdown tables")
	if err := flags.Parse(args); err != nil {
		return err
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	if *count < 1 || *benchtime <= 0 {
		return fmt.Errorf("-count %d and -benchtime %v must be above 0", *count, *benchtime)
	}
	chosen := slices.DeleteFunc(contenders(), func(c contender) bool { return !pattern.MatchString(c.group + "/" + c.name) })
	if len(chosen) == 0 {
		return fmt.Errorf("-only %s matches nothing", *only)
	}
	testing.Init() // the flags of testing.Benchmark
	if err := flag.Set("test.benchtime", benchtime.String()); err != nil {
		return err
	}
	table := rows(measure(chosen, *count, progress))
	switch {
	case *asJSON:
		return writeJSON(out, table)
	case *asMarkdown:
		return writeMarkdown(out, table)
	}
	return writeText(out, table)
}
