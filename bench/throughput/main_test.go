package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The bench starts its own program again, which here is this test.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := perform(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A smoke measures everything. What it measures is not looked at: a busy machine
// proves nothing about a change.
func TestShort(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if exit := run(t.Context(), []string{"-short", "-json"}, &stdout, &stderr); exit != 0 {
		t.Fatalf("exit code %d: %s", exit, &stderr)
	}
	var r report
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range r.Figures {
		var inFlight int
		if n, _ := fmt.Sscanf(f.Name, "resident with %d in flight", &inFlight); n == 1 && inFlight >= 75 && inFlight <= 100 {
			f.Name = "resident with some 100 in flight"
		}
		names = append(names, f.Name)
		if f.Value <= 0 && f.Missing == "" {
			t.Errorf("%s: nothing was measured", f.Name)
		}
	}
	want := []string{
		"throughput of the drainer", "throughput of the bare loop", "drainer / bare loop",
		"processor time of the drainer", "processor time of the bare loop",
		"SQS calls of the drainer", "SQS calls of the bare loop",
		"resident with some 100 in flight",
		"pickup by an idle drainer, p50", "pickup by an idle drainer, p99",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("figures (-want +got):\n%s", diff)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	r := report{CPUs: 2, Platform: "linux/amd64", Go: "go1.26", Rounds: 5, Jobs: 6000, InFlight: 64, Pickups: 300, Figures: []figure{
		{Name: "throughput", Unit: "jobs/s", Value: 2143.4},
		figure{Name: "ratio", Value: 0.691}.atLeast(0.7),
		figure{Name: "pickup", Unit: "ms", Value: 9.5}.atMost(50),
		figure{Name: "resident", Unit: "MiB", Missing: "needs a kernel"}.atMost(100),
	}}
	want := `2 CPUs, linux/amd64, go1.26; jobs of 1 KiB
throughput: medians of 5 rounds of 6000 jobs, 64 in flight; pickup: 300 jobs

throughput  2143  jobs/s
ratio       0.69          at least 0.7: MISSED
pickup      9.50  ms      at most 50: met
resident    -     MiB     at most 100: not measured, needs a kernel
`
	var b strings.Builder
	if err := r.writeText(&b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-rounds", "0"}, {"-no-such-flag"}, {"argument"}} {
		var stdout, stderr strings.Builder
		if exit := run(t.Context(), args, &stdout, &stderr); exit != 2 || stderr.Len() == 0 {
			t.Errorf("%q: exit code %d, said %q", args, exit, stderr.String())
		}
	}
	var stdout, stderr strings.Builder
	if exit := run(t.Context(), []string{"-h"}, &stdout, &stderr); exit != 0 || !strings.Contains(stdout.String(), "-short") {
		t.Errorf("-h: exit code %d, said %q", exit, stdout.String())
	}
}

func TestJobsAreOneKiB(t *testing.T) {
	t.Parallel()
	for _, i := range []int{0, 5999} {
		body, err := newJob(i)
		if err != nil {
			t.Fatal(err)
		}
		if len(body) != jobSize {
			t.Errorf("job %d has %d bytes", i, len(body))
		}
	}
}
