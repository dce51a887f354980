package infra_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go/encoding/cbor"
	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/localaws/awstest"
	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
	"github.com/sluicehq/sluice/internal/processtest"
	"github.com/sluicehq/sluice/job"
)

// account is whose infrastructure is planned: moto's.
const account = "123456789012"

// policy is an IAM policy, as far as the module goes.
type policy struct {
	Statement []statement
}

type statement struct {
	Sid       string
	Effect    string
	Action    list
	Resource  list
	Condition map[string]map[string]list
}

// list is a string or several.
type list []string

func (l *list) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		return json.Unmarshal(data, (*[]string)(l))
	}
	*l = list{""}
	return json.Unmarshal(data, &(*l)[0])
}

func (l list) match(s string) bool {
	return slices.ContainsFunc(l, func(pattern string) bool { return wildcard(pattern).MatchString(s) })
}

// wildcard is a pattern of IAM: * is anything, also across slashes.
func wildcard(pattern string) *regexp.Regexp {
	quoted := strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(pattern))
	return regexp.MustCompile(`^(?s:` + quoted + `)$`)
}

// call is an action on a resource, with what conditions look at.
type call struct {
	action, resource string
	context          map[string]string
}

func (c call) String() string { return fmt.Sprintf("%s on %s %v", c.action, c.resource, c.context) }

// allows reports which statement of the policy allows the call, -1 for none. A
// condition that it does not know is an error of the test.
func (p policy) allows(t *testing.T, c call) int {
	t.Helper()
	return slices.IndexFunc(p.Statement, func(s statement) bool {
		if s.Effect != "Allow" {
			t.Fatalf("%s: effect %s", s.Sid, s.Effect)
		}
		return s.Action.match(c.action) && s.Resource.match(c.resource) && s.holds(t, c.context)
	})
}

func (s statement) holds(t *testing.T, context map[string]string) bool {
	t.Helper()
	for operator, keys := range s.Condition {
		for key, values := range keys {
			got, there := context[key]
			switch operator {
			case "StringEquals":
				there = there && slices.Contains(values, got)
			case "StringLike":
				there = there && values.match(got)
			default:
				t.Fatalf("%s: condition %s", s.Sid, operator)
			}
			if !there {
				return false
			}
		}
	}
	return true
}

// policies are what the module gives to whom, by the name of the policy.
func policies(t *testing.T, made []resource) map[string]policy {
	t.Helper()
	found := map[string]policy{}
	add := func(name string, r resource) {
		var p policy
		decode(t, []byte(r.text("policy")), &p)
		found[name] = p
	}
	for _, name := range []string{"task", "execution"} {
		for _, r := range find(made, "aws_iam_role_policy", name) {
			add(name, r)
		}
	}
	for _, r := range find(made, "aws_iam_policy", "apps") {
		add(r.Index.(string), r)
	}
	if names := slices.Sorted(maps.Keys(found)); !slices.Equal(names, []string{"execution", "operator", "producer", "reader", "task"}) {
		t.Fatalf("policies %q", names)
	}
	return found
}

// unused are the actions that no run here makes, with the reason why they are
// allowed all the same.
var unused = map[string]string{
	"kms:Decrypt":         "SQS and S3 make it with the caller's rights; no emulator encrypts",
	"kms:GenerateDataKey": "SQS and S3 make it with the caller's rights; no emulator encrypts",
}

// What the module plans when it is told everything at once: least privilege shown,
// and alarms and widgets on metrics that there are.
func TestPlan(t *testing.T) {
	t.Parallel()
	p := newRoot(t, "testdata/all", moto(t), nil).plan(t)
	made := p.Planned.Root.all()
	given := policies(t, made)
	t.Run("variables", func(t *testing.T) { checkVariables(t, p.variables()) })
	t.Run("privileges", func(t *testing.T) { checkPrivileges(t, given) })
	t.Run("others", func(t *testing.T) { checkOthers(t, given) })
	t.Run("alarms", func(t *testing.T) { checkAlarms(t, made) })
	t.Run("expressions", func(t *testing.T) { checkExpressions(t, made) })
	t.Run("dashboard", func(t *testing.T) { checkDashboard(t, made) })
	t.Run("queues", func(t *testing.T) { checkQueues(t, made) })
}

