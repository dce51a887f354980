// Package layering holds the house's rule of who may import whom. It is a test
// and nothing else, nobody imports it, and it reads the source by go list.
package layering

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/processtest"
)

const module = "github.com/sluicehq/sluice"

// aws and smithy are the AWS SDK.
const (
	aws    = "github.com/aws/aws-sdk-go-v2/..."
	smithy = "github.com/aws/smithy-go/..."
)

// layer says what packages may import beside the standard library. Patterns are
// paths below the module, or whole import paths; "/..." takes what is below too.
type layer struct {
	packages []string
	may      []string
	reason   string
}

// layers are searched from the top; the first that has the package holds. Test
// files are free.
var layers = []layer{
	{[]string{"job"}, nil,
		"job is what a producer in another repository imports: it must cost nobody a dependency"},
	{[]string{"pacing"}, nil,
		"pacing is arithmetic, pure and synchronous: what it imports, every simulation of it drags along"},
	{[]string{"worker"}, []string{"job", "pacing", "golang.org/x/sync/..."},
		"the drain loop declares the interfaces that it needs and knows no AWS, so that its rules can be tested without one"},
	{[]string{"results", "internal/queue", "internal/bedrock"}, []string{"job", aws, smithy},
		"an adapter knows one service and the vocabulary; adapters that know each other or the worker cannot be replaced or tested alone"},
	{[]string{"internal/metrics"}, []string{"job", aws, smithy, "github.com/prometheus/..."},
		"metrics is fed samples: if it knew the worker, what is counted and how it is published could not change apart"},
	{[]string{"internal/config"}, []string{"job", "github.com/kelseyhightower/envconfig"},
		"configuration is read before anything is connected to"},
	{[]string{"internal/connect"}, []string{aws, smithy},
		"connections are the SDK's: who calls what over them is for others to say"},
	{[]string{"internal/drainer"}, []string{"job", "pacing", "worker", "results",
		"internal/queue", "internal/bedrock", "internal/metrics", "internal/config", "internal/connect", aws, smithy, "golang.org/x/sync/..."},
		"internal/drainer plugs the adapters into the worker (ADR 1); the embedded AWS is plugged in by who calls it"},
	{[]string{"internal/enqueue"}, []string{"job", "internal/config", "internal/queue", aws, smithy, "golang.org/x/sync/..."},
		"internal/enqueue turns lines into messages and a manifest (ADR 1): flags and bars are the command's"},
	{[]string{"internal/localaws/..."}, []string{"job", "internal/localaws/...", aws, smithy, "github.com/johannesboyne/gofakes3/...", "github.com/google/go-cmp/..."},
		"the embedded AWS is tested against what AWS documents; one that shares code with our adapters shares their mistakes"},
	{[]string{"localstack/..."}, []string{"internal/localaws/..."},
		"the stand-alone simulator is the embedded one with flags"},
	{[]string{"internal/processtest"}, nil,
		"what runs programs for tests must not depend on what is tested"},
	{[]string{"cmd/...", "bench/..."}, []string{"..."},
		"commands and benchmarks may import anything"},
}

// guard says who alone may import something.
type guard struct {
	target string
	by     []string
	reason string
}

var guards = []guard{
	{"internal/localaws/...", []string{"cmd/drainer", "internal/localaws/...", "localstack/...", "bench/..."},
		"the embedded AWS is for the demo, tests and benchmarks: it must never be what production runs on"},
	{"internal/drainer", []string{"cmd/...", "bench/..."},
		"whoever composes stands at the top (ADR 1)"},
	{"internal/enqueue", []string{"cmd/...", "bench/..."},
		"whoever composes stands at the top (ADR 1)"},
	{"internal/config", []string{"cmd/...", "internal/drainer", "internal/enqueue", "bench/..."},
		"an adapter takes what it needs; only who composes knows the configuration"},
	{"internal/processtest", nil,
		"it is for tests"},
	{"github.com/spf13/cobra", []string{"cmd/..."},
		"flags end at the command"},
	{"github.com/schollz/progressbar/...", []string{"cmd/..."},
		"a package reports progress, a command shows it"},
}

// nameless are names that say nothing about what is inside.
var nameless = []string{"util", "utils", "common", "helper", "helpers", "types", "pkg", "misc", "base"}

// goPackage is what go list tells about a package of ours.
type goPackage struct {
	ImportPath string
	GoFiles    []string // without tests
	Imports    []string // of GoFiles
	Deps       []string // everything below
}

func TestLayering(t *testing.T) {
	t.Parallel()
	packages := list(t)
	if len(packages) < len(layers)/2 {
		t.Fatalf("go list found %d packages; the house has more", len(packages))
	}
	for _, breach := range check(packages) {
		t.Error(breach)
	}
}

