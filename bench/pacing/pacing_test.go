package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
	"github.com/sluicehq/sluice/pacing"
)

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		if err := drainUntilEOF(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// The omniscient scheduler stays below the analytic ceiling, and reaches it
// where nothing but the quota is in its way.
func TestBoundAndCeiling(t *testing.T) {
	t.Parallel()
	s, _ := byID("1")
	epoch := epochOf(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), 1)
	for _, f := range forms {
		for i, tr := range s.tracks {
			best := s.bound(tr, f.shape, 1, epoch)
			got := sum(tr.series(best), warm, s.length)
			quota := tr.rate(tr.truth) * (s.length - warm).Minutes()
			if most := s.ceiling(tr, f.hold, warm, s.length); got > most || got < quota-1 {
				t.Errorf("%s, track %d: the bound is %v, the quota %v, the ceiling %v", f.name, i, got, quota, most)
			}
		}
	}
}

// A neighbour's part is missing in the bound and in the ceiling.
func TestBoundLeavesTheNeighbourItsPart(t *testing.T) {
	t.Parallel()
	s, _ := byID("8a")
	s.length = 5 * time.Minute
	tr := s.tracks[0]
	tr.changes = []change{{0, neighbour(0.4)}}
	best := s.bound(tr, bedrocksim.Bucket(10*time.Second), 1, time.Unix(0, 0))
	if got, want := sum(tr.series(best), warm, s.length), 0.6*300*3; math.Abs(got-want) > 2 {
		t.Errorf("the bound beside a neighbour is %v, want %v", got, want)
	}
	if got, want := s.ceiling(tr, 0, warm, s.length), 0.6*300*3; math.Abs(got-want) > 1e-6 {
		t.Errorf("the ceiling beside a neighbour is %v, want %v", got, want)
	}
}

// The simulator reads from a body what the bound knows of the job.
func TestRequestsSayWhatTheyCost(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]work{"short": short, "over": over, "mixed": mixed, "unalike": unalike} {
		src := newSource(w, 1, 0)
		for range 100 {
			job := src.job()
			job.stream = 3
			body := []byte(job.request())
			if stream, index := markOf(body); stream != 3 || index != job.index {
				t.Fatalf("%s: job %d of stream 3 was read back as %d of %d", name, job.index, index, stream)
			}
			if job.output > job.maxTokens || job.input < 1 {
				t.Fatalf("%s: %+v can't be", name, job)
			}
		}
	}
}

