package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// bestBatch is the batch size that the bounds assume: the default of
// helix.RouterConfig.BatchMaxSize. All contenders that batch use it.
const bestBatch = 8

// Class is one sort of job in a mix. Exactly one of CostUs, Batch and SleepMs
// says what a job does.
type Class struct {
	Name     string     `json:"name"`
	CostUs   float64    `json:"cost_us,omitempty"`  // CPU µs of a job
	Batch    *BatchCost `json:"batch,omitempty"`    // CPU of a call of many
	SleepMs  float64    `json:"sleep_ms,omitempty"` // waits and needs no CPU
	BudgetMs float64    `json:"budget_ms"`
	// Share is the part of the offered CPU, 0..1, batch items counted as if
	// run alone.
	Share float64 `json:"share,omitempty"`
	// PerCore is the rate of a class that sleeps: arrivals a second and core
	// at a load of 1.
	PerCore float64 `json:"per_core,omitempty"`
}

// BatchCost is what a call of a batch function costs, in CPU µs.
type BatchCost struct {
	CallUs float64 `json:"call_us"`
	ItemUs float64 `json:"item_us"`
}

// Mix is the classes that arrive together.
type Mix struct {
	Name    string  `json:"name"`
	Classes []Class `json:"classes"`
}

// mixes are those that can be named on the command line.
var mixes = []Mix{
	{Name: "reference", Classes: []Class{
		{Name: "tiny", CostUs: 5, BudgetMs: 5, Share: .02},
		{Name: "small", CostUs: 50, BudgetMs: 10, Share: .20},
		{Name: "medium", CostUs: 500, BudgetMs: 20, Share: .30},
		{Name: "large", CostUs: 5000, BudgetMs: 80, Share: .25},
		{Name: "batch", Batch: &BatchCost{CallUs: 400, ItemUs: 20}, BudgetMs: 40, Share: .23},
		{Name: "io", SleepMs: 2, BudgetMs: 20, PerCore: 100},
	}},
	// A tight budget beside runs that are longer than it.
	{Name: "tight", Classes: []Class{
		{Name: "tight", CostUs: 20, BudgetMs: 3, Share: .10},
		{Name: "mid", CostUs: 2000, BudgetMs: 40, Share: .30},
		{Name: "long", CostUs: 12000, BudgetMs: 300, Share: .30},
		{Name: "lookup", Batch: &BatchCost{CallUs: 300, ItemUs: 30}, BudgetMs: 30, Share: .15},
		{Name: "score", Batch: &BatchCost{CallUs: 1000, ItemUs: 100}, BudgetMs: 100, Share: .15},
	}},
}

// findMix returns the built-in mix of that name, or reads the JSON file.
func findMix(nameOrFile string) (Mix, error) {
	for _, m := range mixes {
		if m.Name == nameOrFile {
			return m, nil
		}
	}
	data, err := os.ReadFile(nameOrFile)
	if err != nil {
		return Mix{}, fmt.Errorf("-mix: neither a built-in mix nor a file: %w", err)
	}
	var m Mix
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return Mix{}, fmt.Errorf("%s: %w", nameOrFile, err)
	}
	if m.Name == "" {
		m.Name = nameOrFile
	}
	if err := m.validate(); err != nil {
		return Mix{}, fmt.Errorf("%s: %w", nameOrFile, err)
	}
	return m, nil
}

// validate reports the first thing in m that cannot be run.
func (m Mix) validate() error {
	if len(m.Classes) == 0 || len(m.Classes) > 64 {
		return errors.New("a mix has 1 to 64 classes")
	}
	seen, sum := map[string]bool{}, 0.0
	for _, c := range m.Classes {
		ways := 0
		for _, used := range []bool{c.CostUs > 0, c.Batch != nil, c.SleepMs > 0} {
			if used {
				ways++
			}
		}
		switch {
		case c.Name == "" || seen[c.Name]:
			return fmt.Errorf("class %q: needs a name of its own", c.Name)
		case ways != 1:
			return fmt.Errorf("class %q: needs exactly one of cost_us, batch and sleep_ms", c.Name)
		case c.Batch != nil && !(c.Batch.CallUs >= 0 && c.Batch.ItemUs > 0):
			return fmt.Errorf("class %q: batch needs call_us of at least 0 and item_us above 0", c.Name)
		case !(c.BudgetMs > 0):
			return fmt.Errorf("class %q: budget_ms must be above 0", c.Name)
		case c.waits() != (c.Share == 0) || c.waits() != (c.PerCore > 0) || c.Share < 0:
			return fmt.Errorf("class %q: needs share above 0, or per_core above 0 if it sleeps", c.Name)
		}
		seen[c.Name] = true
		sum += c.Share
	}
	if sum < .999 || sum > 1.001 {
		return fmt.Errorf("the shares add up to %g, not 1", sum)
	}
	return nil
}

func (c *Class) waits() bool { return c.SleepMs > 0 }

func (c *Class) budget() time.Duration { return time.Duration(c.BudgetMs * float64(time.Millisecond)) }

// alone is the CPU seconds of one job that runs by itself.
func (c *Class) alone() float64 {
	if c.Batch != nil {
		return (c.Batch.CallUs + c.Batch.ItemUs) / 1e6
	}
	return c.CostUs / 1e6
}

// best is the CPU seconds of one job where it costs least: in a full batch.
func (c *Class) best() float64 {
	if c.Batch != nil {
		return (c.Batch.CallUs/bestBatch + c.Batch.ItemUs) / 1e6
	}
	return c.alone()
}

// rate is the arrivals a second on that many cores at a load of 1.
func (c *Class) rate(cores int) float64 {
	if c.waits() {
		return c.PerCore * float64(cores)
	}
	return c.Share * float64(cores) / c.alone()
}

// longestBudget of all classes.
func (m Mix) longestBudget() time.Duration {
	longest := time.Duration(0)
	for _, c := range m.Classes {
		longest = max(longest, c.budget())
	}
	return longest
}

// index of the class of that name, or -1.
func (m Mix) index(name string) int {
	for i, c := range m.Classes {
		if c.Name == name {
			return i
		}
	}
	return -1
}
