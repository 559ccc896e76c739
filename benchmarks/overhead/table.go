package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// row is a line of the table, and of the JSON.
type row struct {
	Group      string   `json:"group"`
	Name       string   `json:"name"`
	Note       string   `json:"note,omitempty"`
	One        float64  `json:"one_ns"`
	Many       float64  `json:"many_ns"`
	Bytes      float64  `json:"bytes_per_op"`
	Allocs     float64  `json:"allocs_per_op"`
	ManyAllocs float64  `json:"many_allocs_per_op"`
	NotRun     float64  `json:"not_run_percent"` // the worse of one and many
	OneRatio   *float64 `json:"one_ratio,omitempty"`
	ManyRatio  *float64 `json:"many_ratio,omitempty"`
	P99Error   *float64 `json:"p99_error,omitempty"`
}

// heading says what "many" means in a group and what its ratios are to; no
// base is no ratio.
type heading struct{ group, title, one, many, base string }

var headings = []heading{
	{submitGroup, "Submit and wait for an empty job", "1 caller ns", "8 a P ns", "go+chan"},
	{batchGroup, "One item through a batcher", "lone caller ns", "64 callers ns", "direct call"},
	{workGroup, "The same, each call working for about 10 µs", "lone caller ns", "64 callers ns", "direct call"},
	{histogramGroup, "Record a latency", "1 caller ns", "8 a P ns", "client_golang classic"},
	{chooseGroup, "Choose a strategy", "1 caller ns", "8 a P ns", ""},
}

// rows works the table out. The ratios are to the base of the group.
func rows(samples []sample) []row {
	bases := map[string]row{}
	var rs []row
	for _, s := range samples {
		r := row{
			Group: s.group, Name: s.name, Note: s.note,
			One: median(s.one, nanoseconds), Many: median(s.many, nanoseconds),
			Bytes: median(s.one, bytesPerOp), Allocs: median(s.one, allocs), ManyAllocs: median(s.many, allocs),
			NotRun: max(median(s.one, notRun), median(s.many, notRun)),
		}
		if s.errorOf != nil {
			e := s.errorOf()
			r.P99Error = &e
		}
		bases[r.Group+"/"+r.Name] = r
		rs = append(rs, r)
	}
	for i := range rs {
		for _, h := range headings {
			base, ok := bases[h.group+"/"+h.base]
			if h.group != rs[i].Group || !ok {
				continue
			}
			one, many := rs[i].One/base.One, rs[i].Many/base.Many
			rs[i].OneRatio, rs[i].ManyRatio = &one, &many
		}
	}
	return rs
}

// cells returns the titles and the cells of a group, the first column to the left.
func (h heading) cells(rs []row) [][]string {
	titles := []string{h.title, h.one, h.many, "B/op", "allocs/op", "allocs, many", "not run %"}
	if h.base != "" {
		titles = append(titles, "× "+h.base, "×, many")
	}
	if h.group == histogramGroup {
		titles = append(titles, "p99 error %")
	}
	lines := [][]string{append(titles, "")}
	for _, r := range rs {
		if r.Group != h.group {
			continue
		}
		line := []string{r.Name, number(r.One), number(r.Many), number(r.Bytes), number(r.Allocs), number(r.ManyAllocs), number(r.NotRun)}
		if h.base != "" {
			line = append(line, optional(r.OneRatio, 1), optional(r.ManyRatio, 1))
		}
		if h.group == histogramGroup {
			line = append(line, optional(r.P99Error, 100))
		}
		lines = append(lines, append(line, r.Note))
	}
	if len(lines) == 1 {
		return nil
	}
	return lines
}

// number has three digits or more that count.
func number(v float64) string {
	switch {
	case v == 0 || v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func optional(v *float64, unit float64) string {
	if v == nil {
		return ""
	}
	return number(*v * unit)
}

// writeText aligns the columns, numbers to the right.
func writeText(w io.Writer, rs []row) error {
	for _, h := range headings {
		lines := h.cells(rs)
		left := 0
		for _, line := range lines {
			left = max(left, len([]rune(line[0])))
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		for _, line := range lines {
			last := len(line) - 1
			_, _ = fmt.Fprintf(t, "%-*s\t%s\t  %s\n", left, line[0], strings.Join(line[1:last], "\t"), line[last])
		}
		if len(lines) > 0 {
			_, _ = fmt.Fprintln(t)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// writeMarkdown writes a table for each group.
func writeMarkdown(w io.Writer, rs []row) error {
	for _, h := range headings {
		for i, line := range h.cells(rs) {
			if i == 0 {
				_, _ = fmt.Fprintln(w)
			}
			if _, err := fmt.Fprintf(w, "| %s |\n", strings.Join(line, " | ")); err != nil {
				return err
			}
			if i == 0 {
				_, _ = fmt.Fprintf(w, "|---|%s---|\n", strings.Repeat("---:|", len(line)-2))
			}
		}
	}
	return nil
}

func writeJSON(w io.Writer, rs []row) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(rs)
}
