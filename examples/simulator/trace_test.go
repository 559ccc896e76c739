package main

import (
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
)

// azure is how the Azure LLM inference trace is read by default.
var azure = traceSpec{
	time: "TIMESTAMP", cost: columns{{"ContextTokens", 1}, {"GeneratedTokens", 20}},
	budget: 200 * time.Millisecond, speed: 1,
}

const azureHeader = "TIMESTAMP,ContextTokens,GeneratedTokens\n"

func TestReadTrace(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	for name, c := range map[string]struct {
		text  string
		spec  func(*traceSpec)
		at    []time.Duration
		units []int
	}{
		"as published, no newline at the end": {
			text:  azureHeader + "2023-11-16 18:17:03.9799600,4808,10\r\n2023-11-16 18:17:04.0319600,3180,8",
			at:    []time.Duration{0, ms(52)},
			units: []int{4808 + 200, 3180 + 160},
		},
		"across midnight, same time twice, blank line": {
			text:  azureHeader + "2023-12-31 23:59:59.5,1,0\n2024-01-01 00:00:00,2,0\n\n2024-01-01 00:00:00,3,0\n",
			at:    []time.Duration{0, ms(500), ms(500)},
			units: []int{1, 2, 3},
		},
		"RFC 3339, other zones": {
			text:  azureHeader + "2023-11-16T18:00:00+01:00,1,0\n2023-11-16T17:00:01.25Z,2,0\n",
			at:    []time.Duration{0, ms(1250)},
			units: []int{1, 2},
		},
		"seconds, from zero": {
			text:  azureHeader + "0,1,0\n0.5,2,0\n1.5e0,3,0\n",
			at:    []time.Duration{0, ms(500), ms(1500)},
			units: []int{1, 2, 3},
		},
		"seconds, large and negative": {
			text:  azureHeader + "-1.5,1,0\n1699999999.25,2,0\n",
			spec:  func(s *traceSpec) { s.speed = 1e6 },
			at:    []time.Duration{0, 1_700_000_000_750 * time.Microsecond / 1000},
			units: []int{1, 2},
		},
		"sixty times as fast": {
			text:  azureHeader + "0,1,0\n60,2,0\n",
			spec:  func(s *traceSpec) { s.speed = 60 },
			at:    []time.Duration{0, ms(1000)},
			units: []int{1, 2},
		},
		"byte order mark, spaces": {
			text:  "\uFEFFwhen, size\n 1 , 7\n",
			spec:  func(s *traceSpec) { s.time, s.cost = "when", columns{{"size", 1}} },
			at:    []time.Duration{0},
			units: []int{7},
		},
		"columns in another order": {
			text:  "size,who,when\n7,\"a,b\",1\n8,c,1\n",
			spec:  func(s *traceSpec) { s.time, s.cost = "when", columns{{"size", 3}} },
			at:    []time.Duration{0, 0},
			units: []int{21, 24},
		},
		"no more than asked for": {
			text:  azureHeader + "0,1,0\n1,2,0\n2,3,0\n",
			spec:  func(s *traceSpec) { s.jobs = 2 },
			at:    []time.Duration{0, ms(1000)},
			units: []int{1, 2},
		},
		"no longer than asked for": {
			text:  azureHeader + "5,1,0\n6,2,0\n7,3,0\n",
			spec:  func(s *traceSpec) { s.duration = time.Second },
			at:    []time.Duration{0, ms(1000)},
			units: []int{1, 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec := azure
			if c.spec != nil {
				c.spec(&spec)
			}
			jobs, err := readTrace(strings.NewReader(c.text), "trace.csv", spec)
			require.NoError(t, err)
			require.Len(t, jobs, len(c.at))
			for i, j := range jobs {
				require.InDelta(t, c.at[i], j.at, 1e3, "arrival %d", i)
				require.Equal(t, int32(c.units[i]*tracePaths), j.size)
				require.Equal(t, spec.budget, j.budget)
				require.Equal(t, riskKernel, j.kernel)
			}
		})
	}
}

