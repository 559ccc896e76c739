package e2e

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/httpstats"
)

// TestRefusedAfterAdmission has a job that was admitted and then refused: the page must say
// why it did not run, not why it was admitted.
func TestRefusedAfterAdmission(t *testing.T) {
	p := newPage(t, 1280, 1000)
	r := newRouter(t, helix.RouterConfig{CPUParallelism: 1, Policy: helix.ThresholdPolicy{}, BackpressureBusyThreshold: 5})
	_, url := startService(t, r)
	p.open(url)
	release := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		submit(t, r, 1, helix.Job{Kind: "long", Run: func(context.Context) (any, error) { <-release; return nil, nil }})
	})
	await(t, "the long job", func() error {
		if r.Stats().Pressure.CPUBusy != 1 {
			return errors.New("no slot is busy")
		}
		return nil
	})
	running.Go(func() { submit(t, r, 1, helix.Job{Kind: "short", Budget: 300 * time.Millisecond}) })
	await(t, "the short job", func() error {
		s := r.Stats()
		if s.Pressure.Queued == 0 && s.Dropped == 0 {
			return errors.New("not queued")
		}
		return nil
	})
	p.soon2()
	close(release)
	running.Wait()
	reasons := r.Stats().DroppedByReason
	require.Len(t, reasons, 1)

	row := "#feed tbody tr[data-kind=short]"
	p.until(fmt.Sprintf("document.querySelector(%q)", row))
	require.Equal(t, "drop", eval[string](p, fmt.Sprintf("document.querySelector(%q).dataset.strategy", row)))
	why := p.text(row + " .c-why")
	require.True(t, strings.HasPrefix(why, reasons[0].Reason), why)
	require.Contains(t, why, "waited ")
	p.click(row)
	p.until("document.querySelector('#feed tr.detail .story')")
	story := p.text("#feed tr.detail .story")
	require.Regexp(t, `Admitted to cpu_pool: .+\. Refused [\d.]+ (ms|s) later: `+reasons[0].Reason, story)
	require.Regexp(t, `It was [\d.]+ (µs|ms|s) late by then`, story)
	require.Contains(t, p.text("#feed tr.detail dl"), "was admitted to")
}

// soon2 lets the short job's budget pass, by the page's own clock.
func (p *page) soon2() {
	p.t.Helper()
	eval[bool](p, "new Promise((done) => setTimeout(() => done(true), 500))")
}

// TestFailuresAreShown has jobs that fail: a tile, a line, a column.
func TestFailuresAreShown(t *testing.T) {
	p := newPage(t, 1280, 1000)
	r := newRouter(t, helix.RouterConfig{})
	_, url := startService(t, r)
	p.open(url)
	colour := `(() => {
		const probe = document.body.appendChild(document.createElement('span'));
		probe.className = 'probe'; probe.dataset.s = '-fail';
		const wanted = getComputedStyle(probe).color.match(/\d+/g).map(Number);
		probe.remove();
		const canvas = document.querySelector('#chart-routed canvas');
		const copy = document.createElement('canvas');
		copy.width = canvas.width; copy.height = canvas.height;
		const ctx = copy.getContext('2d', { willReadFrequently: true });
		ctx.drawImage(canvas, 0, 0);
		const px = ctx.getImageData(0, 0, copy.width, copy.height).data;
		let n = 0;
		for (let i = 0; i < px.length; i += 4) if (px[i + 3] > 40 && wanted.every((v, k) => Math.abs(v - px[i + k]) < 40)) n++;
		return n;
	})()`
	submit(t, r, 3, helix.Job{Kind: "sound"})
	p.until(jobs + " === 3")
	p.painted()
	require.Equal(t, "none since start", p.text("#tile-failed .below"))
	require.Less(t, eval[int](p, colour), 5, "there is no line without failures")

	broken := helix.Job{Kind: "broken", Run: func(context.Context) (any, error) { return nil, errors.New("no") }}
	for turn := range 3 { // in three seconds, so that there is a line
		submit(t, r, 7, broken)
		p.until(fmt.Sprintf("%s === %d", jobs, 3+7*(turn+1)))
	}
	p.until("document.querySelector('#tile-failed .below').textContent === '21 since start'")
	p.painted()
	require.Greater(t, eval[int](p, colour), 10, "no line")
	p.until("document.querySelector('#kinds tr[data-kind=broken] .k-failed span').textContent === '21'")
	require.Equal(t, "0", p.text("#kinds tr[data-kind=sound] .k-failed span"))
	require.Contains(t, p.text("#table-routed"), "failed")
}

