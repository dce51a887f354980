package metrics

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/metrics.md instead of comparing it")

// TestDocs holds docs/metrics.md true.
func TestDocs(t *testing.T) {
	t.Parallel()
	const file = "../../docs/metrics.md"
	want := document()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/metrics.md is not what Table says; run go generate ./internal/metrics (-want +got):\n%s", diff)
	}
}

func document() string {
	var b strings.Builder
	b.WriteString(`<!-- Made by go generate ./internal/metrics of its Table. Do not edit. -->

# Metrics

What the drainer counts goes to two places:

- **CloudWatch**, namespace ` + "`SLUICE_METRICS_NAMESPACE`" + `, once every ` + "`SLUICE_METRICS_PERIOD`" + `, and once more at the stop. A datum
  carries the time at which its period began. Counters hold what the period added; waits and latencies hold its values,
  so that percentiles work. What CloudWatch does not take is dropped, with one log line when that begins and one when it
  ends; no job ever waits for it. An empty namespace turns it off.
- **/metrics** of the admin listener, in Prometheus's form, since the start of the process. Distributions are histograms.

Dimensions in CloudWatch are {Service, Model} or {Service}: every series is paid for. With ` + "`SLUICE_METRICS_DETAIL=route`" + ` each
metric that has a route or a label there is sent once more with them as the dimensions Route, and Cause or Reason; and so
are those of the last table, which otherwise are on /metrics only.

Counts are published as counts, so that several drainers add up. ThrottleRate is made of one drainer's period; for
several, divide the sums: ` + "`100 * SUM(Throttles) / (SUM(Invocations) + SUM(Throttles))`" + `.
`)
	section(&b, "By model", func(d Definition) bool { return !d.Detail && d.Per > Service })
	section(&b, "By service", func(d Definition) bool { return !d.Detail && d.Per == Service })
	section(&b, "In detail", func(d Definition) bool { return d.Detail })
	return b.String()
}

func section(b *strings.Builder, title string, belongs func(Definition) bool) {
	fmt.Fprintf(b, "\n## %s\n\n| CloudWatch | unit | /metrics | labels | meaning |\n|---|---|---|---|---|\n", title)
	for _, d := range Table {
		if !belongs(d) {
			continue
		}
		scraped, labels := "`"+d.scraped("sluice")+"`", strings.Join(d.labels(), ", ")
		if d.Kind == Rate {
			scraped, labels = "a query", ""
		}
		fmt.Fprintf(b, "| %s | %s, %s | %s | %s | %s |\n", d.Name, d.Unit, d.Kind, scraped, labels, d.Help)
	}
}
