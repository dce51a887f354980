package infra_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/sluicehq/sluice/internal/config"
	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/localaws/awstest"
	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
	"github.com/sluicehq/sluice/internal/processtest"
	"github.com/sluicehq/sluice/job"
)

// From an empty account to results, and back to an empty account.
func TestMinimal(t *testing.T) {
	t.Parallel()
	endpoint := moto(t)
	r := newRoot(t, "examples/minimal", endpoint, map[string]string{"moto_override.tf": onMoto})
	r.run(t, "validate")
	r.run(t, "apply", "-auto-approve")
	if out, _, code := r.try(t, "plan", "-detailed-exitcode"); code != 0 {
		t.Errorf("the second plan would change something:\n%s", out)
	}
	task := describeTask(t, endpoint, "sluice-drainer")
	t.Run("task", func(t *testing.T) { task.check(t) })
	t.Run("run", func(t *testing.T) {
		var outputs struct {
			Enqueue string `json:"enqueue_command"`
			Results string `json:"results"`
		}
		r.output(t, "sluice", &outputs)
		drainARun(t, endpoint, task, outputs.Enqueue, outputs.Results)
	})
	t.Run("destroy", func(t *testing.T) {
		if out, _, code := r.try(t, "destroy", "-auto-approve", "-target=module.sluice.aws_s3_bucket.results"); code == 0 {
			t.Errorf("the bucket went with the results in it:\n%s", out)
		}
		r.shell(t, readme(t, "Remove it without losing results"), "TF_CLI_ARGS_destroy=-no-color -auto-approve")
		if left := r.run(t, "state", "list"); strings.TrimSpace(left) != "" {
			t.Errorf("left of the state:\n%s", left)
		}
		client, bucket := objects(endpoint, http.DefaultClient), "sluice-123456789012-us-east-1"
		if out, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket}); err != nil || len(out.Contents) == 0 {
			t.Errorf("the results: %v, %v", out, err)
		}
	})
}

// readme returns the first commands of a section of README.md.
func readme(t *testing.T, section string) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "\n## "+section+"\n")
	_, after, _ = strings.Cut(after, "\n```sh\n")
	commands, _, found := strings.Cut(after, "```\n")
	if !found {
		t.Fatalf("README.md has no commands in %q", section)
	}
	return commands
}

// taskDefinition is what ECS would run.
type taskDefinition struct {
	CPU        string `json:"cpu"`
	Memory     string `json:"memory"`
	Containers []struct {
		Name        string                         `json:"name"`
		User        string                         `json:"user"`
		ReadOnly    bool                           `json:"readonlyRootFilesystem"`
		StopTimeout int                            `json:"stopTimeout"`
		Environment []struct{ Name, Value string } `json:"environment"`
		HealthCheck struct{ Command []string }     `json:"healthCheck"`
	} `json:"containerDefinitions"`
}

// describeTask asks ECS by its wire protocol: its SDK is no dependency of Sluice.
func describeTask(t *testing.T, endpoint, family string) taskDefinition {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, strings.NewReader(fmt.Sprintf(`{"taskDefinition": %q}`, family)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", "AmazonEC2ContainerServiceV20141113.DescribeTaskDefinition")
	request.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20261122/us-east-1/ecs/aws4_request, SignedHeaders=host, Signature=0")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var described struct {
		Task taskDefinition `json:"taskDefinition"`
	}
	decode(t, body, &described)
	if len(described.Task.Containers) != 1 {
		t.Fatalf("DescribeTaskDefinition: %s", body)
	}
	return described.Task
}

// The image's compose file gives the drainer what localstack/env.sh gives one that
// runs beside LocalStack, by names that there are.
func TestCompose(t *testing.T) {
	t.Parallel()
	names := func(file, expression string) (found []string) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(expression).FindAllStringSubmatch(string(text), -1) {
			found = append(found, m[1])
		}
		return found
	}
	given := names("compose.yaml", `(?m)^      ((?:SLUICE|AWS)_\w+): `)
	checkVariables(t, given)
	wanted := names("../localstack/env.sh", `(?m)^export (SLUICE_\w+)=`)
	for _, name := range wanted {
		if !slices.Contains(given, name) {
			t.Errorf("compose.yaml does not set %s", name)
		}
	}
	if len(wanted) < 5 {
		t.Errorf("localstack/env.sh sets just %q", wanted)
	}
}

