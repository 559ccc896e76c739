// The two charts: jobs routed by strategy, and their latencies.

import { el, attr } from './dom.js';
import * as f from './format.js';
import { makeChart, stripes, swatch, tipHead } from './chart.js';
import { colours, fade, ordered, slot, DROP } from './strategies.js';
import { perSecond } from './store.js';

/* global uPlot */

const QUANTILES = ['p50', 'p95', 'p99'];
const DASH = { p50: [], p95: [6, 4], p99: [1.5, 3.5] };
const GAP = 3.5; // steps without a point that leave a gap

/** stepFor is how many seconds a column stands for: what is narrower than a pixel or two is noise. */
const stepFor = (minutes) => (minutes >= 15 ? 10 : minutes >= 5 ? 3 : 1);

/**
 * columns puts points together in steps of that many seconds that do not move
 * as time goes on. A column without points is a gap.
 */
function columns(points, step) {
  const list = [];
  let last = null;
  for (const p of points) {
    const bucket = Math.floor(p.t_ms / 1000 / step);
    if (last && p.t_ms - last.t_ms > GAP * Math.max(p.dt_s, last.dt_s) * 1000) list.push({ t: last.t_ms + 1, points: [] });
    const column = list[list.length - 1];
    if (step > 1 && column?.bucket === bucket) {
      column.points.push(p);
      column.t = p.t_ms;
    } else list.push({ t: p.t_ms, bucket, points: [p] });
    last = p;
  }
  return list;
}

/** meanOf says so where a column stands for more than one point. */
function meanOf(column) {
  const seconds = column.points.reduce((s, p) => s + p.dt_s, 0);
  return column.points.length > 1 ? `, mean of ${Math.round(seconds)} s` : '';
}

/** meanLatency is the mean of a percentile over the seconds of a column, by their jobs; null if none ran. */
function meanLatency(column, name, q) {
  let n = 0;
  let sum = 0;
  for (const p of column.points) {
    const l = p.latency[name];
    if (!l || !(l[q] > 0)) continue;
    n += l.n;
    sum += l.n * l[q];
  }
  return n > 0 ? sum / n : null;
}

