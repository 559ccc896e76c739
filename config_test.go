package helix_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helixrouter/helix"
	"github.com/stretchr/testify/require"
)

func TestDefaults(t *testing.T) {
	c := helix.DefaultConfig()
	require.Equal(t, 8*time.Microsecond, c.InlineThreshold)
	require.Equal(t, 60*time.Microsecond, c.SpawnThreshold)
	require.Equal(t, 512, c.CPUQueueCap)
	require.Equal(t, runtime.GOMAXPROCS(0), c.CPUParallelism)
	require.Equal(t, max(1, c.CPUParallelism-1), c.BackpressureBusyThreshold)
	require.Equal(t, 8, c.BatchMaxSize)
	require.Equal(t, 10*time.Millisecond, c.BatchMaxDelay)
	require.Equal(t, 64, c.MaxKinds)
	require.Equal(t, time.Nanosecond, c.UnitTime)

	r := newRouter(t, helix.RouterConfig{CPUParallelism: 8, Logger: slog.Default()})
	c = r.Config()
	require.Equal(t, 7, c.BackpressureBusyThreshold)
	require.Equal(t, helix.DefaultConfig().Policy, c.Policy)
}

func TestConfigJSONNames(t *testing.T) {
	out, err := json.Marshal(helix.RouterConfig{
		InlineThreshold: 8_000, SpawnThreshold: 60_000, CPUQueueCap: 512, CPUParallelism: 8,
		BackpressureBusyThreshold: 7, BatchMaxSize: 8, BatchMaxDelay: 10 * time.Millisecond,
		SpawnLimit: 65536, MaxKinds: 64, UnitTime: 1, Policy: helix.ThresholdPolicy{},
	})
	require.NoError(t, err)
	require.JSONEq(t, `{
		"inline_threshold": 8000, "spawn_threshold": 60000, "cpu_queue_cap": 512, "cpu_parallelism": 8,
		"backpressure_busy_threshold": 7, "batch_max_size": 8, "batch_max_delay_ms": 10,
		"spawn_limit": 65536, "max_kinds": 64, "unit_time_ns": 1, "policy": "threshold"}`, string(out))

	c := helix.DefaultConfig()
	want := c
	want.BatchMaxDelay = 1500 * time.Microsecond
	require.NoError(t, json.Unmarshal([]byte(`{"batch_max_delay_ms": 1.5}`), &c))
	require.Equal(t, want.BatchMaxDelay, c.BatchMaxDelay)
	require.Equal(t, want.InlineThreshold, c.InlineThreshold, "what is absent stays")

	for in, wants := range map[string]string{
		`{"inline_treshold": 1}`:     "inline_treshold",
		`{"policy": "magic"}`:        `policy is "magic"`,
		`{"cpu_queue_cap": "many"}`:  "cpu_queue_cap",
		`{"cpu_queue_cap": 1.5}`:     "cpu_queue_cap",
		`{"batch_max_delay_ms": -1}`: "",
		`[]`:                         "",
	} {
		c := helix.DefaultConfig()
		if err := json.Unmarshal([]byte(in), &c); wants != "" || in == `[]` {
			require.ErrorContains(t, err, wants, in)
			require.Equal(t, helix.DefaultConfig().CPUQueueCap, c.CPUQueueCap)
		}
	}
}

var badConfigs = []struct {
	want string
	edit func(*helix.RouterConfig)
}{
	{"RouterConfig.InlineThreshold is -1ns", func(c *helix.RouterConfig) { c.InlineThreshold = -1 }},
	{"RouterConfig.InlineThreshold is 1s: must be at most SpawnThreshold", func(c *helix.RouterConfig) { c.InlineThreshold = time.Second }},
	{"RouterConfig.SpawnThreshold is -1ns", func(c *helix.RouterConfig) { c.SpawnThreshold = -1 }},
	{"RouterConfig.BatchMaxDelay is -1ms", func(c *helix.RouterConfig) { c.BatchMaxDelay = -time.Millisecond }},
	{"RouterConfig.UnitTime is -1ns", func(c *helix.RouterConfig) { c.UnitTime = -1 }},
	{"RouterConfig.CPUQueueCap is -1", func(c *helix.RouterConfig) { c.CPUQueueCap = -1 }},
	{"RouterConfig.CPUParallelism is -2", func(c *helix.RouterConfig) { c.CPUParallelism = -2 }},
	{"RouterConfig.CPUParallelism is 100000000", func(c *helix.RouterConfig) { c.CPUParallelism = 1e8 }},
	{"RouterConfig.BackpressureBusyThreshold is -1", func(c *helix.RouterConfig) { c.BackpressureBusyThreshold = -1 }},
	{"RouterConfig.BatchMaxSize is -1", func(c *helix.RouterConfig) { c.BatchMaxSize = -1 }},
	{"RouterConfig.SpawnLimit is -1", func(c *helix.RouterConfig) { c.SpawnLimit = -1 }},
	{"RouterConfig.MaxKinds is -1", func(c *helix.RouterConfig) { c.MaxKinds = -1 }},
	{"RouterConfig.Strategies[0] is <nil>", func(c *helix.RouterConfig) { c.Strategies = []helix.Strategy{nil} }},
	{`RouterConfig.Strategies[1].Name() is "broken"`, func(c *helix.RouterConfig) { c.Strategies = []helix.Strategy{broken{}, broken{}} }},
	{"RouterConfig.Strategies is 20", func(c *helix.RouterConfig) { c.Strategies = make([]helix.Strategy, 20) }},
}