func (d taskDefinition) environment() (env []string) {
	for _, v := range d.Containers[0].Environment {
		env = append(env, v.Name+"="+v.Value)
	}
	return env
}

// check holds the task to what the design asks of it.
func (d taskDefinition) check(t *testing.T) {
	c := d.Containers[0]
	if c.User != "65532:65532" || !c.ReadOnly || d.CPU != "256" || d.Memory != "512" {
		t.Errorf("user %s, read-only %v, %s CPU units, %s MiB", c.User, c.ReadOnly, d.CPU, d.Memory)
	}
	if want := []string{"CMD", "/drainer", "healthcheck"}; !slices.Equal(c.HealthCheck.Command, want) {
		t.Errorf("health check %q", c.HealthCheck.Command)
	}
	cfg, err := config.LoadForRun(d.environment())
	if err != nil {
		t.Fatalf("the drainer would not start: %v", err)
	}
	if kill := time.Duration(c.StopTimeout) * time.Second; cfg.Grace+10*time.Second > kill {
		t.Errorf("a grace of %v, and the kill after %v", cfg.Grace, kill)
	}
	checkVariables(t, slices.Collect(func(yield func(string) bool) {
		for _, v := range c.Environment {
			if !yield(v.Name) {
				return
			}
		}
	}))
}

// checkVariables holds the names of an environment to the configuration's table.
func checkVariables(t *testing.T, names []string) {
	t.Helper()
	known := map[string]bool{}
	for _, row := range (config.Config{}).Table(nil) {
		known[row.Variable] = true
	}
	for _, name := range names {
		if !known[name] && !strings.HasPrefix(name, "AWS_") { // those are the SDK's
			t.Errorf("%s is in the task definition and not in docs/configuration.md", name)
		}
	}
	if len(names) < 8 {
		t.Errorf("just %q: what was looked at?", names)
	}
}

// drainARun enqueues with the command that the outputs say, and drains with the
// environment that the task has. Bedrock and CloudWatch are the embedded ones:
// moto has no Bedrock, and does not speak the protocol of CloudWatch's client.
func drainARun(t *testing.T, endpoint string, task taskDefinition, enqueue, results string) {
	bin := processtest.Build(t, "..", "./cmd/producer", "./cmd/drainer")
	server, embedded := awstest.Serve(t, localaws.Options{Bedrock: bedrocksim.Options{Models: map[string]bedrocksim.Model{
		"us.anthropic.claude-haiku-4-5-20251001-v1:0": {RPM: 200, TPM: 200_000},
	}}})
	here := []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
		"AWS_ENDPOINT_URL=" + endpoint, "AWS_ENDPOINT_URL_BEDROCK_RUNTIME=" + embedded, "AWS_ENDPOINT_URL_CLOUDWATCH=" + embedded,
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test",
	}

	const n = 12
	dir := t.TempDir()
	write(t, filepath.Join(dir, "jobs.jsonl"), jobs("haiku", n))
	cmd := exec.CommandContext(t.Context(), "sh", "-c", enqueue)
	cmd.Dir, cmd.Env = dir, append(here, "AWS_REGION=us-east-1")
	out, err := cmd.Output()
	if err != nil {
		exit, _ := errors.AsType[*exec.ExitError](err)
		t.Fatalf("%s: %v: %s", enqueue, err, exit.Stderr)
	}
	var sent struct {
		Run  string
		Sent int
	}
	decode(t, out, &sent)
	if sent.Sent != n {
		t.Fatalf("enqueued: %s", out)
	}

	// The port is ours to choose: several tests run on this machine.
	drainer := startDrainer(t, bin, append(append(task.environment(), here...), "SLUICE_ADMIN_ADDR="+freeAddr(t)))
	uri := strings.TrimPrefix(results, "s3://")
	bucket, prefix, _ := strings.Cut(uri, "/")
	client := objects(endpoint, http.DefaultClient)
	for i := range n {
		r := awaitResult(t, client, bucket, prefix+job.Identity{Run: sent.Run, ID: fmt.Sprintf("job-%d", i)}.Key())
		if r.Status != job.Succeeded {
			t.Errorf("job-%d: %s", i, r.Status)
		}
	}
	drainer.Stop(time.Minute)
	if server.Calls()["CloudWatch.PutMetricData"] == 0 {
		t.Error("no metrics were published")
	}
}

