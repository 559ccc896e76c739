// The workers that jobs go to, with their state and statistics.

import { $, el, text, attr, show, arrange, kindName } from './dom.js';
import * as f from './format.js';
import { strategyTag, slot } from './strategies.js';

const states = {
  serving: 'takes jobs',
  silent: 'has not answered for longer than usual: gets jobs only if no other worker can take them',
  leaving: 'finishes its jobs, and accepts no new ones',
  gone: 'has sent no message for some seconds',
};

const columns = [
  { id: 'worker', name: 'worker' },
  { id: 'state', name: 'state' },
  { id: 'load', name: 'load', title: 'slots in use, and jobs that wait for one, by its last report' },
  { id: 'way', name: 'round trip', num: true, title: 'time to the answer, without wait and run: moving mean' },
  { id: 'flying', name: 'in flight', num: true, title: 'jobs of this router at the worker, or on their way' },
  { id: 'sent', name: 'sent', num: true, title: 'since this router knows it' },
  { id: 'answered', name: 'answered', num: true, title: 'jobs that ran there, with or without an error' },
  { id: 'refused', name: 'refused', num: true, title: 'did not run there: no room in time, or not delivered' },
  { id: 'lost', name: 'lost', num: true, title: 'outcome unknown' },
];

export function makeFleet() {
  const panel = $('fleet-panel');
  const table = $('fleet');
  const body = table.tBodies[0];
  const rows = new Map();
  table.tHead.append(el('tr', {}, columns.map((c) => el('th', { scope: 'col', class: `w-${c.id}${c.num ? ' num' : ''}`, title: c.title || '' }, c.name))));

  function makeRow({ w, strategy }) {
    const cells = Object.fromEntries(columns.map((c) => [c.id, el('td', { class: `w-${c.id}${c.num ? ' num' : ''}` })]));
    const fill = el('i');
    const words = el('span', { class: 'num' });
    cells.load.append(el('div', { class: 'bar', 'aria-hidden': 'true' }, fill), words);
    cells.worker.append(kindName(w.worker));
    return { node: el('tr', { data: { worker: w.worker, s: slot(strategy) } }, columns.map((c) => cells[c.id])), cells, fill, words };
  }

  function fillRow(e, w) {
    const { cells } = e;
    text(cells.state, w.state);
    attr(cells.state, 'data-state', w.state);
    cells.state.title = `${states[w.state] || ''}; last heard of ${f.duration(w.heard_ms)} ago`;
    e.fill.style.width = `${w.slots > 0 ? Math.min(1, w.busy / w.slots) * 100 : 0}%`;
    text(e.words, `${w.busy} of ${w.slots}${w.queued ? `, ${f.exact(w.queued)} wait` : ''}`);
    text(cells.way, f.duration(w.round_trip_ms));
    text(cells.flying, f.exact(w.in_flight));
    text(cells.sent, f.count(w.sent));
    text(cells.answered, f.count(w.answered));
    text(cells.refused, f.count(w.refused + w.undelivered + w.unsent));
    text(cells.lost, f.count(w.lost));
    cells.lost.classList.toggle('alarm', w.lost > 0);
  }

  function sums(fleet) {
    const parts = [`${fleet.serving} of ${f.plural(fleet.known, 'worker')} serving`,
      `${f.count(fleet.sent)} sent = ${f.count(fleet.answered)} answered + ${f.count(fleet.refused + fleet.undelivered + fleet.unsent)} refused + ${f.count(fleet.lost)} lost + ${f.count(fleet.in_flight)} in flight`];
    if (fleet.took_ms !== null) {
      parts.push(`round trip p50 ${f.duration(fleet.round_trip_p50_ms)}, p99 ${f.duration(fleet.round_trip_p99_ms)}`,
        `predicted ${f.duration(fleet.predicted_ms)} each, took ${f.duration(fleet.took_ms)}, off by ${f.duration(fleet.off_ms)}`);
    }
    if (fleet.known > fleet.workers.length) parts.push(`the first ${fleet.workers.length} are shown`);
    return el('p', { class: 'fleet-sums' }, strategyTag(fleet.strategy), el('span', { class: 'dim' }, ` ${parts.join(' · ')}`));
  }

  return (view) => {
    const fleets = view.stats?.fleets || [];
    show(panel, fleets.length > 0);
    if (!fleets.length) return;
    $('fleet-sums').replaceChildren(...fleets.map(sums));
    const list = fleets.flatMap((fleet) => fleet.workers.map((w) => ({ id: `${fleet.strategy}\n${w.worker}`, w, strategy: fleet.strategy })));
    const workers = new Map(list.map((r) => [r.id, r]));
    arrange(body, rows, [...workers.keys()], (id) => makeRow(workers.get(id)));
    for (const { id, w } of list) fillRow(rows.get(id), w);
    show($('fleet-none'), list.length === 0);
  };
}
