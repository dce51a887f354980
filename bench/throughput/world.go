package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
	"github.com/sluicehq/sluice/job"
)

const (
	modelID = "amazon.nova-lite-v1:0"
	bucket  = "bench"
	runName = "bench"
	// resultsPath is where the results of the jobs are put, and nothing else.
	resultsPath = "/" + bucket + "/results/" + runName + "/"
	// jobSize is the size of a message.
	jobSize = 1 << 10
	// patience is how long a world waits for one thing. Too short, and a busy
	// machine cannot be measured; too long, and what hangs is noticed late.
	patience = 2 * time.Minute
)

// world is an embedded AWS in this process for one measured process, and what
// that did in it.
type world struct {
	aws   *localaws.Server
	sqs   *sqs.Client // without a network
	queue string
	env   []string // of the measured process
	own   countingClient

	invoked chan time.Time // arrival of each invocation
	stored  chan time.Time // end of each put of a result
}

// newWorld has room for so many jobs. The model has no quota.
func newWorld(jobs, inFlight int, latency time.Duration) (*world, error) {
	w := &world{
		aws: localaws.New(localaws.Options{Bedrock: bedrocksim.Options{
			Models: map[string]bedrocksim.Model{modelID: {
				Output:  bedrocksim.Range{Min: 200, Max: 200}, // about 1 KiB
				Latency: bedrocksim.Latency{Base: latency, Jitter: 0.25},
			}},
		}}),
		invoked: make(chan time.Time, jobs), stored: make(chan time.Time, jobs),
	}
	w.aws.Intercept(w.watch)
	url, err := w.aws.Listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w.own.HTTPClient = w.aws.Client(nil)
	w.sqs = sqs.NewFromConfig(w.aws.Config(&w.own))
	w.aws.CreateBucket(bucket)
	w.queue = w.aws.CreateQueue("jobs", nil)
	n := strconv.Itoa(inFlight)
	// The whole environment: what this machine has set for AWS plays no part.
	w.env = []string{
		"AWS_ENDPOINT_URL=" + url, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test",
		"SLUICE_QUEUE_URLS=" + w.queue,
		"SLUICE_DLQ_URL=" + w.aws.CreateQueue("dead", nil),
		"SLUICE_RESULTS_S3=s3://" + bucket + "/results/",
		"SLUICE_MAX_IN_FLIGHT=" + n,
		`SLUICE_MODELS={"nova": {"routes": [{"model_id": "` + modelID + `", "region": "us-east-1", "unpaced": true}], "max_in_flight": ` + n + `}}`,
	}
	return w, nil
}

func (w *world) close() error { return w.aws.Close() }

// watch notes when invocations arrive and results have been put.
func (w *world) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/model/") {
			note(w.invoked)
		}
		next.ServeHTTP(rw, r)
		if r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, resultsPath) {
			note(w.stored)
		}
	})
}

// note drops what is more than one for each job: done finds that.
func note(times chan<- time.Time) {
	select {
	case times <- time.Now():
	default:
	}
}

// countingClient counts the bench's own calls, which are not the drainer's.
type countingClient struct {
	aws.HTTPClient
	calls atomic.Int64
}

func (c *countingClient) Do(r *http.Request) (*http.Response, error) {
	c.calls.Add(1)
	return c.HTTPClient.Do(r)
}

// sqsCalls is how often the measured process called SQS.
func (w *world) sqsCalls() int {
	n := -int(w.own.calls.Load())
	for operation, calls := range w.aws.Calls() {
		if strings.HasPrefix(operation, "SQS.") {
			n += calls
		}
	}
	return n
}

// newJob returns the body of the i-th job, jobSize bytes.
func newJob(i int) (string, error) {
	j := job.Job{ID: fmt.Sprintf("job-%06d", i), Run: runName, Model: "nova", Kind: job.Converse}
	for text := ""; ; {
		request, err := json.Marshal(map[string]any{
			"messages":        []any{map[string]any{"role": "user", "content": []any{map[string]any{"text": text}}}},
			"inferenceConfig": map[string]any{"maxTokens": 256},
		})
		if err != nil {
			return "", err
		}
		j.Request = request
		body, err := j.Encode()
		if err != nil {
			return "", err
		}
		if len(body) == jobSize {
			return string(body), nil
		}
		text = (j.ID + strings.Repeat(" word", jobSize))[:jobSize-len(body)]
	}
}

// enqueue puts n jobs on the queue.
func (w *world) enqueue(ctx context.Context, n int) error {
	for i := 0; i < n; {
		var entries []types.SendMessageBatchRequestEntry
		for ; i < n && len(entries) < 10; i++ {
			body, err := newJob(i)
			if err != nil {
				return fmt.Errorf("make a job: %w", err)
			}
			entries = append(entries, types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: &body})
		}
		out, err := w.sqs.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: &w.queue, Entries: entries})
		if err != nil {
			return fmt.Errorf("enqueue: %w", err)
		}
		if len(out.Failed) > 0 {
			return fmt.Errorf("enqueue: %s", aws.ToString(out.Failed[0].Code))
		}
	}
	return nil
}

var errSlow = errors.New("it took longer than " + patience.String())

// next waits for the next event that the measured process causes.
func next(ctx context.Context, p *process, events <-chan time.Time) (time.Time, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case at := <-events:
		return at, nil
	case <-p.ended:
		return time.Time{}, p.failure()
	case <-timer.C:
		return time.Time{}, errSlow
	case <-ctx.Done():
		return time.Time{}, context.Cause(ctx)
	}
}

// until waits for a condition that no event tells.
func until(ctx context.Context, p *process, condition func() (bool, error)) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := condition(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-p.ended:
			return p.failure()
		case <-limit.C:
			return errSlow
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// done waits until every job is deleted, and checks that each was answered once
// and has its result.
func (w *world) done(ctx context.Context, p *process, jobs int) error {
	names := []types.QueueAttributeName{
		types.QueueAttributeNameApproximateNumberOfMessages, types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
	}
	err := until(ctx, p, func() (bool, error) {
		out, err := w.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &w.queue, AttributeNames: names})
		if err != nil {
			return false, err
		}
		return out.Attributes[string(names[0])] == "0" && out.Attributes[string(names[1])] == "0", nil
	})
	if err != nil {
		return fmt.Errorf("wait for the queue to be empty: %w", err)
	}
	s := w.bedrock()
	if s.Requests != int64(jobs) || s.Jobs != int64(jobs) {
		return fmt.Errorf("%d jobs were asked for, %d invocations made and %d jobs answered", jobs, s.Requests, s.Jobs)
	}
	return nil
}

// bedrock is what the simulator saw of the model.
func (w *world) bedrock() bedrocksim.Stats {
	return w.aws.Bedrock().Stats()[bedrocksim.Key{Region: "us-east-1", ModelID: modelID}]
}
