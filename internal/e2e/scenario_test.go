// Package e2e runs the real producer and drainer processes against an AWS: the
// embedded one always, and an emulator or AWS itself where the environment
// names its endpoints (CONTRIBUTING.md). Bedrock is the simulator's process
// everywhere. It is tests and nothing else, and nobody imports it.
package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/enqueue"
	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
	"github.com/sluicehq/sluice/internal/processtest"
	"github.com/sluicehq/sluice/job"
)

// commands is the directory of the programs of a scenario.
type commands string

// start starts one of them.
func (c commands) start(t *testing.T, env []string, name string, args ...string) *processtest.Process {
	t.Helper()
	cmd := exec.Command(filepath.Join(string(c), name), args...)
	cmd.Env = append([]string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}, env...)
	return processtest.Start(t, cmd)
}

func TestScenario(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes half a minute of real time: left out by -short")
	}
	bin := commands(processtest.Build(t, "../..", "./cmd/producer", "./cmd/drainer", "./localstack/bedrocksim"))
	t.Run("localaws", func(t *testing.T) {
		t.Parallel()
		scenario(t, bin, inside(t))
	})
	t.Run(cmp.Or(os.Getenv("SLUICE_TEST_TARGET"), "endpoint"), func(t *testing.T) {
		t.Parallel()
		scenario(t, bin, outside(t))
	})
}

// The models, by alias. opus has used up its day before the first job.
var modelIDs = map[string]string{
	"sonnet": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
	"opus":   "us.anthropic.claude-opus-4-5-20251101-v1:0",
	"nova":   "amazon.nova-lite-v1:0",
}

const (
	// simulated is what the account has, and configured what the drainer
	// believes it has: five times sonnet's requests, hence the storm.
	simulated = `{
		"us.anthropic.claude-sonnet-4-5-20250929-v1:0": {"rpm": 600, "shape": "bucket:2s", "latency": {"base": "200ms"}},
		"us.anthropic.claude-opus-4-5-20251101-v1:0":   {"tpd": 1},
		"amazon.nova-lite-v1:0":                        {"rpm": 600, "shape": "bucket:2s", "latency": {"base": "50ms"}}
	}`
	configured = `{
		"sonnet": {"routes": [{"model_id": "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "region": "us-east-1", "rpm": 3000}]},
		"opus":   {"routes": [{"model_id": "us.anthropic.claude-opus-4-5-20251101-v1:0", "region": "us-east-1", "tpm": 100000}], "fallback": ["nova"]},
		"nova":   {"routes": [{"model_id": "amazon.nova-lite-v1:0", "region": "us-east-1", "rpm": 600}]}
	}`

	// grace is SLUICE_GRACE; invocations here end long before it does.
	grace = 15 * time.Second
)

// ending is how a job must end.
type ending struct {
	Status job.Status
	Model  string // that answered
	Reason job.Reason
	Buried bool
}

// input makes the lines of the run, and says how each must end, by id.
func input() (lines string, want map[string]ending) {
	var b strings.Builder
	want = make(map[string]ending)
	add := func(n int, kind, model, text string, end ending) {
		for i := range n {
			id := fmt.Sprintf("%s-%03d", kind, i)
			fmt.Fprintf(&b, `{"id":%q,"model":%q,"converse":{"messages":[{"role":"user","content":[{"text":"Ticket %s. %s"}]}],"inferenceConfig":{"maxTokens":100}}}`+"\n",
				id, model, id, text)
			want[id] = end
		}
	}
	add(150, "plain", "sonnet", "Where is my parcel?", ending{Status: job.Succeeded, Model: "sonnet"})
	add(20, "other", "nova", "Where is my parcel?", ending{Status: job.Succeeded, Model: "nova"})
	add(5, "fallback", "opus", "Where is my parcel?", ending{Status: job.Succeeded, Model: "nova"})
	add(1, "large", "nova", strings.Repeat("parcel ", job.MaxBody/7), ending{Status: job.Succeeded, Model: "nova"})
	add(1, "rejected", "sonnet", "[[sim:reject]]", ending{Status: job.Failed, Model: "sonnet", Reason: job.Rejected})
	add(1, "unknown", "sonnet-99", "Where is my parcel?", ending{Status: job.Failed, Model: "sonnet-99", Reason: job.UnknownModel, Buried: true})
	return b.String(), want
}