// jobs are n jobs for a model, one a line.
func jobs(model string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"id":"job-%d","model":%q,"converse":{"messages":[{"role":"user","content":[{"text":"Say %d."}]}],"inferenceConfig":{"maxTokens":64}}}`+"\n", i, model, i)
	}
	return b.String()
}

// startDrainer starts the drainer of a directory of programs.
func startDrainer(t *testing.T, bin string, env []string) *processtest.Process {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "drainer"))
	cmd.Env = env
	return processtest.Start(t, cmd)
}

// objects is a client of an emulator's S3, over the HTTP client given.
func objects(endpoint string, over *http.Client) *s3.Client {
	return s3.New(s3.Options{
		HTTPClient: over,
		Region:     "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
		DisableLogOutputChecksumValidationSkipped: true, // moto sends none
	})
}

// awaitResult waits for a result and returns it.
func awaitResult(t *testing.T, client *s3.Client, bucket, key string) job.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
		if err == nil {
			defer out.Body.Close()
			body, err := io.ReadAll(out.Body)
			if err != nil {
				t.Fatal(err)
			}
			r, err := job.DecodeResult(body)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("no result s3://%s/%s: %v", bucket, key, err)
		}
	}
}

// empty deletes all objects of a bucket.
func empty(ctx context.Context, t *testing.T, client *s3.Client, bucket string) {
	t.Helper()
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			if _, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: aws.String(*o.Key)}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The module knows the fields of the models file that the drainer knows.
func TestModelFields(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/configuration.md") // generated from the fields
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	_, rest, _ := strings.Cut(string(text), "\nA model:\n")
	for _, table := range strings.SplitN(rest, "\nA route:\n", 2) {
		table, _, _ = strings.Cut(table, "\n\nQuotas are")
		for _, m := range regexp.MustCompile(`(?m)^\| ([a-z_]+) \|`).FindAllStringSubmatch(table, -1) {
			if m[1] != "field" {
				documented = append(documented, m[1])
			}
		}
	}
	module, err := os.ReadFile("variables.tf")
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, m := range regexp.MustCompile(`(?m)setsubtract\(flatten.*\[\n(.*)\n`).FindAllStringSubmatch(string(module), -1) {
		for _, name := range regexp.MustCompile(`"(\w+)"`).FindAllStringSubmatch(m[1], -1) {
			known = append(known, name[1])
		}
	}
	if len(known) < 13 || !slices.Equal(known, documented) {
		t.Errorf("variables.tf knows %q, docs/configuration.md has %q", known, documented)
	}
}

// The private example, and a route that it can't have.
func TestPrivate(t *testing.T) {
	t.Parallel()
	r := newRoot(t, "examples/private", moto(t), nil)
	r.run(t, "validate")
	made := r.plan(t).Planned.Root.all()
	var doors []string
	for _, e := range find(made, "aws_vpc_endpoint", "interface") {
		doors = append(doors, strings.TrimPrefix(e.text("service_name"), "com.amazonaws.eu-central-1."))
	}
	slices.Sort(doors)
	if want := []string{"bedrock-runtime", "ecr.api", "ecr.dkr", "logs", "monitoring", "sqs", "sts"}; !slices.Equal(doors, want) {
		t.Errorf("interface endpoints %q, want %q", doors, want)
	}
	if s3 := find(made, "aws_vpc_endpoint", "s3"); len(s3) != 1 || s3[0].text("vpc_endpoint_type") != "Gateway" {
		t.Errorf("S3's endpoints: %v", s3)
	}

	// A service that never sleeps always has something to say; that is the one alarm
	// for which nothing is a fault.
	for _, a := range alarms(t, made, "sluice") {
		if rings := a.state(times(30, none)) == "ALARM"; rings != strings.Contains(a.Name, "-silent-") {
			t.Errorf("%s: no data at all ring: %v", a.Name, rings)
		}
	}

	write(t, filepath.Join(r.dir, "models.json"), `{"m": {"routes": [{"model_id": "amazon.nova-lite-v1:0", "region": "us-west-2", "rpm": 1}]}}`)
	if _, stderr, code := r.try(t, "plan"); code == 0 || !strings.Contains(stderr, "a route in another Region can't be called") {
		t.Errorf("a route in another Region: exit code %d\n%s", code, stderr)
	}
}

// models is the module's argument for one model with these fields.
func models(fields string) string { return fmt.Sprintf("models = %q", `{"m": {`+fields+`}}`) }

// What is wrong is refused before anything is made.
func TestRefusals(t *testing.T) {
	t.Parallel()
	r := newRoot(t, "testdata/all", moto(t), nil)
	for _, tt := range []struct{ name, argument, want string }{
		{"name", `name = "Sluice"`, "lower-case letters"},
		{"models", `models = "{\"m\": {\"routes\": [{\"region\": \"us-east-1\"}]}}"`, "must be a JSON object of models"},
		{"no models", `models = "{}"`, "at least one model"},
		{"no such field of a model", models(`"fall_back": [], "routes": [{"model_id": "amazon.nova-lite-v1:0", "region": "us-east-1", "rpm": 1}]`), "a model with a field that there is not"},
		{"no such field of a route", models(`"routes": [{"model_id": "amazon.nova-lite-v1:0", "region": "us-east-1", "tpm": 1, "rmp": 10}]`), "a route with a field that there is not"},
		{"no quota", models(`"routes": [{"model_id": "amazon.nova-lite-v1:0", "region": "us-east-1"}]`), "must have an rpm or a tpm"},
		{"unpaced with a quota", models(`"routes": [{"model_id": "amazon.nova-lite-v1:0", "region": "us-east-1", "rpm": 1, "unpaced": true}]`), "must have an rpm or a tpm"},
		{"no such fallback", models(`"fallback": ["nope"], "routes": [{"model_id": "amazon.nova-lite-v1:0", "region": "us-east-1", "rpm": 1}]`), "a fallback to a model that it does not have"},
		{"queues", `queues = { "a b" = {} }`, "queues must have"},
		{"tasks", `tasks = 1.5`, "tasks must be"},
		{"asleep", `tasks = 0`, "scale_to_zero needs tasks"},
		{"many queues", `queues = { a = {}, b = {}, c = {}, d = {} }`, "scale_to_zero takes 3 queues"},
		{"environment", `environment = { SLUICE_GRACE = "5s" }`, "the module sets them"},
		{"profile", `application_profiles = {}`, "application_profiles must tell"},
		{"age", `oldest_job_age = "6 hours"`, "such as 90m"},
		{"size", `memory = 4096`, "no task of 256 CPU units with 4096 MiB"},
		{"odd size", "cpu = 1024\nmemory = 2560", "no task of 1024 CPU units with 2560 MiB"},
		{"geography", `geographies = { us = ["America"] }`, "a list of Regions"},
		{"VPC", `vpc_id = "default"`, "must be the ID of a VPC"},
		{"alias key", `kms_key_arn = "arn:aws:kms:us-east-1:123456789012:alias/x"`, "not of an alias"},
	} {
		write(t, filepath.Join(r.dir, "refused_override.tf"), "module \"sluice\" {\n"+tt.argument+"\n}\n")
		_, stderr, code := r.try(t, "plan")
		if text := strings.Join(strings.Fields(strings.ReplaceAll(stderr, "│", " ")), " "); code == 0 || !strings.Contains(text, tt.want) {
			t.Errorf("%s: exit code %d, want %q in\n%s", tt.name, code, tt.want, stderr)
		}
	}
}
