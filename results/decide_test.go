package results

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/job"
)

// TestDecide walks every combination of what stands, by whom, since when, and
// what the claim has.
func TestDecide(t *testing.T) {
	t.Parallel()
	const (
		open      = job.Open
		answered  = job.Answered
		contested = job.Contested
	)
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	claims := []struct {
		name      string
		digest    string
		submitted time.Time
		status    job.Status
	}{
		{"same, look", "d", noon, ""},
		{"same, earlier, look", "d", noon.Add(-1), ""},
		{"same, later, look", "d", noon.Add(1), ""},
		{"other, look", "e", noon, ""},
		{"other, later, look", "e", noon.Add(1), ""},
		{"same, success", "d", noon, job.Succeeded},
		{"same, later, success", "d", noon.Add(1), job.Succeeded},
		{"other, success", "e", noon, job.Succeeded},
		{"same, failure", "d", noon, job.Failed},
		{"same, earlier, failure", "d", noon.Add(-1), job.Failed},
		{"same, later, failure", "d", noon.Add(1), job.Failed},
		{"other, failure", "e", noon, job.Failed},
		{"same, expiry", "d", noon, job.Expired},
		{"same, later, expiry", "d", noon.Add(1), job.Expired},
		{"other, expiry", "e", noon, job.Expired},
	}
	// A failure gives way to a success, to another request and to the same one
	// asked for again.
	failure := []job.Verdict{answered, answered, open, open, open, open, open, open, answered, answered, open, open, answered, open, open}
	for _, tc := range []struct {
		name  string
		there standing
		want  []job.Verdict
	}{
		{"nothing", standing{}, []job.Verdict{open, open, open, open, open, open, open, open, open, open, open, open, open, open, open}},
		{"foreign", standing{etag: "x"}, []job.Verdict{
			contested, contested, contested, contested, contested, contested, contested, contested, contested, contested, contested, contested, contested, contested, contested}},
		{"success", standing{etag: "x", status: job.Succeeded, digest: "d", submitted: noon}, []job.Verdict{
			answered, answered, answered, contested, contested, answered, answered, contested, answered, answered, answered, contested, answered, answered, contested}},
		{"failure", standing{etag: "x", status: job.Failed, digest: "d", submitted: noon}, failure},
		{"expiry", standing{etag: "x", status: job.Expired, digest: "d", submitted: noon}, failure},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for i, c := range claims {
				claim := job.Claim{Digest: c.digest, Submitted: c.submitted}
				if got := decide(tc.there, claim, c.status); got != tc.want[i] {
					t.Errorf("%s: verdict %d, want %d", c.name, got, tc.want[i])
				}
			}
		})
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	ours := standing{
		etag: `"x"`, status: job.Failed, digest: "d", content: "c",
		submitted: time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.FixedZone("", 3600)),
	}
	if diff := cmp.Diff(ours, readMetadata(`"x"`, ours.metadata()), cmp.AllowUnexported(standing{})); diff != "" {
		t.Errorf("round trip (-want +got):\n%s", diff)
	}
	for name, spoil := range map[string]func(map[string]string){
		"none":           func(m map[string]string) { clear(m) },
		"no status":      func(m map[string]string) { delete(m, "status") },
		"unknown status": func(m map[string]string) { m["status"] = "done" },
		"no time":        func(m map[string]string) { delete(m, "submitted") },
		"bad time":       func(m map[string]string) { m["submitted"] = "yesterday" },
		"no digest":      func(m map[string]string) { delete(m, "digest") },
	} {
		m := ours.metadata()
		spoil(m)
		if got := readMetadata("y", m); got != (standing{etag: "y"}) {
			t.Errorf("%s: read as %+v, want foreign", name, got)
		}
	}
}
