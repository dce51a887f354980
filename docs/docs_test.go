// Package docs_test holds the pages to what the code does.
package docs_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sluicehq/sluice/internal/config"
	"github.com/sluicehq/sluice/internal/metrics"
	"github.com/sluicehq/sluice/job"
)

var pages = []string{"../README.md", "guarantees.md", "operations.md", "architecture.md", "jobs.md", "../CONTRIBUTING.md", "../SECURITY.md", "../infra/README.md", "pacing.md"}

func read(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestVariablesExist(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, row := range (config.Config{}).Table(nil) {
		known[row.Variable] = true
	}
	for _, page := range pages {
		for _, v := range regexp.MustCompile(`SLUICE_[A-Z0-9_]+`).FindAllString(read(t, page), -1) {
			if !known[v] && !strings.HasPrefix(v, "SLUICE_TEST_") {
				t.Errorf("%s names %s, which the configuration has not", page, v)
			}
		}
	}
}

// A word in code type that begins with a capital, on the pages that speak of
// metrics, is a metric, a test or an AWS name that is listed here.
func TestMetricsExist(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"ThrottlingException": true}
	for _, d := range metrics.Table {
		known[d.Name] = true
	}
	for _, page := range []string{"../README.md", "operations.md", "guarantees.md"} {
		for _, m := range regexp.MustCompile("`([A-Z][a-z]+[A-Za-z]+)`").FindAllStringSubmatch(read(t, page), -1) {
			if name := m[1]; !known[name] && !strings.HasPrefix(name, "Test") && !strings.HasPrefix(name, "Fuzz") {
				t.Errorf("%s names %s, which is no metric", page, name)
			}
		}
	}
}

func TestGuaranteesHaveTests(t *testing.T) {
	t.Parallel()
	var tests []byte
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		tests = append(tests, text...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(read(t, "guarantees.md")) {
		names := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`").FindAllStringSubmatch(line, -1)
		for _, m := range names {
			if !bytes.Contains(tests, []byte("func "+m[1]+"(")) {
				t.Errorf("%s is no test", m[1])
			}
		}
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| guarantee") && len(names) == 0 {
			t.Errorf("no test for: %s", line)
		}
	}
}

func TestExamplesHold(t *testing.T) {
	t.Parallel()
	readme := read(t, "../README.md")
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(readme, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d JSON blocks in the README, want a job and a result", len(blocks))
	}
	j, err := job.Decode([]byte(blocks[0][1]))
	if err != nil {
		t.Errorf("the README's job: %v", err)
	}
	r, err := job.DecodeResult([]byte(blocks[1][1]))
	if err != nil {
		t.Errorf("the README's result: %v", err)
	}
	if r.Identity() != j.Identity() {
		t.Errorf("the README's result is of %v, its job is %v", r.Identity(), j.Identity())
	}
	if want := r.Usage.InputTokens + 5*r.Usage.OutputTokens; r.Usage.QuotaTokens != want {
		t.Errorf("the README's result says %d quota tokens, its usage makes %d", r.Usage.QuotaTokens, want)
	}
	models := regexp.MustCompile(`(?s)SLUICE_MODELS='(.*?)'`).FindStringSubmatch(readme)
	if models == nil || !json.Valid([]byte(models[1])) {
		t.Fatal("the README's SLUICE_MODELS is no JSON")
	}
	if _, err := config.ParseModels([]byte(models[1])); err != nil {
		t.Errorf("the README's SLUICE_MODELS: %v", err)
	}
}

// Links within the repository lead somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	for _, page := range pages {
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(read(t, page), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}
