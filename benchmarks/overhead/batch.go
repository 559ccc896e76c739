package main

import (
	"context"
	"time"

	"github.com/graph-gophers/dataloader/v7"
	"github.com/helixrouter/helix"
	"github.com/vikstrous/dataloadgen"
	"google.golang.org/api/support/bundler"
)

// Every batcher makes batches of at most batchSize, helix's default. Those that
// wait for more items wait batchWait, far below their defaults (16 ms for the
// dataloaders, 1 s for bundler), which favours them; caches are off.
const (
	batchSize = 8
	batchWait = time.Millisecond
)

// batchers put single items through a function of many that returns its
// arguments.
var batchers = []contender{
	{group: batchGroup, name: "direct call", note: "a batch of one", start: unbatched(same)},
	{group: batchGroup, name: "dataloadgen", note: "≤ 8 items, 1 ms", start: loadGen(same)},
	{group: batchGroup, name: "dataloader v7", note: "≤ 8 items, 1 ms", start: loader},
	{group: batchGroup, name: "google bundler", note: "≤ 8 items, 1 ms", start: bundles},
	{group: batchGroup, name: "helix batch", note: "≤ 8 items, default delay", start: helixBatch(same)},
	{group: workGroup, name: "direct call", note: "a batch of one", start: unbatched(working)},
	{group: workGroup, name: "dataloadgen", note: "≤ 8 items, 1 ms", start: loadGen(working)},
	{group: workGroup, name: "helix batch", note: "≤ 8 items, default delay", start: helixBatch(working)},
}

// batchFunction is a function of many items.
type batchFunction func(ctx context.Context, ins []int) ([]int, error)

// same returns its arguments.
//
//go:noinline
func same(_ context.Context, ins []int) ([]int, error) { return ins, nil }

// working is same after about 10 µs of work, however many items there are: each step
// needs the result of the one before.
//
//go:noinline
func working(_ context.Context, ins []int) ([]int, error) {
	x := uint64(len(ins))
	for range 8000 {
		x = (x ^ x>>32) * 0xd6e8feb86659fd93
	}
	if x == 0 { // never, but the compiler cannot know
		return nil, nil
	}
	return ins, nil
}

// adding gives operations that return their argument the result of work.
func adding(f func(in int) (int, error)) operation {
	return func(in int) (int, error) {
		out, err := f(in)
		return out + 1, err
	}
}

func unbatched(f batchFunction) func() (operation, func()) {
	return func() (operation, func()) {
		return adding(func(in int) (int, error) {
			outs, err := f(context.Background(), []int{in})
			return outs[0], err
		}), nothingToStop
	}
}

func loadGen(f batchFunction) func() (operation, func()) {
	return func() (operation, func()) {
		l := dataloadgen.NewLoader(func(ctx context.Context, ins []int) ([]int, []error) {
			outs, _ := f(ctx, ins)
			return outs, nil
		}, dataloadgen.WithWait(batchWait), dataloadgen.WithBatchCapacity(batchSize), dataloadgen.WithoutCache())
		ctx := context.Background()
		return adding(func(in int) (int, error) { return l.Load(ctx, in) }), nothingToStop
	}
}

func loader() (operation, func()) {
	l := dataloader.NewBatchedLoader(func(ctx context.Context, ins []int) []*dataloader.Result[int] {
		outs, _ := same(ctx, ins)
		values, results := make([]dataloader.Result[int], len(outs)), make([]*dataloader.Result[int], len(outs))
		for i, out := range outs {
			values[i].Data = out
			results[i] = &values[i]
		}
		return results
	}, dataloader.WithWait[int, int](batchWait),
		dataloader.WithBatchCapacity[int, int](batchSize),
		dataloader.WithCache[int, int](&dataloader.NoCache[int, int]{}))
	ctx := context.Background()
	return adding(func(in int) (int, error) { return l.Load(ctx, in)() }), nothingToStop
}

func bundles() (operation, func()) {
	type item struct {
		in   int
		done chan int
	}
	b := bundler.NewBundler(item{}, func(bundle any) {
		items := bundle.([]item)
		ins := make([]int, len(items))
		for i, it := range items {
			ins[i] = it.in
		}
		outs, _ := same(context.Background(), ins)
		for i, it := range items {
			it.done <- outs[i]
		}
	})
	b.DelayThreshold, b.BundleCountThreshold, b.HandlerLimit = batchWait, batchSize, workers()
	return adding(func(in int) (int, error) {
		it := item{in, make(chan int, 1)}
		if err := b.Add(it, 1); err != nil {
			return 0, err
		}
		return <-it.done, nil
	}), b.Flush
}

func helixBatch(f batchFunction) func() (operation, func()) {
	return func() (operation, func()) {
		op, stop := startTask(helix.Batch, helix.Kind[int, int]{
			Name:         "batch",
			Batch:        f,
			Scaling:      1,
			Cost:         func(int) float64 { return 1 },
			BatchMaxSize: batchSize,
		})
		return adding(op), stop
	}
}
