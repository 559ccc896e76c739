// The common part of both charts: size, axes, the line under the pointer with its
// figures, the keyboard, moments such as a restart. uPlot draws.

import { el } from './dom.js';
import * as f from './format.js';

/* global uPlot */

const STEPS = [5, 10, 15, 30, 60, 120, 180, 300]; // seconds between times on the axis
const FONT = '11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

/** timeAxis writes the local time of day at round moments. */
function timeAxis(theme) {
  return {
    stroke: theme.axis, font: FONT, gap: 6, size: 26,
    grid: { show: false }, ticks: { stroke: theme.grid, width: 1, size: 4 },
    splits: (u, _, min, max) => {
      const room = Math.max(2, Math.floor(u.over.clientWidth / 84));
      const step = STEPS.find((s) => (max - min) / s <= room) || 600;
      const list = [];
      for (let t = Math.ceil(min / step) * step; t <= max; t += step) list.push(t);
      return list;
    },
    values: (u, splits) => {
      const seconds = splits.some((t) => t % 60 !== 0);
      const inset = 24; // px that half a label needs
      return splits.map((t) => {
        const x = u.valToPos(t, 'x');
        if (x < -2 || x > u.over.clientWidth - inset + 18) return '';
        return seconds ? f.clock(t * 1000) : f.clockMinute(t * 1000);
      });
    },
  };
}

/** drawMarks draws a dashed line with a word at each of those moments. */
function drawMarks(u, marks, theme) {
  const { ctx, bbox } = u;
  const dpr = devicePixelRatio || 1;
  ctx.save();
  ctx.strokeStyle = theme.axis;
  ctx.fillStyle = theme.axis;
  ctx.lineWidth = dpr;
  ctx.setLineDash([3 * dpr, 3 * dpr]);
  ctx.font = FONT.replace('11px', `${11 * dpr}px`);
  ctx.textBaseline = 'top';
  for (const m of marks) {
    const x = Math.round(u.valToPos(m.t / 1000, 'x', true));
    if (!(x > bbox.left + 1 && x < bbox.left + bbox.width)) continue;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    const words = `${m.text} ${f.clock(m.t)}`;
    const room = bbox.left + bbox.width - x;
    const wide = ctx.measureText(words).width + 5 * dpr;
    ctx.textAlign = room > wide ? 'left' : 'right';
    ctx.fillText(words, x + (room > wide ? 5 : -5) * dpr, bbox.top + 2 * dpr);
  }
  ctx.restore();
}

/**
 * makeChart keeps a uPlot in host. spec has
 *   options(theme)   axes, scales, series, bands, hooks, padding
 *   tip(u, i)        nodes to show for the column i, or null
 * It returns rebuild (after a change of colours or series) and set(data, range, marks).
 */
export function makeChart(host, spec) {
  let u = null;
  let theme = null;
  let range = [0, 1];
  let marks = [];
  const tip = el('div', { class: 'tip', 'aria-hidden': 'true', hidden: true });

  const width = () => Math.max(200, host.clientWidth);
  const height = () => Math.max(140, host.clientHeight);

  function placeTip() {
    const i = u.cursor.idx;
    const left = u.cursor.left;
    const nodes = i === null || i === undefined || left < 0 ? null : spec.tip(u, i);
    if (!nodes) {
      tip.hidden = true;
      return;
    }
    tip.replaceChildren(...nodes);
    tip.hidden = false;
    const roomy = u.over.clientWidth;
    const x = left + 14 + tip.offsetWidth > roomy ? left - 14 - tip.offsetWidth : left + 14;
    tip.style.transform = `translate(${Math.round(Math.max(-40, x))}px, 4px)`;
  }

  function rebuild(colour) {
    theme = colour.theme;
    if (u) u.destroy();
    const own = spec.options(colour);
    u = new uPlot({
      width: width(), height: height(),
      legend: { show: false },
      cursor: {
        sync: { key: 'helix', setSeries: false, scales: ['x', null] },
        drag: { x: false, y: false }, y: false, points: { show: false },
      },
      ...own,
      scales: { x: { time: false, range: () => range }, ...own.scales },
      axes: [timeAxis(theme), own.yAxis(theme, FONT)],
      hooks: {
        ...own.hooks,
        draw: [(chart) => drawMarks(chart, marks, theme), ...(own.hooks?.draw || [])],
        setCursor: [placeTip],
      },
    }, [[], ...own.series.slice(1).map(() => [])], host); // set() follows: the old data may have other columns
    u.root.setAttribute('aria-hidden', 'true');
    u.over.append(tip);
    tip.hidden = true;
  }

  new ResizeObserver(() => {
    if (u && (u.width !== width() || u.height !== height())) u.setSize({ width: width(), height: height() });
  }).observe(host);

  host.addEventListener('keydown', (event) => {
    if (!u || event.ctrlKey || event.metaKey || event.altKey) return;
    const xs = u.data[0];
    if (!xs.length) return;
    const at = u.cursor.idx ?? xs.length;
    const step = event.shiftKey ? 10 : 1;
    const to = {
      ArrowLeft: at - step, ArrowRight: at + step, Home: 0, End: xs.length - 1, Escape: -1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (event.key === 'Escape') return leave();
    const x = xs[Math.min(xs.length - 1, Math.max(0, to))];
    u.setCursor({ left: Math.max(0, u.valToPos(x, 'x')), top: 10 });
  });
  const leave = () => u && u.setCursor({ left: -10, top: -10 });
  host.addEventListener('blur', leave);

  return {
    rebuild,
    get theme() { return theme; },
    set(next, newRange, newMarks) {
      range = newRange;
      marks = newMarks;
      if (!u) return;
      u.setData(next);
      if (!tip.hidden) placeTip();
    },
  };
}

/** stripes is a fill that is told from others without its colour. */
export function stripes(ctx, colour, paper) {
  const dpr = devicePixelRatio || 1;
  const size = Math.round(6 * dpr);
  const tile = document.createElement('canvas');
  tile.width = tile.height = size;
  const c = tile.getContext('2d');
  c.fillStyle = paper;
  c.fillRect(0, 0, size, size);
  c.strokeStyle = colour;
  c.lineWidth = 2 * dpr;
  c.beginPath();
  for (const shift of [-size, 0, size]) {
    c.moveTo(shift - 1, size + 1);
    c.lineTo(shift + size + 1, -1);
  }
  c.stroke();
  return ctx.createPattern(tile, 'repeat');
}

/** tipHead is the first line of what is shown under the pointer. */
export function tipHead(seconds, now, more) {
  const ago = Math.round(now - seconds);
  return el('div', { class: 'tip-head' }, el('b', {}, f.clock(seconds * 1000)),
    ago > 0 ? ` ${f.uptime(ago)} ago` : ' now', more || '');
}

export const swatch = (slot) => el('i', { class: 'dot', data: { s: slot } });
