package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tracePaths is how many Monte Carlo paths one unit of a request's cost is
// worth. With the default weights an hour of the Azure code trace, replayed 60
// times as fast, is then about half of what two cores can do.
const tracePaths = 20

// maxTraceUnits is the largest cost of one request: seconds of CPU.
const maxTraceUnits = 1_000_000

// column is one column of a trace that adds to a request's cost.
type column struct {
	name   string
	weight float64
}

// columns is a flag.Value: "ContextTokens=1,GeneratedTokens=20".
type columns []column

func (c *columns) String() string {
	var parts []string
	for _, col := range *c {
		parts = append(parts, fmt.Sprintf("%s=%g", col.name, col.weight))
	}
	return strings.Join(parts, ",")
}

// Set reads what String writes; "=weight" may be left out and is 1 then.
func (c *columns) Set(text string) error {
	var cols columns
	for part := range strings.SplitSeq(text, ",") {
		name, number, given := strings.Cut(part, "=")
		col := column{strings.TrimSpace(name), 1}
		if given {
			var err error
			if col.weight, err = strconv.ParseFloat(strings.TrimSpace(number), 64); err != nil {
				return fmt.Errorf("weight %q is not a number", number)
			}
		}
		switch {
		case col.name == "":
			return errors.New("a column has no name: must be like ContextTokens=1,GeneratedTokens=20")
		case !(col.weight > 0 && col.weight <= 1e9): // also false for NaN
			return fmt.Errorf("weight of %s is %v: must be above 0, at most 1e9", col.name, col.weight)
		case slices.ContainsFunc(cols, func(o column) bool { return o.name == col.name }):
			return fmt.Errorf("column %s is there twice", col.name)
		}
		cols = append(cols, col)
	}
	*c = cols
	return nil
}

// traceSpec says how to read a trace and how to replay it.
type traceSpec struct {
	time     string        // name of the column with the time of arrival
	cost     columns       // what a request's cost is made of
	budget   time.Duration // of every request; 0 = none
	speed    float64       // times as fast as it was
	jobs     int           // stop after that many; 0 = maxJobs
	duration time.Duration // of the replay; 0 = all
}

// loadTrace reads a trace file. Its errors name the file and the line.
func loadTrace(path string, spec traceSpec) ([]job, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err // names the file
	}
	defer f.Close()
	return readTrace(f, path, spec)
}

// readTrace makes jobs of a CSV file with a header line and one request on each
// line after it, in order of time: Monte Carlo simulations with paths in
// proportion to the request's cost.
func readTrace(r io.Reader, name string, spec traceSpec) ([]job, error) {
	t := traceReader{csv: csv.NewReader(r), name: name, spec: spec}
	t.csv.ReuseRecord = true
	if err := t.header(); err != nil {
		return nil, err
	}
	most := spec.jobs
	if most == 0 {
		most = maxJobs
	}
	var jobs []job
	for {
		j, err := t.next()
		switch {
		case err == io.EOF && len(jobs) == 0:
			return nil, t.fail("no requests after the header line")
		case err == io.EOF:
			return jobs, nil
		case err != nil:
			return nil, err
		case spec.duration > 0 && j.at > spec.duration && len(jobs) > 0:
			return jobs, nil
		case len(jobs) == most && spec.jobs > 0:
			return jobs, nil
		case len(jobs) == most:
			return nil, t.fail("more than %d requests: choose how many with -jobs", maxJobs)
		}
		j.seed = mix64(uint64(len(jobs)))
		jobs = append(jobs, j)
	}
}

// traceReader reads a trace line by line.
type traceReader struct {
	csv  *csv.Reader
	name string
	spec traceSpec

	timeAt int   // field of the time
	costAt []int // fields of spec.cost
	line   int   // of the latest record

	any    bool   // a time has been read, so that what follows is set
	format string // of all times, as found in the first; "" = seconds
	first  instant
	last   instant
}

// fail says what is wrong with the line read last.
func (t *traceReader) fail(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", t.name, max(t.line, 1), fmt.Sprintf(format, args...))
}

// record reads the next line's fields.
func (t *traceReader) record() ([]string, error) {
	fields, err := t.csv.Read()
	if parse := (*csv.ParseError)(nil); errors.As(err, &parse) {
		t.line = parse.Line
		if errors.Is(err, csv.ErrFieldCount) {
			return nil, t.fail("%d fields, but the header line has %d", len(fields), t.csv.FieldsPerRecord)
		}
		return nil, t.fail("%v", parse.Err)
	}
	if err == io.EOF {
		return nil, err
	}
	if err != nil {
		return nil, t.fail("%v", err)
	}
	t.line, _ = t.csv.FieldPos(0)
	return fields, nil
}

