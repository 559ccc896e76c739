package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bubble runs a test in virtual time with a network, whose clients must have even accounts
// at its end.
func bubble(t *testing.T, f func(t *testing.T, n *network)) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		defer n.end(t)
		f(t, n)
	})
}

func fast() *machine { return &machine{kind: "k", slots: 4, cost: 10 * time.Millisecond} }

func TestAJobTravelsThereAndBack(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		m := fast()
		m.run = func(ctx context.Context, r *Request) ([]byte, error) {
			require.EqualValues(t, 3, r.Cost)
			require.Equal(t, helix.High, r.Priority)
			require.Equal(t, "trace", r.Trace)
			// Sent 40 ms before it had to be done: what is left travels, whatever the clocks say.
			require.Equal(t, 40*time.Millisecond, r.Budget)
			time.Sleep(10 * time.Millisecond)
			return append([]byte("did "), r.Input...), nil
		}
		n.add("w1", m)
		c, _ := newTestClient(t, n, Config{})
		begun := time.Now()
		r, err := c.Do(context.Background(), Job{Kind: "k", Input: []byte("it"), Cost: 3, Priority: helix.High,
			Deadline: begun.Add(40 * time.Millisecond), Trace: "trace"})
		require.NoError(t, err)
		require.Equal(t, Result{Output: []byte("did it"), Worker: "w1", Run: 10 * time.Millisecond, Attempts: 1}, r)
		require.Equal(t, 10*time.Millisecond+2*oneWay, time.Since(begun), "nothing but the way is added")

		s := c.Stats()
		require.EqualValues(t, 1, s.Total.Answered)
		require.InEpsilon(t, 2*oneWay, s.RTT.Mean(), 0.02)
		require.InEpsilon(t, 10*time.Millisecond+2*oneWay, s.Took.Mean(), 0.02)
		require.InDelta(t, 10*time.Millisecond, s.Predicted, float64(time.Millisecond))
	})
}

func TestNoWorkerIsToldAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		c, _ := newTestClient(t, n, Config{})
		begun := time.Now()
		_, err := c.Do(context.Background(), Job{Kind: "k"})
		require.ErrorIs(t, err, helix.ErrNotRun)
		require.ErrorContains(t, err, reasonNoWorker)
		require.Zero(t, time.Since(begun))

		// One that was there, and is not any more.
		n.add("w1", fast())
		time.Sleep(2 * oneWay)
		n.hosts["w1"].kill()
		begun = time.Now()
		_, err = c.Do(context.Background(), Job{Kind: "k"})
		require.ErrorIs(t, err, helix.ErrNotRun)
		require.Equal(t, 2*oneWay, time.Since(begun), "told by the network, not by a timeout")
		require.EqualValues(t, 1, c.Stats().Total.Undelivered)
		require.Empty(t, c.Stats().Workers, "it is forgotten")
	})
}

func TestWhatAWorkerRefusesGoesToAnother(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		full, roomy := fast(), fast()
		n.add("full", full)
		n.add("roomy", roomy)
		c, _ := newTestClient(t, n, Config{})
		full.fill() // it has not said so yet
		refused := 0
		for range 50 {
			begun := time.Now()
			r, err := c.Do(context.Background(), Job{Kind: "k", Deadline: begun.Add(50 * time.Millisecond)})
			require.NoError(t, err)
			require.Equal(t, "roomy", r.Worker)
			require.LessOrEqual(t, time.Since(begun), 10*time.Millisecond+8*oneWay)
			refused += r.Attempts - 1
		}
		roomy.fill()
		begun := time.Now()
		_, err := c.Do(context.Background(), Job{Kind: "k", Deadline: begun.Add(50 * time.Millisecond)})
		require.ErrorIs(t, err, helix.ErrNotRun)
		require.Less(t, time.Since(begun), 2*time.Millisecond, "no worker has room: refused after probing")
	})
}

func TestAJobWithoutTimeLeftIsNotSent(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		n.add("w1", fast())
		c, _ := newTestClient(t, n, Config{})
		for _, left := range []time.Duration{-time.Second, 0, 5 * time.Millisecond, 10 * time.Millisecond} {
			_, err := c.Do(context.Background(), Job{Kind: "k", Deadline: time.Now().Add(left)})
			require.ErrorIs(t, err, helix.ErrNotRun, "%v", left)
		}
		require.Zero(t, n.jobs.Load())
	})
}

