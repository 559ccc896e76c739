package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
	"github.com/helixrouter/helix/httpstats"
)

// startService serves the page of a router of the test's own at /helix/.
func startService(t *testing.T, r *helix.Router, opts ...httpstats.Option) (*watched, string) {
	t.Helper()
	mux := http.NewServeMux()
	h, err := httpstats.Mount(mux, "/helix/", r, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	v := &watched{Handler: mux}
	return v, serve(t, v) + "/helix/"
}

// shouting is a policy whose words are markup.
type shouting struct{}

func (shouting) Choose(j helix.JobInfo, _ helix.Pressure) helix.Decision {
	strategy := helix.Inline
	if j.Priority == helix.Low {
		strategy = helix.Drop
	}
	return helix.Decision{Strategy: strategy, Reason: `<b class="injected">because</b>`}.
		Reject(helix.Batch, `<img src="x" onerror="window.pwned=2">`)
}

func TestHostileWordsAreShownAsText(t *testing.T) {
	p := newPage(t, 1280, 1000)
	r := newRouter(t, helix.RouterConfig{Policy: shouting{}})
	_, url := startService(t, r, httpstats.WithName(`<i class="injected">service</i>`))
	kinds := []string{
		"<script>window.pwned=1</script>",
		`"><svg onload=window.pwned=3>`,
		"__proto__",
		"constructor",
		"\u202eright to left",
		strings.Repeat("W", 64),
		"new\nline and \xff byte",
	}
	failed := errors.New(`<u class="injected">it broke</u>`)
	p.open(url)
	// Of what comes at once the page gets a sample, so this goes on until it has seen each.
	turn := 0
	await(t, "every kind in the feed", func() error {
		kind := kinds[turn%len(kinds)]
		turn++
		submit(t, r, 1, helix.Job{Kind: kind, Run: func(context.Context) (any, error) { return nil, failed }})
		submit(t, r, 1, helix.Job{Kind: kind, Priority: helix.Low})
		seen := p.texts("#feed tbody .kind")
		for _, kind := range kinds[:6] {
			if !slices.Contains(seen, kind) {
				return fmt.Errorf("no %s in %q", kind, seen)
			}
		}
		return nil
	})
	p.until("document.querySelectorAll('#kinds tbody tr').length === 7")
	for _, where := range []string{"#kinds tbody", "#feed tbody"} {
		words := p.text(where)
		for _, kind := range kinds[:6] {
			require.Contains(t, words, kind, where)
		}
	}
	require.Contains(t, p.text("#feed tbody"), `<b class="injected">because</b>`)
	require.Contains(t, p.text("#drops"), `<b class="injected">because</b>`)
	require.Contains(t, p.text("#subtitle"), `<i class="injected">service</i>`)

	// Open all rows: the failures have their errors there.
	eval[bool](p, "document.querySelectorAll('#feed tbody tr[data-seq]').forEach((r) => r.click()) || true")
	p.until("document.querySelectorAll('#feed tr.detail').length >= 7")
	details := p.text("#feed tbody")
	require.Contains(t, details, `<u class="injected">it broke</u>`)
	require.Contains(t, details, `<img src="x" onerror="window.pwned=2">`)
	p.do(chromedp.SendKeys(chromedp.CSS("#whatif [name=kind]"), kinds[0]))
	p.click("#whatif button[type=submit]")
	p.until("document.getElementById('whatif-answer').dataset.strategy === 'inline'")
	require.Contains(t, p.text("#whatif-answer"), `<b class="injected">because</b>`)
	p.painted()

	require.True(t, eval[bool](p, "window.pwned === undefined"), "a script was run")
	require.Empty(t, eval[[]string](p, "[...document.querySelectorAll('.injected, img, [onload], [onerror], body script')].map((e) => e.outerHTML)"))
	p.do(chromedp.EmulateViewport(360, 740, chromedp.EmulateMobile))
	p.painted()
	p.noSidewaysScroll(360)
}

func TestEmptyStateSaysWhatToDo(t *testing.T) {
	p := newPage(t, 360, 740)
	r := newRouter(t, helix.RouterConfig{})
	_, url := startService(t, r)
	p.open(url)
	p.until("!document.getElementById('empty').hidden")
	require.Contains(t, p.text("#empty"), "Nothing has been submitted yet")
	require.Contains(t, p.text("#empty"), "router.Submit(ctx, helix.Job{")
	require.Contains(t, p.text("#empty"), "helix.Register(router, helix.Kind[")
	require.True(t, eval[bool](p, "document.getElementById('feed-panel').hidden"))
	p.noSidewaysScroll(360)

	submit(t, r, 1, helix.Job{Kind: "thumbnail"})
	p.until("document.getElementById('empty').hidden")
	p.until("document.querySelector('#feed tbody tr[data-kind=thumbnail]')")
	require.True(t, eval[bool](p, "document.getElementById('burst').hidden"), "there is no burst to send")
	require.Zero(t, eval[int](p, "document.querySelectorAll('#config input, #config select').length"), "the configuration is read-only")
}

// focused describes the element that has the keyboard.
type focused struct {
	Name    string
	Visible bool // it shows that it has it
	Seen    bool // it is on the screen
}

const focusedJS = `(() => {
	const e = document.activeElement;
	if (!e || e === document.body) return { name: '', visible: true, seen: true };
	const style = getComputedStyle(e), box = e.getBoundingClientRect();
	const frame = (f) => getComputedStyle(f).borderTopColor;
	const field = e.closest('.field'), other = [...document.querySelectorAll('.field')].find((f) => f !== field);
	const of = e.closest('[id]');
	return {
		name: (of ? '#' + of.id : '') + (e === of ? '' : ' ' + (e.name || e.dataset.min || e.dataset.themeChoice || e.dataset.name || e.dataset.q || e.className || e.tagName.toLowerCase())),
		visible: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1 || Boolean(field) && frame(field) !== frame(other),
		seen: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
	};
})()`

func TestKeyboardReachesEverything(t *testing.T) {
	p := newPage(t, 1280, 800)
	r := newRouter(t, helix.RouterConfig{})
	_, url := startService(t, r, httpstats.WithBurst(func(context.Context) error { return nil }), httpstats.WithConfigWrites())
	submit(t, r, 20, helix.Job{Kind: "thumbnail"})
	p.open(url)
	p.until(jobs + " === 20")
	// The first tick, so that the charts have something to walk along.
	p.until("(document.getElementById('chart-routed').ariaLabel || '').includes('Now:')")
	p.until("document.querySelectorAll('#feed tbody tr[data-seq]').length > 3")
	p.until("document.querySelectorAll('#config input').length > 3")

	reached := map[string]bool{}
	for range 120 {
		p.do(chromedp.KeyEvent(kb.Tab))
		at := eval[focused](p, focusedJS)
		if at.Name == "" {
			break // beyond the last
		}
		require.True(t, at.Visible, "%s does not show that it has the focus", at.Name)
		require.True(t, at.Seen, "%s is off the screen", at.Name)
		reached[at.Name] = true
	}
	for _, name := range []string{
		" skip", "#burst", "#pause", "#window 1", "#window 15", "#theme auto", "#theme dark", "#legend inline", "#quantiles p95",
		"#chart-routed", "#chart-latency", "#feed-strategy", "#feed-kind", "#whatif kind", "#whatif budget", "#whatif waits", "#whatif wide",
		"#config cpu_queue_cap", "#links a",
	} {
		require.Contains(t, reached, name, "%v", reached)
	}
	rows := 0
	for name := range reached {
		if strings.HasPrefix(name, "#feed ") {
			rows++
		}
	}
	require.Equal(t, 1, rows, "the table is one stop, %v", reached)

	p.do(chromedp.Focus(chromedp.CSS("#feed tbody tr[tabindex='0']")))
	p.do(chromedp.KeyEvent(kb.ArrowDown))
	require.True(t, eval[bool](p, "document.activeElement === document.querySelectorAll('#feed tbody tr[data-seq]')[1]"))
	p.do(chromedp.KeyEvent(kb.Enter))
	p.until("document.querySelectorAll('#feed tr.detail').length === 1")
	p.do(chromedp.Focus(chromedp.CSS("#chart-routed")), chromedp.KeyEvent(kb.End))
	p.until("[...document.querySelectorAll('#chart-routed .tip')].some((tip) => !tip.hidden && tip.textContent.includes('all shown'))")
}

func TestConfigurationIsChangedOnThePage(t *testing.T) {
	p := newPage(t, 1280, 1000)
	r := newRouter(t, helix.RouterConfig{CPUQueueCap: 50})
	_, url := startService(t, r, httpstats.WithConfigWrites())
	p.open(url)
	field := "#config [name=cpu_queue_cap]"
	enter := func(value string) {
		t.Helper()
		p.until(fmt.Sprintf("document.querySelector(%q)", field))
		eval[bool](p, fmt.Sprintf("document.querySelector(%q).select() || true", field))
		p.do(chromedp.SendKeys(chromedp.CSS(field), value))
		p.click("#config button[type=submit]")
	}
	for _, change := range []struct {
		value string
		want  int
	}{{"77", 77}, {"1,024", 1024}, {"1,000", 1000}} {
		enter(change.value)
		await(t, "the change", func() error {
			if n := r.Config().CPUQueueCap; n != change.want {
				return fmt.Errorf("cpu_queue_cap is %d after %s", n, change.value)
			}
			return nil
		})
		p.until("document.getElementById('config-note').textContent.startsWith('applied at ')")
		p.until(fmt.Sprintf("document.querySelector(%q).defaultValue === '%d'", field, change.want))
	}

	before := r.Config().CPUQueueCap
	p.excuse("api/config") // the browser logs every 400
	enter("-5")
	p.until(fmt.Sprintf("document.querySelector(%q).getAttribute('aria-invalid') === 'true'", field))
	require.Contains(t, p.text("#config .apply span"), "cpu_queue_cap: must be ")
	enter("Infinity")
	p.until("document.querySelector('#config .apply span').textContent === 'queue cap must be a number'")
	require.Equal(t, before, r.Config().CPUQueueCap)
}

func TestLeavingClosesTheStream(t *testing.T) {
	p := newPage(t, 1280, 1000)
	r := newRouter(t, helix.RouterConfig{})
	submit(t, r, 1, helix.Job{})
	behind, direct := startService(t, r)
	_, url := startProxy(t, strings.TrimSuffix(direct, "/helix/"), "/a/b/c/") // /a/b/c/helix/ is the page
	p.open(url + "helix/")
	p.until(jobs + " === 1")
	require.Equal(t, int64(1), behind.streams.Load())
	for range 2 {
		p.do(chromedp.Navigate("about:blank"))
		await(t, "the stream's end", func() error { return behind.openStreams(0) })
		eval[chromedp.Void](p, "history.back()") // chromedp's own way waits for a load, which the back/forward cache spares
		p.badge("live")
		await(t, "a single stream", func() error { return behind.openStreams(1) })
		p.until(jobs + " === 1")
	}
}

// TestPollingWhereStreamsDoNotComeThrough has another client take the only stream.
func TestPollingWhereStreamsDoNotComeThrough(t *testing.T) {
	p := newPage(t, 1280, 1000)
	r := newRouter(t, helix.RouterConfig{})
	v, url := startService(t, r, httpstats.WithStreamLimit(1))
	ctx, release := context.WithCancel(t.Context())
	defer release()
	taken, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"api/stream", nil)
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(taken)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)

	p.excuse("api/stream") // the browser logs every 503
	p.do(chromedp.Navigate(url))
	p.badge("polling")
	p.until("document.getElementById('notice').textContent.includes('polling every 2 s')") // drawn with the next frame
	submit(t, r, 3, helix.Job{Run: func(context.Context) (any, error) { return time.Now(), nil }})
	p.until(jobs + " === 3")
	release()
	p.open(url)
	require.Contains(t, v.answered("GET /helix/api/stream"), http.StatusServiceUnavailable)
	p.until(jobs + " === 3")
	require.True(t, eval[bool](p, "document.getElementById('notice').hidden"))
}

// TestComplaintsAreHeard checks the instruments: a page with one of each fault.
func TestComplaintsAreHeard(t *testing.T) {
	p := newPage(t, 1280, 1000)
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad.js" {
			w.Header().Set("Content-Type", "text/javascript")
			fmt.Fprint(w, "console.error('an error', 7); setTimeout(() => { throw new Error('thrown') })")
			return
		}
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; img-src 'self'")
		fmt.Fprint(w, `<!doctype html><title>faults</title><script src="bad.js"></script>
			<script>window.inline = 1</script><p style="color: red">styled</p><img src="missing.png">`)
	}))
	p.do(chromedp.Navigate(url))
	await(t, "complaints", func() error {
		all := strings.Join(p.complaints(), "\n")
		for _, want := range []string{
			"console.error: \"an error\"", "exception: ", "thrown", "missing.png",
			"content security policy: script-src-elem inline", "content security policy: style-src-attr inline",
		} {
			if !strings.Contains(all, want) {
				return fmt.Errorf("no %q in:\n%s", want, all)
			}
		}
		return nil
	})
}
