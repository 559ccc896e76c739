package helix

import "github.com/helixrouter/helix/internal/slots"

// Accounts are all sums that must be zero while a router is idle, by name: every event
// that adds to one has a counterpart that takes the same off.
func (r *Router) Accounts() map[string]int64 {
	p := r.pool
	accounts := map[string]int64{
		"slots in use":              p.busy(),
		"work in the pool, ns":      int64(slots.Load(p.load.Load()).Work()),
		"jobs queued":               p.queued.Load(),
		"slots held by long runs":   p.longBusy.Load(),
		"places in the queue":       0,
		"spawned jobs":              r.spawn.running.Load(),
		"work charged, ns":          0,
		"goroutines of the router":  0,
		"jobs in forming batches":   0,
		"jobs in running batches":   0,
		"kinds with a batch formed": 0,
		"jobs queued, by kind":      0,
		"trials":                    0,
		"low jobs queued":           p.low.Load(),
		"high jobs queued":          p.high.Load(),
		"work queued by urgency":    p.backlog.All(),
		"runs noted":                int64(p.runs.Noted()),
		"waiters with a budget":     0,
	}
	p.mu.Lock()
	accounts["waiters with a budget"] += int64(p.expiry.waiters)
	p.queue.All(func(*slots.Node) { accounts["places in the queue"]++ })
	p.mu.Unlock()
	for _, k := range *r.kinds.Load() {
		accounts["jobs queued, by kind"] += k.queued.Load()
		accounts["trials"] += k.trials.Load()
		sums := k.counters.Sum()
		accounts["work charged, ns"] += k.counters.Charged()
		accounts["goroutines of the router"] += sums.Goroutines
		if b := k.batcher.Load(); b != nil {
			accounts["jobs in forming batches"] += b.fill.Load()
			accounts["jobs in running batches"] += b.running.Load()
			b.mu.Lock()
			if b.forming != nil {
				accounts["kinds with a batch formed"]++
			}
			b.mu.Unlock()
		}
	}
	return accounts
}

// Slots is how many there are in force.
func (r *Router) Slots() int { return int(r.pool.slots.Load()) }
