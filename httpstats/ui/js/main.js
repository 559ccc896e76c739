// The page: connects the parts and decides when each is drawn.

import { $, el, text, show, press, attr, readable } from './dom.js';
import * as f from './format.js';
import { Store, within } from './store.js';
import { connect } from './stream.js';
import { setStrategies, slot, describe } from './strategies.js';
import { makeTiles } from './tiles.js';
import { makeCharts } from './charts.js';
import { makeTables } from './tables.js';
import { makeNow } from './now.js';
import { makeFeed } from './feed.js';
import { makeKinds } from './kinds.js';
import { makeFleet } from './fleet.js';
import { makeWhatIf } from './whatif.js';
import { makeConfig } from './config.js';
import { makeMore } from './more.js';

const store = new Store();
const drawTiles = makeTiles($('tiles'));
const charts = makeCharts($('chart-routed'), $('chart-latency'));
const drawTables = makeTables($('table-routed'), $('table-latency'));
const drawNow = makeNow($('now'));
const feed = makeFeed();
const kinds = makeKinds();
const drawFleet = makeFleet();
const drawMore = makeMore();
const config = makeConfig((c) => kinds.setConfig(c));
makeWhatIf();

const remember = (key, value) => {
  try {
    localStorage.setItem(key, value);
  } catch { /* storage may be forbidden */ }
};
const recall = (key) => {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
};

let state = 'reconnecting'; // of the connection
let minutes = 5;
let chosen = false; // minutes were chosen by hand
let frozen = null; // what a paused page shows
let frozenAt = 0;
let due = false;

/** view is what is drawn now. */
function view() {
  const v = frozen || store.snapshot();
  return { ...v, paused: Boolean(frozen), polling: state === 'polling' };
}

/** draw draws all of it in the next frame; a page in the background draws nothing. */
function draw() {
  if (due || document.hidden) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    const v = view();
    if (!chosen && v.points.length) setMinutes(defaultMinutes(v));
    const empty = Boolean(v.stats) && v.stats.submitted === 0;
    document.body.classList.toggle('is-empty', empty);
    show($('empty'), empty);
    show($('feed-panel'), !empty);
    const w = {
      ...v, minutes, window: within(v.points, minutes),
      drawn: within(v.points, minutes + 0.25), // lines begin beyond the left edge
    };
    drawTiles(w);
    drawNow(w);
    if (!empty) {
      charts.update(w);
      for (const note of document.querySelectorAll('.step')) text(note, charts.step > 1 ? `(means of ${charts.step} s)` : '');
      drawTables(w, charts.names);
      feed.update(w);
      kinds.update(w);
    }
    drawFleet(w);
    drawMore(w);
    drawHead(v);
  });
}

/** defaultMinutes does not show a young service as a mostly blank chart. */
function defaultMinutes(v) {
  const seconds = (v.last.t_ms - v.points[0].t_ms) / 1000;
  return seconds < 100 ? 1 : 5;
}

function drawHead(v) {
  const hello = store.hello;
  if (!hello) return;
  const s = v.stats;
  const up = s ? s.uptime_s : (Date.now() - hello.started_ms) / 1000;
  const slots = v.last?.slots || hello.slots;
  text($('subtitle'), [hello.name, `up ${f.uptime(up)}`, f.plural(slots, 'slot'), `policy ${s?.policy || hello.policy}`].join(' · '));
  $('subtitle').title = $('subtitle').textContent;
  document.title = `${hello.name} · HelixRouter`;
  const [long] = s?.long_runs || [];
  if (s?.draining) notice('draining', 'Draining: new jobs are rejected; jobs already accepted will finish.');
  else if (state === 'polling') notice('polling', 'Live stream unavailable; polling every 2 s (no per-decision or per-second latency data).');
  else if (long) {
    notice(`${long.kind}\n${long.endangers}`, `${readable(long.kind)} runs ${f.duration(long.run_ms)} at a time, and ${f.share(long.late_pct, 100)} % of ${readable(long.endangers)}, with a budget of ${f.given(long.budget_ms)}, come too late: `
      + `call helix.Yield in ${readable(long.kind)}, or set GOMAXPROCS to one more than the slots.`);
  } else notice('', '');
}

let noted = '';
let notedAt = 0;
/** notice shows words about something, or nothing. Screen readers read out each change, so other figures are shown once a minute. */
function notice(about, words) {
  if (about === noted && Date.now() - notedAt < 60_000) return;
  noted = about;
  notedAt = Date.now();
  show($('notice'), words !== '');
  text($('notice'), words);
}

