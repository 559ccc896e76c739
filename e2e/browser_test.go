package e2e

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// step is a subtest on a page that goes on from where the last one left it.
func (p *page) step(name string, f func(t *testing.T)) {
	whole := p.t
	whole.Run(name, func(t *testing.T) {
		p.t = t
		defer func() { p.t = whole }()
		f(t)
	})
}

// TestLivePage has the page of a busy simulator below a deep prefix.
func TestLivePage(t *testing.T) {
	p := newPage(t, 1280, 1000)
	history, load := 4, []string{"-rate", "900", "-duration", "10m"}
	if os.Getenv("HELIX_SCREENSHOTS") != "" { // a full minute, and bursts that are too much
		history, load = 75, []string{"-rate", "8000", "-duration", "3m"}
	}
	sim := startSimulator(t, append(load, "-addr", "127.0.0.1:0", "-bursts")...)
	collect(t, sim.url, history)
	proxy, url := startProxy(t, sim.url, "/a/b/c/")

	// Without ticks all that is shown comes from before the page was opened.
	proxy.hold.Store(true)
	p.open(url)
	p.step("all is there at once", func(t *testing.T) {
		p.until("document.querySelectorAll('#kinds tbody tr').length === 3")
		p.until("document.querySelectorAll('#batches .item').length > 0")
		require.True(t, eval[bool](p, "document.querySelector('#batches .none').hidden"))
		p.until(jobs + " > 0")
		p.until("document.querySelectorAll('#table-routed tbody tr').length >= 3")
		p.until(`Number(document.querySelector('#tile-submitted b').textContent.replaceAll(',', '')) > 0`)
		require.NotEmpty(t, p.ink("#chart-routed").drawn(20))
		require.NotEmpty(t, p.ink("#chart-latency").drawn(5))
		require.Zero(t, proxy.ticks.Load())
		require.Equal(t, int64(1), proxy.streams.Load(), "one stream a page")
	})
	proxy.hold.Store(false)
	p.step("ticks arrive", func(t *testing.T) {
		p.until(jobs + " > 0")
		for range 2 {
			p.until(fmt.Sprintf("%s > %d", jobs, eval[int](p, jobs)))
		}
		require.Equal(t, "live", p.text("#badge"))
		require.Contains(t, p.text("#subtitle"), "simulator · up ")
		p.figures()
	})
	p.step("charts show every strategy in use", func(t *testing.T) {
		busy := sharesAbove(stats(t, sim.url), 0.05)
		require.NotEmpty(t, busy)
		ran := slices.DeleteFunc(slices.Clone(busy), func(name string) bool { return name == "drop" })
		for chart, want := range map[string][]string{"#chart-routed": busy, "#chart-latency": ran} {
			seen := p.ink(chart)
			require.Subset(t, seen.drawn(10), want, "%s: %v", chart, seen)
			require.Greater(t, seen.Colours, len(want), chart)
			before := p.drawing(chart)
			p.soon(proxy, 2)
			require.NotEqual(t, before, p.drawing(chart), "%s does not move", chart)
		}
	})
	p.step("decisions come with reasons", func(t *testing.T) { p.checkFeed() })
	p.step("a row opens to the alternatives", func(t *testing.T) { p.checkRow() })
	p.step("what-if answers in words", func(t *testing.T) { p.checkWhatIf() })
	p.step("colours", func(t *testing.T) { p.checkTheme() })
	p.step("pause", func(t *testing.T) { p.checkPause(proxy) })
	p.step("screenshots", func(t *testing.T) {
		for _, theme := range []string{"dark", "light"} {
			p.click(fmt.Sprintf("#theme [data-theme-choice=%s]", theme))
			p.do(chromedp.MouseEvent("mouseMoved", 640, 40)) // off the charts and the table
			p.soon(proxy, 1)
			p.screenshot(theme)
		}
	})
	p.step("phone", func(t *testing.T) {
		p.do(chromedp.EmulateViewport(360, 740, chromedp.EmulateMobile, chromedp.EmulateTouch))
		p.soon(proxy, 2)
		p.noSidewaysScroll(360)
		require.NotEmpty(t, p.ink("#chart-routed").drawn(20))
		p.screenshot("phone")
	})
	p.step("nothing is left open", func(t *testing.T) {
		require.Equal(t, int64(2), proxy.opened.Load(), "one stream for each time it was opened")
		p.do(chromedp.Navigate("about:blank"))
		await(t, "the stream's end", func() error { return proxy.openStreams(0) })
	})
}

// drawn lists the strategies whose colour covers so many pixels.
func (i ink) drawn(pixels int) []string {
	var names []string
	for name, n := range i.Strategies {
		if n >= pixels {
			names = append(names, name)
		}
	}
	return names
}

