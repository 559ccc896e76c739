package helix

import (
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"
)

// ConfigField describes a field of [RouterConfig].
type ConfigField struct {
	Name    string // in Go
	JSON    string // in RouterConfig's JSON form; "" if it has none
	Unit    string // of the number in JSON: "ns", "ms", a word for what is counted, or ""
	Default string // in words
	Doc     string // what it is, in a line
	Fixed   bool   // by New: Update refuses to change it
}

// ConfigFields lists the fields of [RouterConfig], in its order: what documentation and
// forms need to know of them. Those with a JSON form come with it in RouterConfig's JSON.
func ConfigFields() []ConfigField {
	list := make([]ConfigField, len(configFields))
	for i, f := range configFields {
		list[i] = f.ConfigField
	}
	return list
}

// configField is a field with what the router does with its value; nil for those that the
// router takes as they are.
type configField struct {
	ConfigField
	value fieldValue
}

// fieldValue is what differs between fields of different types.
type fieldValue interface {
	// fill sets the default if the field has no value.
	fill(c *RouterConfig)
	// check returns what is allowed, and the value, if the value is not. Defaults are
	// filled in.
	check(c *RouterConfig) (value any, allowed string)
	encode(c *RouterConfig) any
	decode(c *RouterConfig, value json.RawMessage) error
}

// configFields is the one list of RouterConfig's fields: its defaults, validation and JSON
// form come from it, and tests hold RouterConfig, the README and the page to it.
var configFields = []configField{
	{ConfigField{Name: "InlineThreshold", JSON: "inline_threshold", Unit: "ns", Default: "8 µs",
		Doc: "longest run that is worth doing on the caller"},
		&durationField{func(c *RouterConfig) *time.Duration { return &c.InlineThreshold }, time.Nanosecond, 8 * time.Microsecond}},
	{ConfigField{Name: "SpawnThreshold", JSON: "spawn_threshold", Unit: "ns", Default: "60 µs",
		Doc: "longest run that needs no CPU slot"},
		&durationField{func(c *RouterConfig) *time.Duration { return &c.SpawnThreshold }, time.Nanosecond, 60 * time.Microsecond}},
	{ConfigField{Name: "CPUQueueCap", JSON: "cpu_queue_cap", Unit: "jobs", Default: "512",
		Doc: "how many may wait for a slot"},
		&countField{at: func(c *RouterConfig) *int { return &c.CPUQueueCap }, def: 512}},
	{ConfigField{Name: "CPUParallelism", JSON: "cpu_parallelism", Unit: "slots", Default: "GOMAXPROCS",
		Doc: "how many run at the same time"},
		&countField{
			at:      func(c *RouterConfig) *int { return &c.CPUParallelism },
			derived: func(c *RouterConfig) *int { return &c.derived.parallelism },
			derive:  func(*RouterConfig) int { return runtime.GOMAXPROCS(0) },
		}},
	{ConfigField{Name: "BackpressureBusyThreshold", JSON: "backpressure_busy_threshold", Unit: "slots", Default: "CPUParallelism-1, at least 1",
		Doc: "busy slots from which ThresholdPolicy sheds what does not batch"},
		&countField{
			at:      func(c *RouterConfig) *int { return &c.BackpressureBusyThreshold },
			derived: func(c *RouterConfig) *int { return &c.derived.busyThreshold },
			derive:  func(c *RouterConfig) int { return max(1, c.CPUParallelism-1) },
		}},
	{ConfigField{Name: "BatchMaxSize", JSON: "batch_max_size", Unit: "jobs", Default: "8",
		Doc: "most items in one call"},
		&countField{at: func(c *RouterConfig) *int { return &c.BatchMaxSize }, def: 8}},
	{ConfigField{Name: "BatchMaxDelay", JSON: "batch_max_delay_ms", Unit: "ms", Default: "10 ms",
		Doc: "how long a batch without budgets may be deferred for more urgent work"},
		&durationField{func(c *RouterConfig) *time.Duration { return &c.BatchMaxDelay }, time.Millisecond, 10 * time.Millisecond}},
	{ConfigField{Name: "SpawnLimit", JSON: "spawn_limit", Unit: "jobs", Default: "65536",
		Doc: "most spawned at the same time; bounds memory only"},
		&countField{at: func(c *RouterConfig) *int { return &c.SpawnLimit }, def: 1 << 16}},
	{ConfigField{Name: "MaxKinds", JSON: "max_kinds", Unit: "kinds", Default: "64",
		Doc: "later names share the kind `other`", Fixed: true},
		&countField{at: func(c *RouterConfig) *int { return &c.MaxKinds }, def: 64}},
	{ConfigField{Name: "UnitTime", JSON: "unit_time_ns", Unit: "ns", Default: "1 ns",
		Doc: "one unit of cost, until the kind is learned"},
		&durationField{func(c *RouterConfig) *time.Duration { return &c.UnitTime }, time.Nanosecond, time.Nanosecond}},
	{ConfigField{Name: "Policy", JSON: "policy", Default: "`adaptive`",
		Doc: "chooses the strategy"}, policyField{}},
	{ConfigField{Name: "Strategies", Default: "none",
		Doc: "execution paths of your own", Fixed: true}, nil},
	{ConfigField{Name: "Hooks", Default: "none",
		Doc: "called around every job that runs", Fixed: true}, nil},
	{ConfigField{Name: "Logger", Default: "`slog.Default()`",
		Doc: "one Debug line a decision", Fixed: true}, nil},
}

