package pacing

import "time"

// Backoff returns how long to wait before try number attempt (0 is the first
// repetition): a random part of base doubled per attempt, at most max, so that
// those who failed together do not return together. r is the random number, in
// [0, 1).
func Backoff(attempt int, base, max time.Duration, r float64) time.Duration {
	d := base
	for range attempt {
		if d >= max {
			break
		}
		d *= 2
	}
	return time.Duration(r * float64(min(d, max)))
}
