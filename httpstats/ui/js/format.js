// Figures as text: each with its unit, and with three digits where they are known.

const grouped = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

export const NONE = '–';
const MINUS = '−';

/** digits gives x three significant digits, and no more than two decimals. */
function digits(x) {
  const a = Math.abs(x);
  const places = a >= 99.95 ? 0 : a >= 9.995 ? 1 : 2;
  const s = a.toFixed(places);
  return (x < 0 && Number(s) !== 0 ? MINUS : '') + s;
}

/** trimmed drops zeros that say nothing: for numbers that people have set. */
function trimmed(s) {
  return s.includes('.') ? s.replace(/\.?0+$/, '') : s;
}

const isNumber = (x) => typeof x === 'number' && Number.isFinite(x);

/** count is a whole number: 2,318, from a hundred thousand on 412k, 1.2M. */
export function count(n) {
  if (!isNumber(n)) return NONE;
  if (n < 1e5) return grouped.format(n);
  for (const [unit, size] of [['G', 1e9], ['M', 1e6], ['k', 1e3]]) {
    if (n >= size * 0.9995) return trimmed(digits(n / size)) + unit; // 999,500 is 1M, not 1000k
  }
  return NONE;
}

/** exact is a whole number with all its digits. */
export const exact = (n) => (isNumber(n) ? grouped.format(n) : NONE);

/** rate is a number a second. */
export function rate(x) {
  if (!isNumber(x)) return NONE;
  if (x === 0) return '0';
  if (x < 9.95) return x.toFixed(1);
  return count(Math.round(x));
}

/** axisRate is rate for the ticks of an axis: 0, 500, 2k, 2.5k. */
export function axisRate(x) {
  if (x >= 1e6) return trimmed((x / 1e6).toFixed(2)) + 'M';
  if (x >= 1e3) return trimmed((x / 1e3).toFixed(2)) + 'k';
  return trimmed(x.toFixed(2));
}

/** durationParts splits milliseconds into number and unit. */
export function durationParts(ms) {
  if (!isNumber(ms)) return [NONE, ''];
  const a = Math.abs(ms);
  if (a === 0) return ['0', 'ms'];
  if (a < 0.0009995) return [digits(ms * 1e6), 'ns'];
  if (a < 0.9995) return [digits(ms * 1e3), 'µs'];
  if (a < 999.5) return [digits(ms), 'ms'];
  if (a < 119_950) return [digits(ms / 1e3), 's'];
  if (a < 7_200_000) return [digits(ms / 6e4), 'min'];
  return [digits(ms / 3.6e6), 'h'];
}

/** duration is milliseconds in the unit that suits: 6.10 µs, 14.2 ms, 1.20 s. */
export function duration(ms) {
  const [n, unit] = durationParts(ms);
  return unit ? `${n} ${unit}` : n;
}

/** spread is a duration and its deviation, in one unit: 5.10 ± 0.90 µs. */
export function spread(ms, deviation) {
  const [n, unit] = durationParts(ms);
  if (!isNumber(deviation) || !(ms > 0)) return duration(ms);
  const scale = { ns: 1e6, 'µs': 1e3, ms: 1, s: 1e-3, min: 1 / 6e4, h: 1 / 3.6e6 }[unit];
  return `${n} ± ${digits(deviation * scale)} ${unit}`;
}

/** given is duration for what people have set: 80 ms, not 80.0 ms. */
export function given(ms) {
  const [n, unit] = durationParts(ms);
  return unit ? `${trimmed(n)} ${unit}` : n;
}

/** axisDuration labels decades: 1 µs, 10 µs … */
export function axisDuration(ms) {
  if (ms < 0.00095) return `${trimmed((ms * 1e6).toPrecision(1))} ns`;
  if (ms < 0.95) return `${trimmed(Math.round(ms * 1e3).toString())} µs`;
  if (ms < 950) return `${Math.round(ms)} ms`;
  return `${Math.round(ms / 1e3)} s`;
}

/** share is part of whole in percent; 100 only if it is all of it. */
export function share(part, whole) {
  if (!isNumber(part) || !isNumber(whole) || whole <= 0) return NONE;
  if (part >= whole) return '100';
  const p = (part * 100) / whole;
  if (p === 0) return '0';
  if (p > 99.9) return (Math.floor((part * 1e4) / whole) / 100).toFixed(2);
  if (p < 0.1) return '< 0.1';
  return (Math.floor((part * 1e3) / whole) / 10).toFixed(1); // one division: 29 of 100 are 29.0, not 28.9
}

/** cores is CPU seconds a second. */
export function cores(x) {
  if (!isNumber(x)) return NONE;
  if (x > 0 && x < 0.005) return '< 0.01';
  return Math.abs(x).toFixed(x < 9.995 ? 2 : 1);
}

/** plain is a number as people write it. */
export function plain(x) {
  if (!isNumber(x)) return NONE;
  const a = Math.abs(x);
  if (a >= 1e15 || (a > 0 && a < 1e-4)) return x.toExponential(2);
  if (a >= 1e5) return grouped.format(Math.round(x));
  return String(Number(x.toPrecision(5)));
}

/** uptime: 12 s, 4 min 10 s, 2 h 14 min, 3 d 4 h. */
export function uptime(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  const m = Math.floor(s / 60);
  if (m < 60) return m < 10 ? `${m} min ${s % 60} s` : `${m} min`;
  const h = Math.floor(m / 60);
  if (h < 48) return `${h} h ${m % 60} min`;
  return `${Math.floor(h / 24)} d ${h % 24} h`;
}

const two = (n) => String(n).padStart(2, '0');

/** clock is a local time of day: 14:02:31, with thousandths where asked for. */
export function clock(ms, thousandths) {
  const d = new Date(ms);
  const s = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  return thousandths ? `${s}.${String(d.getMilliseconds()).padStart(3, '0')}` : s;
}

/** clockMinute is a local time of day without seconds. */
export const clockMinute = (ms) => clock(ms).slice(0, 5);

/** plural: 1 job, 2 jobs. */
export const plural = (n, one, many) => `${exact(n)} ${n === 1 ? one : many || `${one}s`}`;
