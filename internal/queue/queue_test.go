package queue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/queue"
	"github.com/sluicehq/sluice/job"
)

const visibility = time.Minute

// fixture is one queue of an embedded AWS, reached by the real SDK client.
type fixture struct {
	*testing.T
	aws    *localaws.Server
	client *sqs.Client
	url    string
	log    bytes.Buffer
	*queue.Queue
}

// in runs a test in a bubble: waits cost nothing, and the clock stands still
// between them.
func in(t *testing.T, attributes map[string]string, test func(*fixture)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{T: t, aws: localaws.New(localaws.Options{})}
		f.client = sqs.NewFromConfig(f.aws.Config(f.aws.Client(nil)))
		f.url = f.aws.CreateQueue("orders", attributes)
		f.open(queue.Options{})
		test(f)
	})
}

// open makes the fixture's queue anew with these options.
func (f *fixture) open(o queue.Options) {
	o.Log = slog.New(slog.NewTextHandler(&f.log, nil))
	f.Queue = queue.New(f.client, f.url, o)
}

// payloads gives the fixture's queue a payload prefix.
func (f *fixture) payloads() *queue.Payloads {
	f.aws.CreateBucket("bucket")
	p := queue.NewPayloads(s3.NewFromConfig(f.aws.Config(f.aws.Client(nil))), "bucket", "payloads/")
	f.open(queue.Options{Payloads: p})
	return p
}

func (f *fixture) send(m job.Message) {
	f.Helper()
	if err := f.Send(f.Context(), m); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) receive(limit int) []job.Delivery {
	f.Helper()
	d, err := f.Receive(f.Context(), limit, time.Second, visibility)
	if err != nil {
		f.Fatal(err)
	}
	return d
}

// receiveOne wants exactly one message to be there.
func (f *fixture) receiveOne() job.Delivery {
	f.Helper()
	d := f.receive(10)
	if len(d) != 1 {
		f.Fatalf("received %d messages, want 1", len(d))
	}
	return d[0]
}

// intercept lets edit change the answers of one operation, as decoded JSON.
func (f *fixture) intercept(operation string, edit func(answer map[string]any)) {
	f.aws.Intercept(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if localaws.Operation(r) != operation {
				next.ServeHTTP(w, r)
				return
			}
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			var answer map[string]any
			if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil {
				panic(err)
			}
			edit(answer)
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			if err := json.NewEncoder(w).Encode(answer); err != nil {
				panic(err)
			}
		})
	})
}

// refuse answers every request with an error of SQS.
func (f *fixture) refuse(status int, code string) {
	f.aws.Intercept(func(http.Handler) http.Handler { return refusal(status, code) })
}

func refusal(status int, code string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, `{"__type":"com.amazonaws.sqs#`+code+`","message":"no"}`)
	})
}

// aws-sdk-go-v2 #2005: without asking, there is no receive count.
func TestReceiveAsksForAttributes_2005(t *testing.T) {
	in(t, nil, func(f *fixture) {
		sent := time.Now()
		want := job.Delivery{
			Body: []byte(`{"prompt":"<grüße> & \u0001"}`), Receives: 1, Sent: sent.UTC(), Group: "tenant-7",
			Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
			Trail: job.Trail{
				ID: "order-1", Run: "nightly", Submitted: sent.Add(-time.Hour).UTC(), Source: f.url,
				Attempts: 3, Reason: job.Receives, Code: "c", BuriedAt: sent.Add(-time.Minute).UTC(),
			},
		}
		f.send(job.Message{Body: want.Body, Group: want.Group, Traceparent: want.Traceparent, Trail: want.Trail})
		ignored := cmp.FilterPath(func(p cmp.Path) bool {
			return p.String() == "MessageID" || p.String() == "Handle"
		}, cmp.Ignore())
		for want.Receives = 1; want.Receives <= 2; want.Receives++ {
			got := f.receiveOne()
			if diff := cmp.Diff(want, got, ignored); diff != "" {
				f.Errorf("receipt %d (-want +got):\n%s", want.Receives, diff)
			}
			if got.MessageID == "" || got.Handle == "" {
				f.Errorf("no message ID or handle: %+v", got)
			}
			time.Sleep(visibility)
		}
	})
}

