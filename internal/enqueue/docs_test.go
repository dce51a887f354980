package enqueue

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestManifestPage holds what docs/jobs.md shows of a manifest to what is written:
// the same fields, in their order.
func TestManifestPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/jobs.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "\n## The manifest of a run\n")
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(text, -1)
	objects := []any{new(header), new(chunk), new(end)}
	if len(blocks) != len(objects) {
		t.Fatalf("%d examples, want %d", len(blocks), len(objects))
	}
	for i, v := range objects {
		if err := json.Unmarshal([]byte(blocks[i][1]), v); err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		want := strings.NewReplacer(" ", "", "\n", "").Replace(blocks[i][1]) // no value has a space
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("example %d (-page +code):\n%s", i, diff)
		}
	}
}
