// The decision that a job would get now: api/explain in plain words. It runs nothing.

import { $, el, show } from './dom.js';
import * as f from './format.js';
import { strategyTag, slot, DROP } from './strategies.js';
import { forecast, rejectedList } from './words.js';

export function makeWhatIf() {
  const form = $('whatif');
  const answer = $('whatif-answer');
  let asked = false; // after the first question, changes are answered without a click
  let timer = 0;
  let latest = 0;

  form.addEventListener('submit', (event) => {
    event.preventDefault();
    asked = true;
    ask();
  });
  form.addEventListener('input', () => {
    if (!asked) return;
    clearTimeout(timer);
    timer = setTimeout(ask, 300);
  });

  async function ask() {
    clearTimeout(timer);
    const turn = ++latest;
    const query = new URLSearchParams();
    for (const [name, value] of new FormData(form)) {
      const trimmed = name === 'kind' ? value : value.trim();
      if (trimmed !== '') query.set(name, trimmed);
    }
    let data;
    let ok = false;
    try {
      const response = await fetch(`api/explain?${query}`, { cache: 'no-store', signal: AbortSignal.timeout(5000) });
      ok = response.ok;
      data = await response.json();
    } catch {
      data = { error: 'no answer: the service cannot be reached' };
      ok = false;
    }
    if (turn !== latest) return; // a later question has been asked
    for (const input of form.elements) input.removeAttribute('aria-invalid');
    show(answer, true);
    if (!ok) return refuse(data);
    answer.dataset.s = slot(data.strategy);
    answer.dataset.strategy = data.strategy;
    answer.classList.remove('wrong');
    answer.replaceChildren(
      el('p', {}, strategyTag(data.strategy), ' ', forecast(data)),
      rejectedList(data.rejected),
      data.share > 0 && data.demand > data.share && data.strategy === DROP ? el('p', { class: 'dim' }, `All kinds together demand ${f.cores(data.demand)} cores; the fair share of this kind is ${f.cores(data.share)} cores.`) : '');
  }

  function refuse(data) {
    const field = data.field ? form.elements.namedItem(data.field) : null;
    if (field) field.setAttribute('aria-invalid', 'true');
    delete answer.dataset.s;
    delete answer.dataset.strategy;
    answer.classList.add('wrong');
    answer.replaceChildren(el('p', {}, data.error || 'the question was refused'));
  }
}
