package enqueue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/sluicehq/sluice/internal/config"
	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/job"
)

// cloud is an embedded AWS with a queue and a bucket.
type cloud struct {
	*testing.T
	aws *localaws.Server
	sqs *sqs.Client
	s3  *s3.Client
	url string
}

// inCloud runs a test in a bubble of virtual time.
func inCloud(t *testing.T, test func(c *cloud)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := localaws.New(localaws.Options{})
		cfg := server.Config(server.Client(nil))
		server.CreateBucket("bucket")
		test(&cloud{
			T: t, aws: server, sqs: sqs.NewFromConfig(cfg), s3: s3.NewFromConfig(cfg),
			url: server.CreateQueue("jobs", nil),
		})
	})
}

// options are those of a run with everything.
func (c *cloud) options(input string) Options {
	return Options{
		Input: strings.NewReader(input), SQS: c.sqs, QueueURL: c.url, S3: c.s3,
		Results:  &config.Location{Bucket: "bucket", Prefix: "results/"},
		Payloads: &config.Location{Bucket: "bucket", Prefix: "payloads/"},
	}
}

// run calls Run and wants it to end without an error.
func (c *cloud) run(o Options) Summary {
	c.Helper()
	s, err := Run(c.Context(), o)
	if err != nil {
		c.Fatal(err)
	}
	return s
}

// received empties the queue.
func (c *cloud) received() []types.Message {
	c.Helper()
	var messages []types.Message
	for {
		out, err := c.sqs.ReceiveMessage(c.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: &c.url, MaxNumberOfMessages: 10, WaitTimeSeconds: 1, VisibilityTimeout: 43200,
			MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		})
		if err != nil {
			c.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return messages
		}
		messages = append(messages, out.Messages...)
	}
}

// jobs empties the queue and returns its jobs, by id.
func (c *cloud) jobs() []job.Job {
	c.Helper()
	var jobs []job.Job
	for _, m := range c.received() {
		j, err := job.Decode([]byte(*m.Body))
		if err != nil {
			c.Fatalf("%s: %v", *m.Body, err)
		}
		jobs = append(jobs, j)
	}
	slices.SortFunc(jobs, func(a, b job.Job) int { return strings.Compare(a.ID, b.ID) })
	return jobs
}

// ids empties the queue and returns how often it had each id.
func (c *cloud) ids() map[string]int {
	c.Helper()
	n := make(map[string]int)
	for _, j := range c.jobs() {
		n[j.ID]++
	}
	return n
}

// keys lists the objects below a prefix of the bucket.
func (c *cloud) keys(prefix string) []string {
	c.Helper()
	out, err := c.s3.ListObjectsV2(c.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("bucket"), Prefix: &prefix})
	if err != nil {
		c.Fatal(err)
	}
	var keys []string
	for _, o := range out.Contents {
		keys = append(keys, strings.TrimPrefix(*o.Key, prefix))
	}
	return keys
}

// object reads an object of the bucket.
func (c *cloud) object(key string) []byte {
	c.Helper()
	out, err := c.s3.GetObject(c.Context(), &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: &key})
	if err != nil {
		c.Fatal(err)
	}
	body, err := io.ReadAll(out.Body)
	if err != nil {
		c.Fatal(err)
	}
	return body
}

// chunks reads the ids of a run's chunks and the lines that they reach.
func (c *cloud) chunks(run string) (ids []string, lines int) {
	c.Helper()
	prefix := "results/" + run + "/_manifest/"
	for _, key := range c.keys(prefix) {
		if !strings.HasPrefix(key, "chunk-") {
			continue
		}
		var ch chunk
		if err := json.Unmarshal(c.object(prefix+key), &ch); err != nil {
			c.Fatal(err)
		}
		for _, r := range ch.Jobs {
			ids = append(ids, r.ID)
		}
		lines = max(lines, ch.Lines)
	}
	return ids, lines
}

// at puts a function before the operation: an SQS target or the method and key
// of an S3 request. It answers by itself, or returns false to let it pass.
func (c *cloud) at(operation string, f func(w http.ResponseWriter, r *http.Request, next http.Handler) bool) {
	c.aws.Intercept(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			name := r.Method + " " + r.URL.Path
			if target := r.Header.Get("X-Amz-Target"); target != "" {
				name = target
			}
			if !strings.Contains(name, operation) || !f(w, r, next) {
				next.ServeHTTP(w, r)
			}
		})
	})
}

const (
	send = "AmazonSQS.SendMessageBatch"
	put  = "PUT /bucket/results/"
)

// times lets f act on the first n calls.
func times(n int64, f func(w http.ResponseWriter, r *http.Request, next http.Handler)) func(http.ResponseWriter, *http.Request, http.Handler) bool {
	var calls atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if calls.Add(1) > n {
			return false
		}
		f(w, r, next)
		return true
	}
}

// unavailable is an answer of a service that is away.
func unavailable(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	w.WriteHeader(http.StatusServiceUnavailable)
}

// lost does what was asked for, and loses the answer.
func lost(w http.ResponseWriter, r *http.Request, next http.Handler) {
	next.ServeHTTP(discard{http.Header{}}, r)
	w.WriteHeader(http.StatusServiceUnavailable)
}

type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) WriteHeader(int)             {}
func (d discard) Write(b []byte) (int, error) { return len(b), nil }

// refuse refuses one entry of a batch and passes the others on.
func refuse(code string, senderFault bool) func(w http.ResponseWriter, r *http.Request, next http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		var request map[string]json.RawMessage
		var entries []map[string]json.RawMessage
		must(json.NewDecoder(r.Body).Decode(&request))
		must(json.Unmarshal(request["Entries"], &entries))
		failed := entries[0]["Id"]
		answer := map[string]any{}
		if len(entries) > 1 {
			request["Entries"] = marshal(entries[1:])
			body := marshal(request)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			var b buffer
			next.ServeHTTP(&b, r)
			must(json.Unmarshal(b.Bytes(), &answer))
		}
		answer["Failed"] = []any{map[string]any{"Id": failed, "Code": code, "SenderFault": senderFault, "Message": "no"}}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.Write(marshal(answer))
	}
}

type buffer struct {
	bytes.Buffer
	header http.Header
}

func (b *buffer) Header() http.Header {
	if b.header == nil {
		b.header = make(http.Header)
	}
	return b.header
}
func (b *buffer) WriteHeader(int) {}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	must(err)
	return b
}

// stopAfter ends a context with its cause after n batches were taken by SQS.
func (c *cloud) stopAfter(n int64) context.Context {
	ctx, cancel := context.WithCancelCause(c.Context())
	var calls atomic.Int64
	c.at(send, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		next.ServeHTTP(w, r)
		if calls.Add(1) == n {
			cancel(errStopped)
		}
		return true
	})
	return ctx
}

var errStopped = errors.New("stopped by the test")
