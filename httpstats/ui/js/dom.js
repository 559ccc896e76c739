// Making elements. Text is always set as text, never as HTML: kind names, reasons and
// errors are untrusted.

export const $ = (id) => document.getElementById(id);

/**
 * el makes an element: properties that the element has are set, all else
 * become attributes; null, undefined and false are left out.
 */
export function el(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'class') node.className = value;
    else if (name === 'data') Object.assign(node.dataset, value);
    else if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name in node && !name.startsWith('aria')) node[name] = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

/**
 * arrange makes host begin with the nodes of those keys, in order. nodes keeps them by key:
 * make(key) returns a record with a new node, and records that are not wanted any more are removed.
 */
export function arrange(host, nodes, keys, make) {
  const wanted = new Set(keys);
  for (const [key, e] of nodes) {
    if (wanted.has(key)) continue;
    e.node.remove();
    nodes.delete(key);
  }
  let before = host.firstChild;
  for (const key of keys) {
    if (!nodes.has(key)) nodes.set(key, make(key));
    const { node } = nodes.get(key);
    if (node === before) before = before.nextSibling;
    else host.insertBefore(node, before);
  }
}

const svgNS = 'http://www.w3.org/2000/svg';

/** svg makes an SVG element with those attributes. */
export function svg(tag, attributes, ...children) {
  const node = document.createElementNS(svgNS, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** text sets a node's text, and leaves the document alone where it is the same. */
export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

/** attr does the same for an attribute; null removes it. */
export function attr(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** show hides a node or shows it. */
export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

// Invisible characters, and those that move their neighbours: spaces at either end and in a
// row, other spaces, control and format characters (including changes of direction).
const unseen = /^ +| +$| {2,}|[^\S ]+|[\p{Cc}\p{Cf}\p{Co}\p{Cn}\u115f\u1160\u2800\u3164\uffa0]+/gu;

const spelt = (c) => (c === ' ' ? '␣' : `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')} `);

/**
 * nameParts makes text of which every character can be seen: names that differ look
 * different. What is not seen is spelt out by the style sheet, so that copies are true.
 */
export function nameParts(name) {
  const parts = [];
  let from = 0;
  for (const m of name.matchAll(unseen)) {
    if (m.index > from) parts.push(el('bdi', {}, name.slice(from, m.index)));
    for (const c of m[0]) parts.push(el('span', { class: 'unseen', data: { c: spelt(c) } }, c));
    from = m.index + m[0].length;
  }
  if (parts.length === 0) return [name];
  if (from < name.length) parts.push(el('bdi', {}, name.slice(from)));
  return parts;
}

/** readable is nameParts as text, for tooltips. */
export const readable = (name) => name.replace(unseen, (m) => [...m].map(spelt).join(''));

/** kindName shows the name of a kind: any text, any length, any direction. */
export function kindName(name) {
  return el('bdi', { class: 'kind', title: readable(name) }, nameParts(name));
}

/** rounded has four significant digits, which is more than a screen can show. */
export const rounded = (x) => (Number.isFinite(x) && Math.abs(x) >= 1e-9 ? Number(x.toPrecision(4)) : 0);

/** press marks the one button of a group that is chosen. */
export function press(buttons, chosen) {
  for (const b of buttons) attr(b, 'aria-pressed', String(chosen(b)));
}

/**
 * meter is a bar with the meaning of a meter. It returns the node and a
 * function that sets the value in words, the fraction (over 1 is shown as too
 * much) and the strategy or colour it stands for.
 */
export function meter(label) {
  const fill = el('i');
  const bar = el('div', { class: 'bar' }, fill);
  const name = el('span', { class: 'meter-name' });
  const value = el('b');
  const node = el('div', { class: 'meter', role: 'meter', 'aria-valuemin': 0, 'aria-label': label },
    el('div', { class: 'meter-head', 'aria-hidden': 'true' }, name, value), bar);
  name.textContent = label;
  const set = ({ words, now, max, slot, named, note }) => {
    text(name, named || label);
    if (name.title !== (named || '')) name.title = named || '';
    text(value, words);
    attr(node, 'aria-label', named || label);
    attr(node, 'aria-valuenow', rounded(Math.min(now, max)));
    attr(node, 'aria-valuemax', rounded(max));
    attr(node, 'aria-valuetext', words);
    if (slot) attr(node, 'data-s', slot);
    if (note) node.title = note;
    const fraction = max > 0 ? now / max : 0;
    fill.style.width = `${Math.min(1, fraction) * 100}%`;
    node.classList.toggle('over', fraction > 1.005);
  };
  return { node, set };
}
