package httpstats

import (
	"time"

	"github.com/helixrouter/helix"
)

// kindWindow is the window of a kind's latencies: long enough for kinds with few jobs.
const kindWindow = 10 * time.Second

// kindLatencies has the latencies of each kind in the last kindWindow. It is not safe for
// concurrent use.
type kindLatencies map[string]*helix.Windows

// observe adds the reading at the end of a step, and returns the latencies of kinds that have
// any.
func (l kindLatencies) observe(before, now *reading, step time.Duration) map[string]pointLatency {
	lately := make(map[string]pointLatency, len(now.kinds))
	for name, snapshot := range now.kinds {
		w := l[name]
		if w == nil {
			w = helix.NewWindows(step, kindWindow)
			w.Observe(before.at, before.kinds[name])
			l[name] = w
		}
		w.Observe(now.at, snapshot)
		if last := w.Last(now.at, kindWindow); last.Count() > 0 {
			lately[name] = summary(last)
		}
	}
	return lately
}