// checkPrivileges: every call that producer and drainer make is allowed by the role that makes
// it, on the resource that it names, and nothing is allowed that they never do.
// The execution role is ECS's, reader and operator are for apps and people: no
// command of ours makes their calls, and checkOthers has what they are.
func checkPrivileges(t *testing.T, given map[string]policy) {
	t.Helper()
	calls := record(t)
	for role, made := range calls {
		used := map[string]bool{}
		for _, c := range made {
			i := given[role].allows(t, c)
			if i < 0 {
				t.Errorf("%s may not %s", role, c)
				continue
			}
			used[given[role].Statement[i].Sid+" "+c.action] = true
		}
		for _, s := range given[role].Statement {
			for _, action := range s.Action {
				if _, excused := unused[action]; !used[s.Sid+" "+action] && !excused {
					t.Errorf("%s may %s (%s) and never does", role, action, s.Sid)
				}
			}
		}
	}
	// A matcher that allows everything would pass all of the above.
	for _, c := range []call{
		{"sqs:PurgeQueue", queueARN("all-jobs-bulk"), nil},
		{"sqs:ReceiveMessage", queueARN("all-dead-letters"), nil},
		{"sqs:SendMessage", queueARN("other-jobs-bulk"), nil},
		{"s3:DeleteObject", objectARN("results/r/a.json"), nil},
		{"s3:GetObject", objectARN("other/a.json"), nil},
		{"cloudwatch:PutMetricData", "*", map[string]string{"cloudwatch:namespace": "AWS/SQS"}},
		{"bedrock:InvokeModel", "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-sonnet-4-5-20250929-v1:0", nil},
		{"bedrock:InvokeModel", "arn:aws:bedrock:eu-west-1::foundation-model/amazon.titan-embed-text-v2:0", nil},
	} {
		if given["task"].allows(t, c) >= 0 {
			t.Errorf("task may %s", c)
		}
	}
	for _, c := range []call{
		{"sqs:ReceiveMessage", queueARN("all-jobs-bulk"), nil},
		{"s3:PutObject", objectARN("results/r/a.json"), nil},
		{"s3:GetObject", objectARN("results/r/a.json"), nil},
		{"s3:ListBucket", "arn:aws:s3:::all-123456789012-us-east-1", map[string]string{"s3:prefix": "results/"}},
		{"bedrock:InvokeModel", "arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-embed-text-v2:0", nil},
	} {
		if given["producer"].allows(t, c) >= 0 {
			t.Errorf("producer may %s", c)
		}
	}
}

// The policy in docs/operations.md, for whoever makes a role by hand, allows what
// the module's allows: that one is held to the calls.
func TestPolicyPage(t *testing.T) {
	t.Parallel()
	text := func(name, from, to string) string {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(content), from)
		part, _, found := strings.Cut(after, to)
		if !found {
			t.Fatalf("%s has nothing between %q and %q", name, from, to)
		}
		return part
	}
	var page policy
	decode(t, []byte(text("../docs/operations.md", "```json\n", "```")), &page)
	documented := map[string]string{}
	for _, s := range page.Statement {
		documented[s.Sid] = strings.Join(s.Action, " ")
	}
	module := map[string]string{}
	statements := regexp.MustCompile(`(?s)Sid\s+= "(\w+)".*?Action\s+= \[(.*?)\]`)
	for _, m := range statements.FindAllStringSubmatch(text("roles.tf", "task_statements = concat([", "policies = {"), -1) {
		module[m[1]] = strings.NewReplacer(`"`, "", ",", "").Replace(m[2])
	}
	if diff := cmp.Diff(module, documented); diff != "" {
		t.Errorf("actions by statement (-module +page):\n%s", diff)
	}
}

