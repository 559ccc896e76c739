// The connection: one EventSource, or polling if streams are blocked. It is closed while the
// page is hidden or left, also in the back/forward cache: over HTTP/1.1 a browser has six
// connections to an origin, and each open stream takes one. A page that is shown again
// resumes where it was.

const RETRY_LEAST = 1000; // ms
const RETRY_MOST = 8000;
const SILENCE = 5000; // ms without an event until the figures count as old
const DEAD = 12_000; // ms without an event until the connection is closed
const POLL_EVERY = 2000; // ms
const FAILURES_TO_POLL = 3;

/**
 * connect keeps the store up to date and calls on.state(state) with live,
 * polling or reconnecting, and on.tick, on.hello, on.decisions after changes.
 */
export function connect(store, on) {
  let source = null;
  let failures = 0;
  let greeted = false; // this connection has said hello
  let heard = 0; // when the last event came
  let retry = 0;
  let poller = 0;
  let polling = false; // the latest poll was answered
  let left = false;
  let asleep = document.hidden;
  let state = '';

  const setState = (next) => {
    if (next === state) return;
    state = next;
    on.state(next);
  };

  function open() {
    clearTimeout(retry);
    close();
    if (left || asleep) return;
    greeted = false;
    heard = Date.now();
    if (!store.stats && failures === 0) begin();
    const es = new EventSource(store.lastId ? `api/stream?last_id=${store.lastId}` : 'api/stream');
    source = es;
    const listen = (name, take) => es.addEventListener(name, (event) => {
      if (es !== source) return;
      heard = Date.now();
      let data;
      try {
        data = JSON.parse(event.data);
      } catch {
        return; // half an event, as from a proxy that has closed the connection
      }
      take(data);
    });
    listen('hello', (hello) => {
      greeted = true;
      failures = 0;
      stopPolling();
      const restarted = store.setHello(hello);
      setState('live');
      on.hello(hello, restarted);
    });
    listen('history', (h) => {
      store.addHistory(h.points || []);
      on.tick();
    });
    listen('tick', (t) => {
      store.addPoint(t.point);
      store.setStats(t.stats);
      setState('live');
      on.tick();
    });
    listen('decisions', (list) => {
      store.addDecisions(list);
      on.decisions();
    });
    es.onerror = () => {
      if (es === source) lost();
    };
  }

  function close() {
    if (source) source.close();
    source = null;
  }

  /** lost reconnects with growing intervals: the browser itself would stop at a 503. */
  function lost() {
    close();
    if (left || asleep) return;
    failures++;
    if (!polling) setState('reconnecting');
    if (failures >= FAILURES_TO_POLL) startPolling();
    const wait = Math.min(RETRY_MOST, RETRY_LEAST * 1.6 ** (failures - 1));
    clearTimeout(retry);
    retry = setTimeout(open, wait * (0.8 + 0.4 * Math.random()));
  }

  const watchdog = () => {
    if (left || !source) return;
    const silent = Date.now() - heard;
    if (silent > DEAD || (!greeted && silent > SILENCE)) lost();
    else if (greeted && silent > SILENCE) setState('reconnecting');
  };

  function startPolling() {
    if (poller) return;
    poller = setInterval(poll, POLL_EVERY);
    poll();
  }

  function stopPolling() {
    clearInterval(poller);
    poller = 0;
    polling = false;
  }

  /** ask returns the statistics of this moment, null if there is no answer. */
  async function ask() {
    try {
      const answer = await fetch('api/stats', { cache: 'no-store', signal: AbortSignal.timeout(4000) });
      return answer.ok ? await answer.json() : null;
    } catch {
      return null;
    }
  }

  /** begin shows the statistics before the first tick, which may be a second away or more. */
  async function begin() {
    const stats = await ask();
    if (stats && !store.stats && !left) take(stats);
  }

  async function poll() {
    if (left || asleep) return;
    const stats = await ask();
    if (!stats) {
      polling = false;
      if (poller && !left) setState('reconnecting');
      return;
    }
    if (!poller || left) return; // the stream came first
    polling = true;
    take(stats);
    setState('polling');
  }

  /** take stores an answer of api/stats. */
  function take(stats) {
    const hello = {
      name: stats.name,
      policy: stats.policy,
      version: stats.version,
      started_ms: stats.started_ms,
      slots: stats.pressure.slots,
      strategies: stats.routed_by_strategy.map((r) => r.strategy),
    };
    const first = store.hello === null;
    const restarted = store.setHello(hello);
    store.addPolled(stats);
    if (first || restarted) on.hello(store.hello, restarted);
    on.tick();
  }

  const ticking = setInterval(watchdog, 1000);
  const rest = () => {
    clearTimeout(retry);
    stopPolling();
    close();
  };
  document.addEventListener('visibilitychange', () => {
    if (asleep === document.hidden) return;
    asleep = document.hidden;
    if (asleep) return rest();
    failures = 0;
    open();
  });
  window.addEventListener('pagehide', () => {
    left = true;
    rest();
  });
  window.addEventListener('pageshow', (event) => {
    if (!event.persisted) return;
    left = false;
    failures = 0;
    setState('reconnecting');
    open();
  });
  window.addEventListener('online', () => {
    if (state !== 'live') open();
  });
  open();
  return { stop: () => { clearInterval(ticking); left = true; stopPolling(); close(); } };
}
