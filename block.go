package helix

import (
	"context"
	"runtime"
)

// Block calls f, which blocks, and lends the slot of the job that calls it meanwhile: others
// run in it, and the job waits to get one back, by its old due time, before Block returns.
// Use it inside jobs around whatever blocks for more than some 10 µs and that the router
// cannot see: a lock, a channel, [Future.Done] in a select, an RPC, sync.WaitGroup.Wait. It
// is needed where what f waits for is done by jobs of the same router, which may need the
// slot. Submit, [Future.Wait] and [Group.Wait] lend by themselves.
//
// ctx must be the job's, or come from it. Outside a job Block is f(). The time in Block is not
// the job's run time: it is not learned, and no kind's share pays for it. f must not do
// CPU-bound work: it holds no slot. Block costs about 0.5 µs while no job waits for a slot. It
// does not return early when ctx is done.
func Block(ctx context.Context, f func()) {
	job := jobIn(ctx)
	if job == nil {
		f()
		return
	}
	job.lending(f)
}

// lending calls f and lends the slots that the job holds meanwhile.
//
//go:noinline
func (s *slot) lending(f func()) {
	s.pause()
	defer s.unpause() // also if f panics, or calls runtime.Goexit
	f()
}

// waitFor blocks until t, which done tells of, has ended, and reports that, or until ctx is
// done. The job to which ctx belongs, if any, lends its slot meanwhile.
//
//go:noinline
func waitFor(ctx context.Context, t *Ticket, done <-chan struct{}) (ended bool) {
	if job := jobIn(ctx); job != nil {
		job.lending(func() { ended = awaitEnd(t, ctx, done) })
		return ended
	}
	return awaitEnd(t, ctx, done)
}

// awaitEnd is waitFor outside jobs.
//
//go:noinline
func awaitEnd(t *Ticket, ctx context.Context, done <-chan struct{}) (ended bool) {
	if left := ctx.Done(); left == nil {
		<-done // without a select, which costs more
		ended = true
	} else {
		select {
		case <-done:
			ended = true
		case <-left:
		}
	}
	runtime.KeepAlive(t) // so that the text of the stack shows it
	return ended
}