// check returns a line for each breach of a rule, with the rule's reason.
func check(packages []goPackage) []string {
	var breaches []string
	breach := func(format string, args ...any) { breaches = append(breaches, fmt.Sprintf(format, args...)) }
	for _, p := range packages {
		self := local(p.ImportPath)
		for element := range strings.SplitSeq(self, "/") {
			if slices.Contains(nameless, element) {
				breach("%s: %q says nothing about what is inside: name the package after what it provides", self, element)
			}
		}
		if len(p.GoFiles) == 0 {
			continue // tests only
		}

		i := slices.IndexFunc(layers, func(l layer) bool { return matches(l.packages, self) })
		if i < 0 {
			breach("%s: stands in no layer: say in internal/layering what it may import, and why", self)
			continue
		}
		for _, imported := range p.Imports {
			if standard(imported) {
				continue
			}
			if !matches(layers[i].may, local(imported)) {
				breach("%s must not import %s: %s", self, local(imported), layers[i].reason)
			}
			for _, g := range guards {
				if matches([]string{g.target}, local(imported)) && !matches(g.by, self) {
					breach("%s must not import %s: %s", self, local(imported), g.reason)
				}
			}
		}
		if matches([]string{"job", "pacing", "worker"}, self) {
			for _, below := range p.Deps {
				if strings.HasPrefix(below, "github.com/aws/") {
					breach("%s reaches %s: %s", self, below, layers[i].reason)
				}
			}
		}
	}
	return breaches
}

// matches reports whether one of the patterns has the path.
func matches(patterns []string, p string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		root, below := strings.CutSuffix(pattern, "...")
		root = strings.TrimSuffix(root, "/")
		return p == root || below && (root == "" || strings.HasPrefix(p, root+"/"))
	})
}

// local is the import path as this file writes it: below the module where it
// is ours.
func local(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

// standard reports whether an import is of the standard library: no domain.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

func list(t *testing.T) []goPackage {
	t.Helper()
	processtest.DependOn(t, "../..")
	var stderr bytes.Buffer
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,GoFiles,Imports,Deps", module+"/...")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var packages []goPackage
	for in := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := in.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// TestCheckFindsBreaches builds houses that break each kind of rule.
func TestCheckFindsBreaches(t *testing.T) {
	t.Parallel()
	house := func(self string, imports ...string) goPackage {
		return goPackage{ImportPath: path.Join(module, self), GoFiles: []string{"a.go"}, Imports: imports}
	}
	tests := []struct {
		name string
		p    goPackage
		want []string // beginnings
	}{
		{"kept", house("worker", "context", module+"/job", module+"/pacing"), nil},
		{"kept by a command", house("cmd/drainer", module+"/internal/localaws", "github.com/spf13/cobra"), nil},
		{"tests are free", goPackage{ImportPath: module + "/results/anything"}, nil},
		{"dependency of job", house("job", "github.com/google/uuid"), []string{"job must not import github.com/google/uuid: "}},
		{"SDK in worker", house("worker", "github.com/aws/aws-sdk-go-v2/aws"), []string{"worker must not import github.com/aws/aws-sdk-go-v2/aws: "}},
		{"SDK below worker", goPackage{ImportPath: module + "/worker", GoFiles: []string{"a.go"}, Deps: []string{"github.com/aws/smithy-go"}},
			[]string{"worker reaches github.com/aws/smithy-go: "}},
		{"adapters", house("results", module+"/internal/queue"), []string{"results must not import internal/queue: "}},
		{"upwards", house("internal/queue", module+"/worker"), []string{"internal/queue must not import worker: "}},
		{"embedded AWS in production", house("internal/drainer", module+"/internal/localaws/bedrocksim"), []string{
			"internal/drainer must not import internal/localaws/bedrocksim: internal/drainer plugs",
			"internal/drainer must not import internal/localaws/bedrocksim: the embedded AWS is for"}},
		{"embedded AWS in the producer", house("cmd/producer", module+"/internal/localaws"), []string{
			"cmd/producer must not import internal/localaws: the embedded AWS is for"}},
		{"nameless", house("internal/utils"), []string{`internal/utils: "utils" says nothing`, "internal/utils: stands in no layer"}},
		{"nameless on the way", house("pkg/job"), []string{`pkg/job: "pkg" says nothing`, "pkg/job: stands in no layer"}},
		{"unknown", house("internal/cache"), []string{"internal/cache: stands in no layer"}},
		{"not below", house("workers"), []string{"workers: stands in no layer"}},
		{"root", house(""), []string{".: stands in no layer"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := check([]goPackage{test.p})
			for i := range min(len(got), len(test.want)) {
				got[i] = got[i][:min(len(got[i]), len(test.want[i]))]
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