// checkOthers holds the rest to what they may do: no more than this.
func checkOthers(t *testing.T, given map[string]policy) {
	t.Helper()
	for role, want := range map[string][]string{
		"execution": {
			"logs:CreateLogStream,logs:PutLogEvents arn:aws:logs:us-east-1:123456789012:log-group:/sluice/all:*",
			"ecr:BatchCheckLayerAvailability,ecr:BatchGetImage,ecr:GetDownloadUrlForLayer arn:aws:ecr:us-east-1:123456789012:repository/sluice",
			"ecr:GetAuthorizationToken *",
		},
		"reader": {
			"s3:GetObject " + objectARN("results/*"),
			"s3:ListBucket arn:aws:s3:::all-123456789012-us-east-1",
			"sqs:ReceiveMessage,sqs:ChangeMessageVisibility,sqs:DeleteMessage,sqs:GetQueueAttributes " + queueARN("all-results"),
			"kms:Decrypt arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000",
		},
		"operator": {
			"sqs:ReceiveMessage,sqs:ChangeMessageVisibility,sqs:DeleteMessage,sqs:GetQueueAttributes," +
				"sqs:StartMessageMoveTask,sqs:ListMessageMoveTasks,sqs:CancelMessageMoveTask " + queueARN("all-dead-letters"),
			"sqs:SendMessage,sqs:GetQueueAttributes " + queueARN("all-jobs-bulk") + "," + queueARN("all-jobs-urgent"),
			"s3:GetObject " + objectARN("payloads/*"),
			"kms:Decrypt,kms:GenerateDataKey arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000",
		},
	} {
		var got []string
		for _, s := range given[role].Statement {
			got = append(got, strings.Join(s.Action, ",")+" "+strings.Join(s.Resource, ","))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", role, diff)
		}
	}
}

// variables are the names in the environment that the plan gives to the task.
func (p plan) variables() (names []string) {
	for _, part := range []string{"after", "after_unknown"} {
		values, _ := p.Outputs["environment"][part].(map[string]any)
		names = slices.AppendSeq(names, maps.Keys(values))
	}
	return names
}

func queueARN(name string) string { return "arn:aws:sqs:us-east-1:" + account + ":" + name }
func objectARN(key string) string {
	return "arn:aws:s3:::all-" + account + "-us-east-1/" + key
}

// recorder turns requests to the embedded AWS into what IAM would be asked. The
// access key says whose they are.
type recorder struct {
	mu    sync.Mutex
	calls map[string]map[string]call // by role and text
	wrong []string
}

var scope = regexp.MustCompile(`Credential=([^/]+)/\d+/([^/]+)/`)

func (r *recorder) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		request.Body = io.NopCloser(bytes.NewReader(body))
		status := &statusWriter{ResponseWriter: w}
		next.ServeHTTP(status, request)
		m := scope.FindStringSubmatch(request.Header.Get("Authorization"))
		if m == nil || m[1] == "test" {
			return // the test's own
		}
		calls, err := asked(request, body, m[2], status.code)
		r.mu.Lock()
		defer r.mu.Unlock()
		if err != nil {
			r.wrong = append(r.wrong, err.Error())
		}
		if r.calls[m[1]] == nil {
			r.calls[m[1]] = map[string]call{}
		}
		for _, c := range calls {
			r.calls[m[1]][c.String()] = c
		}
	})
}

type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// batched are the operations on several messages, and the action that allows
// them.
var batched = map[string]string{
	"SendMessageBatch":             "SendMessage",
	"DeleteMessageBatch":           "DeleteMessage",
	"ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
}

