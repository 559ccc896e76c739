package main

import (
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/api/support/bundler"
)

// goroutines runs every job on the goroutine it came on.
type goroutines struct{ p *point }

func newGoroutines(p *point) (contender, error) { return goroutines{p}, nil }

func (c goroutines) do(j *job) error {
	c.p.run(j, c.p.giver())
	return nil
}

func (goroutines) close() error { return nil }

// weighted waits for a place until the job's deadline.
type weighted struct {
	p      *point
	places *semaphore.Weighted
}

func newSemaphore(p *point) (contender, error) {
	return &weighted{p, semaphore.NewWeighted(int64(p.slots))}, nil
}

func (c *weighted) do(j *job) error {
	ctx, cancel := c.p.untilDue(j)
	defer cancel()
	if c.places.Acquire(ctx, 1) != nil {
		return nil
	}
	defer c.places.Release(1)
	c.p.run(j, c.p.giver())
	return nil
}

func (*weighted) close() error { return nil }

// refuseLate refuses what cannot be in budget any more when it arrives, and
// starts a goroutine for the rest.
type refuseLate struct{ p *point }

func newRefuseLate(p *point) (contender, error) { return refuseLate{p}, nil }

func (c refuseLate) do(j *job) error {
	if c.p.now()+int64(c.p.predicted(j)) > c.p.deadline(j) {
		return nil
	}
	done := make(chan struct{})
	go func() {
		c.p.run(j, c.p.giver())
		close(done)
	}()
	<-done
	return nil
}

func (refuseLate) close() error { return nil }

// queueLen is the queue of pools that have one.
const queueLen = 512

// workerPool is a worker a core and a channel. With expire, workers leave out
// what is past its deadline.
type workerPool struct {
	p       *point
	expire  bool
	queue   chan func()
	workers int
	ended   chan struct{}
}

func newWorkerPool(p *point) (contender, error) { return startPool(p, false), nil }

func startPool(p *point, expire bool) *workerPool {
	c := &workerPool{p: p, expire: expire, queue: make(chan func(), queueLen), workers: p.slots, ended: make(chan struct{})}
	for range c.workers {
		go func() {
			for task := range c.queue {
				task()
			}
			c.ended <- struct{}{}
		}()
	}
	return c
}

func (c *workerPool) do(j *job) error {
	done := make(chan struct{})
	task := func() {
		if !c.expired(j) {
			c.p.run(j, c.p.giver())
		}
		close(done)
	}
	select {
	case c.queue <- task:
		<-done
	default: // full
	}
	return nil
}

func (c *workerPool) expired(j *job) bool { return c.expire && c.p.now() > c.p.deadline(j) }

func (c *workerPool) close() error {
	close(c.queue)
	for range c.workers {
		<-c.ended
	}
	return nil
}

// bundlerDelay is how long a bundle may wait to be filled: a small part of the
// budgets of the batchable classes.
const bundlerDelay = 5 * time.Millisecond

// bundlerPool is a workerPool that leaves out late work, with a bundler before
// it for every batchable class. A bundle takes a worker as a job does.
type bundlerPool struct {
	*workerPool
	bundlers []*bundler.Bundler // by class; nil = not batchable
}

// bundled is a job in a bundle.
type bundled struct {
	job  *job
	done chan struct{}
}

func newBundlerPool(p *point) (contender, error) {
	c := &bundlerPool{workerPool: startPool(p, true)}
	for i := range p.classes {
		if p.classes[i].Batch == nil {
			c.bundlers = append(c.bundlers, nil)
			continue
		}
		b := bundler.NewBundler(bundled{}, func(items any) { c.handle(items.([]bundled)) })
		b.BundleCountThreshold, b.DelayThreshold = bestBatch, bundlerDelay
		b.BufferedByteLimit = queueLen // an item counts as a byte
		b.HandlerLimit = p.slots
		c.bundlers = append(c.bundlers, b)
	}
	return c, nil
}

func (c *bundlerPool) do(j *job) error {
	b := c.bundlers[j.class]
	if b == nil {
		return c.workerPool.do(j)
	}
	item := bundled{j, make(chan struct{})}
	if b.Add(item, 1) == nil {
		<-item.done
	}
	return nil
}

// handle runs a bundle on a worker and waits for it.
func (c *bundlerPool) handle(items []bundled) {
	ran := make(chan struct{})
	c.queue <- func() {
		var jobs []*job
		for _, item := range items {
			if !c.expired(item.job) {
				jobs = append(jobs, item.job)
			}
		}
		if len(jobs) > 0 {
			c.p.runBatch(jobs, c.p.giver())
		}
		close(ran)
	}
	<-ran
	for _, item := range items {
		close(item.done)
	}
}

func (c *bundlerPool) close() error {
	for _, b := range c.bundlers {
		if b != nil {
			b.Flush()
		}
	}
	return c.workerPool.close()
}
