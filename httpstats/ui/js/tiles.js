// The figures on top, each with its history over the chosen minutes.

import { el, svg, text, attr } from './dom.js';
import * as f from './format.js';
import { perSecond } from './store.js';

const WIDTH = 120;
const HEIGHT = 28;

/** sparkline draws values (null: there is none; undefined: no point says) at times from 0 to 1. */
function sparkline() {
  const area = svg('path', { class: 'area' });
  const line = svg('path', { class: 'stroke', 'vector-effect': 'non-scaling-stroke' });
  const node = svg('svg', {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true', class: 'spark',
  }, area, line);
  const set = (times, values, low, high) => {
    const span = high - low || 1;
    let d = '';
    let fill = '';
    let start = null;
    let x = 0;
    const end = () => {
      if (start !== null) fill += `L${x.toFixed(1)} ${HEIGHT}L${start.toFixed(1)} ${HEIGHT}Z`;
      start = null;
    };
    values.forEach((v, i) => {
      if (v === undefined && values[i - 1] !== undefined && i < values.length - 1) return; // one without a point is a matter of rounding
      if (v === undefined || v === null || !Number.isFinite(v)) return end();
      x = times[i] * WIDTH;
      const y = HEIGHT - 1.5 - (Math.min(Math.max(v, low), high) - low) / span * (HEIGHT - 3);
      const to = `${start === null ? 'M' : 'L'}${x.toFixed(1)} ${y.toFixed(1)}`;
      d += to;
      fill += to;
      if (start === null) start = x;
    });
    end();
    attr(line, 'd', d);
    attr(area, 'd', fill);
  };
  return { node, set };
}

/** Thins out to what a small line can show, by means or, for the worst, by maxima. */
function thin(points, value, minutes, worst) {
  const buckets = minutes > 1 ? 75 : 60;
  const end = points[points.length - 1].t_ms;
  const width = (minutes * 60_000) / buckets;
  const offset = Math.floor(end / width); // so that buckets do not move with time
  const sum = new Array(buckets).fill(undefined);
  const n = new Array(buckets).fill(0);
  for (const p of points) {
    const v = value(p);
    const b = buckets - 1 - (offset - Math.floor(p.t_ms / width));
    if (b < 0 || b >= buckets) continue;
    if (v === null || v === undefined) {
      sum[b] ??= null;
      continue;
    }
    if (worst === 'max') sum[b] = Math.max(sum[b] ?? v, v);
    else if (worst === 'min') sum[b] = Math.min(sum[b] ?? v, v);
    else sum[b] = (sum[b] ?? 0) + v;
    n[b]++;
  }
  const times = sum.map((_, i) => i / (buckets - 1));
  return [times, sum.map((v, i) => (v === null || v === undefined || worst ? v : v / n[i]))];
}

const sumOf = (points, key) => points.reduce((s, p) => s + p[key], 0);

/** meanDemand is that of five seconds: from moment to moment it jumps. */
function meanDemand(v) {
  const lately = v.window.slice(-5);
  return lately.reduce((sum, p) => sum + p.demand, 0) / lately.length;
}

// Each figure: how to get its value from a point, and its words from the view.
const figures = [
  {
    id: 'submitted', name: 'Submitted', slot: '-ink',
    value: (p) => perSecond(p, p.submitted),
    words: (v) => [f.rate(perSecond(v.last, v.last.submitted)), '/s'],
    below: (v) => (v.stats ? `${f.count(v.stats.submitted)} since start` : ''),
  },
  {
    id: 'completed', name: 'Completed', slot: 'inline',
    value: (p) => perSecond(p, p.completed),
    words: (v) => [f.rate(perSecond(v.last, v.last.completed)), '/s'],
    below: (v) => (v.stats ? `${f.count(v.stats.completed)} since start` : ''),
  },
  {
    id: 'failed', name: 'Failed', slot: '-fail', worst: 'max',
    value: (p) => perSecond(p, p.failed),
    words: (v) => [f.rate(perSecond(v.last, v.last.failed)), '/s'],
    below: (v) => (v.stats?.failed ? `${f.count(v.stats.failed)} since start` : 'none since start'),
    alarm: (v) => v.last.failed > 0,
  },
  {
    id: 'dropped', name: 'Dropped', slot: 'drop', worst: 'max',
    value: (p) => perSecond(p, p.dropped),
    words: (v) => [f.rate(perSecond(v.last, v.last.dropped)), '/s'],
    below: (v) => (sumOf(v.window, 'dropped') ? `${f.share(sumOf(v.window, 'dropped'), sumOf(v.window, 'submitted'))} % in ${v.minutes} min` : `none in ${v.minutes} min`),
    alarm: (v) => v.last.dropped > 0,
  },
  {
    id: 'p99', name: 'p99 latency', slot: 'batch', worst: 'max',
    value: (p) => p.p99_ms,
    words: (v) => f.durationParts(v.last.p99_ms),
    below: (v) => {
      const worst = v.window.reduce((m, p) => Math.max(m, p.p99_ms ?? 0), 0);
      return worst > 0 ? `worst shown: ${f.duration(worst)}` : '';
    },
  },
  {
    id: 'demand', name: 'CPU demand', slot: 'cpu_pool',
    value: (p) => p.demand,
    high: (v, most) => Math.max(most, v.last.slots),
    words: (v) => [f.cores(meanDemand(v)), `of ${f.plural(v.last.slots, 'core')}`],
    below: (v) => `${f.duration(v.last.work_ms)} of work left`,
    alarm: (v) => meanDemand(v) > v.last.slots,
  },
  {
    id: 'kept', name: 'Promises kept', slot: 'spawn', worst: 'min',
    value: (p) => (p.promised > 0 ? (p.kept / p.promised) * 100 : null),
    high: () => 100, // and from 0: a cut-off axis would exaggerate small changes
    words: (v) => [f.share(sumOf(v.window, 'kept'), sumOf(v.window, 'promised')), `% in ${v.minutes} min`],
    below: (v) => {
      const promised = sumOf(v.window, 'promised');
      if (!promised) return 'no budgets given';
      return `${f.count(promised - sumOf(v.window, 'kept'))} of ${f.count(promised)} broken`;
    },
  },
];

export function makeTiles(host) {
  const tiles = figures.map((figure) => {
    const number = el('b');
    const unit = el('span');
    const below = el('p', { class: 'below' });
    const spark = sparkline();
    const node = el('div', { class: 'tile panel', id: `tile-${figure.id}`, data: { s: figure.slot } },
      el('h2', {}, figure.name), el('p', { class: 'figure' }, number, ' ', unit), below, spark.node);
    host.append(node);
    return { figure, node, number, unit, below, spark };
  });

  return (view) => {
    if (!view.last || !view.window.length) {
      for (const t of tiles) text(t.number, f.NONE);
      return;
    }
    for (const t of tiles) {
      const [number, unit] = t.figure.words(view);
      text(t.number, number);
      text(t.unit, unit);
      const below = t.figure.below(view);
      text(t.below, below);
      t.below.title = below;
      t.node.classList.toggle('alarm', Boolean(t.figure.alarm?.(view)));
      const [times, values] = thin(view.window, t.figure.value, view.minutes, t.figure.worst);
      const known = values.filter((v) => v !== null && v !== undefined);
      let high = Math.max(...known, 0);
      let low = Math.min(...known, high);
      high = t.figure.high ? t.figure.high(view, high) : high;
      low = t.figure.low ? t.figure.low(view, low) : 0;
      t.spark.set(times, values, low, high || 1);
    }
  };
}
