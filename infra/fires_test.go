package infra_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/localaws/awstest"
	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
	"github.com/sluicehq/sluice/internal/processtest"
)

// onLocalStack stands in the copy whose alarms ring. LocalStack looks at an alarm
// once in all of its periods, and wants as many bad ones of the last few: with
// five, of which some have no request since the drainer has slowed down, it would
// ring by luck. TestPlan has the numbers. Without the redrive policy, which nobody
// here needs, the queues are made side by side.
const onLocalStack = `
resource "aws_cloudwatch_metric_alarm" "sluice" {
  evaluation_periods = min(each.value.for, 2)
}

resource "aws_sqs_queue" "jobs" {
  redrive_policy = null
}
`

// A throttle storm and a bury, on an emulator that evaluates alarms: the alarms
// ring, and when it is quiet the first ends. LocalStack evaluates those of a
// single metric only; TestPlan has the others.
func TestAlarmsFire(t *testing.T) {
	t.Parallel()
	endpoint := os.Getenv("SLUICE_TEST_LOCALSTACK")
	if endpoint == "" {
		t.Skip("SLUICE_TEST_LOCALSTACK names no LocalStack; .ci/run localstack starts one")
	}
	r := newRoot(t, "testdata/alarms", endpoint, map[string]string{"localstack_override.tf": onLocalStack})
	// No ECS there, so just what the drainer and the alarms need.
	var targets []string
	for _, part := range []string{"aws_sqs_queue.jobs", "aws_sqs_queue.dead_letters", "aws_s3_bucket.results", "aws_cloudwatch_metric_alarm.sluice"} {
		targets = append(targets, "-target=module.sluice."+part)
	}
	r.run(t, append([]string{"apply", "-auto-approve"}, targets...)...)
	t.Cleanup(func() {
		empty(context.WithoutCancel(t.Context()), t, objects(endpoint, http.DefaultClient), "rings-000000000000-us-east-1")
		r.run(t, append([]string{"destroy", "-auto-approve"}, targets...)...)
	})
	// Now that the queues are there, a plan knows the whole environment.
	environment := r.plan(t, "-refresh=false").Outputs["environment"]["after"].(map[string]any)

	const model = "amazon.nova-lite-v1:0"
	server, bedrock := awstest.Serve(t, localaws.Options{Bedrock: bedrocksim.Options{Models: map[string]bedrocksim.Model{model: {}}}})
	env := []string{
		"HOME=" + t.TempDir(), "AWS_ENDPOINT_URL=" + endpoint, "AWS_ENDPOINT_URL_BEDROCK_RUNTIME=" + bedrock,
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "SLUICE_ADMIN_ADDR=127.0.0.1:0",
	}
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		env = append(env, name+"="+environment[name].(string))
	}
	drainer := startDrainer(t, processtest.Build(t, "..", "./cmd/drainer"), env)

	// Steady work, so that every period has a rate.
	jobQueue := environment["SLUICE_QUEUE_URLS"].(string)
	queues := messages(endpoint, http.DefaultClient)
	send(t, queues, jobQueue, `{"modle":"nova"}`) // to bury
	feeding, stop := context.WithCancel(t.Context())
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		for n := 0; feeding.Err() == nil; n++ {
			body := fmt.Sprintf(`{"id":"job-%d","model":"nova","converse":{"messages":[{"role":"user","content":[{"text":"Say %d."}]}],"inferenceConfig":{"maxTokens":64}}}`, n, n)
			if err := deliver(feeding, queues, jobQueue, body); err != nil && feeding.Err() == nil {
				t.Error(err)
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
	}()
	defer func() {
		stop()
		<-fed
	}()

	watch := cloudwatch.New(cloudwatch.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
	awaitAlarm(t, watch, "rings-throttles-nova", types.StateValueOk)
	storm := bedrocksim.Fault{Kind: bedrocksim.Throttle, Rate: 0.5}
	server.Bedrock().Set(model, func(m *bedrocksim.Model) { m.Faults = []bedrocksim.Fault{storm} })
	awaitAlarm(t, watch, "rings-throttles-nova", types.StateValueAlarm)
	server.Bedrock().Set(model, func(m *bedrocksim.Model) { m.Faults = nil })
	awaitAlarm(t, watch, "rings-throttles-nova", types.StateValueOk)
	awaitAlarm(t, watch, "rings-dead-letters", types.StateValueAlarm)
	stop()
	drainer.Stop(time.Minute)
}

// alarmPatience is how long an alarm may take to change: a minute for SQS's
// metrics, a minute for the emulator to look at them, and a slow machine.
const alarmPatience = 3 * time.Minute

func awaitAlarm(t *testing.T, client *cloudwatch.Client, name string, want types.StateValue) {
	t.Helper()
	began := time.Now()
	for {
		out, err := client.DescribeAlarms(t.Context(), &cloudwatch.DescribeAlarmsInput{AlarmNames: []string{name}})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.MetricAlarms) != 1 {
			t.Fatalf("%d alarms called %s", len(out.MetricAlarms), name)
		}
		state := out.MetricAlarms[0].StateValue
		if state == want {
			t.Logf("%s: %s after %.0f s", name, state, time.Since(began).Seconds())
			return
		}
		if time.Since(began) > alarmPatience {
			t.Fatalf("%s is %s after %v, not %s", name, state, alarmPatience, want)
		}
		time.Sleep(time.Second)
	}
}
