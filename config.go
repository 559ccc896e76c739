package helix

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"slices"
	"time"
)

// RouterConfig configures a [Router]. The zero value is ready for use: every
// zero field means its default. [DefaultConfig] spells the defaults out.
//
// All fields but MaxKinds, Strategies, Hooks and Logger can be changed while
// the router runs, see [Router.Update].
type RouterConfig struct {
	// InlineThreshold is the longest run that is worth doing on the caller at
	// once. Defaults to 8 µs.
	InlineThreshold time.Duration
	// SpawnThreshold is the longest run that gets a goroutine of its own
	// without asking for a CPU slot. Defaults to 60 µs.
	SpawnThreshold time.Duration
	// CPUQueueCap is how many jobs may wait for a slot, those in forming
	// batches included. Defaults to 512.
	CPUQueueCap int
	// CPUParallelism is the number of slots: how many cpu_pool jobs and
	// batches run at the same time. Defaults to GOMAXPROCS.
	CPUParallelism int
	// BackpressureBusyThreshold is the number of busy slots from which
	// ThresholdPolicy sheds what does not batch. Defaults to CPUParallelism-1,
	// at least 1.
	BackpressureBusyThreshold int
	// BatchMaxSize is the most items one call of a batch function gets.
	// Defaults to 8.
	BatchMaxSize int
	// BatchMaxDelay is how long a batch of jobs without budgets may stand back for
	// more urgent work; with budgets, the tightest tells. A batch never waits while
	// a slot is free. Defaults to 10 ms.
	BatchMaxDelay time.Duration
	// SpawnLimit is how many spawned jobs may exist at the same time. It bounds memory
	// only, at some 4 KB a job: how many calls a downstream can take is learned. Defaults to 65536.
	SpawnLimit int
	// MaxKinds is how many different kinds are told apart; later names share
	// the kind "other". Fixed by New. Defaults to 64.
	MaxKinds int
	// UnitTime is what one unit of Job.Cost counts as until the kind has been
	// learned. Defaults to 1 ns.
	UnitTime time.Duration
	// Policy chooses the strategy of every job. Defaults to AdaptivePolicy{}.
	Policy Policy
	// Strategies are execution paths of your own; one that has the name of a
	// built-in strategy takes its place. Fixed by New. Defaults to none.
	Strategies []Strategy
	// Hooks are called around every job that starts. Fixed by New. Defaults to
	// none.
	Hooks Hooks
	// Logger gets a Debug line a decision, and an Error for a panic that
	// reaches no caller. Fixed by New. Defaults to slog.Default().
	Logger *slog.Logger
}

// DefaultConfig returns the zero config with every default spelled out.
func DefaultConfig() RouterConfig { return RouterConfig{}.withDefaults() }