// countField is a field with a number of something.
type countField struct {
	at  func(*RouterConfig) *int
	def int // unless derived
	// A default that follows other things: derived is where the value is kept that was
	// filled in. While the field has that value, it has not been set.
	derived func(*RouterConfig) *int
	derive  func(*RouterConfig) int
}

func (f *countField) fill(c *RouterConfig) {
	if f.derive == nil {
		setDefault(f.at(c), f.def)
		return
	}
	value, was := f.at(c), f.derived(c)
	if *value == 0 || *value == *was {
		*was = f.derive(c)
		*value = *was
	} else {
		*was = 0
	}
}

func (f *countField) check(c *RouterConfig) (any, string) {
	if v := *f.at(c); v < 0 || v > maxCount {
		return v, fmt.Sprintf("from 0 (which means the default) to %d", maxCount)
	}
	return nil, ""
}

func (f *countField) encode(c *RouterConfig) any { return *f.at(c) }

func (f *countField) decode(c *RouterConfig, value json.RawMessage) error {
	return json.Unmarshal(value, f.at(c))
}

// durationField is a field with a time.
type durationField struct {
	at   func(*RouterConfig) *time.Duration
	unit time.Duration // of the number in JSON
	def  time.Duration
}

func (f *durationField) fill(c *RouterConfig) { setDefault(f.at(c), f.def) }

func (f *durationField) check(c *RouterConfig) (any, string) {
	if v := *f.at(c); v < 0 || v > maxDuration {
		return v, fmt.Sprintf("from 0 (which means the default) to %v", maxDuration)
	}
	return nil, ""
}

func (f *durationField) encode(c *RouterConfig) any {
	if f.unit == time.Nanosecond {
		return int64(*f.at(c))
	}
	return float64(*f.at(c)) / float64(f.unit)
}

func (f *durationField) decode(c *RouterConfig, value json.RawMessage) error {
	if f.unit == time.Nanosecond {
		return json.Unmarshal(value, (*int64)(f.at(c)))
	}
	var n float64
	if err := json.Unmarshal(value, &n); err != nil {
		return err
	}
	*f.at(c) = time.Duration(math.Round(min(max(n*float64(f.unit), math.MinInt64/2), math.MaxInt64/2)))
	return nil
}

// policyField is the policy: by name, in JSON.
type policyField struct{}

func (policyField) fill(c *RouterConfig) {
	if c.Policy == nil {
		c.Policy = AdaptivePolicy{}
	}
}

func (policyField) check(*RouterConfig) (any, string) { return nil, "" }

func (policyField) encode(c *RouterConfig) any {
	if c.Policy == nil {
		return nil
	}
	return policyName(c.Policy)
}

// decode leaves a policy that is in force already as it is, one of the user's too.
func (policyField) decode(c *RouterConfig, value json.RawMessage) error {
	var name string
	if err := json.Unmarshal(value, &name); err != nil {
		return err
	}
	if c.Policy != nil && policyName(c.Policy) == name {
		return nil
	}
	i := slices.IndexFunc(policies, func(p Policy) bool { return policyName(p) == name })
	if i < 0 {
		return fieldError("RouterConfig.policy", fmt.Sprintf("%q", name), "the name of a policy that comes with the library, or of the one in force")
	}
	c.Policy = policies[i]
	return nil
}