// localstack #10908, ministack #577: emulators that leave the attributes out.
func TestReceiveWithoutAttributes_10908(t *testing.T) {
	in(t, nil, func(f *fixture) {
		f.intercept("SQS.ReceiveMessage", func(answer map[string]any) {
			for _, m := range answer["Messages"].([]any) {
				delete(m.(map[string]any), "Attributes")
			}
		})
		f.send(job.Message{Body: []byte("{}")})
		if d := f.receiveOne(); d.Receives != 1 || !d.Sent.Equal(time.Now()) {
			f.Errorf("receives %d, sent %v: want a message that is new at %v", d.Receives, d.Sent, time.Now())
		}
	})
}

func TestTrailIsBelievedAsFarAsItCanBeTrue(t *testing.T) {
	in(t, nil, func(f *fixture) {
		now := time.Now().UTC()
		stamp := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339Nano) }
		for name, tc := range map[string]struct {
			attribute string
			want      job.Trail
		}{
			"whole":           {`{"id":"a","run":"r","submitted":"` + stamp(-time.Hour) + `"}`, job.Trail{ID: "a", Run: "r", Submitted: now.Add(-time.Hour)}},
			"at once":         {`{"submitted":"` + stamp(0) + `"}`, job.Trail{Submitted: now}},
			"from the future": {`{"id":"a","submitted":"` + stamp(time.Second) + `"}`, job.Trail{ID: "a"}},
			"no name":         {`{"id":"../../other","run":"_manifest","attempts":2}`, job.Trail{Attempts: 2}},
			"fewer than none": {`{"id":"a","attempts":-5}`, job.Trail{ID: "a"}},
			"newer than us":   {`{"id":"a","later_field":1}`, job.Trail{ID: "a"}},
			"not JSON":        {`order-8412`, job.Trail{}},
			"wrong type":      {`{"id":"a","attempts":"many"}`, job.Trail{}},
			"cut off":         {`{"id":"a","run":"r`, job.Trail{}},
		} {
			_, err := f.client.SendMessage(f.Context(), &sqs.SendMessageInput{
				QueueUrl: &f.url, MessageBody: aws.String("{}"),
				MessageAttributes: map[string]types.MessageAttributeValue{
					"sluice": {DataType: aws.String("String"), StringValue: aws.String(tc.attribute)},
				},
			})
			if err != nil {
				f.Fatal(err)
			}
			d := f.receiveOne()
			if diff := cmp.Diff(tc.want, d.Trail); diff != "" {
				f.Errorf("%s (-want +got):\n%s", name, diff)
			}
			f.Delete(f.Context(), []string{d.Handle})
		}
	})
}

// The SDK fails a whole receive for one wrong MD5.
func TestReceiveLeavesOutWhatIsDamaged(t *testing.T) {
	in(t, nil, func(f *fixture) {
		damage := true
		f.intercept("SQS.ReceiveMessage", func(answer map[string]any) {
			if messages := answer["Messages"].([]any); damage {
				messages[1].(map[string]any)["Body"] = `{"n":9}`
				damage = false
			}
		})
		for n := range 3 {
			f.send(job.Message{Body: []byte(`{"n":` + strconv.Itoa(n) + `}`)})
		}
		good := f.receive(10)
		if len(good) != 2 {
			f.Fatalf("received %d messages, want the 2 good ones", len(good))
		}
		f.Delete(f.Context(), []string{good[0].Handle, good[1].Handle})
		if n := strings.Count(f.log.String(), "message damaged"); n != 1 {
			f.Errorf("%d lines of log for a damaged message, want 1:\n%s", n, f.log.String())
		}
		time.Sleep(visibility)
		if d := f.receiveOne(); d.Receives != 2 {
			f.Errorf("the damaged message came again with receive count %d, want 2", d.Receives)
		}
	})
}