func TestAKilledWorkersJobsAreLost(t *testing.T) {
	for _, idempotent := range []bool{false, true} {
		t.Run(fmt.Sprint("idempotent ", idempotent), func(t *testing.T) {
			bubble(t, func(t *testing.T, n *network) {
				m := fast()
				m.cost = 2 * time.Second
				n.add("w1", m)
				c, _ := newTestClient(t, n, Config{})
				var r Result
				var err error
				begun := time.Now()
				var done sync.WaitGroup
				done.Go(func() { r, err = c.Do(context.Background(), Job{Kind: "k", Idempotent: idempotent}) })
				time.Sleep(100 * time.Millisecond)
				n.hosts["w1"].kill()
				n.add("w2", fast())
				done.Wait()
				if idempotent {
					require.NoError(t, err)
					require.Equal(t, "w2", r.Worker)
					require.Equal(t, 2, r.Attempts)
				} else {
					require.ErrorIs(t, err, helix.ErrLost)
					require.NotErrorIs(t, err, helix.ErrNotRun, "it may have run")
					require.ErrorContains(t, err, causeGone)
				}
				require.Less(t, time.Since(begun), 400*time.Millisecond, "noticed by asking, not by a timeout")
				require.EqualValues(t, 1, c.Stats().Total.Lost)
			})
		})
	}
}

func TestAStoppedWorkerLosesItsJobsAndComesBack(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		stopped, other := fast(), fast()
		h := n.add("stopped", stopped)
		c, _ := newTestClient(t, n, Config{})
		begun := time.Now()
		h.pause()
		_, err := c.Do(context.Background(), Job{Kind: "k"})
		require.ErrorIs(t, err, helix.ErrLost)
		require.ErrorContains(t, err, causeSilent)
		require.InDelta(t, 3*time.Second, time.Since(begun), float64(300*time.Millisecond))

		n.add("other", other)
		time.Sleep(time.Second)
		for range 20 { // silent workers are left out
			r, err := c.Do(context.Background(), Job{Kind: "k", Deadline: time.Now().Add(50 * time.Millisecond)})
			require.NoError(t, err)
			require.Equal(t, "other", r.Worker)
		}

		h.resume() // and runs the job that it was sent, which was cancelled meanwhile
		time.Sleep(1100 * time.Millisecond)
		ended := stopped.ended()
		var done sync.WaitGroup
		for range 6 { // more than the other has slots
			time.Sleep(time.Millisecond)
			done.Go(func() {
				_, err := c.Do(context.Background(), Job{Kind: "k", Deadline: time.Now().Add(50 * time.Millisecond)})
				assert.NoError(t, err)
			})
		}
		done.Wait()
		require.Greater(t, stopped.ended(), ended, "it is used again")
	})
}

// Workers that do not answer in time get jobs that have time, if there are no others, and
// none with short budgets.
func TestSilentWorkersAreTheLastResort(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		h1, h2 := n.add("w1", fast()), n.add("w2", fast())
		c, _ := newTestClient(t, n, Config{})
		time.Sleep(10 * time.Millisecond) // what they said is not fresh any more
		h1.pause()
		h2.pause()
		var err error
		var done sync.WaitGroup
		done.Go(func() { _, err = c.Do(context.Background(), Job{Kind: "k"}) })
		time.Sleep(100 * time.Millisecond)
		require.EqualValues(t, 1, c.Stats().Total.Flying, "it has time")
		f := c.Forecast(helix.JobInfo{Kind: "k", Portable: true})
		require.True(t, f.Room)
		require.GreaterOrEqual(t, f.Wait, 100*time.Millisecond, "as long as they have been silent")
		begun := time.Now()
		_, hasty := c.Do(context.Background(), Job{Kind: "k", Deadline: begun.Add(50 * time.Millisecond)})
		require.ErrorIs(t, hasty, helix.ErrNotRun)
		require.Zero(t, time.Since(begun), "it is not even asked for")

		n.add("w3", fast())
		time.Sleep(2 * oneWay)
		for range 20 {
			r, err := c.Do(context.Background(), Job{Kind: "k"})
			require.NoError(t, err)
			require.Equal(t, "w3", r.Worker)
		}
		h1.resume()
		h2.resume()
		done.Wait()
		require.NoError(t, err)
	})
}

func TestAWorkerThatLostTheJobIsFoundOut(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		h := n.add("w1", fast())
		c, _ := newTestClient(t, n, Config{})
		h.set(func() { h.deaf = true })
		begun := time.Now()
		_, err := c.Do(context.Background(), Job{Kind: "k"})
		require.ErrorIs(t, err, helix.ErrLost)
		require.ErrorContains(t, err, causeMissing)
		require.Less(t, time.Since(begun), time.Second)
	})
}

