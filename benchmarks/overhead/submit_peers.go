package main

import (
	"context"
	"runtime"
	"time"

	"github.com/alitto/pond/v2"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/gammazero/workerpool"
	"github.com/go-kratos/aegis/ratelimit"
	"github.com/go-kratos/aegis/ratelimit/bbr"
	"github.com/panjf2000/ants/v2"
	"github.com/sourcegraph/conc/pool"
	"github.com/zeromicro/go-zero/core/load"
	"github.com/zeromicro/go-zero/core/logx"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// submitPeers are the ways to run a job and wait for it that helix replaces,
// with one worker or permit a P where they take a number.
var submitPeers = []contender{
	{group: submitGroup, name: "direct call", start: direct},
	{group: submitGroup, name: "go+chan", start: goAndChannel},
	{group: submitGroup, name: "errgroup", note: "a group a job", start: errGroup},
	{group: submitGroup, name: "semaphore", note: "a permit a P, waits", start: weighted},
	{group: submitGroup, name: "channel pool", note: "a worker a P", start: channelPool},
	{group: submitGroup, name: "ants", note: "default size: unlimited", start: antsPool},
	{group: submitGroup, name: "pond", note: "a worker a P", start: pondPool},
	{group: submitGroup, name: "gammazero", note: "a worker a P", start: gammazero},
	{group: submitGroup, name: "conc", note: "a goroutine a P", start: concPool},
	{group: submitGroup, name: "failsafe bulkhead", note: "a permit a P, waits", start: failsafeBulkhead},
	{group: submitGroup, name: "go-zero shedder", note: "sheds from 90 % CPU", start: goZero},
	{group: submitGroup, name: "kratos BBR", note: "sheds from 80 % CPU", start: kratos},
}

// work is the empty job. That it ran shows in its result.
//
//go:noinline
func work(_ context.Context, in int) (int, error) { return in + 1, nil }

func workers() int { return runtime.GOMAXPROCS(0) }

func nothingToStop() {}

// through makes an operation of a submit that does not wait: the result comes
// back on a channel.
func through(submit func(func())) operation {
	return func(in int) (int, error) {
		done := make(chan int, 1)
		submit(func() {
			out, _ := work(context.Background(), in)
			done <- out
		})
		return <-done, nil
	}
}

func direct() (operation, func()) {
	return func(in int) (int, error) { return work(context.Background(), in) }, nothingToStop
}

func goAndChannel() (operation, func()) {
	return func(in int) (int, error) {
		done := make(chan int, 1)
		go func() {
			out, _ := work(context.Background(), in)
			done <- out
		}()
		return <-done, nil
	}, nothingToStop
}

func errGroup() (operation, func()) {
	return func(in int) (out int, err error) {
		var g errgroup.Group
		g.Go(func() (err error) {
			out, err = work(context.Background(), in)
			return err
		})
		err = g.Wait()
		return out, err
	}, nothingToStop
}

func weighted() (operation, func()) {
	places := semaphore.NewWeighted(int64(workers()))
	ctx := context.Background()
	return func(in int) (int, error) {
		if err := places.Acquire(ctx, 1); err != nil {
			return 0, err
		}
		defer places.Release(1)
		return work(ctx, in)
	}, nothingToStop
}

func channelPool() (operation, func()) {
	type job struct {
		in   int
		done chan int
	}
	jobs := make(chan job)
	for range workers() {
		go func() {
			for j := range jobs {
				out, _ := work(context.Background(), j.in)
				j.done <- out
			}
		}()
	}
	return func(in int) (int, error) {
		j := job{in, make(chan int, 1)}
		jobs <- j
		return <-j.done, nil
	}, func() { close(jobs) }
}

func antsPool() (operation, func()) {
	p, err := ants.NewPool(ants.DefaultAntsPoolSize)
	must(err)
	return func(in int) (int, error) {
		done := make(chan int, 1)
		err := p.Submit(func() {
			out, _ := work(context.Background(), in)
			done <- out
		})
		if err != nil {
			return 0, err
		}
		return <-done, nil
	}, p.Release
}

func pondPool() (operation, func()) {
	p := pond.NewResultPool[int](workers())
	return func(in int) (int, error) {
		return p.SubmitErr(func() (int, error) { return work(context.Background(), in) }).Wait()
	}, p.StopAndWait
}

func gammazero() (operation, func()) {
	p := workerpool.New(workers())
	return through(p.Submit), p.Stop
}

func concPool() (operation, func()) {
	p := pool.New().WithMaxGoroutines(workers())
	return through(p.Go), p.Wait
}

func failsafeBulkhead() (operation, func()) {
	limit := bulkhead.NewBuilder[int](uint(workers())).WithMaxWaitTime(time.Minute).Build()
	executor := failsafe.With[int](limit)
	return func(in int) (int, error) {
		return executor.Get(func() (int, error) { return work(context.Background(), in) })
	}, nothingToStop
}

func goZero() (operation, func()) {
	logx.Disable()
	shedder := load.NewAdaptiveShedder()
	return func(in int) (int, error) {
		promise, err := shedder.Allow()
		if err != nil {
			return 0, err
		}
		out, err := work(context.Background(), in)
		promise.Pass()
		return out, err
	}, nothingToStop
}

func kratos() (operation, func()) {
	limiter := bbr.NewLimiter()
	return func(in int) (int, error) {
		done, err := limiter.Allow()
		if err != nil {
			return 0, err
		}
		out, err := work(context.Background(), in)
		done(ratelimit.DoneInfo{Err: err})
		return out, err
	}, nothingToStop
}

// must is for constructors that fail on a wrong constant only.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