func TestBadConfigsAreErrorsThatNameFieldAndValue(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	before := r.Config()
	for _, c := range badConfigs {
		var cfg helix.RouterConfig
		c.edit(&cfg)
		_, err := helix.New(cfg)
		require.ErrorContains(t, err, c.want)
		var bad *helix.FieldError
		require.ErrorAs(t, err, &bad)

		err = r.Update(func(cfg *helix.RouterConfig) {
			cfg.CPUQueueCap = 7 // would be fine
			c.edit(cfg)
		})
		require.ErrorContains(t, err, strings.SplitN(c.want, " is ", 2)[0])
		require.Equal(t, before, r.Config(), "nothing has changed")
	}
}

func TestUpdate(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	require.NoError(t, r.Update(func(c *helix.RouterConfig) { c.InlineThreshold = 2 * time.Microsecond }))
	require.Equal(t, 2*time.Microsecond, r.Config().InlineThreshold)
	require.Equal(t, helix.CPUPool, r.Explain(helix.Job{Cost: 3000}).Strategy, "the zero policy follows")

	for field, edit := range map[string]func(*helix.RouterConfig){
		"MaxKinds":   func(c *helix.RouterConfig) { c.MaxKinds = 3 },
		"Strategies": func(c *helix.RouterConfig) { c.Strategies = append(c.Strategies, broken{}) },
		"Hooks":      func(c *helix.RouterConfig) { c.Hooks.Done = noDone },
		"Logger":     func(c *helix.RouterConfig) { c.Logger = slog.New(slog.DiscardHandler) },
	} {
		require.ErrorContains(t, r.Update(edit), "RouterConfig."+field)
	}
}

// RouterConfig, its JSON form and docs/configuration.md all say the same.
func TestConfigFieldsAreComplete(t *testing.T) {
	page, err := os.ReadFile("docs/configuration.md")
	require.NoError(t, err)
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[helix.RouterConfig]()) {
		if f.IsExported() {
			names = append(names, f.Name)
		}
	}
	var listed []string
	for _, f := range helix.ConfigFields() {
		listed = append(listed, f.Name)
		json, fixed := f.JSON, ""
		if json != "" {
			json = "`" + json + "`"
		}
		if f.Fixed {
			fixed = "; fixed by `New`"
		}
		require.Contains(t, string(page), fmt.Sprintf("| `%s` | %s | %s | %s | %s%s |\n", f.Name, json, f.Unit, f.Default, f.Doc, fixed))
	}
	require.Equal(t, names, listed)
}

// Every field with a JSON form can be read back, is checked, and is fixed if it says so.
func TestEveryConfigFieldIsReadAndChecked(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	for _, f := range helix.ConfigFields() {
		if f.JSON == "" {
			continue
		}
		set := func(c *helix.RouterConfig, value string) error {
			return json.Unmarshal(fmt.Appendf(nil, `{%q: %s}`, f.JSON, value), c)
		}
		field := func(c helix.RouterConfig) any { return reflect.ValueOf(c).FieldByName(f.Name).Interface() }
		value := `"threshold"`
		if f.Unit != "" {
			value = "3000"
			if f.Name == "InlineThreshold" {
				value = "5000"
			}
			most := fmt.Sprint(int64(math.MaxInt64))
			if _, count := field(helix.RouterConfig{}).(int); count {
				most = fmt.Sprint(math.MaxInt)
			}
			for _, bad := range []string{"-1", most} { // parsed, and then refused
				err := r.Update(func(c *helix.RouterConfig) { require.NoError(t, set(c, bad)) })
				require.ErrorContains(t, err, "RouterConfig."+f.Name)
			}
		}
		var c helix.RouterConfig
		require.NoError(t, set(&c, value))
		require.NotEqual(t, field(helix.RouterConfig{}), field(c), f.JSON)
		out, err := json.Marshal(c)
		require.NoError(t, err)
		require.Contains(t, string(out), fmt.Sprintf(`%q:%s`, f.JSON, value))
		require.ErrorContains(t, set(&c, "[]"), f.JSON)
		require.NoError(t, set(&c, "null"), "as if absent")
		require.NotEqual(t, field(helix.RouterConfig{}), field(c), f.JSON)

		before := field(r.Config())
		err = r.Update(func(c *helix.RouterConfig) { require.NoError(t, set(c, value)) })
		if f.Fixed {
			require.ErrorContains(t, err, "RouterConfig."+f.Name)
			continue
		}
		if err != nil { // a threshold above the other
			require.ErrorContains(t, err, "at most SpawnThreshold")
			continue
		}
		require.NotEqual(t, before, field(r.Config()), f.JSON)
	}
}

