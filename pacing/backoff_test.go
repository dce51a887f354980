package pacing

import (
	"fmt"
	"math"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	const base, most = time.Second, time.Minute
	for _, test := range []struct {
		attempt int
		r       float64
		want    time.Duration
	}{
		{0, 0, 0},
		{0, 0.5, 500 * time.Millisecond},
		{3, 0.5, 4 * time.Second},
		{5, 0.75, 24 * time.Second},
		{6, 0.5, 30 * time.Second},
		{1_000, 0.5, 30 * time.Second},
		{math.MaxInt, 0, 0},
	} {
		if got := Backoff(test.attempt, base, most, test.r); got != test.want {
			t.Errorf("Backoff(%d, r=%v) is %v, want %v", test.attempt, test.r, got, test.want)
		}
	}
}

func ExampleBackoff() {
	for attempt := range 4 {
		fmt.Println(Backoff(attempt, time.Second, 5*time.Second, 0.5))
	}
	// Output:
	// 500ms
	// 1s
	// 2s
	// 2.5s
}
