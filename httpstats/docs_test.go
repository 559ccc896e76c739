package httpstats

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// docs/metrics.md has a row for each family, in order, and none besides.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	require.NoError(t, err)
	var shown []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `helix_") {
			shown = append(shown, strings.TrimSpace(line))
		}
	}
	var want []string
	for _, f := range families {
		labels := "`" + strings.Join(f.labels, "`, `") + "`"
		if len(f.labels) == 0 {
			labels = ""
		}
		want = append(want, fmt.Sprintf("| `%s` | %s | %s | %s |", f.name, strings.ToLower(f.kind.String()), labels, f.help))
	}
	require.Equal(t, want, shown)
}
