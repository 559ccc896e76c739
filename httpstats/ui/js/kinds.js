// The learned models of each kind, and its statistics.

import { $, el, text, attr, show, arrange, kindName } from './dom.js';
import * as f from './format.js';
import { strategyTag, slot, DROP } from './strategies.js';

const FEW = 12; // rows until "show all"
const SORT_EVERY = 5000; // ms: rows that change places cannot be read
const RATE_SECONDS = 10;

const top = (counts) => counts.reduce((m, c) => (c.count > (m?.count || 0) ? c : m), null);

/** derive works out one kind's figures from snapshots of the last minute. */
function derive(k, snapshots, latency) {
  const now = snapshots[snapshots.length - 1];
  const since = (seconds) => {
    const base = snapshots.find((s) => s.t >= now.t - seconds * 1000 - 500 && s.kinds.has(k.name));
    return base && base !== now ? { kind: base.kinds.get(k.name), dt: (now.t - base.t) / 1000 } : null;
  };
  const ten = since(RATE_SECONDS);
  const minute = since(60);
  const recent = minute && k.routed_by_strategy.map((r) => ({
    strategy: r.strategy,
    count: r.count - (minute.kind.routed_by_strategy.find((o) => o.strategy === r.strategy)?.count || 0),
  }));
  // Demand fluctuates, so the mean of several readings is shown.
  const lately = snapshots.filter((s) => s.t > now.t - RATE_SECONDS * 1000 && s.kinds.has(k.name));
  const demand = lately.reduce((sum, s) => sum + s.kinds.get(k.name).demand, 0) / lately.length;
  const mostly = (recent && top(recent)) || top(k.routed_by_strategy);
  return {
    name: k.name,
    rate: ten ? (k.submitted - ten.kind.submitted) / ten.dt : null,
    drops: ten ? (k.dropped - ten.kind.dropped) / ten.dt : null,
    failed: ten ? (k.failed - ten.kind.failed) / ten.dt : null,
    mostly: mostly ? mostly.strategy : null,
    budget: k.promised ? k.kept / k.promised : null,
    latency,
    demand,
    k,
  };
}

const columns = [
  { id: 'name', name: 'kind', by: (r) => r.name, up: true },
  { id: 'rate', name: 'per second', num: true, by: (r) => r.rate ?? r.k.submitted / 1e9, title: 'submitted, mean of the last 10 s' },
  { id: 'run', name: 'run time', num: true, by: (r) => (r.k.samples ? r.k.run_ms : -1), title: 'as learned: mean ± mean deviation' },
  { id: 'samples', name: 'samples', num: true, by: (r) => r.k.samples, title: 'finished runs that it was learned from' },
  { id: 'latency', name: 'p50, p99', num: true, by: (r) => r.latency?.p99_ms ?? -1, title: 'from arrival to completion, of jobs that ended in the last 10 s; sorted by p99' },
  { id: 'mostly', name: 'mostly', by: (r) => r.mostly || '', up: true, title: 'the strategy of most jobs in the last minute' },
  { id: 'budget', name: 'in budget', num: true, by: (r) => r.budget ?? 2, title: 'of the jobs admitted with a budget, since start' },
  { id: 'failed', name: 'failed', num: true, by: (r) => r.k.failed, title: 'ran and returned an error or panicked, since start; and per second, mean of the last 10 s' },
  { id: 'drops', name: 'drops', num: true, by: (r) => r.k.dropped, title: 'since start; and per second, mean of the last 10 s' },
  { id: 'ahead', name: 'ahead', num: true, by: (r) => r.k.turn_ms, title: 'admitted work of the kind that is not done, divided by its guaranteed rate' },
  { id: 'share', name: 'CPU demand', by: (r) => r.demand, title: 'CPU seconds demanded per second, including refused work, mean of the last 10 s; the line is its fair share under overload' },
];

