package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A change of the code is told at once which mutants it makes obsolete, and not by those only
// that are tried.
func TestEveryMutantApplies(t *testing.T) {
	t.Chdir("../..")
	mutants, err := parse(list)
	require.NoError(t, err)
	require.NotEmpty(t, mutants)
	titles := map[string]bool{}
	for _, m := range mutants {
		_, err := m.apply()
		require.NoError(t, err)
		require.False(t, titles[m.title], "%q is there twice", m.title)
		titles[m.title] = true
	}
}
