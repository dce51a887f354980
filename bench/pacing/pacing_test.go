package main

import (
	"bytes"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
)

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

// A short run of the whole: figures of the expected kind, and no job lost.
func TestRun(t *testing.T) {
	t.Parallel()
	p, err := parse([]string{"-scenario", "1", "-shape", "bucket10", "-length", "3m"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cells := p.compare(t, p.scenarios[0], p.forms[0], 1)
	if err := p.print(&out, cells); err != nil {
		t.Fatal(err)
	}
	c := cells[0]
	if r := c.Rows[0]; r.Goodput < 0.95 || r.Goodput > 1.05 || r.Throttles > 10 {
		t.Errorf("goodput %.3f of the bound, %v throttles", r.Goodput, r.Throttles)
	}
	if c.Lost != 0 || c.Twice != 0 || c.Failed != 0 {
		t.Errorf("%d jobs lost, %d answered twice, %d failed", c.Lost, c.Twice, c.Failed)
	}
	if !strings.Contains(out.String(), "bucket10") {
		t.Errorf("the table is %q", out.String())
	}
}