// TestNoLineWhereNothingRan has a pause between two spells of work.
func TestNoLineWhereNothingRan(t *testing.T) {
	p := newPage(t, 1280, 1000)
	r := newRouter(t, helix.RouterConfig{})
	v, url := startService(t, r)
	p.open(url)
	// The columns with something drawn in the plot, between its first and its last one.
	gap := `(() => {
		const canvas = document.querySelector('#chart-latency canvas');
		const u = document.querySelector('#chart-latency .u-over').getBoundingClientRect(), c = canvas.getBoundingClientRect();
		const k = canvas.width / c.width;
		const x0 = Math.round((u.left - c.left) * k), w = Math.round(u.width * k), h = Math.round(u.height * k);
		const colours = [...document.querySelectorAll('#legend button')].filter((b) => b.dataset.name !== 'drop')
			.map((b) => getComputedStyle(b.querySelector('.dot')).backgroundColor.match(/\d+/g).map(Number));
		const px = canvas.getContext('2d').getImageData(x0, Math.round((u.top - c.top) * k), w, h).data;
		const inked = [];
		for (let x = 0; x < w; x++) for (let y = 0; y < h; y++) {
			const i = (y * w + x) * 4;
			if (px[i + 3] > 100 && colours.some((c) => c.every((v, j) => Math.abs(v - px[i + j]) < 40))) { inked.push(x); break; }
		}
		let widest = 0;
		for (let i = 1; i < inked.length; i++) widest = Math.max(widest, inked[i] - inked[i - 1]);
		return inked.length ? widest / (w / 60) : -1; // in seconds
	})()`
	p.click("#window [data-min='1']")
	work := func(seconds int64) {
		for range seconds {
			submit(t, r, 5, helix.Job{Kind: "steady", Cost: 1})
			p.soon(v, 1)
		}
	}
	work(3)
	p.soon(v, 4) // a pause of four seconds, which used to be crossed
	work(3)
	p.soon(v, 1)
	require.Greater(t, eval[float64](p, gap), 3.)
}

// TestFewDecisionsAreAllInTheFeed has a demo's 200 jobs, at once.
func TestFewDecisionsAreAllInTheFeed(t *testing.T) {
	p := newPage(t, 1280, 1000)
	sim := startSimulator(t, "-jobs", "200", "-addr", "127.0.0.1:0")
	await(t, "the end of the jobs", func() error {
		if s := stats(t, sim.url); s.Submitted != 200 {
			return fmt.Errorf("%d submitted", s.Submitted)
		}
		return nil
	})
	p.open(sim.url + "/")
	p.until("document.querySelectorAll('#feed tbody tr[data-seq]').length === 200")
}

// TestMoreKindsThanMayBe counts the kinds that are told apart.
func TestMoreKindsThanMayBe(t *testing.T) {
	p := newPage(t, 1280, 1000)
	r := newRouter(t, helix.RouterConfig{MaxKinds: 3})
	_, url := startService(t, r)
	p.open(url)
	for i := range 5 {
		submit(t, r, 1, helix.Job{Kind: fmt.Sprint("kind", i)})
	}
	p.until("document.querySelectorAll('#kinds tbody tr').length === 4")
	p.until("document.getElementById('kinds-count').textContent === '3 of 3, and all others as “other”'")
}

// TestMetersAreRounded listens as a screen reader does.
func TestMetersAreRounded(t *testing.T) {
	p := newPage(t, 1280, 1000)
	r := newRouter(t, helix.RouterConfig{})
	v, url := startService(t, r)
	p.open(url)
	submit(t, r, 3, helix.Job{Kind: "brief", Run: func(context.Context) (any, error) { return time.Now(), nil }})
	p.until(jobs + " === 3")
	for range 4 {
		for _, now := range eval[[]string](p, "[...document.querySelectorAll('[role=meter]')].map((m) => m.getAttribute('aria-valuenow'))") {
			require.Regexp(t, `^\d+(\.\d{1,9})?$`, now)
		}
		p.soon(v, 1)
	}
}

