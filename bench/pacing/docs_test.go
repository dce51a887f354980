package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
)

// blank is a scenario's cell without a run.
func blank(s scenario, f form) cell {
	w := &world{scenario: &s, tallies: map[bedrocksim.Key]*tally{}}
	var best []*tally
	for _, tr := range s.tracks {
		w.tallies[tr.key()] = newTally(s.length)
		best = append(best, newTally(s.length))
	}
	c := cell{Scenario: s.id, Shape: f.name, Pacer: sluiceName}
	c.measure(w, f, best, false)
	return c
}

// tableOf reads the first table of a text: its cells by their line's scenario and
// target.
func tableOf(text string) (lines []string, cells map[string][]string) {
	cells = map[string][]string{}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") {
			if len(lines) > 0 {
				break
			}
			continue
		}
		columns := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range columns {
			columns[i] = strings.TrimSpace(columns[i])
		}
		key := strings.Join(columns[:2], " | ")
		lines, cells[key] = append(lines, key), columns[2:]
	}
	return lines, cells
}

var (
	// marked is a figure, and how it is marked.
	marked    = regexp.MustCompile(`^(\**)([0-9.]+)(?: s)?(\**)$`)
	thousands = regexp.MustCompile(`(\d),(\d{3})`)
)

// The table of docs/pacing.md has a line for every phase there is, with the target
// that is asked of it. It marks what misses that, and nothing else, and what the
// page and the README say of it in all is what it shows. (How current the figures
// are, only the bench tells.)
func TestTableOfTheDocs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/pacing.md")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, results, _ := strings.Cut(string(page), "<!-- results -->")
	lines, cells := tableOf(results)

	var out bytes.Buffer
	r := &report{plan: plan{forms: forms}, out: &out}
	for _, s := range scenarios() {
		for _, f := range forms {
			r.groups = append(r.groups, &group{scenario: s, form: f, runs: [][]cell{{blank(s, f)}}})
		}
	}
	r.byShape()
	want, _ := tableOf(out.String())
	if len(lines) != len(want) {
		t.Errorf("the table has %d lines, the bench makes %d", len(lines), len(want))
	}
	for _, line := range want {
		if len(cells[line]) != len(forms) {
			t.Fatalf("the table has %d figures for %q", len(cells[line]), line)
		}
	}

	asked, beyond, missed := 0, 0, 0
	read := func(where, text string) (figure float64, mark string) {
		m := marked.FindStringSubmatch(text)
		if m == nil || m[1] != m[3] {
			t.Fatalf("%s: %q is no figure", where, text)
		}
		if figure, err = strconv.ParseFloat(m[2], 64); err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		switch asked++; m[1] {
		case "*":
			beyond++
		case "**":
			missed++
		}
		return figure, m[1]
	}
	line := 2 // after the head
	for ; len(r.groups) > 0; r.groups = r.groups[len(forms):] {
		first := r.groups[0].runs[0][0]
		for i := range len(first.Rows) + len(first.Settles) {
			for k, g := range r.groups[:len(forms)] {
				c, text := g.runs[0][0], cells[want[line]][k]
				where := want[line] + " on " + g.form.name
				if n := i - len(c.Rows); n >= 0 {
					if v, mark := read(where, text); (v > c.Settles[n].Within) != (mark != "") {
						t.Errorf("%s: %s of %v s", where, text, c.Settles[n].Within)
					}
					continue
				}
				of := c.Rows[i].want
				goodput, throttles, _ := strings.Cut(text, " / ")
				if of.goodput > 0 {
					v, mark := read(where, goodput)
					if misses := v < 100*of.goodput-0.05; misses != (mark != "") && !of.ofTold {
						t.Errorf("%s: %s %% of %v", where, goodput, 100*of.goodput)
					}
				}
				if of.throttles > 0 || of.extra > 0 { // more can be right, in a phase of few jobs
					// The medians of 429s and of jobs can be of different seeds.
					if v, mark := read(where, throttles); v < 0.95*of.throttles && mark != "" {
						t.Errorf("%s: %s of %v 429s", where, throttles, of.throttles)
					}
				}
			}
			line++
		}
	}
	for name, text := range map[string]string{"docs/pacing.md": string(page), "README.md": string(readme)} {
		text = thousands.ReplaceAllString(strings.Join(strings.Fields(text), " "), "$1$2")
		for _, said := range []string{
			fmt.Sprintf("Of %d targets", asked),
			fmt.Sprintf("%d are met, %d are out of reach", asked-beyond-missed, beyond),
			fmt.Sprintf("%d are missed", missed),
		} {
			if !strings.Contains(text, said) {
				t.Errorf("%s does not say %q", name, said)
			}
		}
	}
}
