package remote

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/helixrouter/helix"
)

// Handler runs the jobs of a [Worker]. Its methods must be safe for concurrent use.
type Handler interface {
	// Kinds returns the names of the kinds that it serves. It is called once.
	Kinds() []string
	// Do runs one job, or refuses it with an error that matches helix.ErrNotRun. The
	// budget runs from arrived.
	Do(ctx context.Context, r *Request, arrived time.Time) (Output, error)
	// Load returns the load for such a job now. It must be fast.
	Load(r *Request) Load
}

// Output is the result of a job at a worker.
type Output struct {
	Body      []byte
	Wait, Run time.Duration
	Ran       bool // an error is the job's own, even if it matches helix.ErrNotRun
}

// WorkerConfig configures a [Worker]. The zero value is ready for use.
type WorkerConfig struct {
	// MaxInFlight is the most requests that may be in the worker at the same time; more are
	// refused without calling the handler. Defaults to 1024.
	MaxInFlight int
	// Context returns the ctx of a job, for instance one that continues the trace of the
	// request. Defaults to ctx itself.
	Context func(ctx context.Context, r *Request) context.Context
}

// Worker answers requests: it is the end at which jobs run. It gets frames and a function for
// the answers, and does not know the transport.
type Worker struct {
	handler Handler
	cfg     WorkerConfig
	kinds   map[string]bool // that it serves; fixed

	mu      sync.Mutex
	jobs    map[uint64]context.CancelFunc // by attempt, until it has been answered; guarded by mu
	busy    int                           // those of them that have not ended; guarded by mu
	early   map[uint64]struct{}           // attempts that were cancelled and are not in jobs: they may arrive yet; guarded by mu
	leaving bool                          // guarded by mu
	running sync.WaitGroup                // counts jobs; added to under mu
}

// NewWorker makes a worker.
func NewWorker(h Handler, cfg WorkerConfig) *Worker {
	if cfg.MaxInFlight <= 0 {
		cfg.MaxInFlight = 1024
	}
	w := &Worker{handler: h, cfg: cfg, kinds: map[string]bool{}, jobs: map[uint64]context.CancelFunc{}, early: map[uint64]struct{}{}}
	for _, kind := range h.Kinds() {
		w.kinds[kind] = true
	}
	return w
}

// Reasons that a worker refuses a request without calling its handler.
const (
	reasonLeaving   = "worker is leaving"
	reasonCrowded   = "worker has as many requests as may be"
	reasonNotServed = "worker does not serve this kind"
	reasonCanceled  = "its cancellation arrived before it"
)

// Receive takes a frame that was sent to the worker. It does not block, so that it may be
// called from the goroutine that reads the connection; a job runs on a goroutine of its
// own. answer is called exactly once for a job or a probe, even a malformed one, on any
// goroutine, and never for a cancel or for another copy of a job that the worker has.
func (w *Worker) Receive(frame []byte, answer func([]byte)) {
	now := time.Now()
	if attempt, err := ParseCancel(frame); err == nil {
		w.cancel(attempt)
		return
	}
	r, probe, err := ParseRequest(frame)
	refuse := func(reason string, load Load) {
		answer((&Reply{Status: StatusRefused, Reason: reason, Load: load}).Append(nil))
	}
	switch {
	case err != nil:
		refuse(reasonMalformed, Load{Refuses: true})
	case !w.kinds[r.Kind]:
		refuse(reasonNotServed, Load{Refuses: true})
	case probe:
		answer(w.probed(&r))
	default:
		ctx, reason := w.begin(r.Attempt)
		if reason != "" {
			refuse(reason, w.load(&r))
		} else if ctx != nil {
			go w.do(ctx, &r, now, answer)
		}
	}
}

// probed answers a probe.
func (w *Worker) probed(r *Request) []byte {
	reply := Reply{Status: StatusProbed, Load: w.load(r)}
	if r.Attempt != 0 {
		w.mu.Lock()
		if w.jobs[r.Attempt] == nil {
			reply.Status = StatusMissing
		}
		w.mu.Unlock()
	}
	return reply.Append(nil)
}

// load returns the handler's load, and whether the worker is leaving.
func (w *Worker) load(r *Request) Load {
	load := w.handler.Load(r)
	w.mu.Lock()
	defer w.mu.Unlock()
	load.Leaves = w.leaving
	load.Refuses = load.Refuses || w.leaving || w.busy >= w.cfg.MaxInFlight
	return load
}

