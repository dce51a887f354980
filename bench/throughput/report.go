package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"
	"text/tabwriter"
)

// report is what was measured, and where.
type report struct {
	CPUs     int      `json:"cpus"`
	Platform string   `json:"platform"`
	Go       string   `json:"go"`
	Rounds   int      `json:"rounds"`
	Jobs     int      `json:"jobs"` // in a round
	InFlight int      `json:"in_flight"`
	Pickups  int      `json:"pickups"`
	Short    bool     `json:"short"`
	Figures  []figure `json:"figures"`
}

// figure is one measured value, with its target if it has one.
type figure struct {
	Name    string    `json:"name"`
	Unit    string    `json:"unit,omitempty"`
	Value   float64   `json:"value"`
	Missing string    `json:"missing,omitempty"` // why there is no value
	Target  *target   `json:"target,omitempty"`
	Samples []float64 `json:"samples,omitempty"` // in the same unit
}

type target struct {
	Least *float64 `json:"at_least,omitempty"`
	Most  *float64 `json:"at_most,omitempty"`
	Met   bool     `json:"met"`
}

func (f figure) atLeast(n float64) figure {
	f.Target = &target{Least: &n, Met: f.Missing == "" && f.Value >= n}
	return f
}

func (f figure) atMost(n float64) figure {
	f.Target = &target{Most: &n, Met: f.Missing == "" && f.Value <= n}
	return f
}

func newReport(p plan) report {
	return report{
		CPUs: runtime.NumCPU(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
		Rounds: p.rounds, Jobs: p.jobs, InFlight: p.inFlight, Pickups: p.pickups, Short: p.short,
	}
}

func (r report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (r report) writeText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d CPUs, %s, %s; jobs of 1 KiB\n", r.CPUs, r.Platform, r.Go)
	fmt.Fprintf(&b, "throughput: medians of %d rounds of %d jobs, %d in flight; pickup: %d jobs\n\n", r.Rounds, r.Jobs, r.InFlight, r.Pickups)
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for _, f := range r.Figures {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", f.Name, f.text(), f.Unit, f.verdict())
	}
	t.Flush() // to a Builder: never fails
	for line := range strings.Lines(table.String()) {
		fmt.Fprintln(&b, strings.TrimRight(line, " \n"))
	}
	if r.Short {
		b.WriteString("\nA smoke: too little was done for these figures to mean anything.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (f figure) text() string {
	switch {
	case f.Missing != "":
		return "-"
	case f.Value < 10:
		return fmt.Sprintf("%.2f", f.Value)
	default:
		return fmt.Sprintf("%.0f", f.Value)
	}
}

// verdict says what the target is and whether it is met.
func (f figure) verdict() string {
	if f.Target == nil {
		return ""
	}
	bound := "at least "
	n := f.Target.Least
	if n == nil {
		bound, n = "at most ", f.Target.Most
	}
	bound += fmt.Sprintf("%g: ", *n)
	switch {
	case f.Missing != "":
		return bound + "not measured, " + f.Missing
	case f.Target.Met:
		return bound + "met"
	default:
		return bound + "MISSED"
	}
}
