package helix

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/helixrouter/helix/internal/num"
)

// Kind declares a sort of work once; its jobs are then plain data. Name and one
// of Run and Batch are required.
type Kind[In, Out any] struct {
	// Name is the learning, batching and statistics key: 1 to 64 bytes of
	// printable UTF-8, different from all registered before.
	Name string
	// Run does one item. May be nil if Batch is not.
	Run func(context.Context, In) (Out, error)
	// Batch does many items in one call and returns one result for each, in
	// order. Its error fails all items; ItemErrors fail single ones, unless they are joined
	// with another error, which then fails all. It must
	// not keep the slice. Its ctx has no caller's values unless the item is
	// alone, and is cancelled once every item's caller has left.
	// Defaults to nil: the kind is not batched.
	Batch func(context.Context, []In) ([]Out, error)
	// Cost estimates an item's compute cost in a unit of the kind's own
	// (pixels, tokens, rows). Defaults to nil: not known.
	Cost func(In) float64
	// Scaling, from 0 to 1, says how well the work parallelises or batches.
	// Defaults to 0.
	Scaling float64
	// Budget is the latency budget of every item. Defaults to 0: none.
	Budget time.Duration
	// Priority decides which jobs are refused first under overload. Defaults to Normal.
	Priority Priority
	// Weight is the kind's share of the machine under overload, relative to
	// other kinds. Defaults to 1.
	Weight float64
	// Waits says that items mostly wait (I/O) and need no CPU slot.
	// Defaults to false.
	Waits bool
	// MaxConcurrent is the most items that may run at the same time: a hard bound, for a
	// downstream that says so, beside the limit that is learned. Those beyond wait, earliest deadline first, and
	// are refused when their budget ends. Only with Waits and without Batch; an item must not wait for another of its kind.
	// Defaults to 0: none.
	MaxConcurrent int
	// Key says which items are the same, so that one that is asked for twice in a batch that forms
	// is in the call once, and all its submitters get its result, which they share, or its error; it is
	// cancelled by none of them alone. Its result must be comparable; nil is like no other. Only with
	// Waits and Batch. Called once or twice an item. Defaults to nil: no item is the same as another.
	Key func(In) any
	// Downstream names what items that wait are waiting for (a database, another service), if
	// kinds share it: they then share the limit that is learned of it too. Only with Waits; like
	// Name otherwise. Defaults to "": the kind has a downstream of its own.
	Downstream string
	// Codec writes items and results as bytes, so that a Strategy can have items done on
	// another machine, and Router.SubmitBytes can do them for one. [JSON] is one.
	// Defaults to nil: items stay in this process.
	Codec Codec[In, Out]
	// Idempotent says that an item may be done twice: a strategy that has lost one may
	// try again. Defaults to false.
	Idempotent bool
	// BatchMaxSize and BatchMaxDelay default to RouterConfig's.
	BatchMaxSize  int
	BatchMaxDelay time.Duration
}

// Task submits items of one registered [Kind]. It is safe for concurrent use.
type Task[In, Out any] struct {
	router *Router
	kind   *kind
	spec   Kind[In, Out]
	info   JobInfo // of an item without hints
	pool   sync.Pool
}

// Register declares a kind of work. It fails, and changes nothing, if a field
// of k cannot be used, the name is taken, or MaxKinds kinds are registered already.
func Register[In, Out any](r *Router, k Kind[In, Out]) (*Task[In, Out], error) {
	if err := k.validate(); err != nil {
		return nil, err
	}
	if k.Weight == 0 {
		k.Weight = 1
	}
	if k.Run == nil {
		k.Run = k.runAlone // of this copy, whose Batch never changes
	}
	info := JobInfo{
		Kind: k.Name, Scaling: k.Scaling, Budget: k.Budget, Priority: k.Priority,
		Batchable: k.Batch != nil, Waits: k.Waits,
		Portable: k.Codec != nil, Idempotent: k.Idempotent,
	}
	t := &Task[In, Out]{router: r, spec: k, info: info}
	var b *batcher
	if k.Batch != nil {
		b = &batcher{pool: r.pool, call: t.callBatch, callItems: t.callItems, keyOf: t.keyOf, maxSize: k.BatchMaxSize, delay: int64(k.BatchMaxDelay)}
	}
	var err error
	t.kind, err = r.register(info, k.Weight, b, k.Downstream, k.MaxConcurrent)
	if err != nil {
		return nil, err
	}
	if info.Portable {
		d := door(t)
		t.kind.door.Store(&d)
	}
	return t, nil
}

