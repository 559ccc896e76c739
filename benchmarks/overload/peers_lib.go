package main

import (
	"context"
	"errors"
	"time"

	"github.com/alitto/pond/v2"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/priority"
	"github.com/panjf2000/ants/v2"
)

// antsPool refuses what finds all workers busy.
type antsPool struct {
	p    *point
	pool *ants.Pool
}

func newAnts(p *point) (contender, error) {
	pool, err := ants.NewPool(p.slots, ants.WithNonblocking(true))
	return &antsPool{p, pool}, err
}

func (c *antsPool) do(j *job) error {
	done := make(chan struct{})
	err := c.pool.Submit(func() {
		c.p.run(j, c.p.giver())
		close(done)
	})
	if err == nil {
		<-done
		return nil
	}
	if errors.Is(err, ants.ErrPoolOverload) {
		return nil
	}
	return err
}

func (c *antsPool) close() error {
	c.pool.Release()
	return nil
}

// pondPool queues, and refuses what finds the queue full.
type pondPool struct {
	p    *point
	pool pond.Pool
}

func newPond(p *point) (contender, error) {
	return &pondPool{p, pond.NewPool(p.slots, pond.WithQueueSize(queueLen), pond.WithNonBlocking(true))}, nil
}

func (c *pondPool) do(j *job) error {
	task, ok := c.pool.TrySubmit(func() { c.p.run(j, c.p.giver()) })
	if !ok {
		return nil
	}
	return task.Wait()
}

func (c *pondPool) close() error {
	c.pool.StopAndWait()
	return nil
}

// failsafeLimit runs jobs through an executor with a limiting policy, which
// waits until the job's deadline.
type failsafeLimit struct {
	p        *point
	executor failsafe.Executor[any]
	priority bool
	stop     context.CancelFunc
}

func newBulkhead(p *point) (contender, error) {
	limit := bulkhead.NewBuilder[any](uint(p.slots)).
		WithMaxWaitTime(p.spec.Mix.longestBudget()). // the job's ctx ends sooner
		Build()
	return &failsafeLimit{p: p, executor: failsafe.With[any](limit), stop: func() {}}, nil
}

func newAdaptiveLimiter(p *point) (contender, error) {
	prioritizer := adaptivelimiter.NewPrioritizer()
	stop := prioritizer.ScheduleCalibrations(context.Background(), time.Second)
	limit := adaptivelimiter.NewBuilder[any]().
		WithLimits(1, 200, uint(p.slots)). // the defaults, but it starts at what CPU work needs instead of 20
		BuildPrioritized(prioritizer)
	return &failsafeLimit{p: p, executor: failsafe.With[any](limit), priority: true, stop: stop}, nil
}

func (c *failsafeLimit) do(j *job) error {
	ctx, cancel := c.p.untilDue(j)
	defer cancel()
	if ctx.Err() != nil {
		return nil // the policies look at it only while they wait
	}
	if c.priority {
		rank := min(c.p.class(j).urgency, int(priority.VeryHigh))
		ctx = (priority.VeryHigh - priority.Priority(rank)).AddTo(ctx)
	}
	err := c.executor.WithContext(ctx).Run(func() error {
		c.p.run(j, c.p.giver())
		return nil
	})
	switch {
	case err == nil, errors.Is(err, bulkhead.ErrFull), errors.Is(err, adaptivelimiter.ErrExceeded),
		errors.Is(err, context.DeadlineExceeded):
		return nil // whether the job ran is known without it
	}
	return err
}

func (c *failsafeLimit) close() error {
	c.stop()
	return nil
}
