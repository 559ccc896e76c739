package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

func TestEveryContenderDoesItsWork(t *testing.T) {
	for _, c := range contenders() {
		t.Run(c.group+"/"+c.name, func(t *testing.T) {
			op, stop := c.start()
			defer stop()
			for in := range 3 {
				out, err := op(in)
				if c.refuses {
					require.ErrorIs(t, err, helix.ErrNotRun)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, in+1, out)
			}
		})
	}
}

func TestHelixDoesNotAllocate(t *testing.T) {
	for _, strategy := range []string{helix.Inline, helix.Drop} {
		op, stop := fixed(strategy)()
		require.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = op(1) }), strategy)
		stop()
	}
}

func TestHistogramsAreNearTheExactQuantile(t *testing.T) {
	for _, c := range histograms {
		most := 0.012
		if c.name == "client_golang classic" || c.name == "client_golang native" {
			most = 0.2 // wide buckets
		}
		require.Less(t, c.errorOf(), most, c.name)
	}
}

func TestFormats(t *testing.T) {
	s := sample{contender: submitPeers[1], one: []testing.BenchmarkResult{{N: 1, T: 300}, {N: 1, T: 100}, {N: 1, T: 200}}}
	s.many = s.one
	rs := rows([]sample{s})
	require.Len(t, rs, 1)
	require.Equal(t, 200.0, rs[0].One, "the median")
	require.Equal(t, 1.0, *rs[0].OneRatio)
	for _, write := range []func(*bytes.Buffer) error{
		func(b *bytes.Buffer) error { return writeText(b, rs) },
		func(b *bytes.Buffer) error { return writeMarkdown(b, rs) },
		func(b *bytes.Buffer) error { return writeJSON(b, rs) },
	} {
		var b bytes.Buffer
		require.NoError(t, write(&b))
		require.Contains(t, b.String(), "go+chan")
		require.Contains(t, b.String(), "200")
	}
	require.Error(t, run([]string{"-only", "nobody"}, new(bytes.Buffer), new(bytes.Buffer)))
}

// BenchmarkOverhead measures the same as the command.
func BenchmarkOverhead(b *testing.B) {
	for _, c := range contenders() {
		name := fmt.Sprintf("%s/%s", c.group, strings.ReplaceAll(c.name, " ", "_"))
		b.Run(name+"/callers=1", func(b *testing.B) {
			op, stop := c.start()
			defer stop()
			one(b, op)
		})
		b.Run(name+"/callers=many", func(b *testing.B) {
			op, stop := c.start()
			defer stop()
			many(b, op, c.parallelism())
		})
	}
}
