package natsremote

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/helixrouter/helix/remote"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

// bareSubject is answered by the worker's process as NATS alone would do it.
const bareSubject = "bare"

// BenchmarkRoundTrip compares jobs at a worker, which do nothing, with bare requests of NATS
// to the same process, one after the other in turn. Figures are medians in µs: of bare
// requests, of the way of jobs (from sending to the answer, without their wait and run
// there), and of jobs from Do and from Submit as a whole: where two workers are probed before
// a job is sent, that takes another round trip. What Do has learned is fresh for Submit.
func BenchmarkRoundTrip(b *testing.B) {
	for name, workers := range map[string][]string{"1 worker": {"w1"}, "2 workers, both probed": {"w1", "w2"}} {
		b.Run(name, func(b *testing.B) {
			url := startServer(b, server.Options{}).ClientURL()
			for _, id := range workers {
				startWorker(b, url, id)
			}
			s := newSubmitter(b, url, len(workers))
			var bare, do, submit []time.Duration
			input := []byte(`{}`)
			before := s.client.Stats().RTT
			for b.Loop() {
				begin := time.Now()
				_, err := s.nc.Request(bareSubject, input, time.Minute)
				require.NoError(b, err)
				bare = append(bare, time.Since(begin))

				begin = time.Now()
				_, err = s.client.Do(context.Background(), remote.Job{Kind: "once", Input: input})
				require.NoError(b, err)
				do = append(do, time.Since(begin))

				begin = time.Now()
				_, err = s.once.Submit(context.Background(), order{})
				require.NoError(b, err)
				submit = append(submit, time.Since(begin))
			}
			for unit, all := range map[string][]time.Duration{"bare-µs": bare, "Do-µs": do, "Submit-µs": submit} {
				slices.Sort(all)
				b.ReportMetric(float64(all[len(all)/2])/1e3, unit)
			}
			way := s.client.Stats().RTT.Sub(before).Quantile(0.5)
			b.ReportMetric(float64(way)/1e3, "way-µs")
			b.ReportMetric(float64(way)/float64(bare[len(bare)/2]), "way/bare")
			b.ReportMetric(0, "ns/op")
		})
	}
}