// TestKindsThatLookAlike are told apart by what is seen.
func TestKindsThatLookAlike(t *testing.T) {
	p := newPage(t, 1280, 1000)
	r := newRouter(t, helix.RouterConfig{})
	_, url := startService(t, r)
	kinds := []string{"ab", " ab", "ab ", "a b", "a  b", " ", "  ", "\u202eba", "a\u200bb", "a\u00a0b", "\u200fab", "שלום"}
	for _, kind := range kinds {
		submit(t, r, 1, helix.Job{Kind: kind, Cost: 1})
	}
	p.open(url)
	p.until(fmt.Sprintf("document.querySelectorAll('#kinds tbody tr').length === %d", len(kinds)))
	// What the style sheet adds is seen, and what it hides is not.
	seen := eval[[]string](p, `[...document.querySelectorAll('#kinds tbody .kind')].map((k) => {
		let words = '';
		const walk = (n) => {
			if (n.nodeType === 3) { if (parseFloat(getComputedStyle(n.parentElement).fontSize) > 0) words += n.data; return; }
			const added = getComputedStyle(n, '::before').content;
			if (added.startsWith('"')) words += added.slice(1, -1);
			n.childNodes.forEach(walk);
		};
		walk(k);
		return words;
	})`)
	require.Len(t, seen, len(kinds))
	want := []string{"ab", "␣ab", "ab␣", "a b", "a␣␣b", "␣", "␣␣", "U+202E ba", "aU+200B b", "aU+00A0 b", "U+200F ab", "שלום"}
	slices.Sort(want)
	slices.Sort(seen)
	require.Equal(t, want, seen)
	copied := p.texts("#kinds tbody .kind")
	slices.Sort(copied)
	slices.Sort(kinds)
	require.Equal(t, kinds, copied, "a copy is the name itself")
}

// TestHiddenTabsHaveNoStream hides a page, as a browser does with all tabs but one: over
// HTTP/1.1 six open streams would block the whole origin.
func TestHiddenTabsHaveNoStream(t *testing.T) {
	p := newPage(t, 1280, 1000)
	call(p, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{
		Source: `let away = location.hash === '#background';
			Object.defineProperty(Document.prototype, 'hidden', { get: () => away });
			window.look = (at) => { away = !at; document.dispatchEvent(new Event('visibilitychange')); return true; }`,
	})
	r := newRouter(t, helix.RouterConfig{})
	v, url := startService(t, r)
	submit(t, r, 1, helix.Job{Kind: "early"})

	// A tab that was opened in the background has none from the start.
	p.do(chromedp.Navigate(url + "#background"))
	p.until("document.getElementById('badge').textContent === 'connecting'")
	eval[bool](p, "fetch('api/stats').then((r) => r.ok)") // whatever the page sends first has been sent
	require.Zero(t, v.opened.Load())
	eval[bool](p, "look(true)")
	p.badge("live")
	p.until(jobs + " === 1")
	require.Equal(t, int64(1), v.streams.Load())

	eval[bool](p, "look(false)")
	await(t, "the stream's end", func() error { return v.openStreams(0) })
	submit(t, r, 2, helix.Job{Kind: "meanwhile"})
	eval[bool](p, "new Promise((done) => setTimeout(() => done(true), 2500))") // ticks that it misses
	require.Zero(t, v.streams.Load(), "it came back by itself")
	require.Equal(t, int64(1), v.opened.Load())

	eval[bool](p, "look(true)")
	p.badge("live")
	p.until(jobs + " === 3")
	p.until("document.querySelectorAll('#feed tr[data-kind=meanwhile]').length === 2")
	require.Equal(t, int64(1), v.streams.Load())
	require.Equal(t, int64(2), v.opened.Load())
	require.Empty(t, p.complaints())
}