// header finds the columns.
func (t *traceReader) header() error {
	fields, err := t.record()
	if err == io.EOF {
		return t.fail("empty: must start with a header line")
	}
	if err != nil {
		return err
	}
	names := slices.Clone(fields)
	names[0] = strings.TrimPrefix(names[0], "\uFEFF") // byte order mark
	for i, name := range names {
		names[i] = strings.TrimSpace(name)
	}
	find := func(name, flag string) (int, error) {
		i := slices.Index(names, name)
		if i < 0 {
			return 0, t.fail("no column %q, only %q: choose with %s", name, names, flag)
		}
		if slices.Contains(names[i+1:], name) {
			return 0, t.fail("two columns are named %q", name)
		}
		return i, nil
	}
	if t.timeAt, err = find(t.spec.time, "-trace-time"); err != nil {
		return err
	}
	for _, c := range t.spec.cost {
		i, err := find(c.name, "-trace-cost")
		if err != nil {
			return err
		}
		t.costAt = append(t.costAt, i)
	}
	return nil
}

// next reads one request; io.EOF after the last.
func (t *traceReader) next() (job, error) {
	fields, err := t.record()
	if err != nil {
		return job{}, err
	}
	at, err := t.arrival(strings.TrimSpace(fields[t.timeAt]))
	if err != nil {
		return job{}, err
	}
	units := 0.0
	for i, c := range t.spec.cost {
		text := strings.TrimSpace(fields[t.costAt[i]])
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || !(v >= 0) { // also false for NaN
			return job{}, t.fail("%s is %q: must be a number of at least 0", c.name, text)
		}
		units += c.weight * v
	}
	if !(units <= maxTraceUnits) {
		return job{}, t.fail("cost is %g: must be at most %d", units, maxTraceUnits)
	}
	return job{
		at: at, budget: t.spec.budget, kernel: riskKernel,
		size: int32(max(1, math.Round(units*tracePaths))),
	}, nil
}

// instant is a point in time: seconds since any epoch, and nanoseconds.
type instant struct{ sec, nsec int64 }

// until is the time from i to later, in seconds.
func (i instant) until(later instant) float64 {
	return float64(later.sec-i.sec) + float64(later.nsec-i.nsec)/1e9
}

// arrival turns a time into the scheduled arrival in the replay.
func (t *traceReader) arrival(text string) (time.Duration, error) {
	if !t.any {
		t.format = timeFormat(text)
	}
	now, ok := parseInstant(text, t.format)
	if !ok {
		like := t.format
		if like == "" {
			like = "a number of seconds"
		}
		return 0, t.fail("time is %q: must be like %s", text, like)
	}
	if !t.any {
		t.any, t.first, t.last = true, now, now
	}
	if step := t.last.until(now); step < 0 {
		return 0, t.fail("time is %q: %gs before the line above it, but a trace must be in order of time", text, -step)
	}
	t.last = now
	seconds := t.first.until(now) / t.spec.speed
	if seconds > maxSpan.Seconds() {
		return 0, t.fail("time is %q: the replay would last longer than %v at -speed %g", text, maxSpan, t.spec.speed)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// The forms that times may have, besides plain seconds. A fraction of any
// length may follow the seconds of all of them.
var timeFormats = []string{time.DateTime, "2006-01-02 15:04:05Z07:00", time.RFC3339, "2006-01-02T15:04:05"}

// timeFormat guesses a time's form; what is in none of them is taken for
// the first unless it is a number.
func timeFormat(text string) string {
	for _, format := range timeFormats {
		if _, ok := parseInstant(text, format); ok {
			return format
		}
	}
	if _, ok := parseInstant(text, ""); ok {
		return ""
	}
	return timeFormats[0]
}

// parseInstant reads a time in that form; "" means seconds.
func parseInstant(text, format string) (instant, bool) {
	if format != "" {
		at, err := time.Parse(format, text)
		return instant{at.Unix(), int64(at.Nanosecond())}, err == nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(math.Abs(v) <= 1e12) {
		return instant{}, false
	}
	whole := math.Floor(v)
	return instant{int64(whole), int64((v - whole) * 1e9)}, true
}