// begin records an attempt and returns its ctx, or why it is refused; neither if the worker has
// it already: a refusal would say that it does not run.
func (w *Worker) begin(attempt uint64) (context.Context, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.jobs[attempt] != nil:
		return nil, ""
	case w.leaving:
		return nil, reasonLeaving
	case w.busy >= w.cfg.MaxInFlight:
		return nil, reasonCrowded
	}
	if _, canceled := w.early[attempt]; canceled {
		delete(w.early, attempt)
		return nil, reasonCanceled
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.jobs[attempt] = cancel
	w.busy++
	w.running.Add(1)
	return ctx, ""
}

// end removes an attempt. It is called after the answer has been sent: until then the answer to
// a probe must not say that the worker does not have the job.
func (w *Worker) end(attempt uint64) {
	w.mu.Lock()
	w.jobs[attempt]()
	delete(w.jobs, attempt)
	w.mu.Unlock()
	w.running.Done()
}

// maxEarly bounds the remembered cancellations. Most are of jobs that have ended.
const maxEarly = 4096

// cancel cancels an attempt. It may overtake the attempt, which has another subject or was held
// up with it: then the attempt is refused when it arrives.
func (w *Worker) cancel(attempt uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if cancel := w.jobs[attempt]; cancel != nil {
		cancel()
		return
	}
	if len(w.early) >= maxEarly {
		clear(w.early)
	}
	w.early[attempt] = struct{}{}
}

// do runs a job and answers, even if the job panics or exits.
func (w *Worker) do(ctx context.Context, r *Request, arrived time.Time, answer func([]byte)) {
	reply := Reply{Status: StatusExited} // unless it turns out otherwise
	defer func() {                       // also after runtime.Goexit
		if v := recover(); v != nil {
			reply.panicked(v)
		}
		if reply.Wait == 0 && reply.Run == 0 {
			reply.Run = time.Since(arrived)
		}
		w.mu.Lock()
		w.busy-- // before the answer, after which its client may send the next
		w.mu.Unlock()
		reply.Load = w.load(r)
		answer(reply.Append(nil))
		w.end(r.Attempt)
	}()
	if w.cfg.Context != nil {
		ctx = w.cfg.Context(ctx, r)
	}
	out, err := w.handler.Do(ctx, r, arrived)
	reply.Wait, reply.Run = out.Wait, out.Run
	reply.concluded(ctx, &out, err)
}

// concluded sets the status of a job that has ended.
func (r *Reply) concluded(ctx context.Context, out *Output, err error) {
	drop := (*helix.DropError)(nil)
	switch {
	case err == nil:
		r.Status, r.Body = StatusDone, out.Body
	case !out.Ran && errors.As(err, &drop):
		r.Status, r.Reason, r.RetryAfter = StatusRefused, drop.Decision.Reason, drop.RetryAfter
	case !out.Ran && errors.Is(err, helix.ErrNotRun):
		r.Status, r.Reason = StatusRefused, strings.TrimPrefix(err.Error(), helix.ErrNotRun.Error()+": ")
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		r.Status, r.Body = StatusCanceled, []byte(err.Error())
	default:
		r.Status, r.Body = StatusFailed, []byte(err.Error())
	}
}

// panicked sets the status of a panic.
func (r *Reply) panicked(v any) {
	r.Status = StatusPanicked
	if p, ok := v.(*helix.PanicError); ok {
		r.Stack, v = p.Stack, p.Value
	}
	r.Body = fmt.Appendf(nil, "%v", v)
}

// Announce calls tell with the worker's presence, once for each kind.
func (w *Worker) Announce(id string, tell func(kind string, frame []byte)) {
	for kind := range w.kinds {
		p := Presence{Worker: id, Kind: kind, Load: w.load(&Request{Kind: kind})}
		tell(kind, p.Append(nil))
	}
}

// Leave refuses all jobs from now on. Announce then reports it.
func (w *Worker) Leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leaving = true
}

// Wait waits until all jobs have been answered, or until ctx is done and then returns its cause.
// New jobs may still arrive unless Leave was called.
func (w *Worker) Wait(ctx context.Context) error {
	idle := make(chan struct{})
	go func() {
		w.running.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Cancel cancels the ctx of all jobs.
func (w *Worker) Cancel() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, cancel := range w.jobs {
		cancel()
	}
}
