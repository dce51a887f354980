package drainer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/config"
	"github.com/sluicehq/sluice/internal/drainer"
	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
	"github.com/sluicehq/sluice/internal/processtest"
	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/worker"
)

const (
	sonnet = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
	haiku  = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
	nova   = "us.amazon.nova-lite-v1:0"
	embed  = "amazon.titan-embed-text-v2:0"
)

// world is an embedded AWS with queues, a bucket and models, in a bubble of
// virtual time, and the drainers that work in it.
type world struct {
	*testing.T
	aws     *localaws.Server
	ac      aws.Config
	sqs     *sqs.Client
	s3      *s3.Client
	cfg     config.Config
	queues  []string // URLs
	log     *slog.Logger
	logged  *processtest.Output
	running []*process
}

// process is one drainer at work.
type process struct {
	*drainer.Drainer
	stop context.CancelFunc
	done chan struct{}
	err  error
}

// inWorld runs a scenario in virtual time, with 5 to 50 ms of network each way.
func inWorld(t *testing.T, models map[string]bedrocksim.Model, modelsJSON string, queues int, scenario func(*world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, logged: &processtest.Output{}}
		w.aws = localaws.New(localaws.Options{Bedrock: bedrocksim.Options{Models: models, Seed: 1}})
		w.ac = w.aws.Config(w.aws.Client(func() time.Duration {
			return 5*time.Millisecond + rand.N(45*time.Millisecond)
		}))
		w.sqs, w.s3 = sqs.NewFromConfig(w.ac), s3.NewFromConfig(w.ac)
		w.aws.CreateBucket("results")
		env := []string{
			"SLUICE_MODELS=" + modelsJSON,
			"SLUICE_RESULTS_S3=s3://results/out/",
			"SLUICE_PAYLOADS_S3=s3://results/payloads/",
			"SLUICE_DLQ_URL=" + w.aws.CreateQueue("dead", nil),
			"SLUICE_MAX_IN_FLIGHT_BYTES=268435456",
		}
		for i := range queues {
			w.queues = append(w.queues, w.aws.CreateQueue(fmt.Sprintf("jobs-%d", i), map[string]string{"MessageRetentionPeriod": "864000"}))
		}
		env = append(env, "SLUICE_QUEUE_URLS="+strings.Join(w.queues, ","))
		var err error
		if w.cfg, err = config.Load(env); err != nil {
			t.Fatal(err)
		}
		w.log = slog.New(slog.NewTextHandler(io.MultiWriter(w.logged, t.Output()), nil))
		defer func() { // also where the scenario ended with Fatal
			for _, p := range w.running {
				p.end()
			}
			time.Sleep(2 * time.Minute) // a hanging publication's end
			w.aws.Close()
		}()
		scenario(w)
	})
}