// validate reports the first field of k that cannot be used.
func (k *Kind[In, Out]) validate() error {
	if k.Name == "" || !isCleanKind(k.Name) || k.Name == kindOther {
		return fieldError("Kind.Name", fmt.Sprintf("%q", k.Name),
			fmt.Sprintf("printable UTF-8 of 1 to %d bytes and not %q", maxKindName, kindOther))
	}
	if k.Run == nil && k.Batch == nil {
		return fieldError("Kind.Run", "nil", "a function (or Batch must be one)")
	}
	if k.MaxConcurrent < 0 || k.MaxConcurrent > maxCount {
		return fieldError("Kind.MaxConcurrent", k.MaxConcurrent, fmt.Sprintf("from 0 (which means no bound) to %d", maxCount))
	}
	if k.MaxConcurrent > 0 && (!k.Waits || k.Batch != nil) {
		return fieldError("Kind.MaxConcurrent", k.MaxConcurrent, "0 unless the kind Waits and has no Batch")
	}
	if k.Key != nil && (!k.Waits || k.Batch == nil) {
		return fieldError("Kind.Key", "a function", "nil unless the kind Waits and has a Batch")
	}
	if k.Downstream != "" {
		if !isCleanKind(k.Downstream) {
			return fieldError("Kind.Downstream", fmt.Sprintf("%q", k.Downstream),
				fmt.Sprintf("empty or printable UTF-8 of at most %d bytes", maxKindName))
		}
		if !k.Waits {
			return fieldError("Kind.Downstream", fmt.Sprintf("%q", k.Downstream), "empty unless Waits: other kinds wait for nothing")
		}
	}
	if err := validFraction("Kind.Scaling", k.Scaling); err != nil {
		return err
	}
	if err := validBudget("Kind.Budget", k.Budget); err != nil {
		return err
	}
	if err := validPriority("Kind.Priority", k.Priority); err != nil {
		return err
	}
	if err := validCost("Kind.Weight", k.Weight); err != nil {
		return err
	}
	if k.BatchMaxSize < 0 || k.BatchMaxSize > maxCount {
		return fieldError("Kind.BatchMaxSize", k.BatchMaxSize, fmt.Sprintf("from 0 (which means RouterConfig's) to %d", maxCount))
	}
	return validBudget("Kind.BatchMaxDelay", k.BatchMaxDelay)
}

// runAlone is Run for a kind that has only Batch.
func (k Kind[In, Out]) runAlone(ctx context.Context, in In) (out Out, err error) {
	outs, err := k.Batch(ctx, []In{in})
	var own error
	if err := itemErrors(k.Name, 1, len(outs), err, func(_ int, e error) { own = e }); err != nil {
		return out, err
	}
	if len(outs) > 0 {
		out = outs[0]
	}
	return out, own
}

// Submit runs one item by the strategy the router chooses and returns its
// result. It returns when the item has been done or never will be: an error
// that matches ErrNotRun. See [Router.Submit].
func (t *Task[In, Out]) Submit(ctx context.Context, in In) (out Out, err error) {
	item, err := t.admitItem(ctx, in, nil)
	if err != nil {
		return out, err
	}
	return t.carry(item)
}

// SubmitWith is Submit with hints for this one item.
func (t *Task[In, Out]) SubmitWith(ctx context.Context, in In, h Hints) (out Out, err error) {
	item, err := t.admitItem(ctx, in, &h)
	if err != nil {
		return out, err
	}
	return t.carry(item)
}

// carry sees an item that was not refused through. Its frame is not on the stack while a
// decision is made.
//
//go:noinline
func (t *Task[In, Out]) carry(item *taskItem[In, Out]) (out Out, err error) {
	if item.job.nested {
		err = item.submitNested()
	} else if err = t.router.admit(&item.Ticket, nil); err == nil {
		err = item.finishSubmit()
	}
	fate := item.exit
	if fate == exitReturned {
		out = item.out
	}
	t.recycle(item)
	fate.pass(err)
	return out, err
}

// recycle makes an item that has ended ready for the next.
func (t *Task[In, Out]) recycle(item *taskItem[In, Out]) {
	if item.custody != custodyOwn || inBubble(item.decided) {
		return
	}
	var zeroIn In
	var zeroOut Out
	item.reset()
	item.in, item.out = zeroIn, zeroOut
	t.pool.Put(item)
}