// TestContrast measures the letters against what is behind them, as WCAG 2 does for AA.
func TestContrast(t *testing.T) {
	p := newPage(t, 1280, 1000)
	r := newRouter(t, helix.RouterConfig{})
	_, url := startService(t, r, httpstats.WithConfigWrites())
	p.open(url)
	submit(t, r, 5, helix.Job{Kind: "fine"})
	submit(t, r, 5, helix.Job{Kind: "broken", Run: func(context.Context) (any, error) { return nil, errors.New("no") }})
	submit(t, r, 5, helix.Job{Kind: "late", Budget: time.Millisecond, Arrived: time.Now().Add(-time.Second)})
	p.until(jobs + " === 15")
	p.until("document.querySelectorAll('#feed tbody tr').length > 5")
	const faint = `(() => {
		const parse = (c) => { const v = c.match(/[\d.]+/g).map(Number); return { rgb: v.slice(0, 3), a: v[3] ?? 1 }; };
		const luminance = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
			.reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
		const behind = (e) => {
			for (; e; e = e.parentElement) {
				const c = parse(getComputedStyle(e).backgroundColor);
				if (c.a === 1) return c.rgb;
			}
			return parse(getComputedStyle(document.documentElement).backgroundColor).rgb;
		};
		const bad = [];
		const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
		while (walker.nextNode()) {
			const e = walker.currentNode.parentElement;
			if (!walker.currentNode.data.trim() || !e.checkVisibility() || e.closest('.sr, .skip, :disabled, option')) continue;
			const style = getComputedStyle(e);
			if (parseFloat(style.fontSize) === 0) continue;
			const a = luminance(parse(style.color).rgb), b = luminance(behind(e));
			const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
			if (ratio < 4.5) bad.push(e.closest('[id]')?.id + ' ' + e.className + ' ' + walker.currentNode.data.slice(0, 30) + ': ' + ratio.toFixed(2));
		}
		return bad;
	})()`
	for _, theme := range []string{"light", "dark"} {
		p.click(fmt.Sprintf("#theme [data-theme-choice=%s]", theme))
		p.painted()
		for _, state := range []string{"live", "paused", "reconnecting", "polling"} {
			eval[bool](p, fmt.Sprintf("(document.getElementById('badge').dataset.state = %q) !== ''", state))
			require.Empty(t, eval[[]string](p, faint), "%s, %s", theme, state)
		}
	}
}

// TestDownstreamsAreShown has two kinds that wait for the same database.
func TestDownstreamsAreShown(t *testing.T) {
	p := newPage(t, 1280, 1000)
	r := newRouter(t, helix.RouterConfig{})
	_, url := startService(t, r)
	p.open(url)
	submit(t, r, 1, helix.Job{Kind: "sound"})
	p.until(jobs + " === 1")
	require.True(t, eval[bool](p, "document.getElementById('downstreams-part').hidden"), "nothing waits")
	for _, kind := range []string{"rows", "blobs"} {
		calls, err := helix.Register(r, helix.Kind[int, int]{
			Name: kind, Downstream: "database", Waits: true,
			Run: func(_ context.Context, in int) (int, error) { return in, nil },
		})
		require.NoError(t, err)
		_, err = calls.Submit(t.Context(), 1)
		require.NoError(t, err)
	}
	p.until("document.querySelectorAll('#downstreams .item').length === 1")
	require.Equal(t, "database", p.text("#downstreams .item .kind"))
	require.Equal(t, "0 in flight, no limit", p.text("#downstreams .item b"))
	require.Contains(t, p.text("#downstreams .item .below"), "calls /s succeed, after ")
}

// TestLostCallsAreShown has eight calls that hang, as many as are let in before one has ended, and later ones that do not.
func TestLostCallsAreShown(t *testing.T) {
	p := newPage(t, 1280, 1000)
	r := newRouter(t, helix.RouterConfig{})
	_, url := startService(t, r)
	p.open(url)
	hang := make(chan struct{})
	query, err := helix.Register(r, helix.Kind[bool, int]{
		Name: "query", Waits: true, Budget: 100 * time.Millisecond,
		Run: func(_ context.Context, hangs bool) (int, error) {
			if hangs {
				<-hang
			}
			return 0, nil
		},
	})
	require.NoError(t, err)
	for range 8 {
		_, err := query.Go(t.Context(), true)
		require.NoError(t, err)
	}
	note := "document.querySelector('#downstreams .item')?.textContent"
	await(t, "that eight calls are lost", func() error {
		_, _ = query.Go(t.Context(), false)
		if !eval[bool](p, "(("+note+") ?? '').includes('8 lost')") {
			return errors.New(p.text("#downstreams"))
		}
		return nil
	})
	close(hang)
	p.until("!" + note + ".includes('lost')")
}

