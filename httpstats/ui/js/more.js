// Drops by reason, batches, downstreams, and the account of all jobs.

import { $, el, text, show, arrange, kindName, readable } from './dom.js';
import * as f from './format.js';

/** list keeps rows by name: a label, a note, a figure, a bar, and text below it. */
function makeList(host, slot, nothing) {
  const rows = new Map();
  const none = el('p', { class: 'dim none', hidden: true }, nothing); // until there are figures
  host.append(none);
  const make = (name) => {
    const value = el('b');
    const fill = el('i');
    const note = el('span', { class: 'dim' });
    const below = el('p', { class: 'dim below' });
    const node = el('div', { class: 'item', data: { s: slot } },
      el('div', { class: 'meter-head' }, kindName(name), note, value), el('div', { class: 'bar thin', 'aria-hidden': 'true' }, fill), below);
    return { node, value, fill, note, below };
  };
  return (entries) => {
    none.hidden = entries.length > 0;
    arrange(host, rows, entries.map((e) => e.name), make);
    for (const e of entries) {
      const r = rows.get(e.name);
      text(r.value, e.value);
      text(r.note, e.note || '');
      text(r.below, e.below || '');
      r.node.title = e.title || '';
      r.fill.style.width = `${Math.min(1, Math.max(0, e.part)) * 100}%`;
    }
  };
}

export function makeMore() {
  const drops = makeList($('drops'), 'drop', 'Nothing was dropped.');
  const downstreams = makeList($('downstreams'), 'spawn', '');
  const batches = makeList($('batches'), 'batch', 'No kind has a batch function that was called.');

  return (view) => {
    const s = view.stats;
    if (!s) return;
    const most = s.dropped || 1;
    drops([...s.dropped_by_reason].sort((a, b) => b.count - a.count).slice(0, 8).map((r) => ({
      name: r.reason, value: f.count(r.count), part: r.count / most, note: `${f.share(r.count, most)} %`,
    })));
    batches(s.kinds.filter((k) => k.batch && k.batch.calls > 0).sort((a, b) => b.batch.items - a.batch.items).slice(0, 6).map((k) => {
      const mean = k.batch.items / k.batch.calls;
      return {
        name: k.name, value: `${mean.toFixed(1)} of ${k.batch.max_size} a call`, part: mean / (k.batch.max_size || 1),
        note: `${f.count(k.batch.calls)} calls`,
        title: `${f.share(k.batch.full, k.batch.calls)} % of the calls were full; the longest wait for a batch to start was ${f.duration(k.batch.oldest_wait_ms)}`,
      };
    }));
    const waited = new Map(); // by name: kinds may share one
    for (const k of s.kinds.filter((k) => k.downstream)) {
      const d = waited.get(k.downstream.name) || { ...k.downstream, kinds: [] };
      d.kinds.push(readable(k.name));
      waited.set(d.name, d);
    }
    show($('downstreams-part'), waited.size > 0);
    downstreams([...waited.values()].sort((a, b) => b.rate - a.rate).slice(0, 8).map((d) => ({
      name: d.name, part: d.limit > 0 ? d.in_flight / d.limit : 0,
      value: d.limit > 0 ? `${f.exact(d.in_flight)} of ${f.exact(d.limit)} in flight` : `${f.exact(d.in_flight)} in flight, no limit`,
      note: d.lost > 0 ? `${f.exact(d.lost)} lost` : '',
      below: `${f.rate(d.rate)} calls /s succeed, after ${f.duration(d.mean_ms)}; after ${f.duration(d.base_ms)} with few in flight`,
      title: `Calls of ${d.kinds.join(', ')}. `
        + (d.limit > 0 ? 'The limit is learned: more calls in flight would only wait longer. Those beyond it started before it fell.'
          : 'It is not the bottleneck, so there is no limit.')
        + (d.lost > 0 ? ' Those lost stay in flight while later ones end, and do not count: does their Run return when its ctx is done?' : ''),
    })));
    const parts = [['completed', s.completed], ['failed', s.failed], ['dropped', s.dropped], ['withdrawn', s.withdrawn], ['in flight', s.in_flight]];
    text($('account'), `${f.exact(s.submitted)} submitted = ${parts.map(([name, n]) => `${f.exact(n)} ${name}`).join(' + ')}`);
  };
}
