package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/job"
)

const haiku = `{"haiku": {"routes": [{"model_id": "anthropic.claude-haiku-4-5-20251001-v1:0", "region": "us-east-1", "tpm": 1000}]}}`

// environ is the least that a drainer runs with, and the entries given; later
// ones win, as in a process.
func environ(entries ...string) []string {
	return append([]string{
		"SLUICE_QUEUE_URLS=https://sqs.us-east-1.amazonaws.com/1/jobs",
		"SLUICE_DLQ_URL=https://sqs.us-east-1.amazonaws.com/1/dlq",
		"SLUICE_MODELS=" + haiku,
		"SLUICE_RESULTS_S3=s3://bucket/results/",
		"SLUICE_MAX_IN_FLIGHT_BYTES=268435456", // the default is this machine's business
	}, entries...)
}

func TestLoadDefaults(t *testing.T) {
	t.Parallel()
	got, err := Load(environ())
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Name:      "sluice",
		QueueURLs: []string{"https://sqs.us-east-1.amazonaws.com/1/jobs"},
		DLQURL:    "https://sqs.us-east-1.amazonaws.com/1/dlq",
		Models: Models{"haiku": {
			Routes: []Route{{
				Route: job.Route{Region: "us-east-1", ModelID: "anthropic.claude-haiku-4-5-20251001-v1:0"},
				Quota: "anthropic.claude-haiku-4-5-20251001-v1:0", TPM: 1000,
			}},
			Burndown: 5, DefaultMaxTokens: 64000, Timeout: 15 * time.Minute, Family: "anthropic",
		}},
		Results:          Location{"bucket", "results/"},
		QuotaFraction:    1,
		MaxInFlight:      1024,
		MaxInFlightBytes: 256 << 20,
		Visibility:       2 * time.Minute,
		Hold:             20 * time.Second,
		MaxReceives:      50,
		Grace:            25 * time.Second,
		MetricsNamespace: "Sluice",
		MetricsPeriod:    time.Minute,
		MetricsDetail:    "model",
		AdminAddr:        "127.0.0.1:8080",
		LogLevel:         slog.LevelInfo,
		LogFormat:        "auto",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := got.ForRun(); err != nil {
		t.Error(err)
	}
}

func TestLoadReadsEveryVariable(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "models.json")
	if err := os.WriteFile(file, []byte(haiku), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{
		"SLUICE_NAME=batch",
		"SLUICE_QUEUE_URLS=http://127.0.0.1:4566/0/fast,http://127.0.0.1:4566/0/slow",
		"SLUICE_DLQ_URL=http://127.0.0.1:4566/0/dlq",
		"SLUICE_MODELS=",
		"SLUICE_MODELS_FILE=" + file,
		"SLUICE_RESULTS_S3=s3://bucket/results",
		"SLUICE_RESULTS_QUEUE_URL=http://127.0.0.1:4566/0/results",
		"SLUICE_PAYLOADS_S3=s3://bucket/payloads/",
		"SLUICE_QUOTA_FRACTION=0.25",
		"SLUICE_MAX_IN_FLIGHT=7",
		"SLUICE_MAX_IN_FLIGHT_BYTES=33554432",
		"SLUICE_VISIBILITY=30s",
		"SLUICE_HOLD=0s",
		"SLUICE_MAX_RECEIVES=21",
		"SLUICE_GRACE=100s",
		"SLUICE_METRICS_NAMESPACE=",
		"SLUICE_METRICS_PERIOD=10s",
		"SLUICE_METRICS_DETAIL=route",
		"SLUICE_PACING_TRACE=trace.jsonl",
		"SLUICE_ADMIN_ADDR=:0",
		"SLUICE_LOG_LEVEL=debug",
		"SLUICE_LOG_FORMAT=text",
	}
	got, err := Load(env)
	if err != nil {
		t.Fatal(err)
	}
	models, err := ParseModels([]byte(haiku))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Name:             "batch",
		QueueURLs:        []string{"http://127.0.0.1:4566/0/fast", "http://127.0.0.1:4566/0/slow"},
		DLQURL:           "http://127.0.0.1:4566/0/dlq",
		Models:           models,
		ModelsFile:       file,
		Results:          Location{"bucket", "results/"},
		ResultsQueueURL:  "http://127.0.0.1:4566/0/results",
		Payloads:         &Location{"bucket", "payloads/"},
		QuotaFraction:    0.25,
		MaxInFlight:      7,
		MaxInFlightBytes: 32 << 20,
		Visibility:       30 * time.Second,
		MaxReceives:      21,
		Grace:            100 * time.Second,
		MetricsPeriod:    10 * time.Second,
		MetricsDetail:    "route",
		PacingTrace:      "trace.jsonl",
		AdminAddr:        ":0",
		LogLevel:         slog.LevelDebug,
		LogFormat:        "text",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	// Every variable stands above, so that one which is not read is noticed.
	for _, row := range got.Table(env) {
		if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, row.Variable+"=") }) {
			t.Errorf("%s is missing from this test", row.Variable)
		}
	}
}

