package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/localaws/awstest"
	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
	"github.com/sluicehq/sluice/internal/processtest"
	"github.com/sluicehq/sluice/job"
)

// The test binary is the command where this variable is set: the tests run the
// real process, with its signals and exit codes.
const asDrainer = "SLUICE_TEST_AS_DRAINER"

func TestMain(m *testing.M) {
	if os.Getenv(asDrainer) != "" {
		main()
	}
	os.Exit(m.Run())
}

// world is an embedded AWS on loopback, with what a drainer needs.
type world struct {
	*testing.T
	aws *localaws.Server
	url string // of the job queue
	env []string
}

func newWorld(t *testing.T) *world {
	t.Parallel()
	server, endpoint := awstest.Serve(t, localaws.Options{Bedrock: bedrocksim.Options{Models: map[string]bedrocksim.Model{novaID: {RPM: 6000}}}})
	server.CreateBucket("bucket")
	url := server.CreateQueue("jobs", nil)
	return &world{T: t, aws: server, url: url, env: []string{
		asDrainer + "=1", "HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"),
		"AWS_ENDPOINT_URL=" + endpoint, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test",
		"SLUICE_QUEUE_URLS=" + url, "SLUICE_DLQ_URL=" + server.CreateQueue("dead", nil),
		"SLUICE_RESULTS_S3=s3://bucket/results/", "SLUICE_ADMIN_ADDR=127.0.0.1:0", "SLUICE_GRACE=10s",
		`SLUICE_MODELS={"nova":{"routes":[{"model_id":"` + novaID + `","region":"us-east-1","rpm":6000}]}}`,
	}}
}

// set returns the environment with some variables changed.
func (w *world) set(vars ...string) []string { return append(append([]string{}, w.env...), vars...) }

// send puts a job for nova on the queue.
func (w *world) send(id, prompt string) {
	w.Helper()
	body, err := job.Job{ID: id, Model: "nova", Kind: job.Converse, Request: encode(object{
		"messages": []object{user(object{"text": prompt})}, "inferenceConfig": object{"maxTokens": 50},
	})}.Encode()
	if err != nil {
		w.Fatal(err)
	}
	text := string(body)
	if _, err := sqs.NewFromConfig(w.aws.Config(nil)).SendMessage(w.Context(), &sqs.SendMessageInput{QueueUrl: &w.url, MessageBody: &text}); err != nil {
		w.Fatal(err)
	}
}

// outcome is what a process left behind.
type outcome struct {
	code           int
	stdout, stderr string
}

// runProcess runs the command to its end.
func runProcess(t *testing.T, env []string, args ...string) outcome {
	t.Helper()
	return end(startProcess(t, env, args...))
}

func startProcess(t *testing.T, env []string, args ...string) *processtest.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = env
	cmd.Dir = t.TempDir()
	return processtest.Start(t, cmd)
}

// end waits for the process.
func end(p *processtest.Process) outcome {
	code := p.Ends(2 * time.Minute)
	return outcome{code, p.Stdout.String(), p.Stderr.String()}
}

// running is a drainer at work.
type running struct {
	*processtest.Process
	admin string // address of its admin listener
}

// start runs the drainer until its admin listener is up.
func start(t *testing.T, env []string) running {
	t.Helper()
	p := startProcess(t, env)
	return running{p, p.Says(`"admin listener","addr":"(.*)"`)}
}