func TestReceiveWaits(t *testing.T) {
	in(t, map[string]string{"ReceiveMessageWaitTimeSeconds": "20"}, func(f *fixture) {
		for _, tc := range []struct{ wait, want time.Duration }{
			{0, time.Second}, // not the queue's own 20 s
			{5 * time.Second, 5 * time.Second},
		} {
			start := time.Now()
			if d, err := f.Receive(f.Context(), 10, tc.wait, visibility); err != nil || len(d) != 0 {
				f.Errorf("%d messages, error %v from an empty queue", len(d), err)
			}
			if took := time.Since(start); took != tc.want {
				f.Errorf("a wait of %v took %v, want %v", tc.wait, took, tc.want)
			}
		}
		time.AfterFunc(3*time.Second, func() { f.Send(f.Context(), job.Message{Body: []byte("{}")}) })
		start := time.Now()
		if d, err := f.Receive(f.Context(), 10, 20*time.Second, visibility); err != nil || len(d) != 1 {
			f.Fatalf("%d messages, error %v, want 1", len(d), err)
		}
		if took := time.Since(start); took != 3*time.Second {
			f.Errorf("a long poll took %v for a message that came after 3 s", took)
		}
	})
}

// A connection that went silent ends every call, and a poll not before its wait.
func TestSilenceEnds(t *testing.T) {
	in(t, nil, func(f *fixture) {
		f.aws.Intercept(func(http.Handler) http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		})
		for name, tc := range map[string]struct {
			call  func() error
			after time.Duration
		}{
			"receive": {func() error {
				_, err := f.Receive(f.Context(), 10, 20*time.Second, visibility)
				return err
			}, 40 * time.Second},
			"visibility": {func() error { return f.SetVisibility(f.Context(), []job.Visibility{{Handle: "h"}})[0] }, 20 * time.Second},
			"delete":     {func() error { return f.Delete(f.Context(), []string{"h"})[0] }, 20 * time.Second},
			"send":       {func() error { return f.Send(f.Context(), job.Message{Body: []byte("{}")}) }, 20 * time.Second},
			"describe":   {func() error { _, err := f.Describe(f.Context()); return err }, 20 * time.Second},
		} {
			start := time.Now()
			if err := tc.call(); err == nil || errors.Is(err, job.ErrDenied) {
				f.Errorf("%s: error %v", name, err)
			}
			if took := time.Since(start); took != tc.after {
				f.Errorf("%s ended after %v, want %v", name, took, tc.after)
			}
		}
	})
}

func TestDescribe(t *testing.T) {
	in(t, map[string]string{"MessageRetentionPeriod": "864000"}, func(f *fixture) {
		for range 3 {
			f.send(job.Message{Body: []byte("{}")})
		}
		f.send(job.Message{Body: []byte("{}"), Delay: time.Minute})
		f.receive(1)
		got, err := f.Describe(f.Context())
		if err != nil {
			f.Fatal(err)
		}
		want := queue.Attributes{
			Visible: 2, Delayed: 1, InFlight: 1, Retention: 240 * time.Hour,
			MaxMessageBytes: 1 << 20,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			f.Errorf("(-want +got):\n%s", diff)
		}
		fifo := queue.New(f.client, f.aws.CreateQueue("orders.fifo", map[string]string{"FifoQueue": "true"}), queue.Options{})
		if got, err := fifo.Describe(f.Context()); err != nil || !got.FIFO {
			f.Errorf("FIFO %v, error %v, want true", got.FIFO, err)
		}
		f.intercept("SQS.GetQueueAttributes", func(answer map[string]any) {
			delete(answer["Attributes"].(map[string]any), "MessageRetentionPeriod")
		})
		if _, err := f.Describe(f.Context()); err == nil || !strings.Contains(err.Error(), "orders: MessageRetentionPeriod") {
			f.Errorf("error %v, want one that names the attribute", err)
		}
	})
}

