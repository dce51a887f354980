package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/worker"
)

// TestDemo runs a short one on a machine whose environment is full of traps.
func TestDemo(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".aws"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".aws", "config"), []byte("[default]\nregion = nowhere-1\nendpoint_url = http://127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{
		asDrainer + "=1", "HOME=" + home,
		"AWS_ENDPOINT_URL=http://127.0.0.1:1", "AWS_ENDPOINT_URL_SQS=http://127.0.0.1:1", "AWS_REGION=nowhere-1", "AWS_PROFILE=absent",
		"AWS_BEARER_TOKEN_BEDROCK=token", "AWS_CA_BUNDLE=/absent", "HTTP_PROXY=http://127.0.0.1:1",
		"SLUICE_QUEUE_URLS=none", "SLUICE_TYPO=1",
	}
	args := []string{"demo", "--jobs", "60", "--length", "5s", "--out", out}
	o := runProcess(t, env, args...)
	if o.code != exitOK {
		t.Fatalf("exit code %d:\n%s%s", o.code, o.stdout, o.stderr)
	}
	for _, want := range []string{"69 jobs ended in ", "  ok     ", "  succeeded 61 ("} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("does not say %q:\n%s", want, o.stdout)
		}
	}
	if !strings.Contains(o.stderr, " done, ") {
		t.Errorf("no progress:\n%s", o.stderr)
	}
	results, err := filepath.Glob(filepath.Join(out, "results", demoRun, "*.json"))
	if err != nil || len(results) != 68 {
		t.Errorf("%d results in files, want 68 (%v)", len(results), err)
	}
	for _, name := range []string{"report.txt", "drainer.log"} {
		if info, err := os.Stat(filepath.Join(out, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}

	if o := runProcess(t, env, args...); o.code != exitError || !strings.Contains(o.stderr, "not empty") {
		t.Errorf("a second demo into the same folder: %d: %s", o.code, o.stderr)
	}
}

func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	p := startProcess(t, []string{asDrainer + "=1"}, "demo", "--length", "10m", "--out", out)
	p.Until("it drains", time.Minute, func() bool {
		log, err := os.ReadFile(filepath.Join(out, "drainer.log"))
		return err == nil && bytes.Contains(log, []byte("msg=draining"))
	})
	began := time.Now()
	p.Signal(os.Interrupt)
	o := end(p)
	if took := time.Since(began); o.code != exitError || took > 10*time.Second || !strings.Contains(o.stderr, "interrupt signal received") {
		t.Errorf("exit code %d after %v:\n%s%s", o.code, took, o.stdout, o.stderr)
	}
	if !strings.Contains(o.stdout, "jobs ended in") {
		t.Errorf("no report:\n%s", o.stdout)
	}
}

func TestDemoJobsAreThoseOfTheSeed(t *testing.T) {
	t.Parallel()
	if !reflect.DeepEqual(demoJobs(60, 7), demoJobs(60, 7)) {
		t.Error("one seed, two sets of jobs")
	}
	if reflect.DeepEqual(demoJobs(60, 7), demoJobs(60, 8)) {
		t.Error("two seeds, one set of jobs")
	}
	bodies := map[string]bool{}
	for _, j := range demoJobs(400, 1) {
		if bodies[string(j.body)] {
			t.Errorf("%s: its body stands there twice", j.id)
		}
		bodies[string(j.body)] = true
		if _, err := job.Decode(j.body); (err != nil) != j.direct {
			t.Errorf("%s: %v", j.id, err)
		}
	}
}

// TestDemoFindsWhatIsWrong breaks what a demo has found in every way that its
// checks are for.
func TestDemoFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	right := func() (*demoWorld, worker.Snapshot) {
		w := &demoWorld{aws: localaws.New(localaws.Options{}), jobs: demoJobs(20, 1)}
		w.found.results = map[string][]byte{}
		for _, j := range w.jobs {
			if j.want.buried {
				w.found.dead = append(w.found.dead, deadLetter{Trail: job.Trail{ID: j.id, Reason: j.want.reason}, Body: string(j.body)})
			}
			if j.want.status == "" {
				continue
			}
			r := job.Result{ID: j.id, Run: demoRun, Status: j.want.status, Model: "sonnet", FinishedAt: time.Now()}
			if j.want.reason != "" {
				r.Error = &job.Error{Reason: j.want.reason}
			}
			body, err := r.Encode()
			if err != nil {
				t.Fatal(err)
			}
			w.found.results[r.Identity().Key()] = body
		}
		return w, worker.Snapshot{}
	}
	const (
		ends = iota
		buries
		fallsBack
		pays
		throttles
	)
	for name, tt := range map[string]struct {
		spoil func(*demoWorld, *worker.Snapshot)
		wrong int
	}{
		"nothing":            {func(*demoWorld, *worker.Snapshot) {}, -1},
		"a result is absent": {func(w *demoWorld, _ *worker.Snapshot) { delete(w.found.results, "demo/embed-0016.json") }, ends},
		"a result too many":  {func(w *demoWorld, _ *worker.Snapshot) { w.found.results["demo/stray.json"] = nil }, ends},
		"another status": {func(w *demoWorld, _ *worker.Snapshot) {
			w.found.results["demo/embed-0016.json"] = bytes.Replace(w.found.results["demo/embed-0016.json"], []byte("succeeded"), []byte("failed"), 1)
		}, ends},
		"a dead letter is absent": {func(w *demoWorld, _ *worker.Snapshot) { w.found.dead = w.found.dead[1:] }, buries},
		"a dead letter too many":  {func(w *demoWorld, _ *worker.Snapshot) { w.found.dead = append(w.found.dead, w.found.dead[0]) }, buries},
		"another reason":          {func(w *demoWorld, _ *worker.Snapshot) { w.found.dead[0].Trail.Reason = job.Conflict }, buries},
		"no fallback": {func(w *demoWorld, _ *worker.Snapshot) {
			for key, body := range w.found.results {
				w.found.results[key] = bytes.Replace(body, []byte(`"model":"sonnet"`), []byte(`"model":"nova"`), 1)
			}
		}, fallsBack},
		"429s nobody sent": {func(_ *demoWorld, s *worker.Snapshot) { s.Models = []worker.ModelSnapshot{{Throttles: 1}} }, throttles},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, s := right()
			tt.spoil(w, &s)
			var out strings.Builder
			w.verify(&out, s)
			var wrong []int
			for line := range strings.Lines(out.String()) {
				switch {
				case strings.HasPrefix(line, "  ok "):
					wrong = append(wrong, 0)
				case strings.HasPrefix(line, "  WRONG "):
					wrong = append(wrong, 1)
				}
			}
			// Nobody was invoked here: that nothing was paid twice can't be right.
			want := []int{0, 0, 0, 1, 0}
			if tt.wrong >= 0 {
				want[tt.wrong] = 1
			}
			if diff := cmp.Diff(fmt.Sprint(want), fmt.Sprint(wrong)); diff != "" {
				t.Errorf("wrong (-want +got):\n%s\n%s", diff, out.String())
			}
		})
	}
}
