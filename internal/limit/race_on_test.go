//go:build race

package limit_test

// raceEnabled says that the race detector is on.
const raceEnabled = true
