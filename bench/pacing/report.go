package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Goodput is a part of the bound, the bound one of the quota that is there.
//
// tableHead and writeRow make the table, a line for each phase of a cell as it
// is measured: a run of all takes minutes.
const tableHead = "scenario  shape       pacer          phase    goodput   bound  per 1,000  429s  settled         lost twice failed  believed; missed targets\n"

func writeRows(w io.Writer, c cell, told float64) {
	var settles []string
	for _, t := range c.Settles {
		settles = append(settles, fmt.Sprintf("%s %.0fs", t.Name, t.Took))
	}
	misses := ""
	if all := c.misses(told); len(all) > 0 && c.Pacer == "sluice" {
		misses = "  MISSED: " + strings.Join(all, ", ")
	}
	if c.Error != "" {
		misses += " (" + c.Error + ")"
	}
	for i, r := range c.Rows {
		phase := strings.TrimSpace(r.Track + " " + r.Phase)
		fmt.Fprintf(w, "%-9s %-11s %-14s %-8s %6.1f %%  %4.0f %%  %9.1f %5.0f", c.Scenario, c.Shape, c.Pacer, phase, 100*r.Goodput, 100*r.Bound/max(r.Quota, 1), r.PerMille, r.Throttles)
		if i < len(c.Rows)-1 {
			fmt.Fprintln(w)
			continue
		}
		note := c.Believed
		if told > 0 {
			note += fmt.Sprintf("; %.1f %% of told", 100*r.Goodput/told)
		}
		if c.FirstSecond > 0 {
			note += fmt.Sprintf("; first second %.0f", c.FirstSecond)
		}
		fmt.Fprintf(w, "  %-14s %5d %5d %6d  %s%s (%.1f s)\n", strings.Join(settles, " "), c.Lost, c.Twice, c.Failed, note, misses, c.CPU)
	}
}

// writeJSON writes the cells, one a line.
func writeJSON(w io.Writer, c cell) error {
	return json.NewEncoder(w).Encode(c)
}