export function makeKinds() {
  const table = $('kinds');
  const body = table.tBodies[0];
  const all = $('kinds-all');
  const rows = new Map();
  let sort = { id: 'rate', up: false };
  let order = [];
  let sorted = 0;
  let everything = false;
  let view = null;
  let maxKinds = null;

  const heads = columns.map((c) => {
    const button = el('button', { type: 'button', title: c.title || '', onclick: () => choose(c) }, c.name, el('i', { 'aria-hidden': 'true' }));
    return el('th', { scope: 'col', class: `k-${c.id}${c.num ? ' num' : ''}`, data: { id: c.id } }, button);
  });
  table.tHead.append(el('tr', {}, heads));
  all.addEventListener('click', () => {
    everything = !everything;
    draw();
  });

  function choose(c) {
    sort = sort.id === c.id ? { id: c.id, up: !sort.up } : { id: c.id, up: Boolean(c.up) };
    sorted = 0;
    draw();
  }

  function makeRow(name) {
    const cells = Object.fromEntries(columns.map((c) => [c.id, el('td', { class: `k-${c.id}${c.num ? ' num' : ''}` })]));
    const fill = el('i');
    const limit = el('b', { class: 'limit' });
    const words = el('span', { class: 'num' });
    cells.share.append(el('div', { class: 'bar' }, fill, limit), words);
    const counted = (cell) => {
      const parts = { cell, all: el('span'), rate: el('span', { class: 'dim' }) };
      cell.append(parts.all, parts.rate);
      return parts;
    };
    const latency = { p50: el('span', { class: 'dim' }), p99: el('span') };
    cells.latency.append(latency.p50, latency.p99);
    const drops = counted(cells.drops);
    const failed = counted(cells.failed);
    const node = el('tr', { data: { kind: name } }, columns.map((c) => cells[c.id]));
    cells.name.append(kindName(name));
    return { node, cells, fill, limit, words, latency, drops, failed, mostly: '' };
  }

  function fillRow(e, r, slots) {
    const { k } = r;
    text(e.cells.rate, f.rate(r.rate));
    text(e.cells.run, k.samples ? f.spread(k.run_ms, k.spread_ms) : 'not learned');
    e.cells.run.title = k.ns_per_unit > 0 ? `${f.duration(k.ns_per_unit / 1e6)} per unit of cost` : '';
    text(e.cells.samples, f.count(k.samples));
    text(e.latency.p50, r.latency ? f.duration(r.latency.p50_ms) : '');
    text(e.latency.p99, r.latency ? f.duration(r.latency.p99_ms) : f.NONE);
    e.cells.latency.title = r.latency ? `p95 ${f.duration(r.latency.p95_ms)}, of ${f.count(r.latency.n)} jobs` : '';
    if (e.mostly !== r.mostly) {
      e.mostly = r.mostly;
      e.cells.mostly.replaceChildren(r.mostly ? strategyTag(r.mostly) : f.NONE);
    }
    text(e.cells.budget, k.promised ? `${f.share(k.kept, k.promised)} %` : 'no budget');
    e.cells.budget.classList.toggle('dim', !k.promised);
    for (const [parts, all, rate] of [[e.drops, k.dropped, r.drops], [e.failed, k.failed, r.failed]]) {
      text(parts.all, f.count(all));
      text(parts.rate, rate > 0 ? `${f.rate(rate)} /s` : '');
      parts.cell.classList.toggle('alarm', rate > 0);
    }
    text(e.cells.ahead, f.duration(k.turn_ms));
    e.cells.ahead.classList.toggle('dim', !k.limited);
    e.cells.ahead.title = k.limited ? 'over its share: a job is refused if this exceeds the rest of its budget'
      : 'within its share: jobs are not refused for this';
    const part = slots > 0 ? r.demand / slots : 0;
    e.fill.style.width = `${Math.min(1, part) * 100}%`;
    const limited = k.share > 0 && k.share < slots * 0.995;
    e.limit.hidden = !limited;
    if (limited) e.limit.style.left = `${Math.min(1, k.share / slots) * 100}%`;
    text(e.words, `${f.cores(r.demand)} cores`);
    e.cells.share.title = limited ? `demands ${f.cores(r.demand)} cores; its fair share now is ${f.cores(k.share)}` : 'not limited: all demands fit';
    attr(e.node, 'data-s', slot(r.mostly || DROP));
  }

  function draw() {
    if (!view?.stats) return;
    const lately = view.stats.kind_latency_10s || {};
    const latency = (name) => (Object.hasOwn(lately, name) ? lately[name] : null); // a kind may be called "constructor"
    const list = view.stats.kinds.map((k) => derive(k, view.kinds, latency(k.name)));
    const by = columns.find((c) => c.id === sort.id).by;
    const known = new Set(list.map((r) => r.name));
    const stale = list.length !== order.length || order.some((n) => !known.has(n));
    if (stale || (!view.paused && Date.now() - sorted > SORT_EVERY && !table.matches(':hover, :has(:focus-visible)')) || sorted === 0) {
      sorted = Date.now();
      order = [...list].sort((a, b) => {
        const x = by(a);
        const y = by(b);
        const less = typeof x === 'string' ? x.localeCompare(y) : x - y;
        return (sort.up ? less : -less) || a.name.localeCompare(b.name);
      }).map((r) => r.name);
    }
    const records = new Map(list.map((r) => [r.name, r]));
    const visible = everything ? order : order.slice(0, FEW);
    arrange(body, rows, visible, makeRow);
    for (const name of visible) fillRow(rows.get(name), records.get(name), view.last?.slots || view.stats.pressure.slots);
    for (const th of heads) {
      attr(th, 'aria-sort', th.dataset.id === sort.id ? (sort.up ? 'ascending' : 'descending') : null);
    }
    // All kinds beyond the limit are one more, "other".
    text($('kinds-count'), !maxKinds ? f.plural(list.length, 'kind')
      : list.length > maxKinds ? `${f.exact(maxKinds)} of ${f.exact(maxKinds)}, and all others as “other”`
      : `${list.length} of ${f.exact(maxKinds)}`);
    show(all, order.length > FEW);
    text(all, everything ? 'show fewer' : `show all ${order.length}`);
    names(list.map((r) => r.name));
  }

  let offered = '';
  /** names offers the kinds to the fields that ask for one. */
  function names(list) {
    const joined = list.join('\n');
    if (joined === offered) return;
    offered = joined;
    $('kind-names').replaceChildren(...list.map((n) => el('option', { value: n })));
  }

  return {
    setConfig(config) { maxKinds = config.max_kinds; },
    update(next) {
      view = next;
      draw();
    },
  };
}