/** niceMax rounds up to what an axis can be divided by. */
function niceMax(x) {
  if (!(x > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(x));
  const m = [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 10].find((k) => k * power >= x * 1.04);
  return (m || 12) * power;
}

/** makeCharts draws into both hosts; it returns update(view), rebuild() and toggle functions. */
export function makeCharts(routedHost, latencyHost) {
  let names = ordered([]);
  let colour = null;
  const hidden = new Set();
  const hiddenQuantiles = new Set();
  let cols = [];
  let step = 1;
  let now = 0;
  let top = 1;
  let decades = [0.001, 100];
  let nameRoom = 50; // px beside the latencies for the strategies' names

  const shown = () => names.filter((n) => !hidden.has(n));

  const routed = makeChart(routedHost, {
    options: ({ theme, of }) => {
      // From the top of the stack down, so that each is painted over the one above.
      const series = [{}];
      const order = [...shown()].reverse();
      order.forEach((name) => {
        const c = of(name);
        series.push({
          stroke: c, width: 1.5, points: { show: false },
          fill: name === DROP ? (u) => stripes(u.ctx, c, fade(c, 0.55)) : fade(c, 0.5),
        });
      });
      const bands = order.slice(1).map((_, i) => ({ series: [i + 1, i + 2] }));
      series.push({ stroke: theme.fail, width: 2, dash: [2, 3], points: { show: true, size: 4, width: 0, fill: theme.fail, filter: isolated } });
      return {
        series, bands, padding: [10, 8, 0, 0],
        scales: { y: { range: () => [0, top] } },
        yAxis: (t, font) => ({
          stroke: t.axis, font, size: 44, gap: 6, space: 44,
          grid: { stroke: t.grid, width: 1 }, ticks: { show: false },
          values: (_, splits) => splits.map(f.axisRate),
        }),
        theme,
      };
    },
    tip: (u, i) => {
      const column = cols[i];
      if (!column || !column.points.length) return null;
      const rates = ratesOf(column);
      const total = shown().reduce((s, n) => s + rates(n), 0);
      return [
        tipHead(column.t / 1000, now, meanOf(column)),
        el('table', {}, el('tbody', {}, [...shown()].reverse().map((n) => el('tr', {},
          el('th', {}, swatch(slot(n)), n), el('td', {}, f.rate(rates(n)), el('small', {}, ' /s')))),
        el('tr', { class: 'sum' }, el('th', {}, 'all shown'), el('td', {}, f.rate(total), el('small', {}, ' /s'))),
        failedOf(column) > 0 ? el('tr', {}, el('th', {}, swatch('-fail'), 'failed'), el('td', {}, f.rate(failedOf(column)), el('small', {}, ' /s'))) : null)),
      ];
    },
  });

  const ratesOf = (column) => {
    const dt = column.points.reduce((s, p) => s + p.dt_s, 0);
    return (name) => (dt > 0 ? column.points.reduce((s, p) => s + (p.routed[name] || 0), 0) / dt : 0);
  };

  /** failedOf is how many jobs failed a second, null where that is not known. */
  const failedOf = (column) => {
    const dt = column.points.reduce((s, p) => s + p.dt_s, 0);
    return dt > 0 ? column.points.reduce((s, p) => s + p.failed, 0) / dt : null;
  };

  const timed = () => shown().filter((n) => n !== DROP);
  const lines = () => timed().flatMap((n) => QUANTILES.filter((q) => !hiddenQuantiles.has(q)).map((q) => [n, q]));

  const latency = makeChart(latencyHost, {
    options: ({ of }) => ({
      series: [{}, ...lines().map(([name, q]) => ({
        scale: 'ms', stroke: fade(of(name), { p50: 1, p95: 0.85, p99: 0.75 }[q]),
        width: q === 'p50' ? 1.75 : 1.25, dash: DASH[q],
        points: { show: true, size: 3, width: 0, fill: of(name), filter: isolated },
      }))],
      padding: [10, nameRoom + 8, 0, 0],
      scales: { ms: { distr: 3, log: 10, range: () => decades } },
      yAxis: (t, font) => ({
        scale: 'ms', stroke: t.axis, font, size: 52, gap: 6,
        grid: { stroke: t.grid, width: 1 }, ticks: { show: false },
        splits: () => {
          const list = [];
          for (let e = Math.round(Math.log10(decades[0])); e <= Math.round(Math.log10(decades[1])); e++) list.push(10 ** e);
          return list;
        },
        filter: (_, splits) => splits,
        values: (_, splits) => splits.map(f.axisDuration),
      }),
      hooks: { draw: [nameLines] },
    }),
    tip: (u, i) => {
      const column = cols[i];
      if (!column) return null;
      const rows = timed().filter((n) => meanLatency(column, n, 'p50_ms') !== null);
      if (!rows.length) return null;
      return [
        tipHead(column.t / 1000, now, meanOf(column)),
        el('table', {}, el('thead', {}, el('tr', {}, el('th'), QUANTILES.map((q) => el('th', {}, q)))),
          el('tbody', {}, rows.map((n) => el('tr', {}, el('th', {}, swatch(slot(n)), n),
            QUANTILES.map((q) => el('td', {}, f.duration(meanLatency(column, n, `${q}_ms`)))))))),
      ];
    },
  });

  /** isolated finds values with nothing on either side, which no line shows. */
  function isolated(u, series, show) {
    if (!show) return null;
    const ys = u.data[series];
    const list = [];
    for (let i = 0; i < ys.length; i++) {
      if (ys[i] > 0 && !(ys[i - 1] > 0 || ys[i + 1] > 0)) list.push(i);
    }
    return list;
  }

  /** nameLines writes each strategy at the end of its median, apart from the others. */
  function nameLines(u) {
    const { ctx, bbox } = u;
    const dpr = devicePixelRatio || 1;
    const labels = [];
    const drawn = lines();
    for (const name of timed()) {
      const q = QUANTILES.find((quantile) => !hiddenQuantiles.has(quantile));
      const at = drawn.findIndex(([n, quantile]) => n === name && quantile === q);
      if (at < 0) continue;
      const ys = u.data[at + 1];
      let i = ys.length - 1;
      while (i >= 0 && i > ys.length - 1 - 60 && !(ys[i] > 0)) i--;
      if (!(ys[i] > 0)) continue;
      labels.push({ name, y: u.valToPos(ys[i], 'ms', true) });
    }
    const line = 12 * dpr;
    labels.sort((a, b) => a.y - b.y);
    for (let pass = 0; pass < 4; pass++) {
      for (let i = 1; i < labels.length; i++) {
        const overlap = labels[i - 1].y + line - labels[i].y;
        if (overlap > 0) {
          labels[i - 1].y -= overlap / 2;
          labels[i].y += overlap / 2;
        }
      }
    }
    ctx.save();
    ctx.font = `${10.5 * dpr}px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif`;
    ctx.textBaseline = 'middle';
    ctx.textAlign = 'left';
    const room = nameRoom * dpr;
    for (const l of labels) {
      ctx.fillStyle = colour.of(l.name);
      const y = Math.min(bbox.top + bbox.height - line / 2, Math.max(bbox.top + line / 2, l.y));
      ctx.fillText(fit(ctx, l.name, room), bbox.left + bbox.width + 5 * dpr, y);
    }
    ctx.restore();
  }
  function fit(ctx, name, room) {
    if (ctx.measureText(name).width <= room) return name;
    let n = [...name].slice(0, 24);
    while (n.length > 1 && ctx.measureText(`${n.join('')}…`).width > room) n = n.slice(0, -1);
    return `${n.join('')}…`;
  }

  function drawRouted(view, range) {
    const list = shown();
    const data = [cols.map((c) => c.t / 1000)];
    const stack = list.map(() => new Array(cols.length).fill(null));
    let most = 0;
    cols.forEach((column, i) => {
      if (!column.points.length) return;
      const rates = ratesOf(column);
      let sum = 0;
      list.forEach((name, s) => {
        sum += rates(name);
        stack[s][i] = sum;
      });
      most = Math.max(most, sum);
    });
    const failed = cols.map((column) => failedOf(column) || null); // a line only where some did
    most = Math.max(most, ...failed);
    // It grows at once and shrinks only when much too high, to avoid flicker.
    const fitting = niceMax(most);
    if (fitting > top || fitting < top * 0.7) top = fitting;
    routed.set([...data, ...stack.reverse(), failed], range, view.marks);
    describe(routedHost, `Routed per second by strategy, last ${view.minutes} minutes. Now: ${
      list.map((n) => `${n} ${f.rate(perSecond(view.last, view.last.routed[n] || 0))}`).join(', ')}; failed ${f.rate(perSecond(view.last, view.last.failed))}.`);
  }

  function drawLatency(view, range) {
    const xs = cols.map((c) => c.t / 1000);
    let least = Infinity;
    let most = 0;
    const data = lines().map(([name, q]) => cols.map((column) => {
      const v = meanLatency(column, name, `${q}_ms`);
      if (!(v > 0)) return null; // nothing ran: no line either
      least = Math.min(least, v);
      most = Math.max(most, v);
      return v;
    }));
    const low = least < Infinity ? 10 ** Math.floor(Math.log10(least) + 1e-9) : 0.001;
    const high = most > 0 ? 10 ** Math.ceil(Math.log10(most) - 1e-9) : 100;
    decades = [low, Math.max(high, low * 100)];
    latency.set([xs, ...data], range, view.marks);
    const known = timed().filter((n) => view.last.latency[n]);
    describe(latencyHost, `Latency from arrival to completion by strategy on a logarithmic axis, last ${view.minutes} minutes. ${
      known.length ? `Now: ${known.map((n) => `${n} p50 ${f.duration(view.last.latency[n].p50_ms)}, p99 ${f.duration(view.last.latency[n].p99_ms)}`).join('; ')}.` : 'Nothing ran in the last second.'}`);
  }

  const described = new Map();
  function describe(host, words) {
    if (Date.now() - (described.get(host) || 0) < 5000) return;
    described.set(host, Date.now());
    attr(host, 'aria-label', words);
  }

  function rebuild() {
    colour = colours(names);
    nameRoom = Math.min(96, 6.2 * Math.max(...timed().map((n) => n.length), 6));
    routed.rebuild(colour);
    latency.rebuild(colour);
  }

  return {
    rebuild,
    get names() { return names; },
    get step() { return step; },
    setNames(list) {
      names = ordered(list);
    },
    shows: (name) => !hidden.has(name),
    toggle(name) {
      if (!hidden.delete(name)) hidden.add(name);
      if (shown().length === 0) hidden.clear();
      return (n) => !hidden.has(n);
    },
    toggleQuantile(q) {
      if (!hiddenQuantiles.delete(q)) hiddenQuantiles.add(q);
      if (hiddenQuantiles.size === QUANTILES.length) hiddenQuantiles.clear();
      return (other) => !hiddenQuantiles.has(other);
    },
    update(view) {
      if (!view.last) return;
      now = view.last.t_ms / 1000;
      const range = [now - view.minutes * 60, now];
      step = stepFor(view.minutes);
      cols = columns(view.drawn, step);
      drawRouted(view, range);
      drawLatency(view, range);
    },
  };
}
