package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBuiltInMixes(t *testing.T) {
	for _, m := range mixes {
		require.NoError(t, m.validate(), m.Name)
		offered := 0.0
		for _, c := range m.Classes {
			if !c.waits() {
				offered += c.rate(2) * c.alone()
			}
			require.LessOrEqual(t, c.best(), c.alone(), "%s %s", m.Name, c.Name)
		}
		require.InDelta(t, 2, offered, 1e-9, "a load of 1 on two cores asks for both, in mix %s", m.Name)
	}
	m, err := findMix("reference")
	require.NoError(t, err)
	require.Equal(t, 80*time.Millisecond, m.longestBudget())
	require.InDelta(t, 420e-6, m.Classes[m.index("batch")].alone(), 1e-12)
	require.InDelta(t, 70e-6, m.Classes[m.index("batch")].best(), 1e-12)
	require.Equal(t, -1, m.index("none"))
}

func TestMixFile(t *testing.T) {
	for _, tt := range []struct{ name, json, problem string }{
		{"good", `{"classes":[{"name":"a","cost_us":10,"budget_ms":5,"share":1},{"name":"w","sleep_ms":1,"budget_ms":9,"per_core":5}]}`, ""},
		{"empty", `{}`, "1 to 64 classes"},
		{"unknown field", `{"klasses":[]}`, "klasses"},
		{"twice", `{"classes":[{"name":"a","cost_us":1,"budget_ms":5,"share":0.5},{"name":"a","cost_us":1,"budget_ms":5,"share":0.5}]}`, "a name of its own"},
		{"no work", `{"classes":[{"name":"a","budget_ms":5,"share":1}]}`, "exactly one of"},
		{"two works", `{"classes":[{"name":"a","cost_us":1,"sleep_ms":1,"budget_ms":5,"share":1}]}`, "exactly one of"},
		{"bad batch", `{"classes":[{"name":"a","batch":{"call_us":1},"budget_ms":5,"share":1}]}`, "item_us above 0"},
		{"no budget", `{"classes":[{"name":"a","cost_us":1,"share":1}]}`, "budget_ms"},
		{"no share", `{"classes":[{"name":"a","cost_us":1,"budget_ms":5}]}`, "needs share above 0"},
		{"sleeper with share", `{"classes":[{"name":"a","sleep_ms":1,"per_core":1,"budget_ms":5,"share":1}]}`, "needs share above 0"},
		{"sum", `{"classes":[{"name":"a","cost_us":1,"budget_ms":5,"share":0.5}]}`, "add up to 0.5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "mix.json")
			require.NoError(t, os.WriteFile(file, []byte(tt.json), 0o600))
			m, err := findMix(file)
			if tt.problem != "" {
				require.ErrorContains(t, err, tt.problem)
				return
			}
			require.NoError(t, err)
			require.Equal(t, file, m.Name)
			require.Equal(t, "w", m.Classes[1].Name)
		})
	}
	_, err := findMix("no such file")
	require.ErrorIs(t, err, os.ErrNotExist)
}
