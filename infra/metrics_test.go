package infra_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/metrics"
)

//go:generate go test -run ^TestMetricsFile$ . -update

var update = flag.Bool("update", false, "write metrics.json anew")

// metric is one metric as alarms.tf and dashboard.tf know it.
type metric struct {
	Name       string   `json:"name"`
	Unit       string   `json:"unit"`
	Dimensions []string `json:"dimensions"`
}

// published are the metrics that the drainer sends to CloudWatch by default.
func published() (all []metric) {
	for _, d := range metrics.Table {
		if d.Detail {
			continue
		}
		dimensions := []string{"Service"}
		if d.Per >= metrics.Model {
			dimensions = append(dimensions, "Model")
		}
		all = append(all, metric{d.Name, d.Unit, dimensions})
	}
	return all
}

// metrics.json is how the module knows the drainer's metrics.
func TestMetricsFile(t *testing.T) {
	t.Parallel()
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetIndent("", "  ")
	if err := e.Encode(published()); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("metrics.json", want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("metrics.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), string(got)); diff != "" {
		t.Errorf("metrics.json differs from the drainer's table; go generate ./infra writes it (-table +file):\n%s", diff)
	}
}
