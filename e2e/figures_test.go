package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// formatted evaluates an expression in f, the module that writes figures.
func (p *page) formatted(js string) []string {
	p.t.Helper()
	return eval[[]string](p, "import('./js/format.js').then((f) => "+js+")")
}

// TestFiguresAreWritten has values at which a figure gets another form.
func TestFiguresAreWritten(t *testing.T) {
	p := newPage(t, 1280, 1000)
	_, url := startService(t, newRouter(t, helix.RouterConfig{}))
	p.open(url)
	require.Equal(t, []string{"99,999", "100k", "999k", "1M", "1M", "999M", "1G"},
		p.formatted("[99_999, 100_000, 999_499, 999_500, 1_000_000, 999_499_999, 999_500_000].map(f.count)"))
	require.Equal(t, []string{"29.0", "57.0", "58.0", "33.3", "99.9", "99.99", "99.99", "100", "0", "< 0.1"},
		p.formatted("[[29, 100], [57, 100], [58, 100], [1, 3], [999, 1000], [9999, 10_000], [99_999, 100_000], [7, 7], [0, 7], [1, 5000]].map(([n, of]) => f.share(n, of))"))
}
