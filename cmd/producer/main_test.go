package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/sluicehq/sluice/internal/enqueue"
	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/localaws/awstest"
	"github.com/sluicehq/sluice/job"
)

// The test binary is the command where this variable is set: the tests run the
// real process, with its signals and exit codes.
const asProducer = "SLUICE_TEST_AS_PRODUCER"

func TestMain(m *testing.M) {
	if os.Getenv(asProducer) != "" {
		main()
	}
	os.Exit(m.Run())
}

// world is an embedded AWS on loopback, with a queue and a bucket.
type world struct {
	*testing.T
	aws *localaws.Server
	url string // of the queue
	env []string
}

func newWorld(t *testing.T) *world {
	server, endpoint := awstest.Serve(t, localaws.Options{})
	server.CreateBucket("bucket")
	return &world{T: t, aws: server, url: server.CreateQueue("jobs", nil), env: []string{
		asProducer + "=1", "AWS_ENDPOINT_URL=" + endpoint, "AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test",
		"SLUICE_RESULTS_S3=s3://bucket/results", "HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"),
	}}
}

// command prepares a producer process.
func (w *world) command(args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	cmd = exec.CommandContext(w.Context(), os.Args[0], args...)
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr, cmd.Env = stdout, stderr, w.env
	return cmd, stdout, stderr
}

