package helix

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLongRunsAreNamedWithWhatTheyEndanger(t *testing.T) {
	tight := KindStats{Name: "tight", Submitted: 1000, Late: 170, BudgetMs: 3, RunMs: .02, Demand: .4}
	long := KindStats{Name: "long", Submitted: 100, BudgetMs: 300, RunMs: 12, Demand: 1}
	mid := KindStats{Name: "mid", Submitted: 100, BudgetMs: 40, RunMs: 2, Demand: 1}
	with := func(k KindStats, edit func(*KindStats)) KindStats {
		edit(&k)
		return k
	}
	want := []LongRun{{Kind: "long", RunMs: 12, Endangers: "tight", BudgetMs: 3, LatePct: 17}}
	require.Equal(t, want, longRuns([]KindStats{tight, mid, long}), "the longest is to blame")

	yielding := with(long, func(k *KindStats) { k.Yields = true })
	require.Equal(t, "mid", longRuns([]KindStats{tight, mid, yielding})[0].Kind)

	for name, kinds := range map[string][]KindStats{
		"nobody is late":            {with(tight, func(k *KindStats) { k.Late = 3 }), long},
		"few of many":               {with(tight, func(k *KindStats) { k.Late, k.Submitted = 50, 10_000 }), long},
		"no budget":                 {with(tight, func(k *KindStats) { k.BudgetMs = 0 }), long},
		"the budget is long enough": {with(tight, func(k *KindStats) { k.BudgetMs = 25 }), long},
		"hardly any long runs":      {tight, with(long, func(k *KindStats) { k.Demand = .01 })},
		"its own runs":              {with(tight, func(k *KindStats) { k.RunMs = 12 })},
		"all of them give way":      {tight, yielding},
	} {
		t.Run(name, func(t *testing.T) { require.Empty(t, longRuns(kinds)) })
	}
}
