package helix

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"time"
	"unsafe"

	"github.com/helixrouter/helix/internal/tally"
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
	// batches run at the same time. Defaults to GOMAXPROCS, and follows it.
	CPUParallelism int
	// BackpressureBusyThreshold is the number of busy slots from which
	// ThresholdPolicy sheds what does not batch. Defaults to CPUParallelism-1,
	// at least 1, and follows it.
	BackpressureBusyThreshold int
	// BatchMaxSize is the most items one call of a batch function gets.
	// Defaults to 8.
	BatchMaxSize int
	// BatchMaxDelay is how long a batch of jobs without budgets may be deferred for
	// more urgent work; with budgets, the tightest tells. A batch never waits while
	// a slot is free. Defaults to 10 ms.
	BatchMaxDelay time.Duration
	// SpawnLimit is how many spawned jobs may exist at the same time. It bounds memory
	// only, at some 4 KB a job: how many calls a downstream can take is learned. Defaults to 65536.
	SpawnLimit int
	// MaxKinds is how many different kinds are told apart; later names of one-off jobs
	// share the kind "other". As many may be registered, whatever names have come before.
	// Fixed by New. Defaults to 64.
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

	// derived are the defaults that were filled in and follow from something else.
	derived struct{ parallelism, busyThreshold int }
}

// DefaultConfig returns the zero config with every default spelled out.
func DefaultConfig() RouterConfig { return RouterConfig{}.withDefaults() }

func (c RouterConfig) withDefaults() RouterConfig {
	for _, f := range configFields { // in order: some defaults follow from fields before
		if f.value != nil {
			f.value.fill(&c)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	if *field == *new(T) {
		*field = value
	}
}

const (
	// maxCount bounds the counts that are allocated for or added up.
	maxCount = 1 << 24
	// maxDuration bounds times, so that sums of them cannot overflow: 30 years.
	maxDuration = 30 * 365 * 24 * time.Hour
)

// validate reports the first field of c, defaults filled in, that cannot be used.
func (c *RouterConfig) validate() error {
	for _, f := range configFields {
		if f.value == nil {
			continue
		}
		if value, allowed := f.value.check(c); allowed != "" {
			return fieldError("RouterConfig."+f.Name, value, allowed)
		}
	}
	if c.InlineThreshold > c.SpawnThreshold {
		return fieldError("RouterConfig.InlineThreshold", c.InlineThreshold,
			fmt.Sprintf("at most SpawnThreshold, which is %v", c.SpawnThreshold))
	}
	if len(c.Strategies) > tally.Lanes-laneBatch-1 {
		return fieldError("RouterConfig.Strategies", len(c.Strategies), fmt.Sprintf("at most %d", tally.Lanes-laneBatch-1))
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
	r.follow(runtime.GOMAXPROCS(0))
	c := *r.cfg.Load()
	c.Strategies = slices.Clone(c.Strategies)
	return c
}

// Update changes the configuration of a running router: change gets a copy to
// edit; the result is validated as a whole and put in force at once, or an
// error names field and value and nothing has changed. Jobs already admitted
// stay admitted. A field that change sets to zero goes back to its default; defaults that
// follow from something else (CPUParallelism, BackpressureBusyThreshold) follow it until
// they are set. change may be called again when another Update came first, so
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
		if r.replaceConfig(old, &next) {
			return nil
		}
	}
}

// replaceConfig puts next in force, and its number of slots, unless old is in force no
// longer: of two at the same time, the slots are those of the config that stays.
func (r *Router) replaceConfig(old, next *RouterConfig) bool {
	r.cfgMu.Lock()
	replaced := r.cfg.CompareAndSwap(old, next)
	if replaced {
		r.pool.slots.Store(int64(next.CPUParallelism))
	}
	r.cfgMu.Unlock()
	if replaced {
		r.pool.dispatch() // there may be more slots
	}
	return replaced
}

// follow puts new values of derived defaults in force once GOMAXPROCS has become procs,
// as it does by itself when a container's limit changes.
func (r *Router) follow(procs int) {
	for {
		old := r.cfg.Load()
		if was := old.derived.parallelism; was == 0 || was == procs {
			return
		}
		next := old.withDefaults()
		if r.replaceConfig(old, &next) {
			return
		}
	}
}

// changedFixedField names a field that differs although New fixed it.
func changedFixedField(old, next *RouterConfig) string {
	switch {
	case old.MaxKinds != next.MaxKinds:
		return "MaxKinds"
	case !slices.EqualFunc(old.Strategies, next.Strategies, func(a, b Strategy) bool { return identical(&a, &b) }):
		return "Strategies"
	case !identical(&old.Hooks.Start, &next.Hooks.Start) || !identical(&old.Hooks.Done, &next.Hooks.Done):
		return "Hooks"
	case old.Logger != next.Logger:
		return "Logger"
	}
	return ""
}

// identical reports whether two variables hold the very same thing, bit by bit. Functions
// cannot be compared otherwise: reflect takes two closures of one literal for one. Nor can
// strategies whose types are not comparable.
func identical[T any](a, b *T) bool {
	bits := func(v *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)) }
	return bytes.Equal(bits(a), bits(b))
}

// policies are those that a configuration file can name.
var policies = []Policy{AdaptivePolicy{}, ThresholdPolicy{}}

func policyName(p Policy) string {
	if s, ok := p.(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprintf("%T", p)
}

// MarshalJSON writes the fields by snake_case names: thresholds in
// nanoseconds, batch_max_delay_ms in milliseconds, the policy by name.
// Strategies, Hooks and Logger have no JSON form. See [ConfigFields].
func (c RouterConfig) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for _, f := range configFields {
		if f.JSON == "" {
			continue
		}
		value, err := json.Marshal(f.value.encode(&c))
		if err != nil {
			return nil, err
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(fmt.Appendf(out, "%q:", f.JSON), value...)
	}
	return append(out, '}'), nil
}

// UnmarshalJSON reads what MarshalJSON writes. A field that is absent or null
// stays as it was; an unknown field or policy is an error and changes nothing.
func (c *RouterConfig) UnmarshalJSON(data []byte) error {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(data, &values); err != nil {
		return fmt.Errorf("helix: RouterConfig: %w", err)
	}
	next := *c
	for _, f := range configFields {
		value, ok := values[f.JSON]
		if !ok || f.JSON == "" {
			continue
		}
		delete(values, f.JSON)
		if string(value) == "null" {
			continue
		}
		if err := f.value.decode(&next, value); err != nil {
			if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
				wrong.Struct, wrong.Field = "RouterConfig", f.JSON
			}
			return fmt.Errorf("helix: RouterConfig: %w", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		return fmt.Errorf("helix: RouterConfig: unknown field %q", name)
	}
	*c = next
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