// sharesAbove lists the strategies that more than that part of the jobs went to.
func sharesAbove(s statistics, part float64) []string {
	var names []string
	for _, r := range s.Routed {
		if float64(r.Count) > part*float64(s.Submitted) {
			names = append(names, r.Strategy)
		}
	}
	return names
}

// figures checks that every tile says something and has drawn its course.
func (p *page) figures() {
	p.t.Helper()
	for _, tile := range []string{"submitted", "completed", "dropped", "p99", "demand", "kept"} {
		p.until(fmt.Sprintf("/\\d/.test(document.querySelector('#tile-%s b').textContent)", tile))
		p.until(fmt.Sprintf("document.querySelector('#tile-%s .stroke').getAttribute('d').length > 10", tile))
	}
}

var clock = regexp.MustCompile(`^\d\d:\d\d:\d\d`)

func (p *page) checkFeed() {
	p.until("document.querySelectorAll('#feed tbody tr[data-strategy]').length >= 5")
	strategies := []string{"inline", "spawn", "cpu_pool", "batch", "drop"}
	// All in one go: the table changes every second.
	rows := eval[[][]string](p, `[...document.querySelectorAll('#feed tbody tr[data-seq]')].map((r) => [
		r.dataset.strategy, ...['.c-time', '.c-kind', '.c-strategy', '.c-why', '.c-budget'].map((c) => r.querySelector(c).textContent)])`)
	for _, row := range rows {
		require.Contains(p.t, strategies, row[0])
		require.Regexp(p.t, clock, row[1])
		require.Contains(p.t, []string{"hash_mix", "prime_count", "monte_carlo_risk"}, row[2])
		require.Contains(p.t, row[3], row[0])
		require.Greater(p.t, len(strings.Fields(row[4])), 1, "why: %q", row)
		require.NotEmpty(p.t, row[5])
	}
	p.do(chromedp.SendKeys(chromedp.CSS("#feed-kind"), "prime"))
	p.until(`document.querySelectorAll('#feed tbody tr[data-seq]').length > 0`)
	p.until(`[...document.querySelectorAll('#feed tbody tr[data-seq]')].every((r) => r.dataset.kind === 'prime_count')`)
	p.do(chromedp.KeyEvent(strings.Repeat(kb.Backspace, len("prime"))))
	p.until(`[...document.querySelectorAll('#feed tbody tr[data-seq]')].some((r) => r.dataset.kind === 'hash_mix')`)
}

// checkRow opens rows by mouse until one has alternatives, then by keyboard.
func (p *page) checkRow() {
	type point struct{ X, Y float64 }
	rejected := "document.querySelectorAll('#feed tr.detail .rejected li').length > 0"
	for row := 1; row <= 8; row++ {
		where := fmt.Sprintf(`(() => {
			const row = document.querySelectorAll('#feed tbody tr[data-seq]')[%d];
			document.getElementById('feed-panel').scrollIntoView({ block: 'center' });
			const box = row.getBoundingClientRect();
			return { x: box.x + 200, y: box.y + box.height / 2 };
		})()`, row-1)
		at := eval[point](p, where)
		p.do(chromedp.MouseEvent("mouseMoved", at.X, at.Y)) // the table stands still from here on
		p.painted()
		at = eval[point](p, where)
		p.do(chromedp.MouseClickXY(at.X, at.Y))
		p.until("document.querySelectorAll('#feed tr.detail').length === 1")
		detail := p.text("#feed tr.detail")
		require.Contains(p.t, detail, "learned from")
		require.Contains(p.t, detail, "fair share of the kind")
		require.Equal(p.t, "true", eval[string](p, "document.querySelector('#feed tr.detail').previousSibling.getAttribute('aria-expanded')"))
		if eval[bool](p, rejected) {
			break
		}
		p.do(chromedp.KeyEvent(kb.Enter)) // closes it: the click gave it the focus
		p.until("document.querySelectorAll('#feed tr.detail').length === 0")
	}
	require.True(p.t, eval[bool](p, rejected), "no decision weighed another strategy")
	for _, alternative := range p.texts("#feed tr.detail .rejected li") {
		require.Regexp(p.t, `^not (inline|spawn|cpu_pool|batch|drop) \S+`, alternative)
	}
	p.do(chromedp.KeyEvent(kb.Enter))
	p.until("document.querySelectorAll('#feed tr.detail').length === 0")
	p.do(chromedp.KeyEvent(kb.Escape))
	p.do(chromedp.MouseEvent("mouseMoved", 640, 5))
	p.until("document.getElementById('feed-held').hidden")
}

