// The configuration in force; with inputs where the service allows changes.

import { $, el, attr, show, text } from './dom.js';
import * as f from './format.js';

// scale: the size of one shown unit in the JSON form.
const known = {
  policy: { name: 'policy', what: 'chooses the strategy of every job', text: true, choices: ['adaptive', 'threshold'] },
  cpu_parallelism: { name: 'CPU slots', unit: '', what: 'cpu_pool jobs and batches that run at the same time' },
  inline_threshold: { name: 'inline threshold', unit: 'µs', scale: 1e3, what: 'the longest run that is done on the caller’s goroutine' },
  spawn_threshold: { name: 'spawn threshold', unit: 'µs', scale: 1e3, what: 'the longest run that gets a goroutine and no slot' },
  cpu_queue_cap: { name: 'queue cap', unit: 'jobs', what: 'jobs that may wait for a slot, including those in forming batches' },
  spawn_limit: { name: 'spawn limit', unit: 'jobs', what: 'spawned jobs that may exist at the same time' },
  backpressure_busy_threshold: { name: 'backpressure from', unit: 'busy', what: 'busy slots at which the threshold policy starts to shed' },
  batch_max_size: { name: 'batch size', unit: 'jobs', what: 'most items in one call of a batch function' },
  batch_max_delay_ms: { name: 'batch delay', unit: 'ms', scale: 1, what: 'how long a batch may wait behind more urgent work' },
  unit_time_ns: { name: 'unit time', unit: 'ns', scale: 1, what: 'run time of one unit of cost until a kind has been learned' },
  max_kinds: { name: 'kinds', unit: '', what: 'most names with statistics of their own; later ones share “other”', fixed: true },
};

const numbers = (x) => String(Number(x.toPrecision(12)));

/** parse reads a number with commas between thousands, as the page writes them, or with a decimal comma; NaN if it is none. */
const parse = (s) => Number(/^\d{1,3}(,\d{3})+(\.\d+)?$/.test(s) ? s.replaceAll(',', '') : s.replace(',', '.'));

/** inWords is a value with the unit that suits. */
function inWords(key, value) {
  const k = known[key];
  if (typeof value !== 'number') return value === null ? f.NONE : typeof value === 'object' ? JSON.stringify(value) : String(value);
  if (!k) return f.plain(value);
  if (key.endsWith('_threshold') && k.scale) return f.given(value / 1e6);
  if (key === 'unit_time_ns') return f.given(value / 1e6);
  if (key === 'batch_max_delay_ms') return f.given(value);
  return `${f.exact(value)}${k.unit ? ` ${k.unit}` : ''}`;
}

export function makeConfig(onChange) {
  const form = $('config');
  const body = form.querySelector('tbody');
  const apply = form.querySelector('.apply');
  const message = apply.querySelector('span');
  const note = $('config-note');
  let config = null;
  let writable = false;
  let busy = false;

  function inputFor(key, value) {
    const k = known[key];
    if (!k || k.fixed || (typeof value !== 'number' && !k.text)) return null;
    if (k.text) {
      return el('select', { name: key, 'aria-label': k.name },
        [...new Set([value, ...k.choices])].map((c) => el('option', { value: c, selected: c === value, defaultSelected: c === value }, c)));
    }
    const shown = numbers(value / (k.scale || 1));
    return el('input', {
      name: key, inputMode: 'decimal', defaultValue: shown, maxLength: 20, 'aria-label': k.unit ? `${k.name}, in ${k.unit}` : k.name,
    });
  }

  function build() {
    const keys = [...Object.keys(known).filter((k) => k in config), ...Object.keys(config).filter((k) => !(k in known))];
    body.replaceChildren(...keys.map((key) => {
      const k = known[key];
      const input = writable ? inputFor(key, config[key]) : null;
      return el('tr', { data: { key } },
        el('th', { scope: 'row', title: key }, k ? k.name : key),
        input ? el('td', { class: 'num' }, el('span', { class: 'with-unit' }, input, k.unit && k.unit !== 'busy' ? el('small', {}, k.unit) : el('small')))
          : el('td', { class: 'num value' }, inWords(key, config[key])),
        el('td', { class: 'dim' }, k ? k.what : '', k?.fixed && writable ? ' (fixed at start)' : ''));
    }));
    show(apply, writable);
    text(note, writable ? 'changes take effect at once' : 'read-only');
    changed();
  }

  /** changes is what the inputs say differently, as JSON wants it; a value that is no number goes as it is. */
  function changes() {
    const patch = {};
    for (const input of form.querySelectorAll('input, select')) {
      const k = known[input.name];
      if (k.text) {
        if (input.value !== config[input.name]) patch[input.name] = input.value;
        continue;
      }
      const entered = input.value.trim();
      if (entered === input.defaultValue) continue;
      const value = parse(entered) * (k.scale || 1);
      const whole = input.name !== 'batch_max_delay_ms';
      patch[input.name] = entered === '' || !Number.isFinite(value) ? entered : whole && k.scale ? Math.round(value) : value;
    }
    return patch;
  }

  function changed() {
    if (!config) return;
    const patch = writable ? changes() : {};
    const n = Object.keys(patch).length;
    for (const b of apply.querySelectorAll('button')) b.disabled = n === 0 || busy;
    for (const row of body.rows) row.classList.toggle('changed', row.dataset.key in patch);
  }

  form.addEventListener('input', changed);
  form.addEventListener('reset', () => setTimeout(() => {
    wrong(null);
    changed();
  }));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const patch = changes();
    if (busy || !writable || Object.keys(patch).length === 0) return;
    const wordy = Object.keys(patch).find((key) => typeof patch[key] === 'string' && !known[key].text);
    if (wordy) return wrong({ error: `${known[wordy].name} must be a number`, field: wordy });
    busy = true;
    changed();
    try {
      const response = await fetch('api/config', {
        method: 'PATCH', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(patch), signal: AbortSignal.timeout(8000),
      });
      const answer = await response.json();
      if (response.ok) {
        wrong(null);
        set(answer);
        text(note, `applied at ${f.clock(Date.now())}`);
      } else wrong(answer);
    } catch {
      wrong({ error: 'not applied: the service cannot be reached' });
    }
    busy = false;
    changed();
  });

  function wrong(answer) {
    text(message, answer ? answer.error || 'refused' : '');
    for (const input of form.querySelectorAll('input, select')) {
      attr(input, 'aria-invalid', answer && answer.field === input.name ? 'true' : null);
    }
    if (answer?.field) form.querySelector(`[name="${CSS.escape(answer.field)}"]`)?.focus();
  }

  function set(next) {
    config = next;
    build();
    onChange(config);
  }

  return {
    /** load asks for the configuration anew, unless it is being edited. */
    async load(mayWrite) {
      if (mayWrite !== undefined) writable = Boolean(mayWrite);
      if (config && writable && Object.keys(changes()).length) return;
      try {
        const response = await fetch('api/config', { cache: 'no-store', signal: AbortSignal.timeout(5000) });
        if (!response.ok) return;
        const next = await response.json();
        const same = config && JSON.stringify(config) === JSON.stringify(next) && writable === Boolean(form.querySelector('input, select'));
        if (!same) set(next);
      } catch { /* it is asked for again with the next connection */ }
    },
  };
}
