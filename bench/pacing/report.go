package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// report writes what was measured: a table line for each phase as it comes, a
// JSON object for each run, or at the end the tables of docs/pacing.md.
type report struct {
	plan
	out         io.Writer
	counts      [missed + 1]int // verdicts
	lost, twice int64
	groups      []*group
}

// Goodput is a part of the bound, the bound one of the quota that is there.
const tableHead = "scenario  shape       pacer      phase     goodput   asked  bound  per 1,000  asked  429s  settled         verdict; believed\n"

func newReport(p plan, out io.Writer) *report {
	if p.ledgers && !p.json {
		fmt.Fprint(out, "The ledgers alone, without the drainer; the targets are the drainer's.\n\n")
	}
	if !p.json && !p.markdown {
		fmt.Fprint(out, tableHead)
	}
	return &report{plan: p, out: out}
}

// add reports a group. Its error is what must not be: a run that did not come to
// its end, a job that was lost or answered twice.
func (r *report) add(g *group) error {
	var failed []error
	for _, run := range g.runs {
		for _, c := range run {
			switch {
			case c.Error != "":
				failed = append(failed, fmt.Errorf("%s on %s, seed %d: %s", c.Scenario, c.Shape, c.Seed, c.Error))
			case c.Lost > 0 || c.Twice > 0:
				failed = append(failed, fmt.Errorf("%s on %s, seed %d: %d jobs lost, %d answered twice", c.Scenario, c.Shape, c.Seed, c.Lost, c.Twice))
			}
			r.lost, r.twice = r.lost+int64(c.Lost), r.twice+c.Twice
			if r.json {
				failed = append(failed, json.NewEncoder(r.out).Encode(c))
			}
		}
	}
	j, told := g.verdict()
	for _, v := range j.all() {
		r.counts[v]++
	}
	switch {
	case r.markdown:
		r.groups = append(r.groups, g)
	case !r.json:
		for _, name := range g.pacers() {
			cells, _ := g.by(name)
			c := median(cells)
			if name == sluiceName {
				r.rows(c, j, told)
			} else {
				r.rows(c, judgement{}, nil)
			}
		}
	}
	return errors.Join(failed...)
}

// end writes what is said of all.
func (r *report) end() error {
	if r.json {
		return nil
	}
	switch {
	case r.markdown && r.real:
		r.compare(sluiceName, realName)
	case r.markdown && len(r.peers) > 0:
		names := []string{sluiceName}
		for _, p := range r.peers {
			names = append(names, p.name)
		}
		r.compare(names...)
	case r.markdown:
		r.byShape()
	}
	fmt.Fprintf(r.out, "\nTargets: %d met, %d met as a part of what a pacer gets that was told the limiter, %d missed. Jobs lost: %d, answered twice: %d.\n",
		r.counts[met], r.counts[beyond], r.counts[missed], r.lost, r.twice)
	return nil
}

// verdict judges Sluice's median, by what those made of it who were told the
// limiter, where that is all that there is to know.
func (g *group) verdict() (j judgement, told []cell) {
	for _, name := range [...]string{toldName, shapeName} {
		if cells, ok := g.by(name); ok && g.tellable() {
			told = append(told, median(cells))
		}
	}
	cells, _ := g.by(sluiceName)
	return median(cells).judge(told...), told
}

// pacers names who played the group, in their order.
func (g *group) pacers() (names []string) {
	for _, c := range g.runs[0] {
		names = append(names, c.Pacer)
	}
	return names
}

// goodputAsked and throttlesAsked format a target, "" where nothing is asked.
func (t target) goodputAsked() string {
	if t.goodput == 0 {
		return ""
	}
	return fmt.Sprintf("%.4g", 100*t.goodput)
}

func (t target) throttlesAsked() string {
	switch {
	case t.throttles == 0 && t.extra == 0:
		return ""
	case t.throttles == 0:
		return fmt.Sprintf("%.0f in all", t.extra)
	case t.extra > 0:
		return fmt.Sprintf("%.4g+%.0f", t.throttles, t.extra)
	default:
		return fmt.Sprintf("%.4g", t.throttles)
	}
}

func (r *report) rows(c cell, j judgement, told []cell) {
	for i, row := range c.Rows {
		fmt.Fprintf(r.out, "%-9s %-11s %-10s %-8s %6.1f %%  %6s  %3.0f %%  %9.1f  %5s  %4.0f", c.Scenario, c.Shape, c.Pacer, strings.TrimSpace(row.Track+" "+row.Phase),
			100*row.Goodput, row.want.goodputAsked(), 100*row.Bound/max(row.Quota, 1), row.PerMille, row.want.throttlesAsked(), row.Throttles)
		if i < len(c.Rows)-1 {
			fmt.Fprintln(r.out)
		}
	}
	var settles, notes []string
	for _, t := range c.Settles {
		settles = append(settles, fmt.Sprintf("%s %.0fs", t.Name, t.Took))
	}
	for _, other := range told {
		for i, row := range c.Rows {
			notes = append(notes, fmt.Sprintf("%.1f %% of %s", 100*row.Goodput/other.Rows[i].Goodput, other.Pacer))
		}
	}
	if c.Believed != "" {
		notes = append(notes, c.Believed)
	}
	if c.FirstSecond > 0 {
		notes = append(notes, fmt.Sprintf("first second %.0f", c.FirstSecond))
	}
	if c.Error != "" {
		notes = append(notes, c.Error)
	}
	fmt.Fprintf(r.out, "  %-14s  %s (%.1f s)\n", strings.Join(settles, " "), strings.Join(append([]string{j.text(c)}, notes...), "; "), c.CPU)
}