function drawBadge() {
  const badge = $('badge');
  const shown = frozen && state !== 'reconnecting' ? 'paused' : state;
  attr(badge, 'data-state', shown);
  attr(document.body, 'data-state', shown);
  const words = {
    live: 'live', polling: 'polling', paused: `paused at ${f.clock(frozenAt)}`,
    reconnecting: store.hello ? 'reconnecting' : 'connecting',
  }[shown];
  text(badge.querySelector('span'), words);
  badge.title = {
    live: 'a figure a second', polling: 'stream unavailable: polling every 2 s, without decisions and latencies',
    paused: 'data is still collected', reconnecting: 'the figures shown are old',
  }[shown];
}

function drawLegend() {
  const legend = $('legend');
  legend.replaceChildren(...charts.names.map((name) => el('button', {
    type: 'button', 'aria-pressed': String(charts.shows(name)), title: `${name}: ${describe(name)}. Click to hide or show it.`, data: { s: slot(name), name },
    onclick: () => {
      const on = charts.toggle(name);
      press(legend.children, (b) => on(b.dataset.name));
      charts.rebuild();
      draw();
    },
  }, el('i', { class: 'dot', 'aria-hidden': 'true' }), el('bdi', {}, name))));
}

function setMinutes(m) {
  if (m === minutes && $('window').querySelector(`[data-min="${m}"][aria-pressed="true"]`)) return;
  minutes = m;
  press($('window').children, (b) => Number(b.dataset.min) === m);
}

let namesKey = '';
function onHello(hello) {
  const names = hello.strategies || [];
  const key = names.join('\n');
  if (key !== namesKey || !$('legend').children.length) {
    namesKey = key;
    setStrategies(names);
    charts.setNames(names);
    charts.rebuild();
    feed.setNames(names);
    drawLegend();
  }
  show($('burst'), Boolean(store.hello.burst));
  text($('links'), '');
  $('links').append(`HelixRouter ${hello.version} · `, el('a', { href: 'api/stats' }, 'the same as JSON'));
  config.load(store.hello.config_writes);
  draw();
}

// Controls.

$('window').addEventListener('click', (event) => {
  const m = Number(event.target.closest('button')?.dataset.min);
  if (!m) return;
  chosen = true;
  remember('helix-minutes', String(m));
  setMinutes(m);
  draw();
});

function pause() {
  frozen = frozen ? null : store.snapshot();
  frozenAt = frozen?.last?.t_ms || Date.now();
  attr($('pause'), 'aria-pressed', String(Boolean(frozen)));
  text($('pause'), frozen ? 'resume' : 'pause');
  drawBadge();
  draw();
}
$('pause').addEventListener('click', pause);

function setTheme(choice) {
  if (choice === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  press($('theme').children, (b) => b.dataset.themeChoice === choice);
}
function redraw() {
  charts.rebuild();
  draw();
}
$('theme').addEventListener('click', (event) => {
  const choice = event.target.closest('button')?.dataset.themeChoice;
  if (!choice) return;
  remember('helix-theme', choice);
  setTheme(choice);
  redraw();
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);

$('quantiles').addEventListener('click', (event) => {
  const q = event.target.closest('button')?.dataset.q;
  if (!q) return;
  const on = charts.toggleQuantile(q);
  press($('quantiles').children, (b) => on(b.dataset.q));
  redraw();
});

$('burst').addEventListener('click', async () => {
  const button = $('burst');
  button.disabled = true;
  text(button, 'sending…');
  let words = 'sent';
  try {
    const response = await fetch('api/burst', { method: 'POST', signal: AbortSignal.timeout(30_000) });
    if (!response.ok) words = (await response.json()).error || 'refused';
  } catch {
    words = 'not sent';
  }
  text(button, words);
  setTimeout(() => {
    button.disabled = false;
    text(button, 'send a burst');
  }, 1200);
});

document.addEventListener('visibilitychange', draw);
addEventListener('beforeprint', draw);

const storedMinutes = Number(recall('helix-minutes'));
if ([1, 5, 15].includes(storedMinutes)) {
  chosen = true;
  setMinutes(storedMinutes);
}
setTheme(document.documentElement.dataset.theme || 'auto');
charts.rebuild();
drawLegend();
feed.setNames([]);
setInterval(() => {
  if (!document.hidden) config.load();
}, 30_000);

connect(store, {
  state(next) {
    state = next;
    drawBadge();
    draw();
  },
  hello: onHello,
  tick: draw,
  decisions() { /* drawn with the next tick: a table that moves four times a second cannot be read */ },
});