// drain starts a drainer.
func (w *world) drain() *process {
	w.Helper()
	d, err := drainer.New(w.cfg, w.ac, w.log)
	if err != nil {
		w.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &process{Drainer: d, stop: stop, done: make(chan struct{})}
	w.running = append(w.running, p)
	go func() {
		defer close(p.done)
		p.err = d.Run(ctx)
	}()
	return p
}

// end stops it as SIGTERM does, and waits.
func (p *process) end() error {
	p.stop()
	<-p.done
	return p.err
}

// enqueue sends jobs to a queue.
func (w *world) enqueue(queue int, jobs ...job.Job) {
	w.Helper()
	for _, j := range jobs {
		body, err := j.Encode()
		if err != nil {
			w.Fatal(err)
		}
		w.send(queue, string(body))
	}
}

func (w *world) send(queue int, body string) string {
	w.Helper()
	out, err := w.sqs.SendMessage(context.Background(), &sqs.SendMessageInput{QueueUrl: &w.queues[queue], MessageBody: &body})
	if err != nil {
		w.Fatal(err)
	}
	return *out.MessageId
}

// keepFor sets a queue's retention.
func (w *world) keepFor(queue int, retention time.Duration) {
	w.Helper()
	if _, err := w.sqs.SetQueueAttributes(context.Background(), &sqs.SetQueueAttributesInput{
		QueueUrl: &w.queues[queue], Attributes: map[string]string{"MessageRetentionPeriod": fmt.Sprint(retention.Seconds())},
	}); err != nil {
		w.Fatal(err)
	}
}

// converse is a job of about so many input tokens.
func converse(id, model string, input, maxTokens int, marks ...string) job.Job {
	text := id + " " + strings.Join(marks, " ")
	text += strings.Repeat("w", max(0, 4*input-len(text)))
	request, err := json.Marshal(map[string]any{
		"messages":        []any{map[string]any{"role": "user", "content": []any{map[string]any{"text": text}}}},
		"inferenceConfig": map[string]any{"maxTokens": maxTokens},
	})
	if err != nil {
		panic(err)
	}
	return job.Job{ID: id, Run: "test", Model: model, Kind: job.Converse, Request: request}
}

// model is what the drainer tells of a model; nothing before its preflight.
func (p *process) model(alias string) (m worker.ModelSnapshot) {
	for _, m := range p.Snapshot().Models {
		if m.Alias == alias {
			return m
		}
	}
	return m
}

// await waits until done, and tells how long that took.
func (w *world) await(limit time.Duration, done func() bool) time.Duration {
	w.Helper()
	began := time.Now()
	for !done() {
		if time.Since(began) > limit {
			w.Fatalf("not done after %v", limit)
		}
		time.Sleep(min(100*time.Millisecond+time.Since(began)/1000, time.Minute))
	}
	return time.Since(began)
}

// empty waits for the queues to be empty.
func (w *world) empty(p *process, limit time.Duration) {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := p.Empty(ctx, 5*time.Second); err != nil {
		w.Fatalf("the queues are not empty after %v: %+v", limit, p.Snapshot())
	}
}

// result reads the result of an identity, which must be there.
func (w *world) result(id string) job.Result {
	w.Helper()
	key := "out/" + job.Identity{Run: "test", ID: id}.Key()
	out, err := w.s3.GetObject(context.Background(), &s3.GetObjectInput{Bucket: aws.String("results"), Key: &key})
	if err != nil {
		w.Fatalf("result %s: %v", id, err)
	}
	body, err := io.ReadAll(out.Body)
	if err != nil {
		w.Fatal(err)
	}
	r, err := job.DecodeResult(body)
	if err != nil {
		w.Fatal(err)
	}
	return r
}

// results counts the result objects of the run by status.
func (w *world) results() map[job.Status]int {
	w.Helper()
	count := map[job.Status]int{}
	pages := s3.NewListObjectsV2Paginator(w.s3, &s3.ListObjectsV2Input{Bucket: aws.String("results"), Prefix: aws.String("out/test/")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			w.Fatal(err)
		}
		for _, o := range page.Contents {
			head, err := w.s3.HeadObject(context.Background(), &s3.HeadObjectInput{Bucket: aws.String("results"), Key: o.Key})
			if err != nil {
				w.Fatal(err)
			}
			count[job.Status(head.Metadata["status"])]++
		}
	}
	return count
}

// buried returns the reasons on the dead-letter queue.
func (w *world) buried() map[job.Reason]int {
	w.Helper()
	count := map[job.Reason]int{}
	for {
		out, err := w.sqs.ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{
			QueueUrl: &w.cfg.DLQURL, MaxNumberOfMessages: 10, MessageAttributeNames: []string{"All"},
		})
		if err != nil {
			w.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return count
		}
		for _, m := range out.Messages {
			count[trail(m).Reason]++
		}
	}
}

// wantCopies wants one copy or more of each of these jobs on the results queue,
// and takes them off it.
func (w *world) wantCopies(want ...string) {
	w.Helper()
	got := map[string]bool{}
	for {
		out, err := w.sqs.ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{QueueUrl: &w.cfg.ResultsQueueURL, MaxNumberOfMessages: 10})
		if err != nil {
			w.Fatal(err)
		}
		if len(out.Messages) == 0 {
			break
		}
		for _, m := range out.Messages {
			r, err := job.DecodeResult([]byte(*m.Body))
			if err != nil {
				w.Fatal(err)
			}
			got[r.ID] = true
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(got))); diff != "" {
		w.Errorf("copies (-want +got):\n%s", diff)
	}
}

func trail(m types.Message) (t job.Trail) {
	if a, ok := m.MessageAttributes["sluice"]; ok {
		if err := json.Unmarshal([]byte(*a.StringValue), &t); err != nil {
			panic(err)
		}
	}
	return t
}

// paidTwice is how many answers some job had before.
func (w *world) paidTwice() (n int64) {
	for _, s := range w.aws.Bedrock().Stats() {
		n += s.Repeats
	}
	return n
}

func (w *world) throttles() (n int64) {
	for _, s := range w.aws.Bedrock().Stats() {
		for _, c := range s.Throttled {
			n += c
		}
	}
	return n
}