// get asks the admin listener.
func (r running) get(t *testing.T, path string) int {
	t.Helper()
	response, err := http.Get("http://" + r.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

func TestUsage(t *testing.T) {
	t.Parallel()
	env := []string{asDrainer + "=1", "PATH=" + os.Getenv("PATH")}
	for _, tt := range []struct {
		args   string
		code   int
		stderr []string
	}{
		{"version", exitOK, nil},
		{"help", exitOK, nil},
		{"demo --help", exitOK, nil},
		{"flood", exitUsage, []string{`unknown command "flood"`}},
		{"run --fast", exitUsage, []string{"unknown flag: --fast"}},
		{"run now", exitUsage, []string{"unknown command"}},
		{"", exitUsage, []string{"drainer: SLUICE_QUEUE_URLS: must be set", "drainer: SLUICE_MODELS: must be set", "drainer: SLUICE_RESULTS_S3: must be set", "drainer: SLUICE_DLQ_URL: must be set"}},
		{"run", exitUsage, []string{"SLUICE_QUEUE_URLS: must be set", "SLUICE_DLQ_URL: must be set"}},
		{"config", exitUsage, []string{"SLUICE_QUEUE_URLS: must be set", "SLUICE_DLQ_URL: must be set"}},
		{"demo --jobs 3", exitUsage, []string{"--jobs"}},
		{"demo --length 1ms", exitUsage, []string{"--length"}},
		{"demo --shape minute", exitUsage, []string{"--shape"}},
		{"demo --neighbour 1", exitUsage, []string{"--neighbour"}},
		{"demo --tpm -1", exitUsage, []string{"--tpm"}},
	} {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			o := runProcess(t, env, strings.Fields(tt.args)...)
			if o.code != tt.code {
				t.Errorf("exit code %d, want %d", o.code, tt.code)
			}
			for _, want := range tt.stderr {
				if !strings.Contains(o.stderr, want) {
					t.Errorf("stderr does not say %q:\n%s", want, o.stderr)
				}
			}
		})
	}
}

// TestRegion: config finds what run would, also of the SDK's own configuration.
func TestRegion(t *testing.T) {
	w := newWorld(t)
	for _, command := range []string{"run", "config"} {
		for set, want := range map[string]string{
			"AWS_REGION=": "drainer: AWS_REGION: must be set",
			"SLUICE_QUEUE_URLS=https://sqs.eu-west-1.amazonaws.com/123456789012/jobs": "drainer: SLUICE_QUEUE_URLS[0]: is in eu-west-1, and AWS_REGION is us-east-1",
			"AWS_PROFILE=nobody": "drainer: load the AWS configuration: ",
		} {
			if o := runProcess(t, w.set(set), command); o.code != exitUsage || !strings.Contains(o.stderr, want) {
				t.Errorf("%s with %s: exit code %d: %s", command, set, o.code, o.stderr)
			}
		}
	}
}

func TestConfig(t *testing.T) {
	w := newWorld(t)
	o := runProcess(t, w.env, "config")
	if o.code != exitOK || !strings.Contains(o.stdout, "SLUICE_GRACE                env      10s\n") {
		t.Errorf("exit code %d:\n%s%s", o.code, o.stdout, o.stderr)
	}
	var rows []struct{ Variable, Value, Source string }
	o = runProcess(t, w.set("SLUICE_HOLD=soon", "SLUICE_HODL=1s"), "config", "--json")
	if err := json.Unmarshal([]byte(o.stdout), &rows); err != nil || len(rows) == 0 || rows[0].Variable != "SLUICE_NAME" {
		t.Errorf("%v: %s", err, o.stdout)
	}
	if o.code != exitUsage || !strings.Contains(o.stderr, "SLUICE_HOLD: ") || !strings.Contains(o.stderr, "SLUICE_HODL: ") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
}

// TestConfigModels checks a models file alone, as before it is applied.
func TestConfigModels(t *testing.T) {
	t.Parallel()
	env := []string{asDrainer + "=1", "PATH=" + os.Getenv("PATH")}
	for _, tt := range []struct {
		models, stdout, stderr string
		code                   int
	}{
		{`{"nova": {"routes": [{"model_id": "` + novaID + `", "region": "us-east-1", "rpm": 1}]}}`, `"default_max_tokens": 10000`, "", exitOK},
		{`{"nova": {"routes": [{"model_id": "` + novaID + `", "region": "us-east-1", "tpm": 5000}]}}`, `"tpm": 5000`, "drainer: warning: nova.default_max_tokens: 10000 ", exitOK},
		{`{"nova": {"routes": [{"model_id": "` + novaID + `", "region": "us-east-1", "rmp": 1}]}}`, "", "drainer: nova.routes[0].rmp: unknown field", exitUsage},
	} {
		name := filepath.Join(t.TempDir(), "models.json")
		if err := os.WriteFile(name, []byte(tt.models), 0o600); err != nil {
			t.Fatal(err)
		}
		o := runProcess(t, env, "config", "--models", name)
		if o.code != tt.code || !strings.Contains(o.stdout, tt.stdout) || !strings.Contains(o.stderr, tt.stderr) {
			t.Errorf("%s: exit code %d:\n%s%s", tt.models, o.code, o.stdout, o.stderr)
		}
		if (tt.stdout == "") != (o.stdout == "") || (tt.stderr == "") != (o.stderr == "") {
			t.Errorf("more was said than wanted:\n%s%s", o.stdout, o.stderr)
		}
	}
	if o := runProcess(t, env, "config", "--models", "missing.json"); o.code != exitUsage || !strings.Contains(o.stderr, "missing.json") {
		t.Errorf("no file: exit code %d: %s", o.code, o.stderr)
	}
}

