package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// closeChrome ends the browser, if there is one. TestMain calls it.
var closeChrome = func() {}

// startChrome starts the one browser of all tests; "" is a browser that is not
// there.
var startChrome = sync.OnceValues(func() (context.Context, error) {
	binary := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil {
			binary = found
			break
		}
	}
	if binary == "" {
		return nil, exec.ErrNotFound
	}
	allocated, endProcess := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(binary),
		chromedp.NoSandbox, // it would refuse to run as root
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.UserDataDir(filepath.Join(work, "chrome")),
	)...)
	ctx, _ := chromedp.NewContext(allocated, chromedp.WithErrorf(func(string, ...any) {}))
	closeChrome = func() {
		defer endProcess()
		// In order, so that nothing writes to its folder any more when that goes.
		closing, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		_ = chromedp.Cancel(closing)
	}
	return ctx, chromedp.Do(ctx)
})

// page is a tab of its own, with storage of its own. What its console says and
// what its content security policy stops fails the test at its end.
type page struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex // guards all below
	problems []string
	excused  string // the browser may complain of requests whose URL contains this
}

// newPage opens an empty tab of that size.
func newPage(t *testing.T, width, height int64) *page {
	t.Helper()
	browser, err := startChrome()
	if err == exec.ErrNotFound && os.Getenv("HELIX_REQUIRE_CHROME") != "1" {
		t.Skip("no chromium or google-chrome in PATH; HELIX_REQUIRE_CHROME=1 makes that an error")
	}
	require.NoError(t, err)
	ctx, closeTab := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(closeTab)
	p := &page{t: t, ctx: ctx}
	require.NoError(t, chromedp.Listen(ctx, p.listen))
	call(p, cdplog.Enable, cdp.Empty{})
	// Tabs of other tests come and go meanwhile; this one keeps the keyboard.
	call(p, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	call(p, runtime.AddBinding, runtime.AddBindingParams{Name: "reportViolation"})
	call(p, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{
		Source: `addEventListener('securitypolicyviolation',
			(e) => reportViolation(e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sourceFile + ':' + e.lineNumber))`,
	})
	p.do(chromedp.EmulateViewport(width, height))
	return p
}

// listen collects what a page that is in order does not cause.
func (p *page) listen(event any) {
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			var words []string
			for _, arg := range e.Args {
				words = append(words, string(arg.Value), arg.Description)
			}
			p.complain("", "console.%s: %s", e.Type, strings.Join(words, " "))
		}
	case *runtime.EventExceptionThrown:
		words := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			words += " " + e.ExceptionDetails.Exception.Description
		}
		p.complain("", "exception: %s", words)
	case *runtime.EventBindingCalled:
		p.complain("", "content security policy: %s", e.Payload)
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.EntryLevelError || e.Entry.Level == cdplog.EntryLevelWarning {
			url := ""
			if e.Entry.Source == cdplog.EntrySourceNetwork {
				url = e.Entry.URL
			}
			p.complain(url, "log, %s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	}
}

func (p *page) complain(url, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if url != "" && p.excused != "" && strings.Contains(url, p.excused) {
		return
	}
	p.problems = append(p.problems, fmt.Sprintf(format, args...))
}

func (p *page) complaints() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problems
}

// excuse is for failures that the test itself brings about: browsers log
// requests that fail, whatever the page does about them. "" ends it.
func (p *page) excuse(url string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.excused = url
}

// do does what must succeed.
func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	require.NoError(p.t, chromedp.Do(ctx, actions...))
}

// call sends a command of the protocol.
func call[P, R any](p *page, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	answer, err := chromedp.Call(ctx, command, params)
	require.NoError(p.t, err)
	return answer
}

// eval runs a JavaScript expression, which may be a promise, and returns its value.
func eval[T any](p *page, js string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
	require.NoError(p.t, err, js)
	return v
}

// until waits until a JavaScript expression is true. (Polling inside the page
// would need eval, which its policy forbids.)
func (p *page) until(js string) {
	p.t.Helper()
	await(p.t, js, func() error {
		if eval[bool](p, "Boolean("+js+")") {
			return nil
		}
		return fmt.Errorf("badge: %s; complaints: %q; account: %s", p.text("#badge"), p.complaints(), p.text("#account"))
	})
}

// painted waits until what the page has is on the screen.
func (p *page) painted() {
	p.t.Helper()
	eval[bool](p, `new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))`)
}

