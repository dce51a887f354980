package infra_test

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// series is a metric as an alarm or a widget names it.
type series struct {
	Namespace, Name, Unit string
	Dimensions            map[string]string
}

// foreign are the metrics that AWS publishes and the module uses, with their
// dimensions.
var foreign = map[string][]string{
	"AWS/SQS ApproximateNumberOfMessagesVisible":    {"QueueName"},
	"AWS/SQS ApproximateNumberOfMessagesNotVisible": {"QueueName"},
	"AWS/SQS ApproximateNumberOfMessagesDelayed":    {"QueueName"},
	"AWS/ECS CPUUtilization":                        {"ClusterName", "ServiceName"},
	"AWS/ECS MemoryUtilization":                     {"ClusterName", "ServiceName"},
}

// check holds a series to what is published for the deployment "all". An empty
// unit is any.
func (s series) check(t *testing.T, where string) {
	t.Helper()
	dimensions, there := foreign[s.Namespace+" "+s.Name]
	unit := "Count"
	if s.Namespace == "Sluice" {
		i := slices.IndexFunc(published(), func(m metric) bool { return m.Name == s.Name })
		if there = i >= 0; there {
			dimensions, unit = slices.Clone(published()[i].Dimensions), published()[i].Unit
		}
		if s.Dimensions["Service"] != "all" {
			t.Errorf("%s: %s of service %q", where, s.Name, s.Dimensions["Service"])
		}
		if m, of := s.Dimensions["Model"]; of && !slices.Contains([]string{"sonnet", "nova/lite", "embed", "slow", "ours"}, m) {
			t.Errorf("%s: %s of model %q", where, s.Name, m)
		}
	}
	if !there {
		t.Errorf("%s: nobody publishes %s %s", where, s.Namespace, s.Name)
		return
	}
	if s.Unit != "" && s.Unit != unit {
		t.Errorf("%s: %s in %s, published in %s", where, s.Name, s.Unit, unit)
	}
	slices.Sort(dimensions)
	if got := slices.Sorted(maps.Keys(s.Dimensions)); !slices.Equal(got, dimensions) {
		t.Errorf("%s: %s by %q, published by %q", where, s.Name, got, dimensions)
	}
}

// alarm is an alarm of a plan.
type alarm struct {
	Name        string            `json:"alarm_name"`
	Description string            `json:"alarm_description"`
	Namespace   string            `json:"namespace"`
	Metric      string            `json:"metric_name"`
	Unit        string            `json:"unit"`
	Dimensions  map[string]string `json:"dimensions"`
	Missing     string            `json:"treat_missing_data"`
	Comparison  string            `json:"comparison_operator"`
	Threshold   float64           `json:"threshold"`
	Periods     int               `json:"evaluation_periods"`
	Period      int               `json:"period"`
	Actions     []string          `json:"alarm_actions"`
	OKActions   []string          `json:"ok_actions"`
	Queries     []struct {
		ID         string
		Expression string
		Return     bool `json:"return_data"`
		Metric     []struct {
			Namespace  string
			Name       string `json:"metric_name"`
			Unit       string
			Dimensions map[string]string
			Period     int
		}
	} `json:"metric_query"`
}

func alarms(t *testing.T, made []resource, name string) (found []alarm) {
	t.Helper()
	for _, r := range find(made, "aws_cloudwatch_metric_alarm", name) {
		text, err := json.Marshal(r.Values)
		if err != nil {
			t.Fatal(err)
		}
		var a alarm
		decode(t, text, &a)
		found = append(found, a)
	}
	return found
}

// words are the identifiers of an expression of metric math, functions and AND
// left out.
var words = regexp.MustCompile(`\b[a-z][a-z0-9]*\b`)

func (a alarm) check(t *testing.T) {
	t.Helper()
	if a.Metric != "" {
		series{a.Namespace, a.Metric, a.Unit, a.Dimensions}.check(t, a.Name)
		return
	}
	named, defined, expressions := map[string]bool{}, map[string]bool{}, 0
	for _, q := range a.Queries {
		for _, m := range q.Metric {
			series{m.Namespace, m.Name, m.Unit, m.Dimensions}.check(t, a.Name)
			defined[q.ID] = true
		}
		if q.Expression != "" {
			expressions++
			for _, w := range words.FindAllString(q.Expression, -1) {
				named[w] = true
			}
			if !q.Return {
				t.Errorf("%s: nobody looks at the expression", a.Name)
			}
		}
	}
	if diff := cmp.Diff(defined, named); diff != "" || expressions != 1 || len(defined) > 10 {
		t.Errorf("%s: %d expressions, %d metrics (-defined +named):\n%s", a.Name, expressions, len(defined), diff)
	}
}

var rowOf = regexp.MustCompile(`docs/operations\.md, row ([a-z-]+)\.$`)