func TestALongJobIsNotLost(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		m := fast()
		m.cost = time.Minute
		n.add("w1", m)
		c, _ := newTestClient(t, n, Config{})
		_, err := c.Do(context.Background(), Job{Kind: "k"})
		require.NoError(t, err)
	})
}

// A worker that leaves takes nothing with it: 3,000 jobs while four workers are replaced.
func TestAWorkerThatLeavesLosesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		for i := range 4 {
			n.add(fmt.Sprint("old", i), fast())
		}
		c, _ := newTestClient(t, n, Config{})
		var jobs sync.WaitGroup
		var mu sync.Mutex
		var failed []error
		for i := range 3000 {
			time.Sleep(time.Millisecond)
			jobs.Go(func() {
				if _, err := c.Do(context.Background(), Job{Kind: "k", Deadline: time.Now().Add(100 * time.Millisecond)}); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed = append(failed, err)
				}
			})
			if i%600 == 300 && i/600 < 4 {
				n.add(fmt.Sprint("new", i/600), fast())
				jobs.Go(n.hosts[fmt.Sprint("old", i/600)].leave)
			}
		}
		jobs.Wait()
		require.Empty(t, failed)
		require.Zero(t, c.Stats().Total.Lost)
	})
}

// begin sends a job and returns a function that waits for its end.
func begin(c *Client) (end func() error) {
	ended := make(chan error, 1)
	go func() {
		_, err := c.Do(context.Background(), Job{Kind: "k"})
		ended <- err
	}()
	return func() error { return <-ended }
}

func TestABrokenConnection(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		m := fast()
		n.add("w1", m)
		c, l := newTestClient(t, n, Config{})
		end := begin(c)
		time.Sleep(5 * time.Millisecond)
		l.disconnect()
		err := end()
		require.ErrorIs(t, err, helix.ErrLost, "what was under way")
		require.ErrorContains(t, err, causeDisconnected)

		begun := time.Now()
		_, err = c.Do(context.Background(), Job{Kind: "k"})
		require.ErrorIs(t, err, helix.ErrNotRun, "what was not sent")
		require.ErrorIs(t, err, ErrNotConnected)
		require.Zero(t, time.Since(begun), "fails at once")

		delivered := n.jobs.Load()
		l.reconnect()
		time.Sleep(time.Second)
		require.Equal(t, delivered, n.jobs.Load(), "and never arrives later")
		_, err = c.Do(context.Background(), Job{Kind: "k"})
		require.NoError(t, err)
	})
}

func TestTooLargeToBeSent(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		n.add("w1", fast())
		c, l := newTestClient(t, n, Config{})
		l.most = 1 << 20
		_, err := c.Do(context.Background(), Job{Kind: "k", Input: make([]byte, 1<<20)})
		require.ErrorIs(t, err, helix.ErrNotRun)
		require.ErrorIs(t, err, ErrTooLarge)
		require.ErrorContains(t, err, reasonLarge)
		require.Zero(t, n.jobs.Load())
	})
}

// However a job ends at a worker, it ends like that at its submitter.
func TestOutcomesTravel(t *testing.T) {
	for name, end := range map[string]struct {
		run   func(context.Context, *Request) ([]byte, error)
		check func(*testing.T, error)
	}{
		"error": {
			func(context.Context, *Request) ([]byte, error) { return nil, errors.New("disk is full") },
			func(t *testing.T, err error) {
				var job *JobError
				require.ErrorAs(t, err, &job)
				require.Equal(t, JobError{Worker: "w1", Text: "disk is full"}, *job)
				require.NotErrorIs(t, err, helix.ErrNotRun)
				require.NotErrorIs(t, err, context.Canceled)
			},
		},
		"an error that is only about a job of its own": {
			func(context.Context, *Request) ([]byte, error) { return nil, helix.ErrDropped },
			func(t *testing.T, err error) {
				require.NotErrorIs(t, err, helix.ErrNotRun, "it ran, and must not run again")
				require.ErrorContains(t, err, helix.ErrDropped.Error())
			},
		},
		"panic": {
			func(context.Context, *Request) ([]byte, error) { panic("boom") },
			func(t *testing.T, err error) {
				var p *helix.PanicError
				require.ErrorAs(t, err, &p)
				require.Equal(t, "boom", p.Value)
			},
		},
		"an error whose text panics": {
			func(context.Context, *Request) ([]byte, error) { return nil, (*JobError)(nil) },
			func(t *testing.T, err error) {
				var p *helix.PanicError
				require.ErrorAs(t, err, &p)
			},
		},
		"Goexit": {
			func(context.Context, *Request) ([]byte, error) { exit(); return nil, nil },
			func(t *testing.T, err error) { require.ErrorIs(t, err, helix.ErrGoexit) },
		},
		"refused late": {
			func(context.Context, *Request) ([]byte, error) { return nil, errLate },
			func(t *testing.T, err error) {
				require.ErrorIs(t, err, helix.ErrNotRun)
				require.ErrorContains(t, err, "too late")
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *network) {
				m := fast()
				m.run = end.run
				n.add("w1", m)
				c, _ := newTestClient(t, n, Config{})
				_, err := c.Do(context.Background(), Job{Kind: "k"})
				end.check(t, err)
				require.Zero(t, m.busy, "its slot is free again")
				require.NoError(t, n.hosts["w1"].worker.Wait(context.Background()))
			})
		})
	}
}

