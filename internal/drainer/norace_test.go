//go:build !race

package drainer_test

const raceEnabled = false
