//go:build race

package drainer_test

// raceEnabled scales down what the race detector makes ten times slower.
const raceEnabled = true
