// Command pacing measures how near the drainer comes to what a limiter admits:
// the real worker, pacing and SDK clients against the embedded AWS, in virtual
// time, with 5 to 50 ms of network each way. For each scenario of issue 5 and
// each shape that the limiter may have it tells the goodput as a share of what
// an omniscient scheduler gets, 429s per 1,000 successes, how long changes take
// to be followed, and jobs lost or answered twice. It judges against the
// targets and says which are missed; a missed target is no error. What a seed
// decides is jobs, network and simulator; the order of goroutines is the
// runtime's, so that two runs of a seed differ in the last digit.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const usage = `pacing: goodput and 429s beside an omniscient scheduler and peers

Usage: go run ./bench/pacing [flags]

Exit code: 0 measured, whether the targets are met or not; 2 usage; 1 it could
not be measured.

Flags:
`

// plan is what is measured.
type plan struct {
	scenarios []scenario
	forms     []form
	seeds     int
	length    time.Duration
	told      bool
	peers     []pacer
	json      bool
	series    bool
}

// brief is what is measured where nothing is said: a minute or two of CPU.
const (
	briefScenarios = "1,2a,3a,4-10,5b,7e,8a"
	briefShapes    = "rolling,bucket10,bucket1"
)

func parse(args []string, stdout io.Writer) (p plan, err error) {
	flags := flag.NewFlagSet("pacing", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // main prints the error, once and without the usage
	which := flags.String("scenario", briefScenarios, "`ids` of scenarios, their beginnings, or all")
	shapes := flags.String("shape", briefShapes, "`names` of limiter shapes, or all")
	flags.IntVar(&p.seeds, "seeds", 1, "`number` of seeds; figures are medians")
	flags.DurationVar(&p.length, "length", 0, "virtual `time` of a run, in place of the scenario's own; for scenarios of one phase")
	flags.BoolVar(&p.told, "told", false, "measure a pacer that was told the shape on every shape, not only where targets are relative to it")
	who := flags.String("peers", "", "`names` of peers to measure too, in scenarios of one model, or all")
	flags.BoolVar(&p.json, "json", false, "print a JSON object for each run")
	flags.BoolVar(&p.series, "series", false, "with what was admitted and refused in each second, ours and the bound's; implies -json")
	err = flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return p, err
	case err != nil:
		return p, err
	case flags.NArg() > 0:
		return p, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case p.seeds < 1:
		return p, errors.New("-seeds must be at least 1")
	case p.length != 0 && (p.length < warm+time.Minute || p.length%time.Minute != 0):
		return p, errors.New("-length must be whole minutes, three at least")
	}
	p.json = p.json || p.series
	for name := range strings.SplitSeq(*shapes, ",") {
		found := false
		for _, f := range forms {
			if name == "all" || name == f.name {
				p.forms, found = append(p.forms, f), true
			}
		}
		if !found {
			return p, fmt.Errorf("no shape %q", name)
		}
	}
	all := scenarios()
	for id := range strings.SplitSeq(*which, ",") {
		n := len(p.scenarios)
		for _, s := range all {
			if id == "all" || s.id == id || strings.TrimRight(s.id, "abcdefgh") == id || strings.HasPrefix(s.id, id+"-") {
				p.scenarios = append(p.scenarios, s)
			}
		}
		if len(p.scenarios) == n {
			return p, fmt.Errorf("no scenario %q", id)
		}
	}
	for name := range strings.SplitSeq(*who, ",") {
		n := len(p.peers)
		for _, peer := range peers() {
			if name == "all" || name == peer.name {
				p.peers = append(p.peers, peer)
			}
		}
		if len(p.peers) == n && name != "" {
			return p, fmt.Errorf("no peer %q", name)
		}
	}
	if p.length > 0 {
		for i := range p.scenarios {
			if s := &p.scenarios[i]; len(s.phases) == 1 && s.phases[0].to == s.length {
				s.length, s.phases = p.length, slices.Clone(s.phases)
				s.phases[0].to = p.length
			}
		}
	}
	return p, nil
}

func main() {
	p, err := parse(os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "pacing:", err)
		os.Exit(2)
	}
	// A bubble of virtual time needs a *testing.T, and testing.Main is the only
	// way to one outside of go test. Its own last word goes to stderr.
	out := os.Stdout
	os.Stdout, os.Args = os.Stderr, os.Args[:1]
	testing.Main(
		func(string, string) (bool, error) { return true, nil },
		[]testing.InternalTest{{Name: "pacing", F: func(t *testing.T) {
			if err := p.measure(t, out); err != nil {
				t.Error(err)
			}
		}}}, nil, nil)
}

// measure runs everything, the shapes of a scenario side by side.
func (p plan) measure(t *testing.T, out io.Writer) error {
	// Most of a run is garbage of the SDK's, and there is memory for it.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	if !p.json {
		fmt.Fprint(out, tableHead)
	}
	var mu sync.Mutex // guards out and failed
	var failed []error
	for _, s := range p.scenarios {
		t.Run(s.id, func(t *testing.T) {
			for _, f := range p.forms {
				t.Run(f.name, func(t *testing.T) {
					t.Parallel()
					var cells []cell
					for seed := range p.seeds {
						cells = append(cells, p.compare(t, s, f, uint64(seed+1))...)
					}
					mu.Lock()
					defer mu.Unlock()
					failed = append(failed, p.print(out, cells))
				})
			}
		})
	}
	return errors.Join(failed...)
}

// compare runs a scenario on a shape with each pacer.
func (p plan) compare(t *testing.T, s scenario, f form, seed uint64) (cells []cell) {
	var best []*tally
	for _, with := range p.pacers(s, f) {
		cells = append(cells, run(t, s, f, seed, with, &best, p.series))
	}
	return cells
}

// print writes the cells of a scenario on a shape.
func (p plan) print(out io.Writer, cells []cell) error {
	var failed []error
	var told float64
	for len(cells) > 0 {
		var same, others []cell // of one pacer
		for _, c := range cells {
			if c.Pacer == cells[0].Pacer {
				same = append(same, c)
			} else {
				others = append(others, c)
			}
			if c.Error != "" && c.Pacer == cells[0].Pacer {
				failed = append(failed, fmt.Errorf("%s on %s, seed %d: %s", c.Scenario, c.Shape, c.Seed, c.Error))
			}
		}
		m := median(same)
		if m.Pacer == toldName && len(m.Rows) > 0 {
			told = m.Rows[0].Goodput
		}
		if p.json {
			for _, c := range same {
				failed = append(failed, writeJSON(out, c))
			}
		} else {
			writeRows(out, m, told)
		}
		cells = others
	}
	return errors.Join(failed...)
}

// pacers are who plays a scenario on a shape.
func (p plan) pacers(s scenario, f form) (all []pacer) {
	if single := len(s.tracks) == 1; single && (p.told || s.told && fewer(s.tracks[0].tpm, f)) {
		all = append(all, told())
	}
	all = append(all, sluice())
	if len(s.tracks) == 1 {
		all = append(all, p.peers...)
	}
	return all
}
