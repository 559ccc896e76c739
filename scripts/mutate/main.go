// Mutate shows that the tests notice faults: it changes one place of the code at a time, as
// mutants.txt says, and expects the tests named there to fail.
//
//	go run ./scripts/mutate               all mutants
//	go run ./scripts/mutate -part 1/8     every eighth, from the first on
//	go run ./scripts/mutate -run budget   those whose title matches
//
// It fails if a mutant survives, does not compile or does not apply any more, or if the named
// tests fail without it. The tree is not touched: the compiler is given the changed file as an
// overlay.
package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

//go:embed mutants.txt
var list string

// mutant is one change of one file, and the tests of its package that notice it.
type mutant struct {
	title, file, tests string
	old, new           string
}

func main() {
	part := flag.String("part", "1/1", "`i/n`: the i-th, and then every n-th mutant")
	run := flag.String("run", "", "only mutants whose title matches the `regexp`")
	timeout := flag.Duration("timeout", time.Minute, "how long the tests of a mutant may take; one that hangs is noticed")
	verbose := flag.Bool("v", false, "show what the tests print")
	flag.Parse()
	if err := mutate(*part, *run, *timeout, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func mutate(part, run string, timeout time.Duration, verbose bool) error {
	mutants, err := parse(list)
	if err != nil {
		return err
	}
	chosen, err := choose(mutants, part, run)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	l := &lab{scratch: scratch, timeout: timeout, verbose: verbose, whole: map[string]string{}, sound: map[string]error{}}
	var faults []error
	for _, m := range mutants { // all, however few are run: it costs nothing
		if _, err := m.apply(); err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	for i, m := range chosen {
		begin := time.Now()
		how, err := l.try(&m)
		if err != nil {
			how = "FAULT"
			faults = append(faults, fmt.Errorf("%q: %w", m.title, err))
		}
		fmt.Printf("%2d/%d %-9s %5.1fs  %s\n", i+1, len(chosen), how, time.Since(begin).Seconds(), m.title)
	}
	if len(faults) == 0 {
		fmt.Printf("%d mutants of %d tried, all caught\n", len(chosen), len(mutants))
	}
	return errors.Join(faults...)
}

// parse reads the list: for each mutant a line "== title", a line "file tests", and then the old
// text in lines that begin with "- " and the new in lines that begin with "+ ".
func parse(text string) (mutants []mutant, err error) {
	lines := bufio.NewScanner(strings.NewReader(text))
	var m *mutant
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case strings.HasPrefix(line, "== "):
			mutants = append(mutants, mutant{title: line[3:]})
			m = &mutants[len(mutants)-1]
		case m == nil:
			return nil, fmt.Errorf("mutants.txt:%d: %q is before the first title", n, line)
		case m.file == "":
			var found bool
			if m.file, m.tests, found = strings.Cut(line, " "); !found {
				return nil, fmt.Errorf("mutants.txt:%d: %q is not a file and its tests", n, line)
			}
		case strings.HasPrefix(line, "- "):
			m.old += line[2:] + "\n"
		case strings.HasPrefix(line, "+ ") || line == "+":
			m.new += strings.TrimPrefix(line[1:], " ") + "\n"
		default:
			return nil, fmt.Errorf("mutants.txt:%d: %q is no line of a mutant", n, line)
		}
	}
	for i := range mutants {
		m := &mutants[i]
		m.old, m.new = strings.TrimSuffix(m.old, "\n"), strings.TrimSuffix(m.new, "\n")
		if m.old == "" || m.old == m.new {
			return nil, fmt.Errorf("%q changes nothing", m.title)
		}
	}
	return mutants, lines.Err()
}

// choose returns the mutants of a part with a matching title.
func choose(mutants []mutant, part, run string) (chosen []mutant, err error) {
	title, err := regexp.Compile(run)
	if err != nil {
		return nil, err
	}
	a, b, _ := strings.Cut(part, "/")
	first, err1 := strconv.Atoi(a)
	every, err2 := strconv.Atoi(b)
	if err := errors.Join(err1, err2); err != nil || first < 1 || first > every {
		return nil, fmt.Errorf("-part is %q, want i/n with 1 <= i <= n", part)
	}
	for i, m := range mutants {
		if i%every == first-1 && title.MatchString(m.title) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no mutant of %d is chosen", len(mutants))
	}
	return chosen, nil
}

// apply returns the text of the changed file.
func (m *mutant) apply() (string, error) {
	text, err := os.ReadFile(m.file)
	if err != nil {
		return "", fmt.Errorf("%q: %w", m.title, err)
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		return "", fmt.Errorf("%q does not apply: %s has its old text %d times, want once", m.title, m.file, n)
	}
	return strings.Replace(string(text), m.old, m.new, 1), nil
}

func (m *mutant) dir() string { return filepath.Dir(m.file) }

// lab tries mutants.
type lab struct {
	scratch string
	timeout time.Duration
	verbose bool
	whole   map[string]string // test binaries of the code as it is, by folder
	sound   map[string]error  // what tests say of that, by folder and tests
}

// try tells how the tests notice the mutant.
func (l *lab) try(m *mutant) (how string, err error) {
	if err := l.check(m); err != nil {
		return "", err
	}
	text, err := m.apply()
	if err != nil {
		return "", err
	}
	changed, overlay := filepath.Join(l.scratch, "mutant.go"), filepath.Join(l.scratch, "overlay.json")
	file, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {file: changed}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(changed, []byte(text), 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		return "", err
	}
	binary := filepath.Join(l.scratch, "mutant.test")
	if err := build(m.dir(), binary, "-overlay", overlay); err != nil {
		return "", err
	}
	switch out, err := l.run(binary, m); {
	case errors.Is(err, errFailed):
		if bytes.Contains(out, []byte("panic: test timed out")) {
			return "hangs", nil
		}
		return "caught", nil
	case err != nil:
		return "", err
	}
	return "", fmt.Errorf("survives %s", m.tests)
}

// check reports whether the tests of m pass without it.
func (l *lab) check(m *mutant) error {
	binary, built := l.whole[m.dir()]
	if !built {
		binary = filepath.Join(l.scratch, strconv.Itoa(len(l.whole))+".test")
		if err := build(m.dir(), binary); err != nil {
			return err
		}
		l.whole[m.dir()] = binary
	}
	key := m.dir() + " " + m.tests
	err, known := l.sound[key]
	if !known {
		var out []byte
		if out, err = l.run(binary, m); err != nil {
			err = fmt.Errorf("%s without any mutant: %w\n%s", m.tests, err, out)
		} else if !bytes.Contains(out, []byte("--- PASS")) {
			err = fmt.Errorf("%s names no test that runs", m.tests)
		}
		l.sound[key] = err
	}
	return err
}

func build(dir, binary string, flags ...string) error {
	args := append([]string{"test", "-c", "-ldflags=-s -w", "-o", binary}, flags...)
	if out, err := exec.Command("go", append(args, "./"+dir)...).CombinedOutput(); err != nil {
		return fmt.Errorf("does not compile: %w\n%s", err, out)
	}
	return nil
}

var errFailed = errors.New("the tests fail")

// run runs the tests of m and returns what they print.
func (l *lab) run(binary string, m *mutant) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout+10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.v", "-test.failfast", "-test.run", m.tests, "-test.timeout", l.timeout.String())
	cmd.Dir = m.dir()
	out, err := cmd.CombinedOutput()
	if l.verbose {
		os.Stdout.Write(out)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = errFailed
	}
	return out, err
}