func TestDerivedDefaultsFollow(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{})
	require.NoError(t, r.Update(func(c *helix.RouterConfig) { c.CPUParallelism = 9 }))
	require.Equal(t, 8, r.Config().BackpressureBusyThreshold)
	require.NoError(t, r.Update(func(c *helix.RouterConfig) { c.BackpressureBusyThreshold = 3 }))
	require.NoError(t, r.Update(func(c *helix.RouterConfig) { c.CPUParallelism = 5 }))
	require.Equal(t, 3, r.Config().BackpressureBusyThreshold, "it was set")
	require.NoError(t, r.Update(func(c *helix.RouterConfig) { c.BackpressureBusyThreshold = 0 }))
	require.Equal(t, 4, r.Config().BackpressureBusyThreshold, "0 means the default")

	c := helix.DefaultConfig()
	c.CPUParallelism = 7
	other := newRouter(t, c)
	require.Equal(t, 6, other.Config().BackpressureBusyThreshold)
}

func TestSlotsFollowGOMAXPROCS(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(procs)
	runtime.GOMAXPROCS(2)
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, helix.RouterConfig{})
		set := newRouter(t, helix.RouterConfig{CPUParallelism: 2})
		require.Equal(t, 2, r.Stats().Pressure.Slots)
		runtime.GOMAXPROCS(3)
		time.Sleep(time.Second)
		require.Equal(t, 3, r.Stats().Pressure.Slots)
		require.Equal(t, 3, r.Config().CPUParallelism)
		require.Equal(t, 2, r.Config().BackpressureBusyThreshold)
		require.Equal(t, 2, set.Stats().Pressure.Slots, "it was set")
		// As many run at the same time.
		var s sleepers
		for i := range 4 {
			s.submit(t, r, fmt.Sprint(i), helix.Job{Cost: 1e9}, time.Second)
		}
		require.Equal(t, 3, r.Stats().Pressure.CPUBusy)
		s.wg.Wait()
	})
}

// Of concurrent Updates one is the last, in all that follows from the configuration.
func TestConcurrentUpdatesAgree(t *testing.T) {
	r := newRouter(t, helix.RouterConfig{Policy: always(helix.CPUPool)})
	for range 300 {
		var group sync.WaitGroup
		for n := 1; n <= 4; n++ {
			group.Go(func() {
				require.NoError(t, r.Update(func(c *helix.RouterConfig) { c.CPUParallelism = n }))
			})
		}
		group.Wait()
		require.Equal(t, r.Config().CPUParallelism, r.Slots())
	}
}

func TestUpdateKnowsOtherHooksOfTheSameCode(t *testing.T) {
	hooks := func(n *int) helix.Hooks {
		return helix.Hooks{Done: func(context.Context, helix.JobInfo, helix.Outcome) { *n++ }}
	}
	var a, b int
	mine := offering{func(*helix.Ticket) error { a++; return nil }}
	r := newRouter(t, helix.RouterConfig{Hooks: hooks(&a), Strategies: []helix.Strategy{mine}})
	require.NoError(t, r.Update(func(c *helix.RouterConfig) { c.CPUQueueCap = 7 }), "nothing else")
	require.ErrorContains(t, r.Update(func(c *helix.RouterConfig) { c.Hooks = hooks(&b) }), "RouterConfig.Hooks")
	require.ErrorContains(t, r.Update(func(c *helix.RouterConfig) {
		c.Strategies[0] = offering{func(*helix.Ticket) error { b++; return nil }}
	}), "RouterConfig.Strategies")
}