var calls = regexp.MustCompile(`its downstream is full\. It has \d+ of \d+ calls? in flight for jobs of this priority\.`)

// TestAFullDownstreamIsShown has more calls than their downstream answers, until one is refused.
func TestAFullDownstreamIsShown(t *testing.T) {
	p := newPage(t, 1280, 1000)
	r := newRouter(t, helix.RouterConfig{})
	_, url := startService(t, r)
	p.open(url)
	one := make(chan struct{}, 1)
	query, err := helix.Register(r, helix.Kind[int, int]{
		Name: "query", Downstream: "database", Waits: true, Budget: 100 * time.Millisecond,
		Run: func(_ context.Context, in int) (int, error) {
			one <- struct{}{}
			defer func() { <-one }()
			time.Sleep(5 * time.Millisecond) // the answer takes so long
			return in, nil
		},
	})
	require.NoError(t, err)
	refused := `[...document.querySelectorAll('#feed tbody tr[data-strategy=drop]')].find((r) => /its downstream is full · \d+ of \d+ calls? in flight/.test(r.textContent))`
	limited := `/^\d+ of \d+ in flight$/.test(document.querySelector('#downstreams .item b')?.textContent)`
	overload := func() {
		for range 30 {
			_, _ = query.Go(t.Context(), 1)
		}
	}
	await(t, "a refusal because the downstream is full", func() error {
		overload()
		if !eval[bool](p, limited+" && Boolean("+refused+")") {
			return errors.New(p.text("#feed"))
		}
		return nil
	})
	eval[bool](p, "Boolean("+refused+".click() ?? true)")
	p.until(`/It had \d+ of \d+ calls? in flight for jobs of normal priority\./.test(document.querySelector('#feed tr.detail .story')?.textContent)`)
	require.Contains(t, p.text("#feed tr.detail"), "limit on them")
	p.until("document.getElementById('drops').textContent.includes('its downstream is full')") // of the next tick

	p.do(chromedp.SendKeys(chromedp.CSS("#whatif [name=kind]"), "query"))
	await(t, "a forecast of that", func() error {
		overload()
		p.click("#whatif button[type=submit]")
		p.until("document.getElementById('whatif-answer').dataset.strategy")
		if answer := p.text("#whatif-answer"); !calls.MatchString(answer) {
			return errors.New(answer)
		}
		return nil
	})
}

// TestKindsShowTheirLatency has two kinds of which one is slow: the table must tell them
// apart, and sort them.
func TestKindsShowTheirLatency(t *testing.T) {
	p := newPage(t, 1440, 1000)
	r := newRouter(t, helix.RouterConfig{})
	_, url := startService(t, r)
	p.open(url)
	for range 10 {
		submit(t, r, 1, helix.Job{Kind: "quick", Arrived: time.Now().Add(-20 * time.Millisecond)})
		submit(t, r, 1, helix.Job{Kind: "slow", Arrived: time.Now().Add(-5 * time.Second)})
	}
	p.until(jobs + " === 20")
	cell := func(kind string) string { return p.text(fmt.Sprintf("#kinds tr[data-kind=%s] .k-latency", kind)) }
	require.Regexp(t, `^(1\d|2\d)(\.\d+)? ms ?(1\d|2\d)(\.\d+)? ms$`, cell("quick"))
	require.Regexp(t, `^(4\.9\d|5\.\d+) s ?(4\.9\d|5\.\d+) s$`, cell("slow"))
	p.click("#kinds th.k-latency button")
	require.Equal(t, []string{"slow", "quick"}, p.texts("#kinds tbody .k-name"))
	p.click("#kinds th.k-latency button")
	require.Equal(t, []string{"quick", "slow"}, p.texts("#kinds tbody .k-name"))
	p.screenshot("kinds")
}
