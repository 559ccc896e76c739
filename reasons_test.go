package helix

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	constant = regexp.MustCompile(`(?m)^\s*(reason\w+)\s*=\s*"(.*)"$`)
	refused  = regexp.MustCompile(`\b(?:drop|refuseLate|refusal|evict)\((reason\w+)`)
	row      = regexp.MustCompile("(?m)^\\| `(.*?)` \\|")
)

// TestOwnReasons compares the list of reasons that have a counter from the beginning with
// those that jobs are refused for in the code, and with the tables of docs/policies.md.
func TestOwnReasons(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	texts, names := map[string]string{}, map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		code, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range constant.FindAllStringSubmatch(string(code), -1) {
			texts[m[1]] = m[2]
		}
		for _, m := range refused.FindAllStringSubmatch(string(code), -1) {
			names[m[1]] = true
		}
	}
	for name := range names {
		require.Contains(t, ownReasons, texts[name], name)
	}

	page, err := os.ReadFile("docs/policies.md")
	require.NoError(t, err)
	_, tables, _ := strings.Cut(string(page), "## Reasons to drop")
	tables, _, _ = strings.Cut(tables, "\n## ")
	var shown []string
	for _, m := range row.FindAllStringSubmatch(tables, -1) {
		shown = append(shown, m[1])
	}
	want := slices.Clone(ownReasons)
	slices.Sort(want)
	slices.Sort(shown)
	require.Equal(t, want, shown)
}
