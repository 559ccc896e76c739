package remote

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

// A job that may have run at one worker is not reported as not run because another attempt
// at it did not run.
func TestALostJobStaysLost(t *testing.T) {
	for name, end := range map[string]func(n *network, l *link){
		"the next worker refuses it": func(n *network, _ *link) {
			full := fast()
			full.fill()
			n.add("w2", full)
			time.Sleep(10 * time.Millisecond)
			n.hosts["w1"].kill()
		},
		"the next attempt cannot be sent": func(n *network, l *link) {
			n.add("w2", fast())
			time.Sleep(10 * time.Millisecond)
			l.disconnect()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *network) {
				m := fast()
				m.cost = 2 * time.Second
				n.add("w1", m)
				c, l := newTestClient(t, n, Config{})
				ended := make(chan error, 1)
				go func() {
					_, err := c.Do(context.Background(), Job{Kind: "k", Idempotent: true})
					ended <- err
				}()
				time.Sleep(100 * time.Millisecond)
				end(n, l)
				err := <-ended
				require.ErrorIs(t, err, helix.ErrLost)
				require.NotErrorIs(t, err, helix.ErrNotRun, "w1 may have run it")
				require.ErrorContains(t, err, "w1")
				require.EqualValues(t, 2, c.Stats().Total.Sent)
			})
		})
	}
}

// losing has frames get lost from now on, by their type. which is called for one at a time.
func (l *link) losing(which func(frameType) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var mu sync.Mutex
	l.loses = func(_ Address, frame []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		return which(frameType(frame[1]))
	}
}

// within returns the error of a job, or fails the test if it takes longer.
func within(t *testing.T, d time.Duration, end func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- end() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(d):
		t.Fatalf("the job has not ended within %v", d)
		return nil
	}
}

// The network loses the answer to a job and the answer to the first probe about it. The worker
// is asked again, although it goes on to report its load.
func TestAProbeThatGotLostIsSentAgain(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		n.add("w1", fast())
		c, l := newTestClient(t, n, Config{})
		lost := 0
		l.losing(func(as frameType) bool {
			if as == frameReply && lost < 2 {
				lost++
				return true
			}
			return false
		})
		err := within(t, 2*time.Second, begin(c))
		require.ErrorIs(t, err, helix.ErrLost)
		require.ErrorContains(t, err, causeMissing)
		require.Empty(t, c.calls, "nothing of the job is left")
	})
}

// A worker that reports its load and does not answer probes has lost its jobs after LostAfter.
func TestAWorkerThatOnlyReportsHasLostItsJobs(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		n.add("w1", fast())
		c, l := newTestClient(t, n, Config{})
		l.losing(func(as frameType) bool { return as == frameJob || as == frameProbe })
		begun := time.Now()
		err := within(t, 10*time.Second, begin(c))
		require.ErrorIs(t, err, helix.ErrLost)
		require.ErrorContains(t, err, causeSilent)
		require.InDelta(t, 3*time.Second, time.Since(begun), float64(300*time.Millisecond))
		require.Empty(t, c.calls, "nothing of the job is left")
	})
}

// Jobs with short budgets avoid a worker that is silent also if it is the only one.
func TestASilentWorkerIsAvoidedAlthoughItIsTheOnlyOne(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		h := n.add("w1", fast())
		c, _ := newTestClient(t, n, Config{})
		h.pause()
		end := begin(c)
		time.Sleep(time.Second)
		begun := time.Now()
		_, err := c.Do(context.Background(), Job{Kind: "k", Deadline: begun.Add(100 * time.Millisecond)})
		require.ErrorIs(t, err, helix.ErrNotRun)
		require.Zero(t, time.Since(begun))
		require.EqualValues(t, 1, c.Stats().Total.Sent)
		h.resume()
		require.NoError(t, end())
	})
}

// A cancellation that gets lost is sent again.
func TestACancellationThatGotLostIsSentAgain(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		m := fast()
		m.run = func(ctx context.Context, _ *Request) ([]byte, error) {
			select {
			case <-ctx.Done():
			case <-time.After(time.Minute):
			}
			return nil, ctx.Err()
		}
		n.add("w1", m)
		c, l := newTestClient(t, n, Config{})
		lost := 0
		l.losing(func(as frameType) bool {
			if as == frameCancel {
				lost++
			}
			return as == frameCancel && lost == 1
		})
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		begun := time.Now()
		_, err := c.Do(ctx, Job{Kind: "k"})
		require.ErrorIs(t, err, context.Canceled)
		require.Less(t, time.Since(begun), 300*time.Millisecond)
	})
}

// Once Close has given up, nothing is sent: not even an idempotent job to another worker.
func TestCloseSendsNothingAgain(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		m := fast()
		m.cost = time.Minute
		for _, id := range []string{"w1", "w2", "w3"} {
			n.add(id, m)
		}
		c, _ := newTestClient(t, n, Config{})
		ended := make(chan error, 1)
		go func() {
			_, err := c.Do(context.Background(), Job{Kind: "k", Idempotent: true})
			ended <- err
		}()
		time.Sleep(100 * time.Millisecond)
		begun := time.Now()
		require.ErrorIs(t, c.Close(cancelled()), context.Canceled)
		require.ErrorIs(t, <-ended, helix.ErrLost)
		require.Zero(t, time.Since(begun))
		time.Sleep(time.Second)
		require.EqualValues(t, 1, n.jobs.Load())
	})
}

// A job is lost after LostAfter also if its connection breaks and nothing reports that.
func TestABreakThatNothingReports(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		m := fast()
		m.cost = time.Minute
		n.add("w1", m)
		c, l := newTestClient(t, n, Config{})
		time.AfterFunc(100*time.Millisecond, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.down = true
		})
		err := within(t, 4*time.Second, func() error {
			_, err := c.Do(context.Background(), Job{Kind: "k"})
			return err
		})
		require.ErrorIs(t, err, helix.ErrLost)
		require.ErrorContains(t, err, causeSilent)
	})
}
