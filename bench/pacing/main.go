// Command pacing measures how near the drainer comes to what a limiter admits:
// the real worker, pacing and SDK clients against the embedded AWS, in virtual
// time, with 5 to 50 ms of network each way. For each scenario of issue 5 and
// each shape that the limiter may have it tells the goodput as a share of what
// an omniscient scheduler gets, 429s per 1,000 successes, how long changes take
// to be followed, and jobs lost or answered twice. It judges against the
// targets and says which are missed; a missed target is no error, a job lost or
// answered twice is one. What a seed
// decides is jobs, network and simulator; the order of goroutines is the
// runtime's, so that two runs of a seed differ in the last digit.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const usage = `pacing: goodput and 429s beside an omniscient scheduler and peers

Usage: go run ./bench/pacing [flags]

Exit code: 0 measured, whether the targets are met or not; 2 usage; 1 a job was
lost or answered twice, or it could not be measured.

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
	ledgers   bool
	real      bool
	pictures  string // folder; "" for none
	json      bool
	markdown  bool
	series    bool
	trace     string // file to replay; "" for none
	profile   string // file; "" for none
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
	flags.BoolVar(&p.told, "told", false, "measure the pacers that were told the limiter, one of them all jobs too, wherever that can be told, not only where a target is missed that they might miss too")
	who := flags.String("peers", "", "`names` of peers to measure too, in scenarios of one model, or all")
	flags.BoolVar(&p.json, "json", false, "print a JSON object for each run")
	flags.BoolVar(&p.markdown, "markdown", false, "print a table of docs/pacing.md: by shape or, with -peers or -realtime, beside those")
	flags.BoolVar(&p.series, "series", false, "with what was admitted and refused in each second, ours and the bound's; implies -json")
	flags.BoolVar(&p.ledgers, "ledgers", false, "let the ledgers play alone, without the drainer, where one limiter is all that there is: some thirty times as fast")
	flags.StringVar(&p.pictures, "plot", "", "`folder` for a picture of each scenario, goodput and 429s over time; it begins with "+pictured+" on "+picturedShape+" beside "+picturedPeers)
	flags.BoolVar(&p.real, "realtime", false, "run three scenarios by the real clock too, over loopback, beside virtual time; 7 minutes")
	flags.StringVar(&p.trace, "replay", "", "`file` that SLUICE_PACING_TRACE wrote: have its jobs started again, on each shape")
	flags.StringVar(&p.profile, "cpuprofile", "", "`file` for a profile of the bench itself")
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
	if p.pictures != "" {
		p.series = true
		given := map[string]bool{}
		flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
		for name, value := range map[string]string{"scenario": pictured, "shape": picturedShape, "peers": picturedPeers} {
			if !given[name] {
				err = errors.Join(err, flags.Set(name, value))
			}
		}
	}
	if err != nil {
		return p, err
	}
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
	if p.ledgers {
		err = p.rehearsed()
	}
	return p, err
}

func main() {
	if os.Getenv(roleVariable) != "" {
		if err := drainUntilEOF(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	p, err := parse(os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "pacing:", err)
		os.Exit(2)
	}
	if p.trace != "" {
		if err := p.replay(os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "pacing:", err)
			os.Exit(1)
		}
		return
	}
	// A bubble of virtual time needs a *testing.T, and testing.Main is the only
	// way to one outside of go test. Its own last word goes to stderr.
	out := os.Stdout
	os.Stdout, os.Args = os.Stderr, os.Args[:1]
	testing.Main(
		func(string, string) (bool, error) { return true, nil },
		[]testing.InternalTest{{Name: "pacing", F: func(t *testing.T) {
			measure := p.measure
			if p.real {
				measure = p.measureRealtime
			}
			if err := errors.Join(p.startProfile(), measure(t, out)); err != nil {
				t.Error(err)
			}
			pprof.StopCPUProfile()
		}}}, nil, nil)
}

// startProfile begins the profile that was asked for.
func (p plan) startProfile() error {
	if p.profile == "" {
		return nil
	}
	f, err := os.Create(p.profile)
	if err != nil {
		return err
	}
	return pprof.StartCPUProfile(f)
}

