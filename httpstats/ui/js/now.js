// The state at this moment, as meters.

import { el, meter, readable } from './dom.js';
import * as f from './format.js';

export function makeNow(host) {
  const slots = meter('CPU slots busy');
  const queued = meter('Queued');
  const batch = meter('Batch forming');
  const demand = meter('Demand');
  const spawned = meter('Spawned');
  for (const m of [slots, queued, batch, demand, spawned]) host.append(m.node);
  const idle = el('p', { class: 'dim none' }, 'no figures yet');
  host.append(idle);

  return (view) => {
    const p = view.last;
    for (const m of [slots, queued, batch, demand, spawned]) m.node.hidden = !p;
    idle.hidden = Boolean(p);
    if (!p) return;
    slots.set({
      words: `${p.cpu_busy} of ${p.slots}`, now: p.cpu_busy, max: p.slots, slot: 'cpu_pool',
      note: 'slots that run a cpu_pool job or a batch at this moment',
    });
    queued.set({
      words: p.queued
        ? `${f.plural(p.queued, 'job')}, starts in ${f.duration(p.wait_ms)}`
        : `nothing waits`,
      now: p.queued, max: p.queue_cap, slot: 'spawn',
      note: `jobs that wait for a slot, of at most ${f.exact(p.queue_cap)}; ${f.duration(p.work_ms)} of work is in slots or waits for one`,
    });
    batch.set({
      words: p.batch_fill ? `${p.batch_fill} of ${p.batch_max}` : 'none',
      named: p.batch_fill ? `Batch forming: ${readable(p.batch_kind)}` : '',
      now: p.batch_fill, max: p.batch_max || 1, slot: 'batch',
      note: p.batch_fill ? `the fullest forming batch: ${readable(p.batch_kind)}` : 'no batch is forming at this moment',
    });
    demand.set({
      words: `${f.cores(p.demand)} of ${f.cores(p.capacity)} cores`, now: p.demand, max: p.capacity, slot: 'inline',
      note: 'recent demand in CPU seconds per second, including refused work, of the measured capacity',
    });
    spawned.set({
      words: `${f.exact(p.spawned)} of ${f.count(p.spawn_limit)}`, now: p.spawned, max: p.spawn_limit, slot: 'spawn',
      note: 'jobs on goroutines of their own',
    });
  };
}
