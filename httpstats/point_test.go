package httpstats

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/helixrouter/helix"
)

func TestSample(t *testing.T) {
	events := func(strategies ...string) (list []helix.Event) {
		for i, s := range strategies {
			list = append(list, helix.Event{Seq: uint64(i), Decision: helix.Decision{Strategy: s}})
		}
		return list
	}
	count := func(list []helix.Event) map[string]int {
		n := make(map[string]int)
		for i, e := range list {
			n[e.Decision.Strategy]++
			require.True(t, i == 0 || list[i-1].Seq < e.Seq, "oldest first")
		}
		return n
	}
	few := events("inline", "drop")
	require.Equal(t, few, sample(few, 5, 0))
	flood := events(strings.Fields(strings.Repeat("inline ", 40) + "drop " + strings.Repeat("inline ", 20) + "spawn")...)
	require.Equal(t, map[string]int{"inline": 3, "drop": 1, "spawn": 1}, count(sample(flood, 5, 3)))
	drops := events(strings.Fields(strings.Repeat("drop ", 60) + "inline")...)
	require.Equal(t, map[string]int{"inline": 1, "drop": 4}, count(sample(drops, 5, 0)))
	require.EqualValues(t, 60, sample(drops, 5, 0)[4].Seq, "the newest")

	// With more strategies than places, drops stay and the others take turns.
	many := events("a", "b", "c", "d", "drop", "e", "f")
	seen := make(map[string]bool)
	for turn := range 6 {
		picked := sample(many, 3, turn)
		require.Equal(t, 1, count(picked)["drop"])
		for name := range count(picked) {
			seen[name] = true
		}
	}
	require.Len(t, seen, 7)
}

func TestPointOfCountersThatWentBack(t *testing.T) {
	before := reading{stats: helix.Stats{Submitted: 5, RoutedByStrategy: []helix.StrategyCount{{Strategy: "inline", Count: 9}}}}
	now := reading{stats: helix.Stats{Submitted: 3, RoutedByStrategy: []helix.StrategyCount{{Strategy: "inline", Count: 4}}}}
	p := now.since(&before, 1)
	require.Zero(t, p.Submitted)
	require.Zero(t, p.Routed["inline"])
}

func TestPointShowsTheFullestBatch(t *testing.T) {
	now := reading{stats: helix.Stats{Kinds: []helix.KindStats{
		{Name: "a"},
		{Name: "b", Batch: &helix.BatchStats{Forming: 2, MaxSize: 8}},
		{Name: "c", Batch: &helix.BatchStats{Forming: 5, MaxSize: 16}},
	}}}
	p := now.since(&reading{}, 1)
	require.Equal(t, "c", p.BatchKind)
	require.Equal(t, 5, p.BatchFill)
	require.Equal(t, 16, p.BatchMax)
}

type panicError struct{}

func (panicError) Error() string { panic("in Error") }

func TestErrorText(t *testing.T) {
	require.Equal(t, "plain", errorText(errors.New("plain")))
	require.Equal(t, "panic: boom", errorText(&helix.PanicError{Value: "boom", Stack: []byte("secret paths")}))
	require.Contains(t, errorText(panicError{}), "panicked")
	long := errorText(errors.New(strings.Repeat("é\n", 1000)))
	require.LessOrEqual(t, len(long), maxErrorText+8)
	require.True(t, strings.HasSuffix(long, "…"))
}
