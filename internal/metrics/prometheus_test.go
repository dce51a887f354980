package metrics_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/metrics"
)

func scrape(t *testing.T, samples []metrics.Sample) (status int, lines []string) {
	t.Helper()
	w := httptest.NewRecorder()
	metrics.Handler("sluice", func() []metrics.Sample { return samples }).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "sluice_") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return w.Code, lines
}

func TestHandler(t *testing.T) {
	t.Parallel()
	status, got := scrape(t, []metrics.Sample{
		{Name: "Invocations", Model: "sonnet", Route: "us-east-1/a", Value: 5},
		{Name: "Invocations", Model: "sonnet", Route: "us-west-2/a", Value: 7},
		{Name: "Throttles", Model: "sonnet", Route: "us-east-1/a", Label: "tokens", Value: 2},
		{Name: "QuotaUse", Model: "sonnet", Value: 99.5},
		{Name: "QuotaBoundSeconds", Model: "sonnet", Value: 1.5},
		{Name: "DrainSeconds", Value: 60},
		{Name: "OldestJobAge", Value: 61},
		{Name: "ReceivesPerJob", Buckets: []metrics.Bucket{{Value: 1, Count: 10}, {Value: 4, Count: 2}, {Value: 60, Count: 1}}},
		{Name: "NoSuchMetric", Value: 1},
	})
	want := []string{
		`sluice_drain_seconds 60`,
		`sluice_invocations_total{model="sonnet",route="us-east-1/a"} 5`,
		`sluice_invocations_total{model="sonnet",route="us-west-2/a"} 7`,
		`sluice_oldest_job_age_seconds 61`,
		`sluice_quota_bound_seconds_total{model="sonnet"} 1.5`,
		`sluice_quota_use_percent{model="sonnet"} 99.5`,
		`sluice_receives_per_job_bucket{le="1"} 10`,
		`sluice_receives_per_job_bucket{le="2"} 10`,
		`sluice_receives_per_job_bucket{le="3"} 10`,
		`sluice_receives_per_job_bucket{le="5"} 12`,
		`sluice_receives_per_job_bucket{le="10"} 12`,
		`sluice_receives_per_job_bucket{le="20"} 12`,
		`sluice_receives_per_job_bucket{le="50"} 12`,
		`sluice_receives_per_job_bucket{le="+Inf"} 13`,
		`sluice_receives_per_job_sum 78`,
		`sluice_receives_per_job_count 13`,
		`sluice_throttles_total{cause="tokens",model="sonnet",route="us-east-1/a"} 2`,
	}
	if diff := cmp.Diff(want, got); status != http.StatusOK || diff != "" {
		t.Errorf("status %d; lines (-want +got):\n%s", status, diff)
	}
}

func TestHandlerServesTheTable(t *testing.T) {
	t.Parallel()
	status, lines := scrape(t, all())
	if status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	names := make(map[string]bool)
	for _, line := range lines {
		name, _, _ := strings.Cut(line, " ")
		name, _, _ = strings.Cut(name, "{")
		if !slices.ContainsFunc([]string{"_bucket", "_sum", "_count"}, func(end string) bool { return strings.HasSuffix(name, end) }) {
			names[name] = true
		} else if base, ok := strings.CutSuffix(name, "_count"); ok {
			names[base] = true
		}
	}
	if want := len(metrics.Table) - 1; len(names) != want { // all but the rate
		t.Errorf("%d metrics, want %d: %v", len(names), want, names)
	}
}

// A sample that can't be shown fails the scrape, not the drainer.
func TestHandlerReportsBadSamples(t *testing.T) {
	t.Parallel()
	if status, _ := scrape(t, []metrics.Sample{{Name: "QuotaUse", Model: "\xff"}}); status != http.StatusInternalServerError {
		t.Errorf("status %d, want 500", status)
	}
}
