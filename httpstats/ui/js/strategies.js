// One colour for each strategy, everywhere. The five built-in ones have their own; a
// custom one gets one of eight more, by name, so that it keeps its colour. Style sheets
// know colours by slot: the data-s attribute.

import { el } from './dom.js';

export const DROP = 'drop';

const about = {
  inline: 'on the caller’s goroutine, at once',
  spawn: 'on a goroutine of its own',
  cpu_pool: 'in one of the CPU slots, queued by deadline',
  batch: 'together with others of its kind, in one call and one slot',
  drop: 'refused, at once, with the reason',
};
const first = ['inline', 'spawn', 'cpu_pool', 'batch'];
const EXTRA = 8;
const slots = new Map(); // name -> x0…x7

function hash(name) {
  let h = 2166136261;
  for (let i = 0; i < name.length; i++) h = Math.imul(h ^ name.charCodeAt(i), 16777619);
  return h >>> 0;
}

/** slot is the colour of a strategy. */
export function slot(name) {
  if (Object.hasOwn(about, name)) return name;
  let s = slots.get(name);
  if (s === undefined) {
    const used = new Set(slots.values());
    let i = hash(name) % EXTRA;
    for (let tries = 0; tries < EXTRA && used.has(`x${i}`); tries++) i = (i + 1) % EXTRA;
    s = `x${i}`;
    slots.set(name, s);
  }
  return s;
}

/** setStrategies gives out the colours, in order of name. */
export function setStrategies(names) {
  slots.clear();
  [...names].sort().forEach(slot);
}

/** ordered lists strategies from the cheapest up, a service's own after the four, drop last. */
export function ordered(names) {
  const all = new Set([...first, ...names]);
  all.delete(DROP);
  const own = [...all].filter((n) => !first.includes(n)).sort();
  return [...first, ...own, DROP];
}

export const describe = (name) => about[name] || 'a custom strategy';

/** strategyTag is the coloured name of a strategy. */
export function strategyTag(name) {
  return el('span', { class: 'strat', data: { s: slot(name) }, title: `${name}: ${describe(name)}` },
    el('i', { class: 'dot', 'aria-hidden': 'true' }), el('bdi', {}, name));
}

/** colours resolves what the style sheet says now, for drawing on a canvas. */
export function colours(names) {
  const probe = el('span', { class: 'probe', 'aria-hidden': 'true' });
  document.body.append(probe);
  const style = getComputedStyle(probe);
  const map = new Map();
  for (const name of names) {
    probe.dataset.s = slot(name);
    map.set(name, style.color);
  }
  const theme = {};
  for (const part of ['grid', 'axis', 'ink', 'panel', 'fail']) {
    probe.dataset.s = `-${part}`;
    theme[part] = style.color;
  }
  probe.remove();
  return { of: (name) => map.get(name), theme };
}

/** fade returns a resolved colour (rgb(r, g, b)) with that opacity. */
export function fade(colour, alpha) {
  const parts = colour.match(/[\d.]+/g);
  return parts ? `rgba(${parts[0]}, ${parts[1]}, ${parts[2]}, ${alpha})` : colour;
}