// text names what is not met; "met" where that is nothing.
func (j judgement) text(c cell) string {
	var by [missed + 1][]string
	for i, row := range c.Rows {
		if i < len(j.goodput) {
			by[j.goodput[i]] = append(by[j.goodput[i]], strings.TrimSpace("goodput "+row.Phase))
			by[j.throttles[i]] = append(by[j.throttles[i]], strings.TrimSpace("429s "+row.Phase))
		}
	}
	for i, v := range j.settles {
		by[v] = append(by[v], "settle "+c.Settles[i].Name)
	}
	by[missed] = append(by[missed], j.others...)
	var parts []string
	for _, v := range []verdict{missed, beyond} {
		if len(by[v]) > 0 {
			parts = append(parts, fmt.Sprintf("%v: %s", v, strings.Join(by[v], ", ")))
		}
	}
	if len(parts) == 0 && len(by[met]) > 0 {
		return met.String()
	}
	return strings.Join(parts, "; ")
}

// byShape writes Sluice's figures, a line for each phase, a column for each shape.
func (r *report) byShape() {
	fmt.Fprint(r.out, "| scenario | asked |")
	for _, f := range r.forms {
		fmt.Fprintf(r.out, " %s |", f.name)
	}
	fmt.Fprintf(r.out, "\n|---|---|%s\n", strings.Repeat("--:|", len(r.forms)))
	n := len(r.forms)
	for of := range slices.Chunk(r.groups, n) {
		var cells []cell
		var judged []judgement
		for _, g := range of {
			runs, _ := g.by(sluiceName)
			j, _ := g.verdict()
			cells, judged = append(cells, median(runs)), append(judged, j)
		}
		name := fmt.Sprintf("**%s** %s", of[0].id, of[0].title)
		for i, row := range cells[0].Rows {
			var wants, figures []string
			for k, c := range cells {
				w := c.Rows[i].want
				want := strings.TrimSpace(w.goodputAsked() + " / " + w.throttlesAsked())
				if w.ofTold {
					want += " of told"
				}
				if !slices.Contains(wants, want) {
					wants = append(wants, want)
				}
				figures = append(figures, mark(judged[k].goodput[i], "%.1f", 100*c.Rows[i].Goodput)+" / "+mark(judged[k].throttles[i], "%.1f", c.Rows[i].PerMille))
			}
			if phase := strings.TrimSpace(row.Track + " " + row.Phase); phase != "" {
				name += ": " + phase
			}
			r.line(name, strings.Join(wants, "; "), figures)
			name = of[0].id
		}
		for i, s := range cells[0].Settles {
			var figures []string
			for k, c := range cells {
				figures = append(figures, mark(judged[k].settles[i], "%.0f s", c.Settles[i].Took))
			}
			r.line(of[0].id+": "+s.Name+", followed after", fmt.Sprintf("%.0f s", s.Within), figures)
		}
	}
}

func (r *report) line(name, asked string, figures []string) {
	fmt.Fprintf(r.out, "| %s | %s | %s |\n", name, asked, strings.Join(figures, " | "))
}

// mark formats a figure: bold where its target is missed, in italics where a
// pacer that was told the limiter misses it too.
func mark(v verdict, format string, figure float64) string {
	around := [...]string{missed: "**", beyond: "*"}[v]
	return around + fmt.Sprintf(format, figure) + around
}

// compare writes what each of them made of the same scenarios, goodput and 429s
// per 1,000 successes.
func (r *report) compare(names ...string) {
	fmt.Fprintf(r.out, "\n| scenario | shape | %s |\n|---|---|%s\n", strings.Join(names, " | "), strings.Repeat("--:|", len(names)))
	for _, g := range r.groups {
		if len(g.tracks) != 1 {
			continue
		}
		var cells []cell
		for _, name := range names {
			of, _ := g.by(name)
			cells = append(cells, median(of))
		}
		for i, row := range cells[0].Rows {
			var figures []string
			for _, c := range cells {
				figures = append(figures, fmt.Sprintf("%.1f / %.0f", 100*c.Rows[i].Goodput, c.Rows[i].PerMille))
			}
			r.line(strings.TrimSpace(fmt.Sprintf("%s %s", g.id, row.Phase)), g.name, figures)
		}
	}
}
