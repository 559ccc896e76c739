//go:build !race

package helix_test

const raceEnabled = false
