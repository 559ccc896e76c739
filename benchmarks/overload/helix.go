package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/helixrouter/helix"
)

// batchScaling is the Scaling of classes with a batch function.
const batchScaling = 0.9

// router is helix: every class is a registered kind.
type router struct {
	p      *point
	router *helix.Router
	tasks  []*helix.Task[*job, struct{}]
	// ctx can be cancelled, as a request's can, and never is before the end.
	ctx    context.Context
	cancel context.CancelFunc
}

// helixWith makes a router with the policy of that name, everything else by
// default but the number of slots, which is that of the cores.
func helixWith(policy string) func(*point) (contender, error) {
	return func(p *point) (contender, error) {
		var cfg helix.RouterConfig
		if err := json.Unmarshal(fmt.Appendf(nil, `{"policy":%q,"cpu_parallelism":%d}`, policy, p.slots), &cfg); err != nil {
			if field := (*helix.FieldError)(nil); errors.As(err, &field) {
				return nil, unavailable{err}
			}
			return nil, err
		}
		r, err := helix.New(cfg)
		if err != nil {
			return nil, err
		}
		c := &router{p: p, router: r}
		c.ctx, c.cancel = context.WithCancel(context.Background())
		for i := range p.classes {
			t, err := c.register(&p.classes[i])
			if err != nil {
				return nil, err
			}
			c.tasks = append(c.tasks, t)
		}
		return c, nil
	}
}

// unavailable is the error of a contender that this build does not have.
type unavailable struct{ error }

func (c *router) register(k *class) (*helix.Task[*job, struct{}], error) {
	kind := helix.Kind[*job, struct{}]{
		Name: k.Name, Budget: k.budget, Weight: k.weight, Waits: k.waits,
		Run: func(ctx context.Context, j *job) (none struct{}, err error) {
			c.p.run(j, c.giver(ctx))
			return none, nil
		},
	}
	if !k.waits {
		kind.Cost = c.p.hint
	}
	if k.Batch != nil {
		kind.Run = nil
		kind.Scaling = batchScaling
		kind.Batch = func(ctx context.Context, jobs []*job) ([]struct{}, error) {
			c.p.runBatch(jobs, c.giver(ctx))
			return make([]struct{}, len(jobs)), nil
		}
	}
	return helix.Register(c.router, kind)
}

// giver is what long jobs call with -yield.
func (c *router) giver(ctx context.Context) func() {
	if !c.p.spec.Yield {
		return nil
	}
	return func() { helix.Yield(ctx) }
}

func (c *router) do(j *job) error {
	arrived := c.p.start.Add(time.Duration(j.at))
	_, err := c.tasks[j.class].SubmitWith(c.ctx, j, helix.Hints{Arrived: arrived})
	switch started := j.state.Load() != jobWaiting; {
	case errors.Is(err, helix.ErrNotRun) && started:
		return fmt.Errorf("a job that ran was said not to have run: %w", err)
	case err == nil && !started:
		return errors.New("a job that did not run was said to have run")
	case errors.Is(err, helix.ErrNotRun):
		return nil
	}
	return err
}

func (c *router) close() error {
	c.cancel()
	return c.router.Close()
}
