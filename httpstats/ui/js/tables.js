// The charts as tables for screen readers. They change at most every five seconds, so that
// a reader is not interrupted mid-row.

import { el } from './dom.js';
import * as f from './format.js';
import { perSecond } from './store.js';

const EVERY = 5000; // ms
const ROWS = 12;

function table(caption, head, rows) {
  return el('table', {}, el('caption', {}, caption),
    el('thead', {}, el('tr', {}, head.map((h) => el('th', { scope: 'col' }, h)))),
    el('tbody', {}, rows.map(([first, ...rest]) => el('tr', {},
      el('th', { scope: 'row' }, first), rest.map((c) => el('td', {}, c))))));
}

/** spread picks at most n of list, evenly, the last one always. */
function spread(list, n) {
  if (list.length <= n) return list;
  return Array.from({ length: n }, (_, i) => list[Math.round(((i + 1) * list.length) / n) - 1]);
}

export function makeTables(routedHost, latencyHost) {
  let drawn = 0;
  return (view, names) => {
    if (Date.now() - drawn < EVERY) return;
    if (view.window.length > 0) drawn = Date.now(); // no data yet: again with the next frame
    const points = spread(view.window, ROWS);
    routedHost.replaceChildren(table(
      `Jobs routed per second, by strategy, at ${points.length} moments of the last ${view.minutes} minutes`,
      ['time', ...names, 'failed'],
      points.map((p) => [f.clock(p.t_ms), ...names.map((n) => f.rate(perSecond(p, p.routed[n] || 0))), f.rate(perSecond(p, p.failed))])));
    const timed = names.filter((n) => n !== 'drop');
    const quantiles = ['p50', 'p95', 'p99'];
    latencyHost.replaceChildren(table(
      `Latency from arrival to completion at ${points.length} moments of the last ${view.minutes} minutes`,
      ['time', ...timed.flatMap((n) => quantiles.map((q) => `${n} ${q}`))],
      points.map((p) => [f.clock(p.t_ms), ...timed.flatMap((n) => quantiles.map((q) => f.duration(p.latency[n]?.[`${q}_ms`])))])));
  };
}
