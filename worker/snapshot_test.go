package worker

import (
	"math"
	"testing"
)

func TestQuantile(t *testing.T) {
	t.Parallel()
	var h Histogram
	if got := h.Quantile(0.5); got != 0 {
		t.Errorf("the median of nothing is %v", got)
	}
	for i := range 1000 {
		h.Observe(float64(i+1) / 100)
	}
	for q, want := range map[float64]float64{0: 0.01, 0.5: 5, 0.9: 9, 0.99: 9.9, 1: 10} {
		if got := h.Quantile(q); math.Abs(got-want) > want/20 {
			t.Errorf("the quantile %v of 0.01 to 10 is %v, want %v", q, got, want)
		}
	}
}
