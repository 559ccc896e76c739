// Package helix decides how work runs: on the caller, on a goroutine of its
// own, in a slot of a CPU pool, in a batch, or not at all.
//
//	router, err := helix.New(helix.RouterConfig{})
//	if err != nil {
//		return err
//	}
//	defer router.Close()
//
//	result, err := router.Submit(ctx, helix.Job{
//		Kind:   "thumbnail",
//		Cost:   float64(img.Pixels()),   // estimated cost, in a unit of your own
//		Budget: 80 * time.Millisecond,   // how soon it is of use
//		Run:    func(ctx context.Context) (any, error) { return resize(ctx, img) },
//	})
//	if errors.Is(err, helix.ErrNotRun) {
//		// refused at once, with the reason: safe to try elsewhere
//	}
//
// A [Router] looks at each job's estimated cost, at how well it scales, at its
// latency budget and at how busy the machine is, and has its [Policy] choose a
// [Strategy]: [Inline], [Spawn], [CPUPool], [Batch] or [Drop], or one of your
// own. The strategy may change when a job runs, never what it means: results,
// errors, panics and cancellation are the same in all of them.
//
// There are two doors. One-off work goes through [Router.Submit]. Work that
// repeats, is hot, or can be batched is declared once with [Register], and its
// [Task] is then called with plain data. Both wait for the job; their Go
// methods do not, and return a [Future].
//
// Every job that is submitted ends exactly once, and [Router.Stats] accounts
// for it: submitted = completed + failed + dropped + withdrawn + in flight.
// Package httpstats shows all of it on a page, as JSON and as metrics.
package helix
