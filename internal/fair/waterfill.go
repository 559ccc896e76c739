package fair

import (
	"math"
	"slices"
)

// ask is one kind's demand in the division of the machine.
type ask struct {
	Kind
	demand float64
}

// share returns the kind's share at that level.
func (a *ask) share(level float64) float64 { return min(a.demand, a.Weight*level) }

// waterFill returns the level at which the kinds' shares, each the lesser of its
// demand and weight × level, add up to cores (weighted max-min fairness:
// Bertsekas and Gallager, "Data Networks", 6.5.2). A kind that demands less
// than weight × level is not limited. It returns +Inf if all demands fit.
func waterFill(asks []ask, cores float64) float64 {
	slices.SortFunc(asks, func(a, b ask) int {
		switch x, y := a.demand*b.Weight, b.demand*a.Weight; {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	weights := 0.0
	for _, a := range asks {
		weights += a.Weight
	}
	left := cores
	for _, a := range asks {
		if level := left / weights; a.demand > a.Weight*level {
			return level
		}
		left -= a.demand
		weights -= a.Weight
	}
	return math.Inf(1)
}