func TestRunUntilEmpty(t *testing.T) {
	w := newWorld(t)
	for i := range 20 {
		w.send(fmt.Sprint("job-", i), fmt.Sprint("hello ", i))
	}
	o := runProcess(t, w.env, "--until-empty")
	if o.code != exitOK {
		t.Fatalf("exit code %d:\n%s", o.code, o.stderr)
	}
	for _, want := range []string{"20 jobs ended in ", "  succeeded 20\n", "Results: s3://bucket/results/\n"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("the report does not say %q:\n%s", want, o.stdout)
		}
	}
	if !strings.Contains(o.stderr, errEmpty.Error()) {
		t.Errorf("the log does not say why it stopped:\n%s", o.stderr)
	}
}

func TestSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			w := newWorld(t)
			r := start(t, w.env)
			r.Says(`"draining","version":".*go1`)
			for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/status.json": 200, "/metrics": 200} {
				if got := r.get(t, path); got != want {
					t.Errorf("%s answers %d, want %d", path, got, want)
				}
			}
			health := w.set("SLUICE_ADMIN_ADDR=" + r.admin)
			if o := runProcess(t, health, "healthcheck"); o.code != exitOK {
				t.Errorf("healthcheck of a drainer: %d: %s", o.code, o.stderr)
			}
			r.Signal(s)
			r.Says(`"stopping".*"grace":"10s"`)
			if o := end(r.Process); o.code != exitOK || !strings.Contains(o.stderr, s.String()+" signal received") {
				t.Errorf("exit code %d, or the log does not name the signal:\n%s", o.code, o.stderr)
			}
			if o := runProcess(t, health, "healthcheck"); o.code != exitError {
				t.Errorf("healthcheck of none: %d", o.code)
			}
		})
	}
}

// TestSecondSignal stops a drainer that still waits for a model.
func TestSecondSignal(t *testing.T) {
	w := newWorld(t)
	w.send("slow", "[[sim:hang]]")
	r := start(t, w.env)
	for began := time.Now(); w.aws.Calls()["Bedrock.Converse"] == 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatal("the job was not started: ", w.aws.Calls())
		}
	}
	r.Signal(syscall.SIGTERM)
	r.Says(`"stopping"`)
	began := time.Now()
	r.Signal(syscall.SIGTERM)
	o := end(r.Process)
	if took := time.Since(began); o.code != 128+int(syscall.SIGTERM) || took > 3*time.Second {
		t.Errorf("exit code %d after %v:\n%s", o.code, took, o.stderr)
	}
}

// TestHealthyDuringPreflight: a platform must not kill a task that waits for
// somebody to create its bucket.
func TestHealthyDuringPreflight(t *testing.T) {
	w := newWorld(t)
	r := start(t, w.set("SLUICE_RESULTS_S3=s3://not-there/results/"))
	if live, ready := r.get(t, "/healthz"), r.get(t, "/readyz"); live != 200 || ready != 503 {
		t.Errorf("healthz answers %d, readyz %d; want 200, 503", live, ready)
	}
	r.Signal(syscall.SIGTERM)
	if o := end(r.Process); o.code != exitOK {
		t.Errorf("exit code %d:\n%s", o.code, o.stderr)
	}
}

func TestAdminAddressTaken(t *testing.T) {
	w := newWorld(t)
	r := start(t, w.env)
	if o := runProcess(t, w.set("SLUICE_ADMIN_ADDR="+r.admin)); o.code != exitError || !strings.Contains(o.stderr, "admin listener") {
		t.Errorf("exit code %d:\n%s", o.code, o.stderr)
	}
}
