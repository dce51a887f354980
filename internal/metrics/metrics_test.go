package metrics_test

import (
	"strings"
	"testing"

	"github.com/sluicehq/sluice/internal/metrics"
)

// all returns one good sample of each metric that is fed.
func all() []metrics.Sample {
	var samples []metrics.Sample
	for _, d := range metrics.Table {
		if d.Kind == metrics.Rate {
			continue
		}
		s := metrics.Sample{Name: d.Name}
		if d.Per >= metrics.Model {
			s.Model = "sonnet"
		}
		if d.Per >= metrics.Route {
			s.Route = "us-east-1/claude"
		}
		if d.Label != "" {
			s.Label = "x"
		}
		if d.Kind == metrics.Distribution {
			s.Buckets = []metrics.Bucket{{Value: 2, Count: 3}}
		} else {
			s.Value = 1
		}
		samples = append(samples, s)
	}
	return samples
}

func TestCheck(t *testing.T) {
	t.Parallel()
	if err := metrics.Check(all()); err != nil {
		t.Errorf("every metric once: %v", err)
	}
	for name, test := range map[string]struct {
		spoil func([]metrics.Sample) []metrics.Sample
		want  string
	}{
		"unknown":    {func(s []metrics.Sample) []metrics.Sample { return append(s, metrics.Sample{Name: "New"}) }, "New: not in the table"},
		"missing":    {func(s []metrics.Sample) []metrics.Sample { return s[1:] }, "Invocations: no sample"},
		"twice":      {func(s []metrics.Sample) []metrics.Sample { return append(s, s[0]) }, "Invocations: two samples of one series"},
		"no model":   {func(s []metrics.Sample) []metrics.Sample { s[0].Model = ""; return s }, `Invocations: model ""`},
		"no route":   {func(s []metrics.Sample) []metrics.Sample { s[0].Route = ""; return s }, `Invocations: route ""`},
		"a label":    {func(s []metrics.Sample) []metrics.Sample { s[0].Label = "x"; return s }, `Invocations: label "x"`},
		"buckets":    {func(s []metrics.Sample) []metrics.Sample { s[0].Buckets = []metrics.Bucket{}; return s }, "not the form of a counter"},
		"made by us": {func(s []metrics.Sample) []metrics.Sample { return append(s, metrics.Sample{Name: "ThrottleRate"}) }, "ThrottleRate: made by the publisher"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := metrics.Check(test.spoil(all())); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, d := range metrics.Table {
		if seen[d.Name] {
			t.Errorf("%s stands twice", d.Name)
		}
		seen[d.Name] = true
		if d.Help == "" || strings.Contains(d.Help, "|") {
			t.Errorf("%s: help %q can't stand in a table", d.Name, d.Help)
		}
		if (d.Bounds != nil) != (d.Kind == metrics.Distribution) {
			t.Errorf("%s: bounds are a distribution's", d.Name)
		}
		if d.Kind == metrics.Gauge && !d.Detail && d.Unit != "Count" && (d.Per == metrics.Route || d.Label != "") {
			t.Errorf("%s: a sum of gauges means nothing, but of counts", d.Name)
		}
	}
}