// text is the text of the first element that fits, "" if there is none.
func (p *page) text(selector string) string {
	p.t.Helper()
	return eval[string](p, fmt.Sprintf("document.querySelector(%q)?.textContent ?? ''", selector))
}

func (p *page) texts(selector string) []string {
	p.t.Helper()
	return eval[[]string](p, fmt.Sprintf("[...document.querySelectorAll(%q)].map((e) => e.textContent)", selector))
}

// badge waits for a state of the connection.
func (p *page) badge(state string) {
	p.t.Helper()
	p.until(fmt.Sprintf("document.getElementById('badge')?.dataset.state === %q", state))
}

// open goes to url and waits until the page is live. It leaves the page again
// before that server goes down at the end of the test.
func (p *page) open(url string) {
	p.t.Helper()
	t := p.t
	t.Cleanup(func() {
		p.do(chromedp.Navigate("about:blank"))
		require.Empty(t, p.complaints(), "what the browser complained of")
	})
	p.do(chromedp.Navigate(url))
	p.badge("live")
}

func (p *page) click(selector string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// jobs is how many were submitted according to the page, -1 if it does not say.
const jobs = `Number((document.getElementById('account').textContent.match(/^([\d,]+) submitted/)?.[1] ?? '-1').replaceAll(',', ''))`

// background is the colour behind everything.
func (p *page) background() string {
	p.t.Helper()
	return eval[string](p, "getComputedStyle(document.documentElement).backgroundColor")
}

// noSidewaysScroll fails if the page is wider than the screen.
func (p *page) noSidewaysScroll(width int) {
	p.t.Helper()
	type overflow struct {
		Scroll, Inner int
		Wide          []string
	}
	o := eval[overflow](p, `({
		scroll: document.scrollingElement.scrollWidth,
		inner: innerWidth,
		wide: [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 0.5 && !e.parentElement.closest('.wide-scroll, pre, .sr'))
			.map((e) => e.tagName + '#' + e.id + '.' + e.className).slice(0, 10),
	})`)
	require.LessOrEqual(p.t, o.Scroll, width, "sideways scroll, because of %q", o.Wide)
	require.Equal(p.t, width, o.Inner)
}

// ink is what is drawn in a chart.
type ink struct {
	Colours    int            // different ones, of which each covers 20 pixels
	Strategies map[string]int // pixels in the strategy's colour, by name
}

// ink reads the chart's pixels. The colours are those of the legend.
func (p *page) ink(chart string) ink {
	p.t.Helper()
	p.painted()
	return eval[ink](p, fmt.Sprintf(`(() => {
		const canvas = document.querySelector(%q + ' canvas');
		const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
		copy.drawImage(canvas, 0, 0);
		const px = copy.getImageData(0, 0, canvas.width, canvas.height).data;
		const strategies = {}, wanted = {};
		for (const b of document.querySelectorAll('#legend button')) {
			wanted[b.dataset.name] = getComputedStyle(b.querySelector('.dot')).backgroundColor.match(/\d+/g).map(Number);
			strategies[b.dataset.name] = 0;
		}
		const seen = new Map();
		for (let i = 0; i < px.length; i += 4) {
			if (px[i + 3] < 40) continue;
			const key = (px[i] >> 4) << 8 | (px[i + 1] >> 4) << 4 | px[i + 2] >> 4;
			seen.set(key, (seen.get(key) ?? 0) + 1);
			for (const [name, c] of Object.entries(wanted)) {
				if (c.every((v, k) => Math.abs(v - px[i + k]) < 24)) strategies[name]++;
			}
		}
		return { colours: [...seen.values()].filter((n) => n >= 20).length, strategies };
	})()`, chart))
}

// drawing identifies what is drawn in a chart.
func (p *page) drawing(chart string) string {
	p.t.Helper()
	p.painted()
	return eval[string](p, fmt.Sprintf("document.querySelector(%q + ' canvas').toDataURL()", chart))
}

// soon is for things that must not happen: it lets so many ticks pass by.
func (p *page) soon(v *watched, ticks int64) {
	p.t.Helper()
	from := v.ticks.Load()
	await(p.t, "ticks", func() error {
		if n := v.ticks.Load() - from; n < ticks {
			return fmt.Errorf("%d of %d", n, ticks)
		}
		return nil
	})
	p.painted()
}