func (c RouterConfig) withDefaults() RouterConfig {
	def(&c.InlineThreshold, 8*time.Microsecond)
	def(&c.SpawnThreshold, 60*time.Microsecond)
	def(&c.CPUQueueCap, 512)
	def(&c.CPUParallelism, runtime.GOMAXPROCS(0))
	def(&c.BackpressureBusyThreshold, max(1, c.CPUParallelism-1))
	def(&c.BatchMaxSize, 8)
	def(&c.BatchMaxDelay, 10*time.Millisecond)
	def(&c.SpawnLimit, 1<<16)
	def(&c.MaxKinds, 64)
	def(&c.UnitTime, time.Nanosecond)
	if c.Policy == nil {
		c.Policy = AdaptivePolicy{}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func def[T comparable](field *T, value T) {
	if *field == *new(T) {
		*field = value
	}
}

// maxCount bounds the counts that are allocated for or added up.
const maxCount = 1 << 24

// validate reports the first field of c, defaults filled in, that cannot be used.
func (c *RouterConfig) validate() error {
	for _, f := range []struct {
		name  string
		value time.Duration
	}{
		{"InlineThreshold", c.InlineThreshold},
		{"SpawnThreshold", c.SpawnThreshold},
		{"BatchMaxDelay", c.BatchMaxDelay},
		{"UnitTime", c.UnitTime},
	} {
		if f.value < 0 {
			return fieldError("RouterConfig."+f.name, f.value, "at least 0 (0 means the default)")
		}
	}
	for _, f := range []struct {
		name  string
		value int
	}{
		{"CPUQueueCap", c.CPUQueueCap},
		{"CPUParallelism", c.CPUParallelism},
		{"BackpressureBusyThreshold", c.BackpressureBusyThreshold},
		{"BatchMaxSize", c.BatchMaxSize},
		{"SpawnLimit", c.SpawnLimit},
		{"MaxKinds", c.MaxKinds},
	} {
		if f.value < 0 || f.value > maxCount {
			return fieldError("RouterConfig."+f.name, f.value, fmt.Sprintf("from 0 (which means the default) to %d", maxCount))
		}
	}
	if c.InlineThreshold > c.SpawnThreshold {
		return fieldError("RouterConfig.InlineThreshold", c.InlineThreshold,
			fmt.Sprintf("at most SpawnThreshold, which is %v", c.SpawnThreshold))
	}
	if len(c.Strategies) > maxLanes-laneBatch-1 {
		return fieldError("RouterConfig.Strategies", len(c.Strategies), fmt.Sprintf("at most %d", maxLanes-laneBatch-1))
	}
	seen := map[string]bool{}
	for i, s := range c.Strategies {
		field := fmt.Sprintf("RouterConfig.Strategies[%d]", i)
		switch {
		case s == nil:
			return fieldError(field, s, "a strategy")
		case s.Name() != cleanKind(s.Name()) || s.Name() == Drop:
			return fieldError(field+".Name()", fmt.Sprintf("%q", s.Name()),
				fmt.Sprintf("printable UTF-8 of 1 to %d bytes and not %q", maxKindName, Drop))
		case seen[s.Name()]:
			return fieldError(field+".Name()", fmt.Sprintf("%q", s.Name()), "the name of no other strategy")
		}
		seen[s.Name()] = true
	}
	return nil
}

// Config returns the configuration in force, every default spelled out.
func (r *Router) Config() RouterConfig {
	c := *r.cfg.Load()
	c.Strategies = slices.Clone(c.Strategies)
	return c
}

// Update changes the configuration of a running router: change gets a copy to
// edit; the result is validated as a whole and put in force at once, or an
// error names field and value and nothing has changed. Jobs already admitted
// stay admitted. change may be called again when another Update came first, so
// it must do nothing but edit its argument.
func (r *Router) Update(change func(*RouterConfig)) error {
	for {
		old := r.cfg.Load()
		next := *old
		next.Strategies = slices.Clone(old.Strategies)
		change(&next)
		next = next.withDefaults()
		if err := next.validate(); err != nil {
			return err
		}
		if field := changedFixedField(old, &next); field != "" {
			return fieldError("RouterConfig."+field, "changed", "what New was given: it is fixed once the router runs")
		}
		if r.cfg.CompareAndSwap(old, &next) {
			r.pool.resize(next.CPUParallelism)
			return nil
		}
	}
}

// changedFixedField names a field that differs although New fixed it.
func changedFixedField(old, next *RouterConfig) string {
	sameFunc := func(a, b any) bool { return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() }
	switch {
	case old.MaxKinds != next.MaxKinds:
		return "MaxKinds"
	case !slices.EqualFunc(old.Strategies, next.Strategies, func(a, b Strategy) bool { return a.Name() == b.Name() }):
		return "Strategies"
	case !sameFunc(old.Hooks.Start, next.Hooks.Start) || !sameFunc(old.Hooks.Done, next.Hooks.Done):
		return "Hooks"
	case old.Logger != next.Logger:
		return "Logger"
	}
	return ""
}

// configJSON is the JSON form: the original's field names, thresholds in
// nanoseconds (one unit of cost each, by default).
type configJSON struct {
	InlineThreshold           *int64   `json:"inline_threshold"`
	SpawnThreshold            *int64   `json:"spawn_threshold"`
	CPUQueueCap               *int     `json:"cpu_queue_cap"`
	CPUParallelism            *int     `json:"cpu_parallelism"`
	BackpressureBusyThreshold *int     `json:"backpressure_busy_threshold"`
	BatchMaxSize              *int     `json:"batch_max_size"`
	BatchMaxDelayMs           *float64 `json:"batch_max_delay_ms"`
	SpawnLimit                *int     `json:"spawn_limit"`
	MaxKinds                  *int     `json:"max_kinds"`
	UnitTimeNs                *int64   `json:"unit_time_ns"`
	Policy                    *string  `json:"policy"`
}

// policies are those that a configuration file can name.
var policies = []Policy{AdaptivePolicy{}, ThresholdPolicy{}}

func policyName(p Policy) string {
	if s, ok := p.(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprintf("%T", p)
}

// MarshalJSON writes the original's snake_case names: thresholds in
// nanoseconds, batch_max_delay_ms in milliseconds, the policy by name.
// Strategies, Hooks and Logger have no JSON form.
func (c RouterConfig) MarshalJSON() ([]byte, error) {
	inline, spawn, unit := int64(c.InlineThreshold), int64(c.SpawnThreshold), int64(c.UnitTime)
	delay := milliseconds(c.BatchMaxDelay)
	j := configJSON{
		InlineThreshold: &inline, SpawnThreshold: &spawn,
		CPUQueueCap: &c.CPUQueueCap, CPUParallelism: &c.CPUParallelism,
		BackpressureBusyThreshold: &c.BackpressureBusyThreshold,
		BatchMaxSize:              &c.BatchMaxSize, BatchMaxDelayMs: &delay,
		SpawnLimit: &c.SpawnLimit, MaxKinds: &c.MaxKinds, UnitTimeNs: &unit,
	}
	if c.Policy != nil {
		name := policyName(c.Policy)
		j.Policy = &name
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON writes. A field that is absent or null
// stays as it was; an unknown field or policy is an error and changes nothing.
func (c *RouterConfig) UnmarshalJSON(data []byte) error {
	var j configJSON
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&j); err != nil {
		return fmt.Errorf("helix: RouterConfig: %w", err)
	}
	next := *c
	set(&next.CPUQueueCap, j.CPUQueueCap)
	set(&next.CPUParallelism, j.CPUParallelism)
	set(&next.BackpressureBusyThreshold, j.BackpressureBusyThreshold)
	set(&next.BatchMaxSize, j.BatchMaxSize)
	set(&next.SpawnLimit, j.SpawnLimit)
	set(&next.MaxKinds, j.MaxKinds)
	set((*int64)(&next.InlineThreshold), j.InlineThreshold)
	set((*int64)(&next.SpawnThreshold), j.SpawnThreshold)
	set((*int64)(&next.UnitTime), j.UnitTimeNs)
	if j.BatchMaxDelayMs != nil {
		next.BatchMaxDelay = scaleDuration(time.Millisecond, *j.BatchMaxDelayMs)
	}
	if j.Policy != nil {
		i := slices.IndexFunc(policies, func(p Policy) bool { return policyName(p) == *j.Policy })
		if i < 0 {
			return fieldError("RouterConfig.policy", fmt.Sprintf("%q", *j.Policy), "the name of a policy that comes with the library")
		}
		next.Policy = policies[i]
	}
	*c = next
	return nil
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
