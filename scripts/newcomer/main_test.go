package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestThePageIsFollowedInOrder(t *testing.T) {
	all := blocks("# Title\n```go a.go\npackage a\n```\ntext\n```sh\nls\n```\n```output\na.go\n```\n```sh prometheus\nprom\n```\n```output\nup 1\n```\n")
	require.Equal(t, []block{
		{"go", "a.go", "package a\n"}, {"sh", "", "ls\n"}, {"output", "", "a.go\n"}, {"sh", "prometheus", "prom\n"}, {"output", "", "up 1\n"},
	}, all)
	script, outputs := compose(all, true)
	require.Regexp(t, `(?s)cat > a.go.*package a.*== 1.*ls\n.*== 2.*prom\n`, script)
	require.Equal(t, map[int]string{1: "a.go\n", 2: "up 1\n"}, outputs)
	script, outputs = compose(all, false)
	require.NotContains(t, script, "prom\n")
	require.Equal(t, map[int]string{1: "a.go\n"}, outputs)
}

func TestOutputsAreComparedNumbersAside(t *testing.T) {
	got := "\n== 1\nit took 12 ms\n\n== 2\nno\n"
	require.NoError(t, compare(got, map[int]string{1: "took 7 ms\n", 2: "no\n"}))
	require.ErrorContains(t, compare(got, map[int]string{2: "took 7 ms\n"}), "number 2")
	require.Error(t, compare(got, map[int]string{1: "took 7 s\n"}))
	require.Error(t, compare(got, map[int]string{3: "x\n"}))
}
