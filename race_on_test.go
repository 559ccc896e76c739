//go:build race

package helix

// RaceEnabled says that the race detector is on.
const RaceEnabled = true