// admitItem returns the item if it was not refused. Its frame is large, and is gone when
// the job runs.
//
//go:noinline
func (t *Task[In, Out]) admitItem(ctx context.Context, in In, h *Hints) (*taskItem[In, Out], error) {
	var q request
	q.ctx = ctx
	if err := t.buildRequest(&q, in, h); err != nil {
		return nil, err
	}
	if err := t.router.decide(&q); err != nil {
		return nil, err
	}
	var item *taskItem[In, Out]
	if !inBubble(q.decided) {
		item, _ = t.pool.Get().(*taskItem[In, Out])
	}
	if item == nil {
		item = &taskItem[In, Out]{task: t}
		t.router.newTicket(&item.Ticket, t.kind)
		item.wake = make(chan struct{}, 1)
	}
	item.in, item.work = in, item
	item.initFrom(&q)
	return item, nil
}

// Go starts one item without waiting for it. The error is a refusal, or says
// that a hint cannot be used. See [Router.Go].
func (t *Task[In, Out]) Go(ctx context.Context, in In) (*Future[Out], error) {
	return t.start(ctx, in, nil, nil)
}

// GoWith is Go with hints for this one item.
func (t *Task[In, Out]) GoWith(ctx context.Context, in In, h Hints) (*Future[Out], error) {
	return t.start(ctx, in, &h, nil)
}

// start is Go. If then is not nil it is called once the job, if it was accepted, has ended.
func (t *Task[In, Out]) start(ctx context.Context, in In, h *Hints, then func(*Ticket)) (*Future[Out], error) {
	var q request
	q.ctx = ctx
	if err := t.buildRequest(&q, in, h); err != nil {
		return nil, err
	}
	q.info.Async, q.follow = true, h != nil && h.Follow
	if err := t.router.decide(&q); err != nil {
		return nil, err
	}
	item := &goItem[In, Out]{taskItem: taskItem[In, Out]{task: t, in: in}}
	t.router.newTicket(&item.Ticket, t.kind)
	item.work, item.future.of, item.then = item, item, then
	if err := t.router.start(&item.Ticket, &item.own, &q); err != nil {
		return nil, err
	}
	return &item.future, nil
}

// buildRequest fills in the request for an item, except its ctx. h may be nil.
func (t *Task[In, Out]) buildRequest(q *request, in In, h *Hints) error {
	q.kind, q.arrived = t.kind, num.Never
	info, of := &q.info, &t.info
	// Not all of it is copied: most is zero, and is zero in q.
	info.Kind, info.Scaling, info.Budget, info.Priority = of.Kind, of.Scaling, of.Budget, of.Priority
	info.Batchable, info.Waits, info.Portable, info.Idempotent = of.Batchable, of.Waits, of.Portable, of.Idempotent
	if h != nil {
		if err := h.validate(); err != nil {
			return err
		}
		q.arrived = t.router.arrival(h.Arrived)
		info.Cost = h.Cost
		if h.Budget != 0 {
			info.Budget = max(h.Budget, 0)
		}
		switch h.Priority {
		case Normal: // the kind's
		case PlainNormal:
			info.Priority = Normal
		default:
			info.Priority = h.Priority
		}
	}
	if t.spec.Key != nil {
		if _, err := t.key(in); err != nil {
			return err
		}
	}
	if t.spec.Cost != nil && (h == nil || h.Cost == 0) {
		info.Cost = t.spec.Cost(in)
		return validCost("Kind.Cost()", info.Cost)
	}
	return nil
}

// taskItem is a ticket with its item.
type taskItem[In, Out any] struct {
	Ticket
	task *Task[In, Out]
	in   In
	out  Out
}

// goItem is a taskItem from Go.
type goItem[In, Out any] struct {
	taskItem[In, Out]
	async[Out]
}

func (i *taskItem[In, Out]) run(ctx context.Context) (err error) {
	i.out, err = i.task.spec.Run(ctx, i.in)
	return err
}

func (i *taskItem[In, Out]) result() Out { return i.out }

// itemOf returns the item whose ticket is t.
func (*Task[In, Out]) itemOf(t *Ticket) *taskItem[In, Out] {
	if i, ok := t.work.(*taskItem[In, Out]); ok {
		return i
	}
	return &t.work.(*goItem[In, Out]).taskItem
}
