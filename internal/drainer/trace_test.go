package drainer

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicehq/sluice/pacing"
)

// TestTraceIsBounded: a trace ends before it is larger than it may be, with a
// word in the log, and goes on where an earlier one ended.
func TestTraceIsBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "trace")
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	const most = 2_000
	record := func(n int) (lines int) {
		trace, err := openTrace(path, most, log)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			trace.record(pacing.Event{At: time.Unix(int64(i), 0), What: pacing.Started, ID: uint64(i + 1)})
		}
		trace.close()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > most {
			t.Errorf("the trace has %d bytes, want at most %d", len(text), most)
		}
		for line := range strings.Lines(string(text)) {
			var e pacing.Event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Errorf("%q: %v", line, err)
			}
			lines++
		}
		return lines
	}
	if got := record(3); got != 3 || logged.Len() > 0 {
		t.Errorf("%d of 3 events are in the file: %s", got, &logged)
	}
	if got := record(3); got != 6 {
		t.Errorf("%d of 6 events are in the file after the second drainer", got)
	}
	if got := record(1_000); got < 10 || got > 30 || !strings.Contains(logged.String(), "pacing trace is full") {
		t.Errorf("%d events are in a full file: %s", got, &logged)
	}
	if strings.Contains(logged.String(), "gaps") {
		t.Errorf("a full trace has no gaps: %s", &logged)
	}
}

// TestTraceGoesOnAfterAKill: half a line, as a drainer that was killed leaves it,
// does not become the beginning of the next one's first.
func TestTraceGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "trace")
	if err := os.WriteFile(path, []byte("{\"what\":\"begin\"}\n{\"wh"), 0o600); err != nil {
		t.Fatal(err)
	}
	trace, err := openTrace(path, 1_000, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	trace.record(pacing.Event{What: pacing.Begun})
	trace.close()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"); len(lines) != 3 || lines[1] != "{\"wh" || !json.Valid([]byte(lines[2])) {
		t.Errorf("the trace is %q", text)
	}
}

// TestTraceKeepsNobodyWaiting: what the disk does not take is dropped, and
// counted.
func TestTraceKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	trace := &trace{events: make(chan pacing.Event, 2), stop: make(chan struct{}), log: slog.New(slog.NewTextHandler(&logged, nil))}
	for range 5 {
		trace.record(pacing.Event{})
	}
	trace.close()
	if !strings.Contains(logged.String(), "dropped=3") {
		t.Errorf("logged %q, want 3 dropped", &logged)
	}
}