// By the clock every phase has whole minutes of the limiter's, lies within the
// scenario's own but for the end, and none is lost.
func TestByTheClock(t *testing.T) {
	t.Parallel()
	const offset = 23*time.Second + time.Millisecond
	for _, s := range scenarios() {
		for i, p := range s.byTheClock(offset).phases {
			was := s.phases[i]
			if (p.from+offset)%time.Minute != 0 || (p.to+offset)%time.Minute != 0 || p.from < was.from || p.to <= p.from {
				t.Errorf("%s %s: %v to %v became %v to %v", s.id, p.name, was.from, was.to, p.from, p.to)
			}
			if p.to > was.to && was.to != s.length {
				t.Errorf("%s %s: ends at %v, beyond %v", s.id, p.name, p.to, was.to)
			}
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	p, err := parse([]string{"-scenario", "1,4,7e", "-shape", "rolling", "-length", "3m"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, s := range p.scenarios {
		ids = append(ids, s.id)
	}
	if got, want := strings.Join(ids, " "), "1 4-5 4-10 4-15 7e"; got != want {
		t.Errorf("scenarios %s, want %s", got, want)
	}
	if p.scenarios[0].length != 3*time.Minute || p.scenarios[4].length != 15*time.Minute {
		t.Errorf("lengths %v and %v, want 3m and 15m", p.scenarios[0].length, p.scenarios[4].length)
	}
	for _, args := range [][]string{{"-scenario", "99"}, {"-shape", "round"}, {"-seeds", "0"}, {"-length", "150s"}, {"x"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%v passed", args)
		}
	}
}

// The ledgers alone get what the drainer gets, and are refused about as often.
func TestLedgersAlone(t *testing.T) {
	t.Parallel()
	p, err := parse([]string{"-ledgers", "-scenario", "1,7c", "-shape", "bucket10", "-length", "5m"}, io.Discard)
	if err != nil || len(p.scenarios) != 2 {
		t.Fatalf("%d scenarios, error %v", len(p.scenarios), err)
	}
	for _, s := range p.scenarios {
		var best []*tally
		alone, drained := rehearse(&s, p.forms[0], 1, &best, false), play(t, s, p.forms[0], 1, sluice(), &best, false)
		for i, row := range alone.Rows {
			want := drained.Rows[i]
			if math.Abs(row.Goodput-want.Goodput) > 0.02 || math.Abs(row.PerMille-want.PerMille) > 10 || row.Successes == 0 {
				t.Errorf("%s: the ledgers got %.3f at %.1f 429s, the drainer %.3f at %.1f", s.id, row.Goodput, row.PerMille, want.Goodput, want.PerMille)
			}
		}
		t.Logf("%s: %.0f times as fast", s.id, drained.CPU/alone.CPU)
	}
	if s, _ := byID("5c"); !s.tellable() { // its jobs that fail are no matter of the told pacer's
		t.Error("5c can't be told")
	}
	for _, args := range [][]string{{"-scenario", "9a,9c,10,11,12,14b,5c"}, {"-scenario", "1", "-told"}, {"-scenario", "1", "-peers", "rate"}} {
		if p, err := parse(append(args, "-ledgers"), io.Discard); err == nil {
			t.Errorf("%v passed, with %d scenarios", args, len(p.scenarios))
		}
	}
}

// A short run of the whole: figures of the expected kind, judged, and no job lost.
func TestRun(t *testing.T) {
	t.Parallel()
	p, err := parse([]string{"-scenario", "2a,3c", "-shape", "bucket1", "-length", "3m"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := p.measure(t, &out); err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(out.String(), "\n")
	var fast []string
	for _, row := range rows {
		if f := strings.Fields(row); len(f) > 4 && f[0] == "2a" && f[2] == sluiceName {
			fast = f
		}
	}
	if len(fast) == 0 || fast[1] != "bucket1" || fast[2] != sluiceName || !strings.Contains(out.String(), "lost: 0, answered twice: 0.") {
		t.Fatalf("the report is\n%s", &out)
	}
	if goodput, err := strconv.ParseFloat(fast[3], 64); err != nil || goodput < 95 || goodput > 105 {
		t.Errorf("goodput %s %% of the bound (%v)", fast[3], err)
	}
	// A bucket that holds less than a reservation can't be filled behind a network:
	// so says the pacer that was told of it.
	if !strings.Contains(out.String(), "% of told") {
		t.Errorf("nobody was told:\n%s", &out)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	ask := target{goodput: 0.98, throttles: 2}
	ofTold := target{goodput: 0.93, ofTold: true, throttles: 10}
	figures := func(goodput, successes, throttles float64, want target) *cell {
		return &cell{Rows: []row{{Goodput: goodput, Successes: successes, Throttles: throttles, want: want}}}
	}
	for name, tc := range map[string]struct {
		got, told          *cell
		goodput, throttles verdict
	}{
		"met":                              {figures(0.98, 1000, 2, ask), nil, met, met},
		"printed as met":                   {figures(0.9796, 1000, 2, ask), nil, met, met},
		"missed":                           {figures(0.97, 1000, 3, ask), nil, missed, missed},
		"one throttle of a few jobs":       {figures(0.98, 100, 1, ask), nil, met, met},
		"nobody can":                       {figures(0.89, 1000, 3, ask), figures(0.9, 1000, 3, ask), beyond, beyond},
		"goodput that nobody can":          {figures(0.89, 1000, 2, ask), figures(0.9, 1000, 1, ask), beyond, met},
		"429s that nobody can spare":       {figures(0.98, 1000, 3, ask), figures(0.99, 1000, 4, ask), met, beyond},
		"another pays with 429s":           {figures(0.89, 1000, 2, ask), figures(0.9, 1000, 20, ask), missed, met},
		"another has fewer":                {figures(0.98, 1000, 5, ask), figures(0.99, 1000, 4, ask), met, missed},
		"another pays with goodput":        {figures(0.98, 1000, 5, ask), figures(0.9, 1000, 6, ask), met, missed},
		"just missed, and another can":     {figures(0.975, 1000, 0, ask), figures(0.99, 1000, 0, ask), missed, met},
		"another can":                      {figures(0.89, 1000, 3, ask), figures(0.96, 1000, 0, ask), missed, missed},
		"asked for a part of that":         {figures(0.57, 1000, 0, ofTold), figures(0.61, 1000, 0, ofTold), met, met},
		"asked for a part of that, missed": {figures(0.50, 1000, 0, ofTold), figures(0.61, 1000, 0, ofTold), missed, met},
		"asked for nothing":                {figures(0.1, 10, 90, target{}), nil, unasked, unasked},
	} {
		var told []cell
		if tc.told != nil {
			told = append(told, *tc.told)
		}
		j := tc.got.judge(told...)
		if j.goodput[0] != tc.goodput || j.throttles[0] != tc.throttles {
			t.Errorf("%s: goodput %q, 429s %q, want %q and %q", name, j.goodput[0], j.throttles[0], tc.goodput, tc.throttles)
		}
	}
	// Of two that were told, either excuses.
	if j := figures(0.89, 1000, 3, ask).judge(*figures(0.96, 1000, 0, ask), *figures(0.9, 1000, 3, ask)); j.worst() != beyond {
		t.Errorf("judged %q by two", j.worst())
	}
	late := cell{Settles: []took{{"cut", 11, 10}, {"raise", -1, 10}, {"back", 9, 10}}, Lost: 1}
	if got, want := late.judge().text(late), "MISSED: settle cut, settle raise, lost or twice"; got != want {
		t.Errorf("judged %q, want %q", got, want)
	}
}

// The pacers that were told of the limiter take what a change, or a neighbour,
// leaves at that moment, and are hardly refused; what is configured is nothing to it.
func TestToldFollows(t *testing.T) {
	t.Parallel()
	s, _ := byID("7a")
	s.length = 9 * time.Minute
	s.tracks[0].changes = []change{
		{3 * time.Minute, rpm(150)}, {5 * time.Minute, rpm(300)}, {7 * time.Minute, neighbour(0.5)},
	}
	s.phases = nil
	for _, to := range []time.Duration{3, 5, 7, 9} {
		s.phases = append(s.phases, phase{from: (to - 2) * time.Minute, to: to * time.Minute, left: true})
	}
	for _, name := range []string{"rolling", "bucket1", "calendar"} {
		for _, p := range []pacer{told(), toldShape()} {
			f := formOf(t, name)
			var best []*tally
			c := play(t, s, f, 1, p, &best, false)
			for i, r := range c.Rows {
				// On whole minutes it takes from a neighbour what that could not use in time.
				if r.Goodput < 0.98 || r.Goodput > 1.01 && !f.minutes || r.Throttles > 2 {
					t.Errorf("%s: %s, before %v: %.3f of the quota that is left, %v refusals", p.name, f.name, s.phases[i].to, r.Goodput, r.Throttles)
				}
			}
			if c.Error != "" {
				t.Error(c.Error)
			}
		}
	}
}

// The pacer that was told the shape knows of a job what Sluice knows: two that look
// alike cost it the same, until the first has ended.
func TestShapeKnowsNoSizes(t *testing.T) {
	t.Parallel()
	estimating := func() *estimates {
		return &estimates{Estimator: pacing.NewEstimator(1, 0), open: map[int]pacing.Charge{}}
	}
	small := truth{index: 1, bytes: 4_000, input: 1_000, output: 10, maxTokens: 500}
	large := truth{index: 2, bytes: 4_000, input: 2_000, output: 400, maxTokens: 500}
	tr := track{tpm: 100_000}
	sizes := newReplica(tr, []account{&window{}}, replica{})
	shape := newReplica(tr, []account{&window{}}, replica{estimates: estimating()})
	if sizes.costs(small) == sizes.costs(large) || shape.costs(small) != shape.costs(large) {
		t.Errorf("told: %v and %v; the shape alone: %v and %v", sizes.costs(small), sizes.costs(large), shape.costs(small), shape.costs(large))
	}
	before := shape.costs(large)
	now := time.Now()
	shape.start(now, small)
	if shape.costs(large) != before || shape.estimates.margin(large) <= estimating().margin(large) {
		t.Errorf("a start made costs %v of %v, and the margin %v", shape.costs(large), before, shape.estimates.margin(large))
	}
	if shape.end(now, now, small, false); shape.costs(large)[1] >= before[1] {
		t.Errorf("after a smaller one has ended: %v, before %v", shape.costs(large), before)
	}
}

// Whether a told pacer knows all that there is to know.
func TestTellable(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{
		"1": true, "7c": true, "7g": true, "8c": true, "8d": true,
		"9a": false, "10a": false, "11a": false, "12": false, "14a": false, "14b": false, "15a": false,
	} {
		if s, ok := byID(id); !ok || s.tellable() != want {
			t.Errorf("%s is tellable: %v, want %v", id, s.tellable(), want)
		}
	}
}

// A trace that the drainer wrote, replayed on the limiter that it met, comes to
// the same end; on a stricter one, to a later one.
func TestReplay(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "trace")
	s, _ := byID("3c")
	s.length, s.phases = 4*time.Minute, nil
	s.env = []string{"SLUICE_PACING_TRACE=" + path}
	var best []*tally
	c := play(t, s, formOf(t, "bucket10"), 1, sluice(), &best, true)
	if c.Error != "" {
		t.Fatal(c.Error)
	}
	records, err := readTrace(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 1 || records[0].ledger != region+"/"+lite || records[0].limits.TPM != 100_000 {
		t.Fatalf("records: %+v", records)
	}
	r := records[0]
	if admitted := sum(c.Series[0].Requests, 0, s.length); math.Abs(float64(len(r.jobs))-admitted) > 0.02*admitted {
		t.Errorf("%d jobs are in the trace, the limiter admitted %v", len(r.jobs), admitted)
	}
	took := r.to.Sub(r.from)
	same := r.replay(bedrocksim.Bucket(10*time.Second), 1)
	if math.Abs(same.took.Seconds()-took.Seconds()) > 0.05*took.Seconds() || same.refused > r.refused+3 {
		t.Errorf("replayed in %v with %d 429s, recorded in %v with %d", same.took, same.refused, took, r.refused)
	}
	if strict := r.replay(bedrocksim.Rolling, 1); strict.took < same.took*5/4 {
		t.Errorf("a rolling minute, which reservations fill, took %v, a bucket of 10 s %v", strict.took, same.took)
	}
	var out bytes.Buffer
	if err := (plan{trace: path, forms: forms[:1]}).replay(&out); err != nil || strings.Count(out.String(), "\n") != 3 {
		t.Errorf("%v\n%s", err, &out)
	}
}

func formOf(t *testing.T, name string) form {
	t.Helper()
	for _, f := range forms {
		if f.name == name {
			return f
		}
	}
	t.Fatalf("no shape %q", name)
	return form{}
}

// A drainer in a process of its own, by the real clock, has its jobs answered.
func TestRealtime(t *testing.T) {
	t.Parallel()
	s := realtime()[0]
	s.length, s.phases = 3*time.Second, nil
	var best []*tally
	c := cell{Scenario: s.id, Seed: 1}
	c.live(&s, formOf(t, "bucket10"), elsewhere(), &best, true, true)
	if admitted := sum(c.Series[0].Requests, 0, s.length); c.Error != "" || admitted < 5 || c.Lost > 0 || c.Twice > 0 {
		t.Errorf("%v jobs were admitted in 3 s at 5 a second; %d lost, %d answered twice; %s", admitted, c.Lost, c.Twice, c.Error)
	}
}

// A missed target is a figure; a lost job, or one answered twice, is an error.
func TestLostIsAnError(t *testing.T) {
	t.Parallel()
	s, _ := byID("1")
	for name, tc := range map[string]struct {
		cell cell
		want string
	}{
		"missed":   {cell{}, ""},
		"lost":     {cell{Lost: 2}, "2 jobs lost, 0 answered twice"},
		"twice":    {cell{Twice: 1}, "0 jobs lost, 1 answered twice"},
		"half way": {cell{Error: "no route is usable"}, "no route is usable"},
	} {
		tc.cell.Pacer = sluiceName
		tc.cell.Rows = []row{{Goodput: 0.1, want: target{goodput: 0.9}}}
		var out bytes.Buffer
		err := newReport(plan{}, &out).add(&group{scenario: s, form: forms[0], runs: [][]cell{{tc.cell}}})
		if got := fmt.Sprint(err); (err != nil) != (tc.want != "") || !strings.Contains(got, tc.want) && err != nil {
			t.Errorf("%s: error %q, want %q", name, got, tc.want)
		}
		if !strings.Contains(out.String(), "MISSED") {
			t.Errorf("%s: %s", name, &out)
		}
	}
}

// The tables of the documentation have a column for everybody, and mark what is
// missed.
func TestMarkdown(t *testing.T) {
	t.Parallel()
	s, _ := byID("7e")
	want := s.phases[1].want(forms[0])
	of := func(f form, goodput float64) *group {
		at := func(pacer string, goodput float64) cell {
			return cell{Scenario: s.id, Shape: f.name, Pacer: pacer, Settles: []took{{"cut", 7, 10}},
				Rows: []row{{Phase: "after", Goodput: goodput, PerMille: 7.5, Successes: 1000, Throttles: 7.5, want: want}}}
		}
		return &group{scenario: s, form: f, runs: [][]cell{{at(sluiceName, goodput), at("rate", 0.5)}}}
	}
	var out bytes.Buffer
	r := &report{plan: plan{forms: forms[:2]}, out: &out, groups: []*group{of(forms[0], 0.97), of(forms[1], 0.9)}}
	r.byShape()
	r.compare(sluiceName, "rate")
	for _, line := range []string{
		"| scenario | asked | rolling | bucket60 |",
		"| **7e** 300 RPM cut to 150 at 5 min: after | 94 / 100 | 97.0 / 7.5 | **90.0** / 7.5 |",
		"| 7e: cut, followed after | 10 s | 7 s | 7 s |",
		"| 7e after | bucket60 | 90.0 / 8 | 50.0 / 8 |",
	} {
		if !strings.Contains(out.String(), line+"\n") {
			t.Errorf("%q is not in\n%s", line, &out)
		}
	}
}

// A picture is an image that is small, and says who is who.
func TestPicture(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	p, err := parse([]string{"-plot", folder, "-scenario", "3c", "-length", "3m", "-peers", "rate"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.forms) != 1 || p.forms[0].name != picturedShape {
		t.Errorf("pictured on %v", p.forms)
	}
	if err := p.measure(t, io.Discard); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(filepath.Join(folder, "3c.svg"))
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(svg, new(struct{})); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"sluice", "rate", "omniscient", "429s a minute"} {
		if !strings.Contains(string(svg), ">"+name+"<") {
			t.Errorf("%q is not in the picture", name)
		}
	}
	if len(svg) > 60_000 || strings.Contains(string(svg), "fill:#-") {
		t.Errorf("%d bytes:\n%.2000s", len(svg), svg)
	}
}

// A drainer that was killed leaves half a line: the last, or one before the next
// drainer's beginning. Anywhere else it is a fault.
func TestReplayReadsPastAKill(t *testing.T) {
	t.Parallel()
	const begin, half, end = `{"what":"begin","ledger":"us-east-1/m","rpm":60}`, `{"what":"ans`, `{"what":"answered","ledger":"us-east-1/m","id":1}`
	for _, test := range []struct {
		lines []string
		fails bool
	}{
		{[]string{begin, half}, false},
		{[]string{begin, half, begin, end}, false},
		{[]string{begin, half, end}, true},
		{[]string{begin, half, half, begin}, true},
	} {
		path := filepath.Join(t.TempDir(), "trace")
		if err := os.WriteFile(path, []byte(strings.Join(test.lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readTrace(path); (err != nil) != test.fails || err != nil && !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: error %v, want one of line 2: %v", test.lines, err, test.fails)
		}
	}
}

// The tail of a trace does not say what the quota was.
func TestReplayWantsTheBeginning(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]string{
		"a start without its begin": `{"what":"start","ledger":"us-east-1/m","id":1}`,
		"no event":                  `{"what":`,
	} {
		path := filepath.Join(t.TempDir(), "trace")
		if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readTrace(path); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%s: error %v, want one that names line 1", name, err)
		}
	}
}
