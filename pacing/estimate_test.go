package pacing

import (
	"fmt"
	"math"
	"testing"
)

// The examples of AWS's page on token burndown.
func TestSettlement(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		usage    Usage
		burndown float64
		want     int64
	}{
		{Usage{Input: 3_000, CacheRead: 4_000, CacheWrite: 1_000, Output: 1_000}, 5, 9_000},
		{Usage{Input: 3_000, Output: 1_000}, 1, 4_000},
		{Usage{Input: 26, Output: 1_203, CacheRead: 8_814}, 5, 6_041},
		{Usage{Input: 10, Output: 3}, 1.5, 15},
		{Usage{}, 15, 0},
	} {
		if got := test.usage.Settlement(test.burndown); got != test.want {
			t.Errorf("%+v at %v settles at %d, want %d", test.usage, test.burndown, got, test.want)
		}
	}
}

func within(t *testing.T, what string, got, want int64, part float64) {
	t.Helper()
	if math.Abs(float64(got-want)) > part*float64(want) {
		t.Errorf("%s is %d, want %d within %v %%", what, got, want, 100*part)
	}
}

func TestEstimateBeforeLearning(t *testing.T) {
	t.Parallel()
	e := NewEstimator(5, 64_000)
	for _, test := range []struct {
		name string
		size Size
		want Charge
	}{
		{"text", Size{Text: 1_000, MaxTokens: 500}, Charge{Reserve: 800, Expect: 2_800, Input: 300, Doubt: 30}},
		{"no bound", Size{Text: 1_000}, Charge{Reserve: 64_300, Expect: 320_300, Input: 300, Doubt: 30}},
		{"no output", Size{Text: 1_000, NoOutput: true}, Charge{Reserve: 300, Expect: 300, Input: 300, Doubt: 30}},
		{"an image", Size{Images: 1, MaxTokens: 100}, Charge{Reserve: 1_700, Expect: 2_100, Input: 1_600, Doubt: 320}},
		{"nothing", Size{NoOutput: true}, Charge{}},
	} {
		if got := e.Estimate(test.size, ""); got != test.want {
			t.Errorf("%s: estimate is %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestEstimatorLearnsTextAndOutput(t *testing.T) {
	t.Parallel()
	e := NewEstimator(5, 64_000)
	size := Size{Text: 4_000, MaxTokens: 1_000}
	for range 100 { // 30 % denser than it looked, a tenth of the output used
		e.Learn(size, "", Usage{Input: 1_560, Output: 100})
	}
	c := e.Estimate(size, "")
	within(t, "input", c.Input, 1_560, 0.01)
	within(t, "reservation", c.Reserve, 2_560, 0.01)
	within(t, "settlement", c.Expect, 2_060, 0.05)
	if c.Doubt > 50 {
		t.Errorf("doubt is %d after a hundred equal answers, want nearly none", c.Doubt)
	}
}

// Cache reads are reserved, to be safe, and not settled.
func TestEstimatorLearnsCacheReads(t *testing.T) {
	t.Parallel()
	e := NewEstimator(1, 64_000)
	size := Size{Text: 4_000, NoOutput: true}
	for range 200 {
		e.Learn(size, "", Usage{Input: 100, CacheRead: 800, CacheWrite: 100})
	}
	c := e.Estimate(size, "")
	within(t, "reservation", c.Reserve, 1_000, 0.01)
	within(t, "settlement", c.Expect, 200, 0.05)
}

func TestEstimatorLearnsTenants(t *testing.T) {
	t.Parallel()
	e := NewEstimator(1, 64_000)
	size := Size{Text: 4_000, NoOutput: true}
	for range 100 {
		e.Learn(size, "english", Usage{Input: 1_000})
		e.Learn(size, "chinese", Usage{Input: 2_400})
	}
	within(t, "english", e.Estimate(size, "english").Input, 1_000, 0.02)
	within(t, "chinese", e.Estimate(size, "chinese").Input, 2_400, 0.02)
	within(t, "a new tenant", e.Estimate(size, "new").Input, 1_700, 0.05)
}

func TestEstimatorLearnsMediaByCount(t *testing.T) {
	t.Parallel()
	e := NewEstimator(1, 64_000)
	for range 150 {
		e.Learn(Size{Text: 4_000, NoOutput: true}, "", Usage{Input: 1_000})
		e.Learn(Size{Text: 4_000, Images: 2, NoOutput: true}, "", Usage{Input: 1_000 + 2*400})
		e.Learn(Size{Documents: 1, NoOutput: true}, "", Usage{Input: 20_000})
	}
	within(t, "text", e.Estimate(Size{Text: 4_000, NoOutput: true}, "").Input, 1_000, 0.02)
	within(t, "three images", e.Estimate(Size{Images: 3, NoOutput: true}, "").Input, 1_200, 0.1)
	within(t, "a document", e.Estimate(Size{Documents: 1, NoOutput: true}, "").Input, 20_000, 0.05)
}

// Jobs with images are off by more than jobs without, and their doubts say so.
func TestDoubtsOfTextAndMediaDiffer(t *testing.T) {
	t.Parallel()
	e := NewEstimator(1, 64_000)
	words := Size{Text: 4_000, NoOutput: true}
	pictures := Size{Text: 4_000, Images: 1, NoOutput: true}
	for i := range int64(300) {
		off := 1 - i%2*2
		e.Learn(words, "", Usage{Input: 1_000 + off*10})
		e.Learn(words, "", Usage{Input: 1_000 + off*10})
		e.Learn(pictures, "", Usage{Input: 2_000 + off*300})
	}
	within(t, "the doubt of text", e.Estimate(words, "").Doubt, 10, 0.2)
	within(t, "the doubt of text and an image", e.Estimate(pictures, "").Doubt, 300, 0.1)
}

// Where text was never seen alone, what it is off by is not the image's, and no
// doubt exceeds what it is about.
func TestDoubtStaysBounded(t *testing.T) {
	t.Parallel()
	e := NewEstimator(1, 64_000)
	for range 50_000 { // a tenth less than it looks
		e.Learn(Size{Text: 40_000, Images: 1}, "", Usage{Input: 10_800})
	}
	for _, size := range []Size{{Text: 40_000, Images: 1}, {Documents: 1}, {Images: 1}} {
		if c := e.Estimate(size, ""); c.Doubt < 0 || c.Doubt > c.Input/5+1 {
			t.Errorf("%+v: the doubt is %d of %d", size, c.Doubt, c.Input)
		}
	}
}

// Where all jobs have text and an image, and the text looks like more than was read,
// text is learned to be less, and what an image takes is not forgotten for good.
func TestTextThatLooksLikeMoreThanItIs(t *testing.T) {
	t.Parallel()
	e := NewEstimator(1, 64_000)
	both := Size{Text: 40_000, Images: 1, NoOutput: true}
	for range 50_000 {
		e.Learn(both, "", Usage{Input: 8_000})
	}
	within(t, "text and an image", e.Estimate(both, "").Input, 8_000, 0.01)
	for range 400 {
		e.Learn(Size{Images: 1, NoOutput: true}, "", Usage{Input: 1_500})
	}
	within(t, "an image", e.Estimate(Size{Images: 1, NoOutput: true}, "").Input, 1_500, 0.01)
}

// One odd answer does not widen the margin of the hundreds after it.
func TestOneOddAnswerIsNoDoubt(t *testing.T) {
	t.Parallel()
	e := NewEstimator(1, 64_000)
	size := Size{Text: 4_000, NoOutput: true}
	for range 300 {
		e.Learn(size, "", Usage{Input: 1_200})
	}
	e.Learn(Size{Text: 2, NoOutput: true}, "", Usage{Input: 6_000})
	if c := e.Estimate(size, ""); c.Doubt > c.Input/20 {
		t.Errorf("the doubt is %d of %d", c.Doubt, c.Input)
	}
}

func TestEstimatorForgetsTenants(t *testing.T) {
	t.Parallel()
	e := NewEstimator(1, 64_000)
	size := Size{Text: 4_000, NoOutput: true}
	for i := range 10 * tenantsMost {
		e.Learn(size, fmt.Sprint(i), Usage{Input: 1_000})
		if i%100 == 0 {
			e.Learn(size, "busy", Usage{Input: 2_000})
		}
	}
	if n := len(e.young) + len(e.old); n > 2*tenantsMost {
		t.Errorf("%d tenants are remembered, want %d at most", n, 2*tenantsMost)
	}
	within(t, "a busy tenant among them", e.Estimate(size, "busy").Input, 2_000, 0.05)
}

func TestLearnIgnoresAnswersWithoutUsage(t *testing.T) {
	t.Parallel()
	e := NewEstimator(1, 64_000)
	before := e.Estimate(Size{Text: 100, MaxTokens: 10}, "")
	e.Learn(Size{Text: 100, MaxTokens: 10}, "", Usage{})
	if got := e.Estimate(Size{Text: 100, MaxTokens: 10}, ""); got != before {
		t.Errorf("estimate is %+v after an answer without usage, want %+v", got, before)
	}
}