func (p *page) checkWhatIf() {
	p.do(
		chromedp.SendKeys(chromedp.CSS("#whatif [name=kind]"), "prime_count"),
		chromedp.SendKeys(chromedp.CSS("#whatif [name=cost]"), "20000"),
		chromedp.SendKeys(chromedp.CSS("#whatif [name=budget]"), "80ms"),
	)
	p.click("#whatif button[type=submit]")
	p.until("document.getElementById('whatif-answer').dataset.strategy")
	answer := p.text("#whatif-answer")
	strategy := eval[string](p, "document.getElementById('whatif-answer').dataset.strategy")
	require.Contains(p.t, answer, strategy)
	if strategy != "drop" {
		require.Regexp(p.t, `Would start .* be done in [\d.]+ (ns|µs|ms|s), [\d.]+ (µs|ms|s) (inside|beyond) its budget\.`, answer)
	}

	p.excuse("api/explain") // the browser logs every 400
	p.do(chromedp.SendKeys(chromedp.CSS("#whatif [name=scaling]"), "7"))
	p.until("document.getElementById('whatif-answer').classList.contains('wrong')")
	require.Contains(p.t, p.text("#whatif-answer"), "scaling")
	require.Equal(p.t, "true", eval[string](p, "document.querySelector('#whatif [name=scaling]').getAttribute('aria-invalid')"))
	p.do(chromedp.KeyEvent(kb.Backspace)) // what was asked once is asked again after each change
	p.until("!document.getElementById('whatif-answer').classList.contains('wrong')")
	p.excuse("")
}

func (p *page) checkTheme() {
	p.click("#theme [data-theme-choice=light]")
	light := p.background()
	drawn := p.drawing("#chart-routed")
	p.click("#theme [data-theme-choice=dark]")
	dark := p.background()
	require.NotEqual(p.t, light, dark)
	require.NotEqual(p.t, drawn, p.drawing("#chart-routed"), "the chart keeps its colours")

	p.do(chromedp.Reload())
	require.Equal(p.t, dark, p.background(), "the choice is forgotten")
	p.badge("live")
	p.until(jobs + " > 0")

	p.click("#theme [data-theme-choice=auto]")
	for system, want := range map[string]string{"light": light, "dark": dark} {
		call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: system}},
		})
		require.Equal(p.t, want, p.background(), system)
	}
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{})
}

// checkPause freezes what is drawn, not what is collected.
func (p *page) checkPause(v *watched) {
	shown := func() []string {
		p.painted()
		return append(p.texts(".tile .figure, #account, #feed tbody tr[data-seq] .c-time, #kinds td"),
			p.drawing("#chart-routed"), p.drawing("#chart-latency"))
	}
	p.click("#pause")
	p.badge("paused")
	require.Regexp(p.t, `^paused at \d\d:\d\d:\d\d`, p.text("#badge"))
	before, submitted := shown(), eval[int](p, jobs)
	p.soon(v, 3)
	require.Equal(p.t, before, shown())
	p.click("#pause")
	p.badge("live")
	p.until(fmt.Sprintf("%s > %d", jobs, submitted))
	require.NotEqual(p.t, before, shown())
}

// openStreams reports another number of open streams than want.
func (v *watched) openStreams(want int64) error {
	if n := v.streams.Load(); n != want {
		return fmt.Errorf("%d streams are open", n)
	}
	return nil
}

// TestBurstAndRestart has an idle simulator, so that every job is accounted for.
func TestBurstAndRestart(t *testing.T) {
	p := newPage(t, 1280, 1000)
	sim := startSimulator(t, "-addr", "127.0.0.1:0", "-jobs", "1")
	proxy, url := startProxy(t, sim.url, "/a/b/c/")
	p.open(url)
	p.until(jobs + " === 1")

	p.click("#burst")
	await(t, "the burst", func() error {
		if codes := proxy.answered(http.MethodPost + " /a/b/c/api/burst"); len(codes) != 1 || codes[0] != http.StatusAccepted {
			return fmt.Errorf("answered with %v", codes)
		}
		return nil
	})
	p.until(jobs + " === 301")
	p.until("!document.getElementById('burst').disabled")

	p.excuse("/a/b/c/api/") // the browser logs every request that fails
	sim.stop()              // ends in order although the page is open
	p.badge("reconnecting")
	require.Equal(t, "reconnecting", p.text("#badge"))
	startSimulator(t, "-addr", strings.TrimPrefix(sim.url, "http://"), "-jobs", "2")
	p.badge("live")
	p.until(jobs + " === 2")
	await(t, "a single stream", func() error { return proxy.openStreams(1) })
}
