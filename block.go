package helix

import "context"

// Block calls f, which blocks, and lends the slot of the job that calls it meanwhile: others
// run in it, and the job waits to get one back, by its old due time, before Block returns.
// Use it inside jobs around whatever blocks for more than some 10 µs and that the router
// cannot see: a lock, a channel, [Future.Done] in a select, an RPC, sync.WaitGroup.Wait. It
// is needed where what f waits for is done by jobs of the same router, which may need the
// slot. Submit, [Future.Wait] and [Group.Wait] lend by themselves.
//
// ctx must be the job's, or come from it. Outside a job Block is f(). The time in Block is not
// the job's run time: it is not learned, and nobody's share pays for it. f must not do
// CPU-bound work: it holds no slot. Block costs about 0.5 µs while nobody waits for a slot. It
// does not return early when ctx is done.
func Block(ctx context.Context, f func()) {
	job := jobIn(ctx)
	if job == nil {
		f()
		return
	}
	job.pause()
	defer job.unpause() // also if f panics, or calls runtime.Goexit
	f()
}

// waitFor blocks until done is closed, and reports that, or until ctx is done. The job to
// which ctx belongs, if any, lends its slot meanwhile.
//
//go:noinline
func waitFor(ctx context.Context, done <-chan struct{}) bool {
	if job := jobIn(ctx); job != nil {
		job.pause()
		defer job.unpause()
	}
	left := ctx.Done()
	if left == nil {
		<-done // without a select, which costs more
		return true
	}
	select {
	case <-done:
		return true
	case <-left:
		return false
	}
}