func checkAlarms(t *testing.T, made []resource) {
	t.Helper()
	operations, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for _, a := range alarms(t, made, "sluice") {
		a.check(t)
		m := rowOf.FindStringSubmatch(a.Description)
		if m == nil {
			t.Errorf("%s names no row of docs/operations.md: %s", a.Name, a.Description)
			continue
		}
		rows[m[1]] = true
		if !strings.Contains(string(operations), "\n| `"+m[1]+"` |") {
			t.Errorf("docs/operations.md has no row %s", m[1])
		}
		topic := []string{"arn:aws:sns:us-east-1:123456789012:alarms"}
		if !slices.Equal(a.Actions, topic) || !slices.Equal(a.OKActions, topic) {
			t.Errorf("%s tells %q, and %q of its end", a.Name, a.Actions, a.OKActions)
		}
		if a.Missing != "notBreaching" { // a service that may sleep is silent by right
			t.Errorf("%s: missing data is %s", a.Name, a.Missing)
		}
		period := a.Period
		for _, q := range a.Queries {
			for _, m := range q.Metric {
				period = m.Period
			}
		}
		// Above what, for so many periods of so many seconds.
		if got, want := [3]float64{a.Threshold, float64(a.Periods), float64(period)}, map[string][3]float64{
			"dead-letters":  {0, 1, 60},
			"oldest-job":    {90 * 60, 5, 60},
			"drain-time":    {3 * 5 * 86400, 15, 60},
			"throttles":     {5, 5, 60},
			"capacity":      {10, 5, 60},
			"stuck":         {0, 10, 60},
			"silent":        {0, 10, 60},
			"failures":      {2, 1, 300},
			"result-writes": {0, 3, 60},
		}[m[1]]; got != want || a.Comparison != "GreaterThanThreshold" {
			t.Errorf("%s: %s %v, want %v", a.Name, a.Comparison, got, want)
		}
	}
	want := []string{"capacity", "dead-letters", "drain-time", "failures", "oldest-job", "result-writes", "silent", "stuck", "throttles"}
	if got := slices.Sorted(maps.Keys(rows)); !slices.Equal(got, want) {
		t.Errorf("alarms %q, want %q", got, want)
	}
	for _, a := range alarms(t, made, "scaling") {
		a.check(t)
	}
}

// checkDashboard holds every widget to what is published.
func checkDashboard(t *testing.T, made []resource) {
	t.Helper()
	boards := find(made, "aws_cloudwatch_dashboard", "sluice")
	if len(boards) != 1 {
		t.Fatalf("%d dashboards", len(boards))
	}
	body := boards[0].text("dashboard_body")
	if body == "" {
		t.Fatal("the plan does not know the dashboard")
	}
	var board struct {
		Widgets []struct {
			Type       string
			X, Y       int
			Properties struct {
				Title   string
				Alarms  []string
				Metrics [][]any
			}
		}
	}
	decode(t, []byte(body), &board)
	places, lines := map[[2]int]bool{}, 0
	for _, w := range board.Widgets {
		if places[[2]int{w.X, w.Y}] {
			t.Errorf("%s lies on another widget", w.Properties.Title)
		}
		places[[2]int{w.X, w.Y}] = true
		if w.Type == "alarm" {
			if got, want := len(w.Properties.Alarms), len(find(made, "aws_cloudwatch_metric_alarm", "sluice")); got != want {
				t.Errorf("the dashboard shows %d of %d alarms", got, want)
			}
			continue
		}
		for _, line := range w.Properties.Metrics {
			s := series{Dimensions: map[string]string{}}
			var text []string
			for _, part := range line {
				if p, ok := part.(string); ok {
					text = append(text, p)
				}
			}
			s.Namespace, s.Name = text[0], text[1]
			for pair := range slices.Chunk(text[2:], 2) {
				s.Dimensions[pair[0]] = pair[1]
			}
			s.check(t, w.Properties.Title)
			lines++
		}
	}
	if lines < 30 {
		t.Errorf("%d lines on the dashboard", lines)
	}
}

// checkQueues holds queues and bucket to what the design says of them.
func checkQueues(t *testing.T, made []resource) {
	t.Helper()
	const day = 86400.0
	deny := `"Condition":{"Bool":{"aws:SecureTransport":"false"}},"Effect":"Deny","Principal":"*"`
	for _, q := range slices.Concat(find(made, "aws_sqs_queue", "jobs"), find(made, "aws_sqs_queue", "dead_letters"), find(made, "aws_sqs_queue", "results")) {
		want := 14 * day
		if q.Name == "jobs" {
			want = 10 * day
		}
		if q.Values["message_retention_seconds"] != want || q.Values["receive_wait_time_seconds"] != 20.0 {
			t.Errorf("%s: retention %v s, wait %v s", q.Address, q.Values["message_retention_seconds"], q.Values["receive_wait_time_seconds"])
		}
		if !strings.Contains(q.text("policy"), deny) || !strings.Contains(q.text("policy"), q.text("name")) {
			t.Errorf("%s: policy %s", q.Address, q.text("policy"))
		}
		if q.text("kms_master_key_id") == "" {
			t.Errorf("%s: not under the customer's key", q.Address)
		}
	}
	dead := find(made, "aws_sqs_queue", "dead_letters")[0]
	if want := `{"redrivePermission":"byQueue","sourceQueueArns":["` + queueARN("all-jobs-bulk") + `","` + queueARN("all-jobs-urgent") + `"]}`; dead.text("redrive_allow_policy") != want {
		t.Errorf("redrive-allow policy %s", dead.text("redrive_allow_policy"))
	}
	if p := find(made, "aws_s3_bucket_policy", "results"); len(p) != 1 || !strings.Contains(p[0].text("policy"), deny) {
		t.Errorf("the bucket's policy: %v", p)
	}
	if b := find(made, "aws_s3_bucket", "results"); len(b) != 1 || b[0].Values["force_destroy"] != false {
		t.Errorf("the bucket: %v", b)
	}
	// The offline provider may know no more than 256 KiB: what is written counts.
	text, err := os.ReadFile("queues.tf")
	if err != nil {
		t.Fatal(err)
	}
	if n := regexp.MustCompile(`max_message_size +=.* 1048576\n`).FindAll(text, -1); len(n) != 3 {
		t.Errorf("%d queues take messages of 1 MiB, want 3", len(n))
	}
}