func TestReadTraceRefuses(t *testing.T) {
	const row = "2023-11-16 18:17:03.97,1,1\n"
	for name, c := range map[string]struct {
		text string
		want string
	}{
		"empty":                {"", "trace.csv:1: empty: must start with a header line"},
		"header only":          {azureHeader, "trace.csv:1: no requests after the header line"},
		"no header":            {row, `trace.csv:1: no column "TIMESTAMP", only ["2023-11-16 18:17:03.97" "1" "1"]: choose with -trace-time`},
		"missing time":         {"when,ContextTokens,GeneratedTokens\n", `trace.csv:1: no column "TIMESTAMP"`},
		"missing cost":         {"TIMESTAMP,ContextTokens\n", `trace.csv:1: no column "GeneratedTokens", only ["TIMESTAMP" "ContextTokens"]: choose with -trace-cost`},
		"column twice":         {"TIMESTAMP,ContextTokens,TIMESTAMP,GeneratedTokens\n", `trace.csv:1: two columns are named "TIMESTAMP"`},
		"fields missing":       {azureHeader + row + "2023-11-16 18:17:04,1\n", "trace.csv:3: 2 fields, but the header line has 3"},
		"fields too many":      {azureHeader + "2023-11-16 18:17:04,1,2,3\n", "trace.csv:2: 4 fields, but the header line has 3"},
		"cut off in a quote":   {azureHeader + row + "\"2023-11-16", "trace.csv:3: extraneous or missing"},
		"not a time":           {azureHeader + "yesterday,1,1\n", `trace.csv:2: time is "yesterday": must be like 2006-01-02 15:04:05`},
		"no time":              {azureHeader + ",1,1\n", `trace.csv:2: time is ""`},
		"no such day":          {azureHeader + row + "2023-11-31 18:17:03,1,1\n", `trace.csv:3: time is "2023-11-31 18:17:03"`},
		"time in other form":   {azureHeader + row + "1700158624,1,1\n", `trace.csv:3: time is "1700158624": must be like 2006-01-02 15:04:05`},
		"seconds, then not":    {azureHeader + "1,1,1\nNaN,1,1\n", `trace.csv:3: time is "NaN": must be like a number of seconds`},
		"endless time":         {azureHeader + "1,1,1\n1e11,1,1\n", `trace.csv:3: time is "1e11": the replay would last longer than 720h0m0s`},
		"not in order":         {azureHeader + "\n" + row + "2023-11-16 18:17:03.5,1,1\n", `trace.csv:4: time is "2023-11-16 18:17:03.5": 0.47s before the line above it`},
		"seconds not in order": {azureHeader + "0,1,1\n-1,1,1\n", `trace.csv:3: time is "-1": 1s before`},
		"negative tokens":      {azureHeader + row + "2023-11-16 18:17:04,-1,1\n", `trace.csv:3: ContextTokens is "-1": must be a number of at least 0`},
		"tokens are text":      {azureHeader + "2023-11-16 18:17:04,1,many\n", `trace.csv:2: GeneratedTokens is "many"`},
		"tokens are NaN":       {azureHeader + "2023-11-16 18:17:04,NaN,1\n", `trace.csv:2: ContextTokens is "NaN"`},
		"tokens are endless":   {azureHeader + "2023-11-16 18:17:04,Inf,1\n", "trace.csv:2: cost is +Inf: must be at most 1000000"},
		"tokens are huge":      {azureHeader + "2023-11-16 18:17:04,1e300,1\n", "trace.csv:2: cost is 1e+300: must be at most 1000000"},
		"tokens are no float":  {azureHeader + "2023-11-16 18:17:04,1e999,1\n", `trace.csv:2: ContextTokens is "1e999"`},
	} {
		t.Run(name, func(t *testing.T) {
			jobs, err := readTrace(strings.NewReader(c.text), "trace.csv", azure)
			require.ErrorContains(t, err, c.want)
			require.Nil(t, jobs)
		})
	}
}

func TestReadTraceTellsReadErrors(t *testing.T) {
	_, err := readTrace(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(azureHeader))), "trace.csv", azure)
	require.EqualError(t, err, "trace.csv:1: timeout")
}

func TestLargestRequest(t *testing.T) {
	jobs, err := readTrace(strings.NewReader(azureHeader+"0,1000000,0\n"), "trace.csv", azure)
	require.NoError(t, err)
	require.Equal(t, int32(maxTraceUnits*tracePaths), jobs[0].size)

	jobs, err = readTrace(strings.NewReader(azureHeader+"0,0,0\n"), "trace.csv", azure)
	require.NoError(t, err)
	require.Equal(t, int32(1), jobs[0].size, "a request is always some work")
}

func TestColumns(t *testing.T) {
	var c columns
	require.NoError(t, c.Set("ContextTokens, GeneratedTokens = 2.5"))
	require.Equal(t, columns{{"ContextTokens", 1}, {"GeneratedTokens", 2.5}}, c)
	require.Equal(t, "ContextTokens=1,GeneratedTokens=2.5", c.String())
	for text, want := range map[string]string{
		"":        "no name",
		"a,":      "no name",
		"=3":      "no name",
		"a=":      `weight "" is not a number`,
		"a=b":     `weight "b" is not a number`,
		"a=-1":    "weight of a is -1",
		"a=0":     "weight of a is 0",
		"a=NaN":   "weight of a is NaN",
		"a=Inf":   "weight of a is +Inf",
		"a=1,a=2": "column a is there twice",
	} {
		require.ErrorContains(t, c.Set(text), want, text)
	}
	require.Equal(t, "ContextTokens=1,GeneratedTokens=2.5", c.String(), "an error changes nothing")
}

func FuzzReadTrace(f *testing.F) {
	f.Add(azureHeader + "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8")
	f.Add(azureHeader + "0,1,1\n-1,2,2\n")
	f.Add("TIMESTAMP,\"")
	f.Fuzz(func(t *testing.T, text string) {
		jobs, err := readTrace(strings.NewReader(text), "trace.csv", azure)
		if err != nil {
			require.Regexp(t, `^trace\.csv:\d+: `, err.Error())
			return
		}
		require.NotEmpty(t, jobs)
		last := time.Duration(0)
		for _, j := range jobs {
			require.GreaterOrEqual(t, j.at, last)
			require.Positive(t, j.size)
			last = j.at
		}
	})
}
