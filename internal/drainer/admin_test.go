package drainer

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/queue"
)

// TestStatusIsAPromise holds every name in /status.json: whoever reads it would
// find out too late.
func TestStatusIsAPromise(t *testing.T) {
	t.Parallel()
	s := snapshot()
	s.NotReadyReason = "results: away\nno route is usable"
	shut := &s.Models[2].Routes[1]
	shut.Gate, shut.GateCode, shut.GateRequest, shut.GateSince = "stopped", "AccessDeniedException", "r-1", s.Started
	s.Models[2].Large, s.Models[2].NextTry = 2, s.At.Add(10*time.Minute)
	body, err := json.Marshal(statusOf("sluice", "1.2.3 go1.26", s, []queue.Attributes{{Visible: 3, Delayed: 2, InFlight: 1}}))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path string
		want any
	}{
		{"name", "sluice"},
		{"version", "1.2.3 go1.26"},
		{"at", "2026-11-23T06:01:00Z"},
		{"started", "2026-11-23T06:00:00Z"},
		{"ready", false},
		{"not_ready", []any{"results: away", "no route is usable"}},
		{"suspended", false},
		{"jobs.in_flight", 7.0},
		{"jobs.held", 31.0},
		{"jobs.released", 12.0},
		{"jobs.oldest_seconds", 0.0},
		{"jobs.bytes_held", 0.0},
		{"jobs.buried.malformed", 3.0},
		{"jobs.releases", 0.0},
		{"jobs.renewals", 0.0},
		{"jobs.leases_lost", 0.0},
		{"jobs.result_errors", 0.0},
		{"jobs.copies_waiting", 0.0},
		{"jobs.copies_lost", 0.0},
		{"jobs.paid_twice", 1.0},
		{"jobs.cancelled", 0.0},
		{"jobs.unbounded", 0.0},
		{"jobs.slot_bound_seconds", 2.0},
		{"queues.0.name", "urgent"},
		{"queues.0.received", 100.0},
		{"queues.0.depth", map[string]any{"visible": 3.0, "delayed": 2.0, "in_flight": 1.0}},
		{"queues.0.mix.sonnet", 1.0},
		{"queues.1.depth", nil},
		{"queues.1.mix", map[string]any{}},
		{"models.2.model", "sonnet"},
		{"models.2.waiting", 30.0},
		{"models.2.held", 31.0},
		{"models.2.in_flight", 7.0},
		{"models.2.large", 2.0},
		{"models.2.large_next", "2026-11-23T06:11:00Z"},
		{"models.1.large_next", nil},
		{"models.2.invocations", 198.0},
		{"models.2.throttles", 2.0},
		{"models.2.capacity_errors", 4.0},
		{"models.2.quota_tokens", 190000.0},
		{"models.2.succeeded", 210.0},
		{"models.2.failed.rejected", 3.0},
		{"models.2.expired", 1.0},
		{"models.2.fallbacks", 12.0},
		{"models.2.quota_bound_seconds", 55.0},
		{"models.0.queue_wait", map[string]any{"p50": 0.0, "p90": 0.0, "p99": 0.0}},
		{"models.0.latency.p50", 0.0},
		{"models.2.routes.0.region", "us-east-1"},
		{"models.2.routes.0.model_id", "sonnet"},
		{"models.2.routes.0.quota", "sonnet"},
		{"models.2.routes.0.rpm", 300.0},
		{"models.2.routes.0.tpm", 200000.0},
		{"models.0.routes.0.tpm", nil},
		{"models.2.routes.0.gate", "open"},
		{"models.2.routes.0.gate_code", nil},
		{"models.2.routes.0.gate_request_id", nil},
		{"models.2.routes.0.gate_since", nil},
		{"models.2.routes.1.gate_code", "AccessDeniedException"},
		{"models.2.routes.1.gate_request_id", "r-1"},
		{"models.2.routes.1.gate_since", "2026-11-23T06:00:00Z"},
		{"models.2.routes.0.in_flight", 0.0},
		{"models.2.routes.0.invocations", 150.0},
		{"models.2.routes.0.capacity_errors", 0.0},
		{"models.2.routes.0.latency.p99", 0.0},
		{"models.2.routes.0.reserved_tokens", 0.0},
		{"models.2.routes.0.settled_tokens", 150000.0},
		{"models.2.routes.0.throttles", map[string]any{}},
		{"models.2.routes.0.share", 0.9},
		{"models.2.routes.0.shape", "bucket of 10s in a rolling minute"},
		{"models.2.routes.0.bucket_seconds", 10.0},
		{"models.2.routes.0.minute", true},
		{"models.2.routes.0.level", map[string]any{"requests": 12.5, "tokens": -300.0}},
		{"models.2.routes.0.bound", true},
		{"models.2.routes.0.margin_seconds", 0.05},
		{"models.2.routes.0.last_minute", map[string]any{"requests": 149.0, "tokens": 151000.0}},
	} {
		if diff := cmp.Diff(tt.want, at(got, tt.path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.path, diff)
		}
	}
}

// at follows a path of names and indices through decoded JSON; nil where it ends.
func at(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		switch w := v.(type) {
		case map[string]any:
			v = w[name]
		case []any:
			v = w[name[0]-'0']
		}
	}
	return v
}
