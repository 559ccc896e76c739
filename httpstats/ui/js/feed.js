// The latest decisions. The table stands still while the user points at it, moves through
// it by keyboard or has opened a row and scrolled to it.

import { $, el, text, show, kindName } from './dom.js';
import * as f from './format.js';
import { strategyTag, slot, ordered, DROP } from './strategies.js';
import { facts, late, story, rejectedList } from './words.js';

// Explanations of some figures.
const meanings = {
  'soonest slot': 'predicted time until a slot is free: running jobs, and queued jobs with earlier deadlines, come first',
  'its kind’s turn': 'admitted work of the kind that is not done, divided by its guaranteed rate',
  'calls in flight': 'calls to its downstream at the decision, from all kinds that share it',
  'limit on them': 'the most that jobs of its priority may have in flight, as learned',
  'too much ahead': 'how far the wait before the job exceeds what its budget allows',
  'worth a retry in': 'predicted time until such a job could be admitted: DropError.RetryAfter',
  'left at the decision': 'rest of its budget at the decision',
  'left when refused': 'rest of its budget when it was refused after its admission',
};

const ROWS = 256;

export function makeFeed() {
  const table = $('feed');
  const body = table.tBodies[0];
  const held = $('feed-held');
  const none = $('feed-none');
  const pick = $('feed-strategy');
  const kind = $('feed-kind');
  const rows = new Map(); // seq -> {row, detail}
  let pointing = false;
  let view = null;
  let shownTo = 0; // seq of the newest row

  const wanted = () => {
    const which = pick.value;
    const part = kind.value.trim().toLowerCase();
    return (d) => {
      if (part && !d.kind.toLowerCase().includes(part)) return false;
      if (which === 'all') return true;
      if (which === 'drops') return d.strategy === DROP || d.status === 'dropped';
      if (which === 'late') return late(d) || d.status === 'failed';
      return `=${d.strategy}` === which;
    };
  };

  function makeRow(d) {
    const tookLate = late(d);
    const cell = (cls, ...content) => el('td', { class: cls, role: 'gridcell' }, ...content);
    const aside = facts(d);
    const at = d.where ? `at ${d.where} · ` : '';
    const why = aside ? `${at}${d.reason} · ${aside}` : at + d.reason;
    const row = el('tr', {
      role: 'row', tabIndex: -1, 'aria-expanded': 'false', 'aria-level': 1,
      class: d.status === 'dropped' ? 'dropped' : d.status === 'failed' || tookLate ? 'bad' : '',
      data: { strategy: d.strategy, s: slot(d.strategy), kind: d.kind, status: d.status, seq: String(d.seq) },
    },
    cell('c-time mono', f.clock(d.t_ms, true)),
    cell('c-kind', kindName(d.kind)),
    cell('c-strategy', strategyTag(d.strategy), d.admitted ? el('span', { class: 'sr' }, ` after it was admitted to ${d.admitted.strategy}`) : null),
    el('td', { class: 'c-why', role: 'gridcell', title: why }, at, d.reason, aside ? el('span', { class: 'dim' }, ` · ${aside}`) : null),
    cell('c-num num c-predicted', f.duration(d.predicted_ms)),
    cell(`c-num num c-took${tookLate ? ' late' : ''}`, f.duration(d.took_ms)),
    cell('c-num num c-budget', d.budget_ms === null ? el('span', { class: 'dim' }, 'none') : f.given(d.budget_ms)));
    return row;
  }

  /** timeline shows predicted against actual on one scale. */
  function timeline(d) {
    const most = Math.max(d.predicted_ms || 0, d.took_ms || 0);
    if (!(most > 0)) return null;
    const budget = d.budget_ms !== null && d.budget_ms < most * 4 ? d.budget_ms : null;
    const scale = Math.max(most, budget || 0) * 1.02;
    const part = (cls, ms) => {
      const bar = el('i', { class: cls });
      bar.style.width = `${(Math.max(0, ms || 0) / scale) * 100}%`;
      return bar;
    };
    const line = (name, wait, run, total) => {
      const track = el('div', { class: 'track' }, part('wait', wait), part('run', run));
      if (budget !== null) {
        const limit = el('b', { class: 'limit', title: `budget ${f.given(budget)}` });
        limit.style.left = `${Math.min(100, (budget / scale) * 100)}%`;
        track.append(limit);
      }
      return [el('span', { class: 'dim' }, name), track, el('span', { class: 'num' }, f.duration(total))];
    };
    return el('div', { class: 'timeline', 'aria-hidden': 'true' },
      line('predicted', d.predicted_wait_ms, d.predicted_run_ms, d.predicted_ms),
      line('took', d.wait_ms, d.run_ms, d.took_ms),
      el('span'), el('p', { class: 'dim key' },
        el('span', {}, el('i', { class: 'wait' }), 'waits'), el('span', {}, el('i', { class: 'run' }), 'runs'),
        d.budget_ms === null ? null : budget !== null
          ? el('span', {}, el('i', { class: 'limit' }), `budget ${f.given(budget)}`)
          : el('span', {}, `budget ${f.given(d.budget_ms)}, off the scale`)));
  }

  function makeDetail(d) {
    const figures = [
      ['status', d.status],
      d.admitted && ['was admitted to', d.admitted.strategy],
      d.admitted && ['predicted then', f.duration(d.admitted.predicted_ms)],
      ['predicted wait', f.duration(d.predicted_wait_ms)],
      ['predicted run', d.predicted_run_ms === null ? f.NONE : f.spread(d.predicted_run_ms, d.spread_ms)],
      ['learned from', f.plural(d.samples, 'run')],
      ['waited', f.duration(d.wait_ms)],
      ['ran', f.duration(d.run_ms)],
      ['took in all', f.duration(d.took_ms)],
      ['budget', d.budget_ms === null ? 'none' : f.given(d.budget_ms)],
      [d.admitted ? 'left when refused' : 'left at the decision', f.duration(d.slack_ms)],
      ...(d.in_flight === null ? [
        ['soonest slot', f.duration(d.soonest_ms)],
        ['its kind’s turn', f.duration(d.turn_ms)],
      ] : [
        ['calls in flight', f.exact(d.in_flight)],
        ['limit on them', d.limit === null ? 'none' : f.exact(d.limit)],
      ]),
      d.excess_ms && ['too much ahead', f.duration(d.excess_ms)],
      d.retry_ms && ['worth a retry in', f.duration(d.retry_ms)],
      ['jobs in the call', d.members ? f.exact(d.members) : f.NONE],
      ['cost', d.cost === null ? 'not known' : f.plain(d.cost)],
      ['scaling', f.plain(d.scaling)],
      ['priority', d.priority],
      ['came through', d.async ? 'Go' : 'Submit'],
      ['slots busy', `${d.cpu_busy} of ${d.slots}`],
      ['queued before it', f.exact(d.queued)],
      ['demand', `${f.cores(d.demand)} cores`],
      ['fair share of the kind', `${f.cores(d.share)} cores`],
    ].filter(Boolean);
    const cell = el('td', { role: 'gridcell', colSpan: 7 },
      el('p', { class: 'story' }, el('b', {}, kindName(d.kind)), ` · ${story(d)}`),
      d.error ? el('p', { class: 'error' }, d.error) : null,
      el('div', { class: 'detail-grid' },
        el('div', {}, rejectedList(d.rejected), timeline(d)),
        el('dl', {}, figures.map(([name, value]) => el('div', { title: meanings[name] || '' }, el('dt', {}, name), el('dd', {}, value))))));
    return el('tr', { role: 'row', class: 'detail', 'aria-level': 2, data: { s: slot(d.strategy) } }, cell);
  }

  function toggle(row) {
    const entry = rows.get(Number(row.dataset.seq));
    if (!entry) return;
    if (entry.detail) {
      entry.detail.remove();
      entry.detail = null;
    } else {
      entry.detail = makeDetail(entry.decision);
      row.after(entry.detail);
      entry.detail.scrollIntoView({ block: 'nearest' });
    }
    row.setAttribute('aria-expanded', String(Boolean(entry.detail)));
    refreshHeld();
  }

  const mainRow = (target) => target.closest?.('tr[data-seq]');
  body.addEventListener('click', (event) => {
    const row = mainRow(event.target);
    if (!row || String(getSelection()).length > 0) return;
    focusRow(row);
    toggle(row);
  });
  body.addEventListener('keydown', (event) => {
    const row = mainRow(event.target);
    if (!row) return;
    const list = [...body.querySelectorAll('tr[data-seq]')];
    const i = list.indexOf(row);
    const open = row.getAttribute('aria-expanded') === 'true';
    switch (event.key) {
      case 'Enter': case ' ': toggle(row); break;
      case 'ArrowRight': if (!open) toggle(row); break;
      case 'ArrowLeft': if (open) toggle(row); break;
      case 'ArrowDown': focusRow(list[i + 1]); break;
      case 'ArrowUp': focusRow(list[i - 1]); break;
      case 'Home': focusRow(list[0]); break;
      case 'End': focusRow(list[list.length - 1]); break;
      case 'Escape': resume(); break;
      default: return;
    }
    event.preventDefault();
  });
  function focusRow(row) {
    if (!row) return;
    tabStop(row);
    row.focus({ preventScroll: true });
    row.scrollIntoView({ block: 'nearest' });
  }
  /** tabStop makes one row the one that Tab reaches; arrows do the rest. */
  function tabStop(row) {
    for (const other of body.querySelectorAll('tr[tabindex="0"]')) other.tabIndex = -1;
    if (row) row.tabIndex = 0;
  }

  const scroller = table.closest('.scroll');
  const stays = () => pointing || body.contains(document.activeElement) || scroller.scrollTop > 40;
  scroller.addEventListener('pointerenter', (event) => {
    pointing = event.pointerType === 'mouse';
  });
  scroller.addEventListener('pointerleave', () => {
    pointing = false;
    draw();
  });
  scroller.addEventListener('scroll', () => { if (!stays()) draw(); }, { passive: true });
  body.addEventListener('focusout', () => setTimeout(draw));
  const resume = () => {
    if (body.contains(document.activeElement)) document.activeElement.blur();
    scroller.scrollTop = 0;
    pointing = false;
    draw(true);
  };
  held.addEventListener('click', resume);
  pick.addEventListener('change', () => draw(true));
  kind.addEventListener('input', () => draw(true));

  function refreshHeld() {
    if (!view) return;
    const ok = wanted();
    const waiting = view.decisions.filter((d) => d.seq > shownTo && ok(d)).length;
    const still = stays() && !view.paused;
    show(held, still);
    if (still) text(held, waiting ? `held · ${waiting} new` : 'held');
  }

  function draw(force) {
    if (!view) return;
    if (!force && stays()) return refreshHeld();
    const ok = wanted();
    const list = [];
    for (let i = view.decisions.length - 1; i >= 0 && list.length < ROWS; i--) {
      if (ok(view.decisions[i])) list.push(view.decisions[i]);
    }
    const keep = new Map(list.map((d) => [d.seq, d]));
    for (const [seq, entry] of rows) {
      if (keep.get(seq) === entry.decision) continue;
      entry.row.remove();
      entry.detail?.remove();
      rows.delete(seq);
    }
    let before = body.firstChild;
    for (const d of list) {
      let entry = rows.get(d.seq);
      if (!entry) {
        entry = { decision: d, row: makeRow(d), detail: null };
        rows.set(d.seq, entry);
      }
      if (entry.row === before) before = entry.row.nextSibling;
      else body.insertBefore(entry.row, before);
      if (entry.detail && entry.detail === before) before = before.nextSibling;
    }
    shownTo = view.decisions.length ? view.decisions[view.decisions.length - 1].seq : 0;
    if (!body.querySelector('tr[tabindex="0"]')) tabStop(body.firstChild);
    show(none, list.length === 0);
    if (list.length === 0) {
      text(none, view.polling ? 'Decisions need the live stream, which is unavailable.'
        : view.decisions.length ? 'No recent decision matches this filter.' : 'No decision yet.');
    }
    refreshHeld();
  }

  return {
    setNames(names) {
      const chosen = pick.value || 'all';
      pick.replaceChildren(
        el('option', { value: 'all' }, 'all decisions'),
        el('option', { value: 'drops' }, 'drops only'),
        el('option', { value: 'late' }, 'late or failed only'),
        el('optgroup', { label: 'strategy' }, ordered(names).filter((n) => n !== DROP).map((n) => el('option', { value: `=${n}` }, n))));
      pick.value = chosen;
      if (pick.selectedIndex < 0) pick.value = 'all';
    },
    update(next) {
      view = next;
      draw();
    },
  };
}