// measure runs everything on as many processors as there are, and reports each
// scenario on a shape as soon as it and those before it are measured.
func (p plan) measure(t *testing.T, out io.Writer) error {
	// Most of a run is garbage of the SDK's, and there is memory for it.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	var groups []*group
	for _, s := range p.scenarios {
		for _, f := range p.forms {
			groups = append(groups, &group{scenario: s, form: f, runs: make([][]cell, p.seeds), best: make([][]*tally, p.seeds), left: p.seeds})
		}
	}
	r := newReport(p, out)
	var (
		mu       sync.Mutex // guards groups and what follows
		taken    int
		reported int
		failed   []error
		workers  sync.WaitGroup
	)
	next := func() (g *group, seed int) {
		mu.Lock()
		defer mu.Unlock()
		if taken == len(groups)*p.seeds {
			return nil, 0
		}
		g, seed = groups[taken/p.seeds], taken%p.seeds
		taken++
		return g, seed
	}
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for g, seed := next(); g != nil; g, seed = next() {
				p.run(t, g, seed, p.pacers(g.scenario)...)
				mu.Lock()
				g.left--
				last := g.left == 0
				mu.Unlock()
				if !last {
					continue
				}
				if !p.told && !p.ledgers && g.doubtful() {
					for seed := range p.seeds {
						p.run(t, g, seed, told())
						p.run(t, g, seed, toldShape())
					}
				}
				mu.Lock()
				for g.done = true; reported < len(groups) && groups[reported].done; reported++ {
					failed = append(failed, r.add(groups[reported]))
					if p.pictures != "" {
						failed = append(failed, groups[reported].draw(p.pictures))
					}
					groups[reported].best = nil
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return errors.Join(errors.Join(failed...), r.end())
}

// group is a scenario on a shape, and what came of it.
type group struct {
	scenario
	form
	runs [][]cell   // by seed, then by pacer
	best [][]*tally // by seed: the bound of each track
	left int        // seeds to run
	done bool
}

// run plays a group with a seed by each pacer.
func (p plan) run(t *testing.T, g *group, seed int, with ...pacer) {
	if p.ledgers {
		g.runs[seed] = append(g.runs[seed], rehearse(&g.scenario, g.form, uint64(seed+1), &g.best[seed], p.series))
		return
	}
	for _, who := range with {
		t.Run(fmt.Sprintf("%s on %s by %s, seed %d", g.id, g.name, who.name, seed+1), func(t *testing.T) {
			g.runs[seed] = append(g.runs[seed], play(t, g.scenario, g.form, uint64(seed+1), who, &g.best[seed], p.series))
		})
	}
}

// by returns the runs of a pacer, one a seed, and whether there are any.
func (g *group) by(name string) (cells []cell, ok bool) {
	for _, run := range g.runs {
		for _, c := range run {
			if c.Pacer == name {
				cells = append(cells, c)
			}
		}
	}
	return cells, len(cells) > 0
}

// doubtful reports whether a target is missed that a pacer which was told the
// limiter might miss too.
func (g *group) doubtful() bool {
	cells, ok := g.by(sluiceName)
	return ok && g.tellable() && median(cells).judge().worst() == missed
}

// tellable reports whether the limiter is all that there is to be told: it has one
// drainer, and an endless backlog.
func (s *scenario) tellable() bool {
	return s.limiterAlone() && s.drainers <= 1 && s.tracks[0].count == 0
}

// limiterAlone reports whether the scenario has one limiter, which answers at all
// times, and nothing happens to the drainers.
func (s *scenario) limiterAlone() bool {
	tr := s.tracks[0]
	if len(s.tracks) > 1 || len(s.actions) > 0 {
		return false
	}
	m := tr.truth
	for _, c := range tr.changes {
		if c.apply(&m); len(m.Faults) > 0 || m.TPD > 0 {
			return false
		}
	}
	return true
}

// pacers are who plays a scenario.
func (p plan) pacers(s scenario) (all []pacer) {
	all = append(all, sluice())
	if len(s.tracks) == 1 {
		if p.told && s.tellable() {
			all = append(all, told(), toldShape())
		}
		all = append(all, p.peers...)
	}
	return all
}