// run runs a producer process to its end.
func (w *world) run(stdin string, args ...string) (code int, stdout, stderr string) {
	w.Helper()
	cmd, out, errs := w.command(args...)
	cmd.Stdin = strings.NewReader(stdin)
	if err := cmd.Run(); cmd.ProcessState == nil {
		w.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func (w *world) file(content string) string {
	w.Helper()
	name := filepath.Join(w.TempDir(), "jobs.jsonl")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		w.Fatal(err)
	}
	return name
}

// ids empties the queue and returns how often it had each id.
func (w *world) ids() map[string]int {
	w.Helper()
	client := sqs.NewFromConfig(w.aws.Config(w.aws.Client(nil)))
	ids := make(map[string]int)
	for {
		out, err := client.ReceiveMessage(w.Context(), &sqs.ReceiveMessageInput{QueueUrl: &w.url, MaxNumberOfMessages: 10, WaitTimeSeconds: 1})
		if err != nil {
			w.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return ids
		}
		for _, m := range out.Messages {
			j, err := job.Decode([]byte(*m.Body))
			if err != nil {
				w.Fatal(err)
			}
			ids[j.ID]++
		}
	}
}

func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"id":"j%05d","model":"m","converse":{}}`+"\n", i)
	}
	return b.String()
}

func summary(t *testing.T, stdout string) (s enqueue.Summary) {
	t.Helper()
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		t.Fatalf("stdout %q: %v", stdout, err)
	}
	return s
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good, bad, empty := w.file(lines(3)), w.file(lines(3)+"oops\n"), w.file("\n")
	worse := w.file(strings.Repeat("oops\n", 12))
	models := w.file(`{"n": {"routes": [{"model_id": "amazon.nova-lite-v1:0", "region": "us-east-1", "rpm": 1}]}}`)
	fallback := w.file(`{"model":"n","converse":{},"fallback":["amazon.nova-lite-v1:0","o"]}`)
	for name, tt := range map[string]struct {
		args           []string
		stdin          string
		code           int
		stdout, stderr string
	}{
		"nothing":          {nil, "", 2, "Usage:", "a command is missing"},
		"unknown command":  {[]string{"enqeue"}, "", 2, "", `unknown command "enqeue"`},
		"unknown flag":     {[]string{"enqueue", "--ruin", "r", good}, "", 2, "", "unknown flag: --ruin"},
		"no file":          {[]string{"enqueue"}, "", 2, "", "accepts 1 arg(s), received 0"},
		"missing file":     {[]string{"enqueue", "--queue-url", w.url, "/missing.jsonl"}, "", 2, "", "/missing.jsonl"},
		"no queue":         {[]string{"enqueue", good}, "", 2, "", "a queue URL is missing"},
		"bad results":      {[]string{"enqueue", "--results", "bucket", good}, "", 2, "", "--results: must be s3://bucket/prefix/"},
		"bad bucket":       {[]string{"enqueue", "--payloads", "s3://b/p/", good}, "", 2, "", `--payloads: must have a bucket of 3 to 63`},
		"bad line":         {[]string{"enqueue", "--queue-url", w.url, bad}, "", 2, "", "line 4: not a JSON object"},
		"bad first line":   {[]string{"enqueue", "--queue-url", w.url, "-"}, "oops", 2, "", "line 1: not a JSON object"},
		"missing queue":    {[]string{"enqueue", "--queue-url", w.url + "x", good}, "", 1, `"complete":false`, "NonExistentQueue"},
		"missing bucket":   {[]string{"enqueue", "--queue-url", w.url, "--results", "s3://absent/r/", good}, "", 1, `"sent":0`, "NoSuchBucket"},
		"dry run":          {[]string{"enqueue", "--dry-run", "--queue-url", w.url, good}, "", 0, `"dry_run":true`, ""},
		"valid":            {[]string{"validate", good}, "", 0, `"jobs":3`, ""},
		"valid pipe":       {[]string{"validate", "--model", "m", "--max-tokens", "5", "-"}, `{"prompt":"hi"}`, 0, `"jobs":1`, ""},
		"invalid":          {[]string{"validate", bad}, "", 2, "", "line 4: not a JSON object"},
		"some errors":      {[]string{"validate", worse}, "", 2, "", "line 10: not a JSON object\nand 2 more: --all-errors"},
		"all errors":       {[]string{"validate", "--all-errors", worse}, "", 2, "", "line 12: not a JSON object"},
		"unknown model":    {[]string{"validate", "--models", models, good}, "", 2, "", `line 1: model: no model is called "m"`},
		"unknown fallback": {[]string{"enqueue", "--queue-url", w.url, "--models", models, fallback}, "", 2, "", `line 1: fallback[1]: no model is called "o"`},
		"known model":      {[]string{"validate", "--models", models, "--model", "n", "--max-tokens", "5", "-"}, `{"prompt":"hi"}`, 0, `"jobs":1`, ""},
		"no models":        {[]string{"validate", "--models", good, good}, "", 2, "", "--models: is no JSON"},
		"empty":            {[]string{"validate", empty}, "", 2, "", "no job in it"},
		"empty file":       {[]string{"enqueue", "--queue-url", w.url, empty}, "", 2, "", "no job in it"},
		"empty pipe":       {[]string{"enqueue", "--queue-url", w.url, "-"}, "", 2, "", "no job in it"},
		"empty allowed":    {[]string{"enqueue", "--allow-empty", "--queue-url", w.url, empty}, "", 0, `"complete":true`, ""},
		"version":          {[]string{"version"}, "", 0, "producer ", ""},
		"completion":       {[]string{"completion", "bash"}, "", 0, "__start_producer", ""},
		"help":             {[]string{"help", "enqueue"}, "", 0, "--queue-url", ""},
		"payloads missing": {[]string{"validate", "-"}, `{"model":"m","invoke":{"a":"` + strings.Repeat("a", job.MaxBody) + `"}}`, 2, "", "--payloads or SLUICE_PAYLOADS_S3 must say"},
		"payloads given":   {[]string{"validate", "--payloads", "s3://bucket/p", "-"}, `{"model":"m","invoke":{"a":"` + strings.Repeat("a", job.MaxBody) + `"}}`, 0, `"payloads":1`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := w.run(tt.stdin, tt.args...)
			if code != tt.code || !strings.Contains(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) {
				t.Errorf("exit code %d, want %d\nstdout %s\nstderr %s", code, tt.code, stdout, stderr)
			}
			if (tt.stdout == "") != (stdout == "") || (tt.stderr == "") != (stderr == "") {
				t.Errorf("more was said than wanted:\nstdout %s\nstderr %s", stdout, stderr)
			}
		})
	}
	if ids := w.ids(); len(ids) > 0 {
		t.Errorf("%d jobs were sent", len(ids))
	}
}

func TestEnqueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	name := w.file(lines(25))
	code, stdout, stderr := w.run("", "enqueue", "--queue-url", w.url, name)
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	s := summary(t, stdout)
	if s.Sent != 25 || !s.Complete || s.Manifest != "s3://bucket/results/"+s.Run+"/_manifest/" {
		t.Errorf("summary %s", stdout)
	}
	client := s3.NewFromConfig(w.aws.Config(w.aws.Client(nil)))
	key := "results/" + s.Run + "/_manifest/end.json"
	if _, err := client.HeadObject(w.Context(), &s3.HeadObjectInput{Bucket: aws.String("bucket"), Key: &key}); err != nil {
		t.Error(err)
	}
	if ids := w.ids(); len(ids) != 25 {
		t.Errorf("%d jobs arrived, want 25", len(ids))
	}
	code, stdout, stderr = w.run("", "enqueue", "--queue-url", w.url, name)
	if s := summary(t, stdout); code != 0 || s.Skipped != 25 || s.Sent != 0 || !strings.Contains(stderr, `--results ""`) {
		t.Errorf("the same again: exit code %d, %s, %s", code, stdout, stderr)
	}
	// What that line says sends the same jobs, so that the failed are tried again.
	code, stdout, _ = w.run("", "enqueue", "--queue-url", w.url, "--results", "", name)
	if again := summary(t, stdout); code != 0 || again.Sent != 25 || again.Run != s.Run {
		t.Errorf("without the manifest: exit code %d, %s", code, stdout)
	}
	if ids := w.ids(); len(ids) != 25 {
		t.Errorf("%d jobs arrived again, want 25", len(ids))
	}
	// A file on standard input is a file: it is checked to its end first.
	file, err := os.Open(w.file(lines(12) + "oops"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd, _, errs := w.command("enqueue", "--queue-url", w.url, "-")
	cmd.Stdin = file
	if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 2 || !strings.Contains(errs.String(), "line 13") {
		t.Errorf("%v: %s", err, errs)
	}
	if ids := w.ids(); len(ids) != 0 {
		t.Errorf("%d jobs of a bad file were sent", len(ids))
	}
}

// Interrupted or killed in the middle, then run again: every job is there; after
// an interruption none is there twice.
func TestSignals(t *testing.T) {
	t.Parallel()
	for signal, want := range map[syscall.Signal]struct {
		code  int // -1: by the signal itself
		twice bool
	}{
		syscall.SIGINT:  {1, false},
		syscall.SIGTERM: {1, false},
		syscall.SIGKILL: {-1, true},
	} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			const n = 12000
			name := w.file(lines(n))
			cmd, stdout, stderr := w.command("enqueue", "--queue-url", w.url, name)
			var batches atomic.Int64
			w.aws.Intercept(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					next.ServeHTTP(rw, r)
					if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".SendMessageBatch") {
						return
					}
					switch n := batches.Add(1); {
					case n == 700:
						if err := cmd.Process.Signal(signal); err != nil {
							t.Error(err)
						}
					case n > 700 && n < 1200:
						time.Sleep(50 * time.Millisecond) // or a fast process ends before it hears the signal
					}
				})
			})
			if err := cmd.Run(); err == nil {
				t.Fatal("the process ended well")
			}
			if code := cmd.ProcessState.ExitCode(); code != want.code {
				t.Errorf("exit code %d, want %d: %s", code, want.code, stderr)
			}
			if signal != syscall.SIGKILL {
				// 700 batches were answered; of those, some are on their way back.
				if s := summary(t, stdout.String()); s.Sent < 6500 || s.Sent == n || s.Complete || !strings.Contains(stderr.String(), "--run "+s.Run) {
					t.Errorf("summary %s, stderr %s", stdout, stderr)
				}
			}
			code, again, errs := w.run("", "enqueue", "--queue-url", w.url, name)
			s := summary(t, again)
			if code != 0 || !s.Complete || s.Skipped < 5000 || s.Skipped+s.Sent != n {
				t.Errorf("again: exit code %d, %s, %s", code, again, errs)
			}
			ids := w.ids()
			if len(ids) != n {
				t.Errorf("%d jobs arrived, want %d", len(ids), n)
			}
			for id, times := range ids {
				if times > 1 && !want.twice {
					t.Errorf("%s was sent %d times", id, times)
				}
			}
		})
	}
}

// A pipe that nobody writes to does not keep the process from stopping.
func TestSignalOnAnIdlePipe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cmd, stdout, stderr := w.command("enqueue", "--queue-url", w.url, "--run", "r", "-")
	pipe, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	sent, cancel := context.WithCancel(w.Context())
	defer cancel()
	w.aws.Intercept(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(rw, r)
			if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".SendMessageBatch") {
				cancel()
			}
		})
	})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := pipe.Write([]byte(lines(3))); err != nil {
		t.Fatal(err)
	}
	<-sent.Done()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%v: %s", err, stderr)
	}
	if s := summary(t, stdout.String()); s.Sent != 3 || s.Complete {
		t.Errorf("summary %s", stdout)
	}
	code, again, errs := w.run(lines(5), "enqueue", "--queue-url", w.url, "--run", "r", "-")
	if s := summary(t, again); code != 0 || s.Skipped != 3 || s.Sent != 2 {
		t.Errorf("again: exit code %d, %s, %s", code, again, errs)
	}
}
