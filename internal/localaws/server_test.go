package localaws_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
)

const model = "anthropic.claude-sonnet-4-5-20250929-v1:0"

func newServer() *localaws.Server {
	return localaws.New(localaws.Options{Bedrock: bedrocksim.Options{Models: map[string]bedrocksim.Model{model: {}}}})
}

// everyService makes one call to each service.
func everyService(t *testing.T, s *localaws.Server, cfg aws.Config) {
	t.Helper()
	url := s.CreateQueue("jobs", nil)
	s.CreateBucket("results")
	if _, err := sqs.NewFromConfig(cfg).SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("x")}); err != nil {
		t.Error(err)
	}
	if _, err := s3.NewFromConfig(cfg).PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("results"), Key: aws.String("run/a b.json"), Body: strings.NewReader("x")}); err != nil {
		t.Error(err)
	}
	if _, err := bedrockruntime.NewFromConfig(cfg).InvokeModel(t.Context(), &bedrockruntime.InvokeModelInput{
		ModelId: aws.String(model), ContentType: aws.String("application/json"),
		Body: []byte(`{"anthropic_version":"bedrock-2023-05-31","max_tokens":10,"messages":[{"role":"user","content":"x"}]}`),
	}); err != nil {
		t.Error(err)
	}
	now := time.Now().Truncate(time.Second)
	if _, err := cloudwatch.NewFromConfig(cfg).PutMetricData(t.Context(), &cloudwatch.PutMetricDataInput{
		Namespace: aws.String("Sluice"), MetricData: []types.MetricDatum{{
			MetricName: aws.String("QueueWait"), Timestamp: &now, Unit: types.StandardUnitSeconds,
			Dimensions: []types.Dimension{{Name: aws.String("Service"), Value: aws.String("sluice")}},
			Values:     []float64{1, 2}, Counts: []float64{3, 4},
		}},
	}); err != nil {
		t.Error(err)
	}
	datum := localaws.Datum{Namespace: "Sluice", Name: "QueueWait", Dimensions: map[string]string{"Service": "sluice"}, Unit: "Seconds", Time: now, Value: 1, Count: 3}
	other := datum
	other.Value, other.Count = 2, 4
	if diff := cmp.Diff([]localaws.Datum{datum, other}, s.Metrics("Sluice", "")); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	want := map[string]int{"SQS.SendMessage": 1, "S3.PutObject": 1, "Bedrock.InvokeModel": 1, "CloudWatch.PutMetricData": 1}
	if diff := cmp.Diff(want, s.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestClientReachesEveryService(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		everyService(t, s, s.Config(s.Client(nil)))
	})
}

func TestListenReachesEveryService(t *testing.T) {
	t.Parallel()
	s := newServer()
	url, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	everyService(t, s, s.Config(nil))
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := http.Get(url); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after Close: got %v, want a refused connection", err)
	}
}

func TestClientDelaysEachWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		url := s.CreateQueue("jobs", nil)
		client := sqs.NewFromConfig(s.Config(s.Client(func() time.Duration { return 40 * time.Millisecond })))
		start := time.Now()
		if _, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url, WaitTimeSeconds: 2}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 2080*time.Millisecond {
			t.Errorf("took %v, want 2.08s", took)
		}
	})
}

// The answer to a receive is lost when its context ends on the way back: the
// message stays in flight (aws-sdk-go-v2 #2068).
func TestClientLosesAnswersOfGivenUpRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		url := s.CreateQueue("jobs", nil)
		client := sqs.NewFromConfig(s.Config(s.Client(func() time.Duration { return 40 * time.Millisecond })))
		if _, err := client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("x")}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
		defer cancel()
		if _, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &url}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want the deadline", err)
		}
		out, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url})
		if err != nil || len(out.Messages) != 0 {
			t.Errorf("received %d messages, error %v; want the message in flight", len(out.Messages), err)
		}
	})
}

// A poll that is given up while it waits takes nothing that comes later.
func TestGivenUpPollTakesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		url := s.CreateQueue("jobs", nil)
		client := sqs.NewFromConfig(s.Config(s.Client(nil)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &url, WaitTimeSeconds: 10}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want the deadline", err)
		}
		if _, err := client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("x")}); err != nil {
			t.Fatal(err)
		}
		out, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url})
		if err != nil || len(out.Messages) != 1 {
			t.Errorf("received %d messages, error %v; want the one that was sent", len(out.Messages), err)
		}
	})
}

func TestInterceptedFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault func(w http.ResponseWriter, r *http.Request)
		check func(error) bool
	}{
		{
			"an error", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
			func(err error) bool { return strings.Contains(err.Error(), "StatusCode: 503") },
		},
		{
			"a broken connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			func(err error) bool { return errors.Is(err, syscall.ECONNRESET) },
		},
		{
			"a hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			func(err error) bool { return errors.Is(err, context.DeadlineExceeded) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				s.CreateBucket("results")
				var away atomic.Bool
				away.Store(true)
				s.Intercept(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if away.Load() && localaws.Operation(r) == "S3.HeadBucket" {
							c.fault(w, r)
							return
						}
						next.ServeHTTP(w, r)
					})
				})
				client := s3.NewFromConfig(s.Config(s.Client(nil)), func(o *s3.Options) { o.Retryer = aws.NopRetryer{} })
				head := func() error {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					_, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String("results")})
					return err
				}
				if err := head(); err == nil || !c.check(err) {
					t.Errorf("got %v", err)
				}
				away.Store(false)
				if err := head(); err != nil {
					t.Errorf("when it is back: %v", err)
				}
				if n := s.Calls()["S3.HeadBucket"]; n != 2 {
					t.Errorf("counted %d calls, want 2", n)
				}
			})
		})
	}
}

// Config is written out by hand, so that no environment gets into it: it must
// be what the SDK loads where there is none.
func TestConfigIsTheDefaultOne(t *testing.T) {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "") // restores it
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := newServer()
	got := s.Config(nil)
	want, err := config.LoadDefaultConfig(t.Context(),
		config.WithRegion(got.Region), config.WithBaseEndpoint(*got.BaseEndpoint), config.WithCredentialsProvider(got.Credentials),
		config.WithSharedConfigFiles([]string{}), config.WithSharedCredentialsFiles([]string{}))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(aws.Config{},
		"ConfigSources", "Credentials", "HTTPClient", "ServiceOptions", "Logger", "RestrictFilePermissions")); diff != "" {
		t.Errorf("configuration (-SDK's +ours):\n%s", diff)
	}
}

func TestConfigIgnoresTheEnvironment(t *testing.T) {
	t.Setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1")
	t.Setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
	t.Setenv("AWS_PROFILE", "absent")
	t.Setenv("AWS_CA_BUNDLE", "/absent")
	t.Setenv("AWS_MAX_ATTEMPTS", "many")
	s := newServer()
	everyService(t, s, s.Config(s.Client(nil)))
}

// What localaws does not do it refuses, with an error that says so.
func TestRefusesWhatItDoesNotImplement(t *testing.T) {
	t.Parallel()
	s := newServer()
	cfg := s.Config(s.Client(nil))
	metrics := cloudwatch.NewFromConfig(cfg)
	queue := s.CreateQueue("jobs.fifo", map[string]string{"FifoQueue": "true"})
	now := time.Now()
	for doing, err := range map[string]error{
		"a metric expression": second(metrics.GetMetricData(t.Context(), &cloudwatch.GetMetricDataInput{
			StartTime: aws.Time(now.Add(-time.Hour)), EndTime: &now,
			MetricDataQueries: []types.MetricDataQuery{{Id: aws.String("e"), Expression: aws.String("m1 / m2")}},
		})),
		"a CloudWatch operation": second(metrics.PutDashboard(t.Context(), &cloudwatch.PutDashboardInput{DashboardName: aws.String("x"), DashboardBody: aws.String("{}")})),
		"an SQS operation":       second(sqs.NewFromConfig(cfg).TagQueue(t.Context(), &sqs.TagQueueInput{QueueUrl: &queue, Tags: map[string]string{"a": "b"}})),
		"a message on a FIFO queue": second(sqs.NewFromConfig(cfg).SendMessage(t.Context(), &sqs.SendMessageInput{
			QueueUrl: &queue, MessageBody: aws.String("x"), MessageGroupId: aws.String("g"),
		})),
	} {
		if refusal, ok := errors.AsType[smithy.APIError](err); !ok || !strings.Contains(refusal.ErrorMessage(), "localaws") {
			t.Errorf("%s: got %v, want an error that names localaws", doing, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestOperation(t *testing.T) {
	t.Parallel()
	got := map[string]string{}
	for _, request := range []string{
		"GET /b/k", "PUT /b/k", "HEAD /b/k", "DELETE /b/k", "GET /b?list-type=2", "HEAD /b", "PUT /b/", "POST /b?delete=",
		"POST /b/k?uploads=", "PUT /b/k?partNumber=1&uploadId=u", "POST /model/a%2Fb/converse", "POST /model/m/invoke",
	} {
		method, target, _ := strings.Cut(request, " ")
		r, err := http.NewRequest(method, "http://aws.localhost"+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		got[request] = localaws.Operation(r)
	}
	want := map[string]string{
		"GET /b/k": "S3.GetObject", "PUT /b/k": "S3.PutObject", "HEAD /b/k": "S3.HeadObject", "DELETE /b/k": "S3.DeleteObject",
		"GET /b?list-type=2": "S3.ListObjectsV2", "HEAD /b": "S3.HeadBucket", "PUT /b/": "S3.CreateBucket", "POST /b?delete=": "S3.DeleteObjects",
		"POST /b/k?uploads=": "S3.CreateMultipartUpload", "PUT /b/k?partNumber=1&uploadId=u": "S3.UploadPart",
		"POST /model/a%2Fb/converse": "Bedrock.Converse", "POST /model/m/invoke": "Bedrock.InvokeModel",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("operations (-want +got):\n%s\nin %v", diff, slices.Sorted(maps.Keys(got)))
	}
}
