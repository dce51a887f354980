package drainer_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicehq/sluice/pacing"
)

// TestTrace: a trace tells of every start and what became of it, when its job
// was asked for, and nothing of what it says.
func TestTrace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.cfg.PacingTrace = path
		sent := time.Now()
		for i := range 20 {
			mark := ""
			if i == 7 {
				mark = "[[sim:status=400]]"
			}
			w.enqueue(0, converse(fmt.Sprintf("secret-%d", i), "sonnet", 100, 64, mark))
		}
		queued := time.Now()
		p := w.drain()
		w.empty(p, 5*time.Minute)
		if err := p.end(); err != nil {
			t.Fatal(err)
		}

		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "secret") {
			t.Errorf("a job shows:\n%s", text)
		}
		var began pacing.Event
		starts, ends := map[uint64]pacing.Event{}, map[string]int{}
		for line := range strings.Lines(string(text)) {
			var e pacing.Event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			switch e.What {
			case pacing.Begun:
				began = e
			case pacing.Started:
				starts[e.ID] = e
				if e.Submitted.Before(sent) || e.Submitted.After(queued) || e.Reserve < 64 {
					t.Errorf("a start without its job: %s", line)
				}
			default:
				if _, ok := starts[e.ID]; !ok {
					t.Errorf("an end without a start: %s", line)
				}
				delete(starts, e.ID)
				ends[e.What]++
			}
			if e.Ledger != began.Ledger || e.Share != 1 || e.Bucket == 0 {
				t.Errorf("not of a ledger that has begun: %s", line)
			}
		}
		if began.RPM != 300 || len(starts) > 0 || ends["answered"] != 19 || ends["rejected"] != 1 {
			t.Errorf("of %+v: %d never ended, ends %v; want 19 answered, 1 rejected", began, len(starts), ends)
		}
	})
}