func TestCancellationTravels(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		m := fast()
		m.run = func(ctx context.Context, _ *Request) ([]byte, error) {
			<-ctx.Done()
			time.Sleep(5 * time.Millisecond) // it tidies up
			return nil, ctx.Err()
		}
		n.add("w1", m)
		c, _ := newTestClient(t, n, Config{})
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		begun := time.Now()
		_, err := c.Do(ctx, Job{Kind: "k"})
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, helix.ErrNotRun)
		require.Equal(t, 105*time.Millisecond+2*oneWay, time.Since(begun), "Do returns when the job has ended there")
	})
}

func TestCloseWaitsForWhatIsElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		m := fast()
		n.add("w1", m)
		c, _ := newTestClient(t, n, Config{})
		end := begin(c)
		time.Sleep(time.Millisecond)
		require.NoError(t, c.Close(context.Background()))
		require.NoError(t, end())
		_, err := c.Do(context.Background(), Job{Kind: "k"})
		require.ErrorIs(t, err, helix.ErrNotRun)
		require.ErrorContains(t, err, reasonClosed)

		c, _ = newTestClient(t, n, Config{})
		m.mu.Lock()
		m.cost = time.Hour
		m.mu.Unlock()
		end = begin(c)
		time.Sleep(time.Millisecond)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.ErrorIs(t, c.Close(ctx), context.DeadlineExceeded)
		require.ErrorIs(t, end(), helix.ErrLost)
		n.hosts["w1"].worker.Cancel()
		time.Sleep(2 * time.Hour)
	})
}

func TestTheLimitOfJobsElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		n.add("w1", fast())
		c, _ := newTestClient(t, n, Config{MaxInFlight: 1})
		end := begin(c)
		time.Sleep(time.Millisecond)
		_, err := c.Do(context.Background(), Job{Kind: "k"})
		require.ErrorIs(t, err, helix.ErrNotRun)
		require.ErrorContains(t, err, reasonLimit)
		require.NoError(t, end())
		_, err = c.Do(context.Background(), Job{Kind: "k"})
		require.NoError(t, err)
	})
}

// A worker with room for one has room again when it answers.
func TestAWorkerWithRoomForOne(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		h := n.add("w1", fast())
		h.worker.cfg.MaxInFlight = 1
		c, _ := newTestClient(t, n, Config{})
		for range 5 {
			_, err := c.Do(context.Background(), Job{Kind: "k"})
			require.NoError(t, err)
		}
		end := begin(c)
		time.Sleep(5 * time.Millisecond)
		_, err := c.Do(context.Background(), Job{Kind: "k"})
		require.ErrorIs(t, err, helix.ErrNotRun)
		require.ErrorContains(t, err, reasonCrowded)
		require.NoError(t, end())
	})
}

// A worker answers everything but a cancel exactly once, however broken it is.
func TestAWorkerAnswersWhatIsBroken(t *testing.T) {
	m := fast()
	w := NewWorker(m, WorkerConfig{})
	for reason, frame := range map[string][]byte{
		reasonMalformed: {1, 2, 3},
		reasonNotServed: (&Request{Kind: "other"}).AppendJob(nil),
	} {
		answers := 0
		w.Receive(frame, func(frame []byte) {
			answers++
			r, err := ParseReply(frame)
			require.NoError(t, err)
			require.Equal(t, StatusRefused, r.Status)
			require.Equal(t, reason, r.Reason)
		})
		require.Equal(t, 1, answers)
	}
	w.Receive(AppendCancel(nil, 7), func([]byte) { t.Error("a cancel is not answered") })
}
