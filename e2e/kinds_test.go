package e2e

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

// TestKindsGoOnBeingSorted clicks on a heading, which keeps the focus, and points elsewhere.
func TestKindsGoOnBeingSorted(t *testing.T) {
	p := newPage(t, 1440, 1000)
	r := newRouter(t, helix.RouterConfig{})
	_, url := startService(t, r)
	fail := func(context.Context) (any, error) { return nil, errors.New("no") }
	submit(t, r, 2, helix.Job{Kind: "first", Run: fail})
	submit(t, r, 1, helix.Job{Kind: "second", Run: fail})
	p.open(url)
	p.until(jobs + " === 3")
	p.click("#kinds th.k-failed button")
	require.Equal(t, []string{"first", "second"}, p.texts("#kinds tbody .k-name"))
	p.do(chromedp.MouseEvent("mouseMoved", 640, 40))
	submit(t, r, 2, helix.Job{Kind: "second", Run: fail})
	p.until("document.querySelector('#kinds tbody .k-name').textContent === 'second'")
}

// TestKindsMayBeCalledAnything has a kind without latencies that is called as what every
// JavaScript object has.
func TestKindsMayBeCalledAnything(t *testing.T) {
	p := newPage(t, 1440, 1000)
	r := newRouter(t, helix.RouterConfig{})
	_, url := startService(t, r)
	submit(t, r, 1, helix.Job{Kind: "constructor", Budget: time.Millisecond, Arrived: time.Now().Add(-time.Second)})
	p.open(url)
	p.until(jobs + " === 1")
	require.Equal(t, []string{"–"}, p.texts("#kinds tbody .k-latency"))
}

// TestFiguresOfKindsAreWhole scrolls the table sideways rather than cutting off units.
func TestFiguresOfKindsAreWhole(t *testing.T) {
	p := newPage(t, 400, 1000)
	r := newRouter(t, helix.RouterConfig{})
	_, url := startService(t, r)
	for range 10 {
		submit(t, r, 1, helix.Job{Kind: "quick", Arrived: time.Now().Add(-20 * time.Millisecond)})
	}
	p.open(url)
	p.until(jobs + " === 10")
	for _, width := range []int64{400, 900, 1440} {
		p.do(chromedp.EmulateViewport(width, 1000))
		p.painted()
		require.Empty(t, eval[[]string](p, `[...document.querySelectorAll('#kinds :is(th, td, bdi)')]
			.filter((e) => getComputedStyle(e).overflowX !== 'visible' && e.scrollWidth > e.clientWidth).map((e) => e.className + ' ' + e.textContent)`), width)
	}
}

// TestLandmarksHaveNamesOfTheirOwn lists the parts of the page as a screen reader does.
func TestLandmarksHaveNamesOfTheirOwn(t *testing.T) {
	p := newPage(t, 1280, 1000)
	_, url := startService(t, newRouter(t, helix.RouterConfig{}))
	p.open(url)
	names := eval[[]string](p, `[...document.querySelectorAll('section, [role=region]')].map((e) =>
		e.ariaLabel ?? document.getElementById(e.getAttribute('aria-labelledby')).textContent)`)
	require.Greater(t, len(names), 8)
	slices.Sort(names)
	require.Equal(t, slices.Compact(slices.Clone(names)), names)
}