// NServiceBus.AmazonSQS #65: ages by the local clock are wrong under skew.
func TestOffset_65(t *testing.T) {
	in(t, nil, func(f *fixture) {
		var skew time.Duration
		f.aws.Intercept(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(skew).UTC().Format(http.TimeFormat))
				next.ServeHTTP(w, r)
			})
		})
		if got := f.Offset(); got != 0 {
			f.Errorf("offset %v before the first answer", got)
		}
		for _, tc := range []struct{ at, skew, want time.Duration }{
			{0, 0, 0},
			{400 * time.Millisecond, 0, 0}, // the Date is cut off
			{0, 90 * time.Second, 90 * time.Second},
			{0, -time.Hour, -time.Hour},
			{0, 0, 0}, // and mends
		} {
			time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second + tc.at)))
			skew = tc.skew
			f.send(job.Message{Body: []byte("{}")})
			if got := f.Offset(); got != tc.want {
				f.Errorf("clock %v away, %v into a second: offset %v, want %v", tc.skew, tc.at, got, tc.want)
			}
		}
	})
}

// bbc/sqs-consumer #23: what spins at full speed on a missing queue or on bad
// credentials. The loop must know them from what passes.
func TestDenied_23(t *testing.T) {
	in(t, nil, func(f *fixture) {
		receive := func(q *queue.Queue) error {
			_, err := q.Receive(f.Context(), 1, time.Second, visibility)
			return err
		}
		missing := queue.New(f.client, f.url+"-gone", queue.Options{})
		if err := receive(missing); !errors.Is(err, job.ErrDenied) || !strings.HasPrefix(err.Error(), "receive from orders-gone: ") {
			f.Errorf("missing queue: %v", err)
		}
		config := f.aws.Config(f.aws.Client(nil))
		config.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, errors.New("no credentials anywhere")
		})
		if err := receive(queue.New(sqs.NewFromConfig(config), f.url, queue.Options{})); !errors.Is(err, job.ErrDenied) {
			f.Errorf("no credentials: %v", err)
		}
		for _, tc := range []struct {
			status int
			code   string
			denied bool
		}{
			{400, "AccessDeniedException", true},
			{400, "ExpiredTokenException", true},
			{400, "UnrecognizedClientException", true},
			{403, "InvalidClientTokenId", true},
			{403, "SomethingNew", true},
			{400, "KmsAccessDenied", true},
			{400, "KmsDisabled", true},
			{400, "KmsThrottled", false},
			{400, "OverLimit", false},
			{400, "RequestThrottled", false},
			{500, "InternalError", false},
			{503, "ServiceUnavailable", false},
		} {
			f.refuse(tc.status, tc.code)
			if err := receive(f.Queue); err == nil || errors.Is(err, job.ErrDenied) != tc.denied {
				f.Errorf("%d %s: denied %v, want %v: %v", tc.status, tc.code, !tc.denied, tc.denied, err)
			}
		}
	})
}

// kestra-io/plugin-aws #741: one 503 ended the loop for ever. The SDK's own
// retries hide it.
func TestOneBlipIsHidden_741(t *testing.T) {
	in(t, nil, func(f *fixture) {
		f.send(job.Message{Body: []byte("{}")})
		f.aws.Intercept(func(next http.Handler) http.Handler {
			first := true
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if first {
					first = false
					refusal(http.StatusServiceUnavailable, "ServiceUnavailable").ServeHTTP(w, r)
					return
				}
				next.ServeHTTP(w, r)
			})
		})
		f.receiveOne()
		if n := f.aws.Calls()["SQS.ReceiveMessage"]; n != 2 {
			f.Errorf("%d calls, want 2", n)
		}
	})
}