// scenario: a run of jobs meets a throttle storm, a quota of the day that is
// gone, and jobs that cannot be done; the drainer is stopped in the middle, and
// another one finishes.
func scenario(t *testing.T, bin commands, a target) {
	const run = "storm"
	began := time.Now()
	name := unique("sluice-e2e")
	dead := a.queue(t, name+"-dead", nil)
	copies := a.queue(t, name+"-copies", nil)
	jobs := a.queue(t, name+"-jobs", map[string]string{"MessageRetentionPeriod": "864000"})
	a.bucket(t, name)

	models := file(t, "models.json", simulated)
	sim := bin.start(t, nil, "bedrocksim", "-addr", "127.0.0.1:0", "-models", models)
	bedrock := sim.Says(`url=(\S+)`)
	env := append(a.env,
		"AWS_ENDPOINT_URL_BEDROCK_RUNTIME="+bedrock,
		"SLUICE_NAME="+name, "SLUICE_MODELS="+configured,
		"SLUICE_QUEUE_URLS="+jobs, "SLUICE_DLQ_URL="+dead, "SLUICE_RESULTS_QUEUE_URL="+copies,
		"SLUICE_RESULTS_S3=s3://"+name+"/results/", "SLUICE_PAYLOADS_S3=s3://"+name+"/payloads/",
		"SLUICE_ADMIN_ADDR=127.0.0.1:0", "SLUICE_METRICS_PERIOD=5s", "SLUICE_GRACE="+grace.String(),
	)

	// The run, and a message that is no job, which producer would refuse.
	lines, want := input()
	enqueueRun := func() (s enqueue.Summary) {
		t.Helper()
		producer := bin.start(t, env, "producer", "enqueue", "--queue-url", jobs, "--run", run, file(t, "jobs.jsonl", lines))
		producer.Succeeds(time.Minute)
		out := producer.Stdout.String()
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			t.Fatalf("producer's summary %q: %v", out, err)
		}
		return s
	}
	sent := len(want)
	if s := enqueueRun(); s.Sent != sent || s.Payloads != 1 {
		t.Errorf("producer sent %d jobs, %d by way of S3; want %d and 1", s.Sent, s.Payloads, sent)
	}
	_, err := a.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{
		QueueUrl: &jobs, MessageBody: aws.String(`{"id": "malformed", "run": "storm", "model": "sonnet", "convrse": {}}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	want["malformed"] = ending{Status: job.Failed, Reason: job.Malformed, Buried: true}

	// The first drainer, until the storm has been and a third of the jobs are
	// done.
	first := bin.start(t, env, "drainer")
	first.Until("a storm and a third of the answers", time.Minute, func() bool {
		seen := total(stats(t, bedrock))
		return seen.Throttled[bedrocksim.Requests] >= 5 && seen.Answered >= int64(len(want)/3)
	})
	first.Stop(grace)
	half := total(stats(t, bedrock))
	if n := len(a.results(t, name, run)); n >= len(want) {
		t.Fatalf("all %d results were there before the second drainer", n)
	}

	// What was sent is not sent again; what is left is the second drainer's.
	if s := enqueueRun(); s.Sent != 0 || s.Skipped != sent {
		t.Errorf("producer's second try sent %d jobs and skipped %d; want 0 and %d", s.Sent, s.Skipped, sent)
	}
	second := bin.start(t, env, "drainer", "run", "--until-empty")
	second.Succeeds(2 * time.Minute)
	byModel := stats(t, bedrock)
	seen := total(byModel)
	t.Logf("the first drainer: %d answers, %v throttles; both: %d answers, %v throttles; %v in all",
		half.Answered, half.Throttled, seen.Answered, seen.Throttled, time.Since(began).Round(time.Second))

	// One result each, its copy, and what is buried.
	got := make(map[string]ending)
	succeeded := int64(0)
	for key, r := range a.results(t, name, run) {
		if key != r.ID+".json" {
			t.Errorf("%s holds the result of %s", key, r.ID)
		}
		got[r.ID] = endingOf(r)
		if r.Status == job.Succeeded {
			succeeded++
		}
	}
	buried := make(map[string]ending)
	for _, m := range a.receiveAll(t, dead) {
		var trail job.Trail
		if err := json.Unmarshal([]byte(aws.ToString(m.MessageAttributes["sluice"].StringValue)), &trail); err != nil {
			t.Errorf("the sluice attribute of a dead letter: %v", err)
			continue
		}
		if _, twice := buried[trail.ID]; twice {
			t.Errorf("%s is buried twice", trail.ID)
		}
		buried[trail.ID] = ending{Reason: trail.Reason}
		if end := got[trail.ID]; end.Reason != trail.Reason {
			t.Errorf("%s is buried as %s, its result says %s", trail.ID, trail.Reason, end.Reason)
		} else {
			end.Buried = true
			got[trail.ID] = end
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("how the jobs ended (-want +got):\n%s", diff)
	}
	copied := make(map[string]bool)
	for _, m := range a.receiveAll(t, copies) {
		r, err := job.DecodeResult([]byte(*m.Body))
		if err != nil {
			t.Errorf("a copy: %v", err)
			continue
		}
		copied[r.ID] = true
		if r.Status != want[r.ID].Status {
			t.Errorf("the copy of %s says %s", r.ID, r.Status)
		}
	}
	if diff := gocmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(copied))); diff != "" {
		t.Errorf("copies of results (-want +got):\n%s", diff)
	}
	if left := a.receiveAll(t, jobs); len(left) != 0 {
		t.Errorf("%d messages are left on the job queue", len(left))
	}

	// What the simulator saw: nothing paid twice, no retry behind our back, and
	// the same throttles and answers that CloudWatch was told.
	if seen.Answered != succeeded || seen.Repeats != 0 || seen.Abandoned != 0 || seen.Retries != 0 {
		t.Errorf("the simulator answered %d times, %d of them again, %d in vain, %d to retries; %d jobs succeeded",
			seen.Answered, seen.Repeats, seen.Abandoned, seen.Retries, succeeded)
	}
	type counted struct{ Throttles, Invocations int64 }
	wanted := make(map[string]counted)
	for alias, id := range modelIDs {
		s := byModel["us-east-1/"+id]
		wanted[alias] = counted{s.Throttled[bedrocksim.Requests] + s.Throttled[bedrocksim.Day], s.Answered}
	}
	var read map[string]counted
	for range 60 { // AWS takes a while to show what it was told
		read = make(map[string]counted)
		for alias := range modelIDs {
			read[alias] = counted{a.count(t, began, name, alias, "Throttles"), a.count(t, began, name, alias, "Invocations")}
		}
		if maps.Equal(wanted, read) {
			break
		}
		time.Sleep(time.Second)
	}
	if diff := gocmp.Diff(wanted, read); diff != "" {
		t.Errorf("throttles and invocations, counted by the simulator and read from CloudWatch (-simulator +CloudWatch):\n%s", diff)
	}
}

func file(t *testing.T, name, content string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// stats asks the simulator what it saw, by "Region/model ID".
func stats(t *testing.T, bedrock string) (byModel map[string]bedrocksim.Stats) {
	t.Helper()
	answer, err := http.Get(bedrock + "/_sim/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&byModel); err != nil {
		t.Fatalf("the simulator's stats: %v", err)
	}
	return byModel
}

// total adds up what the scenario looks at.
func total(byModel map[string]bedrocksim.Stats) bedrocksim.Stats {
	sum := bedrocksim.Stats{Throttled: make(map[bedrocksim.Cause]int64)}
	for _, s := range byModel {
		sum.Answered += s.Answered
		sum.Abandoned += s.Abandoned
		sum.Repeats += s.Repeats
		sum.Retries += s.Retries
		for cause, n := range s.Throttled {
			sum.Throttled[cause] += n
		}
	}
	return sum
}

func endingOf(r job.Result) ending {
	e := ending{Status: r.Status, Model: r.Model}
	if r.Error != nil {
		e.Reason = r.Error.Reason
	}
	return e
}

// results reads every result of a run, by key below the run's prefix.
func (a target) results(t *testing.T, bucket, run string) map[string]job.Result {
	t.Helper()
	prefix := "results/" + run + "/"
	results := make(map[string]job.Result)
	for _, key := range a.keys(t.Context(), t, bucket, prefix) {
		if strings.HasPrefix(key, "_manifest/") {
			continue
		}
		object, err := a.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String(prefix + key)})
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(object.Body)
		object.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if results[key], err = job.DecodeResult(body); err != nil {
			t.Errorf("result %s: %v", key, err)
		}
	}
	return results
}

// receiveAll takes everything that a queue holds and that can be received.
func (a target) receiveAll(t *testing.T, url string) (all []sqstypes.Message) {
	t.Helper()
	for {
		out, err := a.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: &url, MaxNumberOfMessages: 10, WaitTimeSeconds: 1, VisibilityTimeout: 600,
			MessageAttributeNames: []string{"All"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return all
		}
		all = append(all, out.Messages...)
	}
}

// count reads a model's count of the scenario back from CloudWatch.
func (a target) count(t *testing.T, began time.Time, service, model, metric string) (sum int64) {
	t.Helper()
	out, err := a.cloudwatch.GetMetricData(t.Context(), &cloudwatch.GetMetricDataInput{
		StartTime: aws.Time(began.Truncate(time.Minute)), EndTime: aws.Time(time.Now().Truncate(time.Minute).Add(time.Minute)),
		MetricDataQueries: []cwtypes.MetricDataQuery{{Id: aws.String("q"), MetricStat: &cwtypes.MetricStat{
			Metric: &cwtypes.Metric{Namespace: aws.String("Sluice"), MetricName: &metric, Dimensions: []cwtypes.Dimension{
				{Name: aws.String("Service"), Value: &service}, {Name: aws.String("Model"), Value: &model},
			}},
			Period: aws.Int32(60), Stat: aws.String("Sum"),
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range out.MetricDataResults[0].Values {
		sum += int64(value)
	}
	return sum
}