func TestLoadProblems(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		entry string
		want  string
	}{
		{"misspelt", "SLUICE_QOUTA_FRACTION=0.5", "SLUICE_QOUTA_FRACTION: no such variable; docs/configuration.md has the list"},
		{"misspelt to nothing", "SLUICE_DLQURL=", "SLUICE_DLQURL: no such variable; docs/configuration.md has the list"},
		{"name", "SLUICE_NAME=a b", `SLUICE_NAME: must be 1 to 128 letters, digits, dots, dashes or underscores, not "a b"`},
		{"no queue", "SLUICE_QUEUE_URLS=", "SLUICE_QUEUE_URLS: must be set"},
		{"queue name", "SLUICE_QUEUE_URLS=jobs", "SLUICE_QUEUE_URLS[0]: must be a queue URL such as https://sqs.us-east-1.amazonaws.com/123456789012/jobs"},
		{"queue ARN", "SLUICE_DLQ_URL=arn:aws:sqs:us-east-1:1:dlq", "SLUICE_DLQ_URL: must be a queue URL such as https://sqs.us-east-1.amazonaws.com/123456789012/jobs"},
		{"empty queue", "SLUICE_QUEUE_URLS=http://h/1/a,", "SLUICE_QUEUE_URLS[1]: must be a queue URL such as https://sqs.us-east-1.amazonaws.com/123456789012/jobs"},
		{"host only", "SLUICE_QUEUE_URLS=https://sqs.us-east-1.amazonaws.com/", "SLUICE_QUEUE_URLS[0]: must be a queue URL such as https://sqs.us-east-1.amazonaws.com/123456789012/jobs"},
		{"credentials", "SLUICE_QUEUE_URLS=https://u:secret@h/1/a", "SLUICE_QUEUE_URLS[0]: must be a plain queue URL, without credentials, query or fragment"},
		{"FIFO", "SLUICE_QUEUE_URLS=http://h/1/a.fifo", "SLUICE_QUEUE_URLS[0]: must be a standard queue: a FIFO queue keeps the order of a group, pacing lets whoever fits go first, and the two fight"},
		{"twice", "SLUICE_QUEUE_URLS=http://h/1/a,http://h/1/a", "SLUICE_QUEUE_URLS[1]: is the queue of SLUICE_QUEUE_URLS[0] too"},
		{"dead letters are jobs", "SLUICE_DLQ_URL=https://sqs.us-east-1.amazonaws.com/1/jobs", "SLUICE_DLQ_URL: is the queue of SLUICE_QUEUE_URLS[0] too"},
		{"results are dead letters", "SLUICE_RESULTS_QUEUE_URL=https://sqs.us-east-1.amazonaws.com/1/dlq", "SLUICE_RESULTS_QUEUE_URL: is the queue of SLUICE_DLQ_URL too"},
		{"no models", "SLUICE_MODELS=", "SLUICE_MODELS: must be set, or SLUICE_MODELS_FILE"},
		{"two models", "SLUICE_MODELS_FILE=/nowhere", "SLUICE_MODELS_FILE: SLUICE_MODELS is set too; which one holds?"},
		{"models", `SLUICE_MODELS={"haiku": {}}`, "SLUICE_MODELS: haiku.routes: must have at least one route"},
		{"no results", "SLUICE_RESULTS_S3=", "SLUICE_RESULTS_S3: must be set: a result that is not in S3 is not durable"},
		{"results", "SLUICE_RESULTS_S3=bucket/results", "SLUICE_RESULTS_S3: must be s3://bucket/prefix/"},
		{"bucket", "SLUICE_RESULTS_S3=s3://Bucket/results", `SLUICE_RESULTS_S3: must have a bucket of 3 to 63 of a-z, 0-9, "." and "-", not "Bucket"`},
		{"short bucket", "SLUICE_PAYLOADS_S3=s3://b/p/", `SLUICE_PAYLOADS_S3: must have a bucket of 3 to 63 of a-z, 0-9, "." and "-", not "b"`},
		{"dots", "SLUICE_RESULTS_S3=s3://bucket/a/../b", `SLUICE_RESULTS_S3: must have a prefix without empty, "." or ".." segments and of printable ASCII`},
		{"slashes", "SLUICE_RESULTS_S3=s3://bucket//", `SLUICE_RESULTS_S3: must have a prefix without empty, "." or ".." segments and of printable ASCII`},
		{"long prefix", "SLUICE_RESULTS_S3=s3://bucket/" + strings.Repeat("a", 512), "SLUICE_RESULTS_S3: must have a prefix of at most 512 bytes"},
		{"payloads within results", "SLUICE_PAYLOADS_S3=s3://bucket/results/payloads/", "SLUICE_PAYLOADS_S3: must be disjoint from SLUICE_RESULTS_S3 (s3://bucket/results/): a job could name a result as its payload"},
		{"results within payloads", "SLUICE_PAYLOADS_S3=s3://bucket/", "SLUICE_PAYLOADS_S3: must be disjoint from SLUICE_RESULTS_S3 (s3://bucket/results/): a job could name a result as its payload"},
		{"no fraction", "SLUICE_QUOTA_FRACTION=0", "SLUICE_QUOTA_FRACTION: must be above 0 and at most 1"},
		{"NaN", "SLUICE_QUOTA_FRACTION=NaN", "SLUICE_QUOTA_FRACTION: must be above 0 and at most 1"},
		{"a fraction in words", "SLUICE_QUOTA_FRACTION=1/4", `SLUICE_QUOTA_FRACTION: must be a number, not "1/4"`},
		{"percent", "SLUICE_QUOTA_FRACTION=50", "SLUICE_QUOTA_FRACTION: must be above 0 and at most 1"},
		{"in flight", "SLUICE_MAX_IN_FLIGHT=0", "SLUICE_MAX_IN_FLIGHT: must be at least 1"},
		{"in flight in words", "SLUICE_MAX_IN_FLIGHT=many", `SLUICE_MAX_IN_FLIGHT: must be a whole number, not "many"`},
		{"bytes", "SLUICE_MAX_IN_FLIGHT_BYTES=33554431", "SLUICE_MAX_IN_FLIGHT_BYTES: must be at least 33554432"},
		{"no bytes", "SLUICE_MAX_IN_FLIGHT_BYTES=0", "SLUICE_MAX_IN_FLIGHT_BYTES: must be at least 33554432"},
		{"visibility short", "SLUICE_VISIBILITY=9s", "SLUICE_VISIBILITY: must be whole seconds, 10s to 6h0m0s"},
		{"visibility long", "SLUICE_VISIBILITY=12h", "SLUICE_VISIBILITY: must be whole seconds, 10s to 6h0m0s"},
		{"visibility broken", "SLUICE_VISIBILITY=10500ms", "SLUICE_VISIBILITY: must be whole seconds, 10s to 6h0m0s"},
		{"visibility without unit", "SLUICE_VISIBILITY=120", `SLUICE_VISIBILITY: must be a duration such as 90s or 15m, not "120"`},
		{"hold", "SLUICE_HOLD=-1s", "SLUICE_HOLD: must be 0s to 1h0m0s"},
		{"receives", "SLUICE_MAX_RECEIVES=20", "SLUICE_MAX_RECEIVES: must be above 20, from where on releases are renewed"},
		{"grace", "SLUICE_GRACE=5s", "SLUICE_GRACE: must be at least 10s"},
		{"namespace", "SLUICE_METRICS_NAMESPACE=AWS/Bedrock", `SLUICE_METRICS_NAMESPACE: is no CloudWatch namespace: "AWS/Bedrock"`},
		{"period", "SLUICE_METRICS_PERIOD=0s", "SLUICE_METRICS_PERIOD: must be whole seconds, 1s to 1h0m0s"},
		{"detail", "SLUICE_METRICS_DETAIL=all", `SLUICE_METRICS_DETAIL: must be model or route, not "all"`},
		{"trace in no folder", "SLUICE_PACING_TRACE=/no/such/folder/trace", `SLUICE_PACING_TRACE: must be a file in a folder that is there, not "/no/such/folder/trace"`},
		{"trace that is a folder", "SLUICE_PACING_TRACE=.", `SLUICE_PACING_TRACE: must be a file in a folder that is there, not "."`},
		{"address", "SLUICE_ADMIN_ADDR=8080", `SLUICE_ADMIN_ADDR: must be host:port, not "8080"`},
		{"port", "SLUICE_ADMIN_ADDR=:65536", `SLUICE_ADMIN_ADDR: must be host:port, not ":65536"`},
		{"level", "SLUICE_LOG_LEVEL=loud", `SLUICE_LOG_LEVEL: must be debug, info, warn or error, not "loud"`},
		{"format", "SLUICE_LOG_FORMAT=xml", `SLUICE_LOG_FORMAT: must be auto, json or text, not "xml"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Load(environ(test.entry))
			if err == nil {
				t.Fatalf("%s: no error", test.entry)
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLoadReportsEverything(t *testing.T) {
	t.Parallel()
	_, err := Load([]string{
		"SLUICE_TYPO=1",
		"SLUICE_HOLD=soon",
		"SLUICE_GRACE=1s",
		`SLUICE_MODELS={"a": {"routes": [{"model_id": "x", "tpmm": 1}], "burndwon": 5}}`,
	})
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{
		"SLUICE_MODELS: a.routes[0].tpmm: unknown field",
		"SLUICE_MODELS: a.burndwon: unknown field",
		`SLUICE_HOLD: must be a duration such as 90s or 15m, not "soon"`,
		"SLUICE_TYPO: no such variable; docs/configuration.md has the list",
		"SLUICE_QUEUE_URLS: must be set",
		"SLUICE_RESULTS_S3: must be set: a result that is not in S3 is not durable",
		"SLUICE_GRACE: must be at least 10s",
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Error(diff)
	}
}

func TestLoadIgnoresForeignVariables(t *testing.T) {
	t.Parallel()
	foreign := []string{
		"SLUICE_TEST_ENDPOINT_SQS=http://127.0.0.1:4566",
		"SLUICE_SERVICE_HOST=10.0.0.1",
		"SLUICE_SERVICE_PORT=8080",
		"SLUICE_SERVICE_PORT_ADMIN=8080",
		"SLUICE_PORT=tcp://10.0.0.1:8080",
		"SLUICE_PORT_8080_TCP=tcp://10.0.0.1:8080",
		"SLUICE_DRAINER_PORT_8080_TCP_ADDR=10.0.0.1",
		"SLUICES=3",
		"NAME=another",
		"PATH=/bin",
	}
	if _, err := Load(environ(foreign...)); err != nil {
		t.Error(err)
	}
	for _, ours := range []string{"SLUICE_PORT=8080", "SLUICE_ADMIN_PORT=8080"} {
		if _, err := Load(environ(ours)); err == nil {
			t.Errorf("%s was ignored, and it looks like a setting", ours)
		}
	}
}

// TestDecodeKeepsText because the text travels in a struct tag.
func TestDecodeKeepsText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a", `"`, "`", `\`, `\n`, "a\nb\tc", `x" default:"y`, "=", "%s", "Zoë 東京", "\xff\x01"} {
		got, err := decode(variables()[0], text)
		if err != nil || got.String() != text {
			t.Errorf("decode(%q) = %q, %v", text, got, err)
		}
	}
}

func TestForRunNeedsDeadLetterQueue(t *testing.T) {
	t.Parallel()
	c, err := Load(environ("SLUICE_DLQ_URL="))
	if err != nil {
		t.Fatal("the configuration can be shown without:", err)
	}
	if err := c.ForRun(); err == nil || !strings.HasPrefix(err.Error(), "SLUICE_DLQ_URL: must be set") {
		t.Errorf("ForRun() = %v", err)
	}
	_, err = LoadForRun(environ("SLUICE_DLQ_URL=", "SLUICE_HOLD=soon"))
	for _, want := range []string{"SLUICE_DLQ_URL: must be set", "SLUICE_HOLD: must be"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("LoadForRun() = %v, want %q among it", err, want)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	env := environ("SLUICE_METRICS_NAMESPACE=", "SLUICE_HOLD=", "SLUICE_RESULTS_QUEUE_URL=https://user:secret@h/1/q")
	c, err := Load(env)
	if err == nil {
		t.Fatal("credentials were accepted")
	}
	rows := make(map[string]Row)
	for _, row := range c.Table(env) {
		rows[row.Variable] = row
	}
	for _, want := range []Row{
		{"SLUICE_NAME", "sluice", "default"},
		{"SLUICE_QUEUE_URLS", "https://sqs.us-east-1.amazonaws.com/1/jobs", "env"},
		{"SLUICE_RESULTS_QUEUE_URL", "https://hidden@h/1/q", "env"},
		{"SLUICE_RESULTS_S3", "s3://bucket/results/", "env"},
		{"SLUICE_PAYLOADS_S3", "", "default"},
		{"SLUICE_HOLD", "20s", "default"},
		{"SLUICE_METRICS_NAMESPACE", "", "env"},
		{"SLUICE_LOG_LEVEL", "info", "default"},
		{"SLUICE_MODELS", `{"haiku":{"routes":[{"model_id":"anthropic.claude-haiku-4-5-20251001-v1:0","region":"us-east-1","tpm":1000,"quota":"anthropic.claude-haiku-4-5-20251001-v1:0"}],"burndown":5,"default_max_tokens":64000,"timeout":"15m0s"}}`, "env"},
	} {
		if diff := cmp.Diff(want, rows[want.Variable]); diff != "" {
			t.Error(diff)
		}
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"sluice":                "sluice",
		"https://h/1/q":         "https://h/1/q",
		"https://u:pw@h/1/q":    "https://hidden@h/1/q",
		"u:pw@h/1/q":            "(hidden)",
		"https://u:p%w@h/1/q":   "(hidden)",
		"https://h/1/q@version": "(hidden)",
	} {
		if got := redact(in); got != want {
			t.Errorf("redact(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestDefaultInFlightBytes(t *testing.T) {
	t.Parallel()
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text + "\n")} }
	tests := []struct {
		name string
		root fstest.MapFS
		want int64
	}{
		{"none", fstest.MapFS{}, 256 << 20},
		{"v2 without limit", fstest.MapFS{"sys/fs/cgroup/memory.max": file("max")}, 256 << 20},
		{"v2 in a container", fstest.MapFS{
			"proc/self/cgroup":         file("0::/"),
			"sys/fs/cgroup/memory.max": file("4294967296"),
		}, 1 << 30},
		{"v2 in a slice", fstest.MapFS{
			"proc/self/cgroup":                                     file("0::/system.slice/sluice.service"),
			"sys/fs/cgroup/system.slice/memory.max":                file("536870912"),
			"sys/fs/cgroup/system.slice/sluice.service/memory.max": file("1073741824"),
		}, 128 << 20},
		{"v2 outside of the namespace", fstest.MapFS{
			"proc/self/cgroup":         file("0::/../../elsewhere"),
			"sys/fs/cgroup/memory.max": file("536870912"),
		}, 128 << 20},
		{"v1", fstest.MapFS{
			"proc/self/cgroup":                           file("5:memory:/docker/abc\n0::/"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("536870912"),
		}, 128 << 20},
		{"v1 without limit", fstest.MapFS{"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712")}, 256 << 20},
		{"tiny", fstest.MapFS{"sys/fs/cgroup/memory.max": file("67108864")}, 32 << 20},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := defaultInFlightBytes(groupLimit(test.root)); got != test.want {
				t.Errorf("%d, want %d", got, test.want)
			}
		})
	}
}