// asked is what a request asks of IAM.
func asked(r *http.Request, body []byte, region string, status int) ([]call, error) {
	operation := localaws.Operation(r)
	service, name, _ := strings.Cut(operation, ".")
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	object, whole := "arn:aws:s3:::"+bucket+"/"+key, "arn:aws:s3:::"+bucket
	switch operation {
	case "S3.HeadObject", "S3.GetObject":
		calls := []call{{action: "s3:GetObject", resource: object}}
		if status == http.StatusNotFound { // else it would be a 403
			calls = append(calls, call{action: "s3:ListBucket", resource: whole})
		}
		return calls, nil
	case "S3.PutObject":
		calls := []call{{action: "s3:PutObject", resource: object}}
		if r.Header.Get("If-Match") != "" {
			calls = append(calls, call{action: "s3:GetObject", resource: object})
		}
		return calls, nil
	case "S3.ListObjectsV2":
		return []call{{"s3:ListBucket", whole, map[string]string{"s3:prefix": r.URL.Query().Get("prefix")}}}, nil
	case "CloudWatch.PutMetricData":
		if r.Header.Get("Content-Encoding") == "gzip" { // the SDK's, of 10 KiB or more
			unpacked, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", operation, err)
			}
			if body, err = io.ReadAll(unpacked); err != nil {
				return nil, fmt.Errorf("%s: %w", operation, err)
			}
		}
		value, err := cbor.Decode(body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", operation, err)
		}
		fields, _ := value.(cbor.Map)
		namespace, _ := fields["Namespace"].(cbor.String)
		return []call{{"cloudwatch:PutMetricData", "*", map[string]string{"cloudwatch:namespace": string(namespace)}}}, nil
	case "Bedrock.Converse", "Bedrock.InvokeModel":
		id := strings.TrimPrefix(r.URL.Path, "/model/")
		return invocations(id[:strings.LastIndexByte(id, '/')], region)
	}
	if service != "SQS" {
		return nil, fmt.Errorf("%s: which action is that?", operation)
	}
	var in struct {
		QueueURL string `json:"QueueUrl"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, fmt.Errorf("%s: %w", operation, err)
	}
	if single, ok := batched[name]; ok {
		name = single
	}
	return []call{{action: "sqs:" + name, resource: queueARN(in.QueueURL[strings.LastIndexByte(in.QueueURL, '/')+1:])}}, nil
}

// invocations is what IAM is asked for an invocation, as AWS documents it: the
// right on what is called, and where that is a profile, the right on its model in
// each Region that it may choose, by way of the profile.
// https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-prereq.html
func invocations(id, region string) ([]call, error) {
	profile := func(arn, model string, regions ...string) (calls []call) {
		calls = append(calls, call{action: "bedrock:InvokeModel", resource: arn})
		for _, r := range regions {
			calls = append(calls, call{"bedrock:InvokeModel", "arn:aws:bedrock:" + r + "::foundation-model/" + model,
				map[string]string{"bedrock:InferenceProfileArn": arn}})
		}
		return calls
	}
	america := []string{"us-east-1", "us-east-2", "us-west-2"}
	of := "arn:aws:bedrock:" + region + ":" + account + ":inference-profile/" + id
	switch {
	case strings.HasPrefix(id, "us."):
		return profile(of, strings.TrimPrefix(id, "us."), america...), nil
	case strings.HasPrefix(id, "global."):
		return profile(of, strings.TrimPrefix(id, "global."), region, ""), nil
	case strings.Contains(id, ":application-inference-profile/abc123"):
		return profile(id, "amazon.nova-lite-v1:0", america...), nil
	case strings.Contains(id, ":provisioned-model/"):
		return []call{{action: "bedrock:InvokeModel", resource: id}}, nil
	case strings.HasPrefix(id, "amazon."):
		return []call{{action: "bedrock:InvokeModel", resource: "arn:aws:bedrock:" + region + "::foundation-model/" + id}}, nil
	}
	return nil, fmt.Errorf("what is %s?", id)
}

// record runs producer and drainer through all that they can do on the embedded
// AWS, and returns what they asked of IAM, by role.
func record(t *testing.T) map[string][]call {
	t.Helper()
	const bucket = "all-" + account + "-us-east-1"
	answers := bedrocksim.Model{Output: bedrocksim.Range{Min: 5, Max: 10}}
	nova := answers
	nova.Family = "amazon.nova"
	server, endpoint := awstest.Serve(t, localaws.Options{Bedrock: bedrocksim.Options{Models: map[string]bedrocksim.Model{
		"us.anthropic.claude-sonnet-4-5-20250929-v1:0":                                answers,
		"global.anthropic.claude-sonnet-4-5-20250929-v1:0":                            answers,
		"arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123": nova,
		"arn:aws:bedrock:us-east-1:123456789012:provisioned-model/def456":             nova,
		"amazon.titan-embed-text-v2:0":                                                {},
		"amazon.nova-micro-v1:0":                                                      answers,
	}}})
	rec := &recorder{calls: map[string]map[string]call{}}
	server.Intercept(rec.around)
	server.CreateBucket(bucket)
	bulk, urgent := server.CreateQueue("all-jobs-bulk", nil), server.CreateQueue("all-jobs-urgent", nil)
	models, err := os.ReadFile("testdata/all/models.json")
	if err != nil {
		t.Fatal(err)
	}
	bin := processtest.Build(t, "..", "./cmd/producer", "./cmd/drainer")
	env := func(role string) []string {
		return []string{
			"HOME=" + t.TempDir(), "AWS_REGION=us-east-1", "AWS_ENDPOINT_URL=" + endpoint,
			"AWS_ACCESS_KEY_ID=" + role, "AWS_SECRET_ACCESS_KEY=test",
		}
	}
	places := []string{"SLUICE_RESULTS_S3=s3://" + bucket + "/results/", "SLUICE_PAYLOADS_S3=s3://" + bucket + "/payloads/"}

	var lines strings.Builder
	lines.WriteString(jobs("sonnet", 40) + strings.ReplaceAll(jobs("nova/lite", 2), "job-", "lite-") + strings.ReplaceAll(jobs("ours", 2), "job-", "ours-"))
	fmt.Fprintln(&lines, `{"id":"embed","model":"embed","invoke":{"inputText":"words"}}`)
	fmt.Fprintf(&lines, `{"id":"large","model":"embed","invoke":{"inputText":%q}}`+"\n", strings.Repeat("word ", job.MaxBody/5+1))
	file := filepath.Join(t.TempDir(), "jobs.jsonl")
	write(t, file, lines.String())
	for range 2 { // the second reads the manifest
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "producer"), "enqueue", "--run", "r", "--queue-url", urgent, file)
		cmd.Env = append(env("producer"), places...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("producer: %v\n%s", err, out)
		}
	}

	queues := messages(endpoint, http.DefaultClient)
	send := func(lines string) {
		t.Helper()
		send(t, queues, bulk, lines)
	}
	// Jobs whose model has no quota for them yet, received so often that they would be
	// buried at the next but one: their release becomes a renewal.
	send(strings.ReplaceAll(jobs("slow", 3), `"id":"job-`, `"run":"r","id":"slow-`))
	for range 25 {
		out, err := queues.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &bulk, MaxNumberOfMessages: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range out.Messages {
			if _, err := queues.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{QueueUrl: &bulk, ReceiptHandle: m.ReceiptHandle}); err != nil {
				t.Fatal(err)
			}
		}
	}
	// One to bury, with no room for the reason.
	send(`{"id":"full","run":"r","modle":"` + strings.Repeat("x", job.MaxBody-40) + `"}`)

	drainer := startDrainer(t, bin, append(append(env("task"), places...),
		"SLUICE_QUEUE_URLS="+urgent+","+bulk, "SLUICE_MODELS="+string(models),
		"SLUICE_DLQ_URL="+server.CreateQueue("all-dead-letters", nil),
		"SLUICE_RESULTS_QUEUE_URL="+server.CreateQueue("all-results", nil),
		"SLUICE_QUOTA_FRACTION=0.333333", "SLUICE_HOLD=0s", "SLUICE_METRICS_PERIOD=1s", "SLUICE_GRACE=10s",
		"SLUICE_MAX_RECEIVES=27", "SLUICE_ADMIN_ADDR=127.0.0.1:0",
	))
	client := objects(endpoint, http.DefaultClient)
	await := func(ids ...string) {
		t.Helper()
		for _, id := range ids {
			awaitResult(t, client, bucket, "results/"+job.Identity{Run: "r", ID: id}.Key())
		}
	}
	await("embed", "large", "full", "lite-0", "ours-1", "job-0", "job-39")
	// What has its result already is not done again; its copy is sent again.
	before := server.Calls()["S3.GetObject"]
	send(strings.Replace(jobs("sonnet", 1), "{", `{"run":"r",`, 1))
	until(t, "the copy is sent again", func() bool { return server.Calls()["S3.GetObject"] > before })
	until(t, "a renewal", func() bool { return rec.has("task", "sqs:SendMessage", queueARN("all-jobs-bulk")) })
	drainer.Stop(time.Minute)

	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, w := range rec.wrong {
		t.Error(w)
	}
	made := map[string][]call{}
	for role, calls := range rec.calls {
		for _, text := range slices.Sorted(maps.Keys(calls)) {
			made[role] = append(made[role], calls[text])
		}
	}
	if roles := slices.Sorted(maps.Keys(made)); !slices.Equal(roles, []string{"producer", "task"}) {
		t.Fatalf("calls were made by %q", roles)
	}
	return made
}

func (r *recorder) has(role, action, resource string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls[role] {
		if c.action == action && c.resource == resource {
			return true
		}
	}
	return false
}

// messages is a client of an emulator's SQS, over the HTTP client given.
func messages(endpoint string, over *http.Client) *sqs.Client {
	return sqs.New(sqs.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, HTTPClient: over,
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
}

// send puts each line on a queue.
func send(t *testing.T, client *sqs.Client, url, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		line = strings.TrimSuffix(line, "\n")
		if err := deliver(t.Context(), client, url, line); err != nil {
			t.Fatal(err)
		}
	}
}

func deliver(ctx context.Context, client *sqs.Client, url, body string) error {
	_, err := client.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &body})
	return err
}

// until waits for something that is about to happen.
func until(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !happened(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
