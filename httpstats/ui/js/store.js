// The data of the page: points, decisions, the latest statistics. Only this
// file changes it; views get a snapshot, and a paused page keeps its old one.

const MAX_POINTS = 1800; // twice what a server keeps, so that a restart loses nothing
const MAX_DECISIONS = 600;
const KIND_SECONDS = 61;

export class Store {
  hello = null;
  stats = null;
  points = []; // oldest first
  decisions = []; // oldest first
  marks = []; // {t, text}: moments worth a line in the charts
  kinds = []; // {t, kinds: Map(name -> KindStats)}, oldest first
  lastId = 0; // of the newest point that has one

  /** setHello begins a connection. It returns true if the service is another process than before. */
  setHello(hello) {
    const before = this.hello;
    const restarted = before !== null && hello.started_ms !== before.started_ms;
    if (restarted) {
      this.lastId = 0;
      this.kinds = [];
      this.decisions = [];
      this.stats = null;
    }
    if (before === null || restarted) this.mark(hello.started_ms, restarted ? 'restarted' : 'started');
    this.hello = before && !restarted ? { ...before, ...hello } : hello;
    return restarted;
  }

  mark(t, words) {
    this.marks = [...this.marks.filter((m) => m.t !== t), { t, text: words }].slice(-20);
  }

  /** addHistory takes the points from before this connection. */
  addHistory(points) {
    if (!points.length) return;
    const from = points[0].t_ms;
    // The server's points replace those from polling, and after a step of the
    // server's clock the new times win.
    this.points = this.points.filter((p) => !p.polled || p.t_ms < from);
    if (this.lastId === 0) this.points = this.points.filter((p) => p.t_ms < from);
    for (const p of points) this.addPoint(p, false);
  }

  addPoint(p, live = true) {
    if (p.id !== undefined) {
      if (p.id <= this.lastId) return;
      this.lastId = p.id;
    }
    const last = this.points[this.points.length - 1];
    if (live && last && p.t_ms <= last.t_ms) {
      this.points = this.points.filter((q) => q.t_ms < p.t_ms);
    }
    this.points.push(p);
    if (this.points.length > MAX_POINTS + 100) this.points = this.points.slice(-MAX_POINTS);
  }

  setStats(stats) {
    for (const list of ['kinds', 'dropped_by_reason', 'routed_by_strategy']) stats[list] ??= []; // Go's empty may be null
    this.stats = stats;
    const kinds = new Map(stats.kinds.map((k) => [k.name, k]));
    this.kinds.push({ t: stats.now_ms, kinds });
    if (this.kinds.length > KIND_SECONDS) this.kinds.shift();
  }

  addDecisions(list) {
    const last = this.decisions.length ? this.decisions[this.decisions.length - 1].seq : 0;
    for (const d of list) if (d.seq > last) this.decisions.push(d);
    if (this.decisions.length > MAX_DECISIONS + 100) this.decisions = this.decisions.slice(-MAX_DECISIONS);
  }

  /** addPolled makes a point of two answers of api/stats. */
  addPolled(stats) {
    const before = this.stats;
    const dt = before ? (stats.now_ms - before.now_ms) / 1000 : 0;
    this.setStats(stats);
    if (!before || dt <= 0) return;
    const gained = (key) => Math.max(0, stats[key] - before[key]);
    const routed = Object.fromEntries(stats.routed_by_strategy.map((r) => [r.strategy, r.count]));
    for (const r of before.routed_by_strategy) {
      if (r.strategy in routed) routed[r.strategy] = Math.max(0, routed[r.strategy] - r.count);
    }
    const p = { polled: true, t_ms: stats.now_ms, dt_s: dt, routed, latency: {}, p99_ms: null, ...stats.pressure };
    for (const key of ['submitted', 'completed', 'failed', 'dropped', 'withdrawn', 'promised', 'kept']) p[key] = gained(key);
    p.batch_fill = 0;
    for (const k of stats.kinds) {
      if (k.batch && k.batch.forming > p.batch_fill) {
        Object.assign(p, { batch_fill: k.batch.forming, batch_max: k.batch.max_size, batch_kind: k.name });
      }
    }
    this.addPoint(p);
  }

  /** snapshot is what views draw. Nothing in it changes afterwards. */
  snapshot() {
    return {
      hello: this.hello,
      stats: this.stats,
      points: this.points.slice(),
      decisions: this.decisions.slice(),
      marks: this.marks,
      kinds: this.kinds.slice(),
      last: this.points.length ? this.points[this.points.length - 1] : null,
    };
  }
}

/** within gives the points of the last minutes. */
export function within(points, minutes) {
  if (!points.length) return points;
  const from = points[points.length - 1].t_ms - minutes * 60_000;
  let lo = 0;
  let hi = points.length;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (points[mid].t_ms <= from) lo = mid + 1;
    else hi = mid;
  }
  return points.slice(lo);
}

/** perSecond is a count of a point as a rate. */
export const perSecond = (p, n) => (p && p.dt_s > 0 ? n / p.dt_s : 0);
