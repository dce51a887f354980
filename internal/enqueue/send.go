package enqueue

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/sluicehq/sluice/internal/queue"
	"github.com/sluicehq/sluice/job"
)

const (
	// maxBatch is the most entries that SQS takes in one call.
	maxBatch = 10

	// maxPointer is more than the body of any pointer: a key of S3 with its
	// bucket, an id and a run. A batch counts it for a job that travels as one.
	maxPointer = 2048

	// maxFlying is how many batches are sent at once. One takes 10 to 20 ms, so 8
	// send about 5,000 jobs a second; more would help only where the line to AWS
	// is long, and make a throttled queue worse.
	maxFlying = 8

	// maxWeight is how many bytes of bodies in flight stop the taking of lines.
	// With the line being read it bounds the memory, to some four times this. Too
	// small, and large jobs go one by one.
	maxWeight = 32 << 20

	// linger is how long a batch waits for more lines when the input pauses. Too
	// small, and a slow pipe pays a call for each line; too large, and its jobs
	// start late.
	linger = 50 * time.Millisecond

	// chunkJobs and chunkAge bound what a kill leaves sent and unrecorded, which
	// a second try sends again. Too small, and the pauses in which nothing is in
	// flight and the chunk is written cost pace: 5,000 jobs are a second's worth.
	chunkJobs = 5000
	chunkAge  = 10 * time.Second

	// maxTries and the delays between them carry a batch over a minute, on
	// average, of a queue that is throttled or away; the SDK's own tries come on
	// top. Too small, and a blip ends a run that then must be resumed by hand;
	// too large, and a lasting fault is told late.
	maxTries  = 12
	baseDelay = 200 * time.Millisecond
	maxDelay  = 15 * time.Second

	// callTimeout bounds one call to SQS, the SDK's tries included; it is also
	// how long finishing may take after the signal to stop.
	callTimeout = 20 * time.Second
)

// sender sends one input. All its state belongs to the goroutine of run; a batch
// in flight is another's until its outcome comes back.
type sender struct {
	options  Options
	payloads *queue.Payloads // nil: none
	manifest *manifest       // nil: none
	total    int
	outcomes chan outcome
	summary  Summary

	batch  []item // not begun yet
	size   int    // of the batch, in bytes that SQS counts
	flying int    // batches
	weight int    // of the batches in flight and of the next, in bytes of memory

	sent    []ref     // since the last chunk
	since   time.Time // when the first of them was sent
	sealing bool      // nothing more is taken until the chunk is written
	unsent  int       // the first line that could not be sent; 0 where there is none
	err     error     // the first one; nothing more is taken after it
}

// outcome is what became of a batch.
type outcome struct {
	batch  []item
	failed []item
	err    error // of the failed ones
}

// line is what the reader's goroutine passes on.
type line struct {
	item item
	err  error
}

// run sends what the reader yields and the manifest does not know.
func (s *sender) run(ctx context.Context, r *reader, in input) error {
	// A read from a pipe cannot be interrupted: it has a goroutine of its own,
	// which may be left behind in it when ctx ends.
	lines := make(chan line)
	done := make(chan struct{})
	defer close(done)
	go func() {
		defer close(lines)
		for it, err := range r.items() {
			select {
			case lines <- line{it, err}:
			case <-done:
				return
			}
		}
	}()
	if s.loop(ctx, lines); s.err != nil {
		return s.err
	}
	return s.finish(ctx, r, in)
}

// loop takes lines, begins batches and collects outcomes until all is sent and
// recorded, or as much as could be.
func (s *sender) loop(ctx context.Context, lines <-chan line) {
	stop := ctx.Done()
	for {
		if s.err != nil {
			lines = nil
		}
		if (lines == nil || s.sealing) && s.hasRoom() {
			s.begin(ctx)
		}
		if s.flying == 0 && len(s.batch) == 0 && (lines == nil || s.sealing) {
			s.seal(ctx)
			if lines == nil {
				return
			}
		}
		take, wake := lines, (<-chan time.Time)(nil)
		if s.sealing || !s.hasRoom() {
			take = nil
		} else if len(s.batch) > 0 {
			wake = time.After(linger)
		} else if len(s.sent) > 0 {
			wake = time.After(time.Until(s.since.Add(chunkAge)))
		}
		select {
		case l, ok := <-take:
			if !ok {
				lines = nil
				break
			}
			s.take(ctx, l)
		case o := <-s.outcomes:
			s.settle(o)
		case <-wake:
			if len(s.batch) == 0 {
				s.sealing = true
			}
			s.begin(ctx)
		case <-stop:
			stop = nil
			s.fail(context.Cause(ctx))
			s.drop(s.batch)
			s.batch = nil
		}
	}
}

func (s *sender) hasRoom() bool { return s.flying < maxFlying && s.weight < maxWeight }

func (s *sender) fail(err error) { s.err = cmp.Or(s.err, err) }

// drop notes items that will not be sent.
func (s *sender) drop(items []item) {
	for _, it := range items {
		if s.unsent == 0 || it.line < s.unsent {
			s.unsent = it.line
		}
	}
}

// take puts a line's job into the batch, unless it needs no sending.
func (s *sender) take(ctx context.Context, l line) {
	if l.err != nil {
		s.fail(l.err)
		return
	}
	it, skip := l.item, false
	if s.manifest != nil && !it.duplicate {
		var err error
		if skip, err = s.manifest.skips(it); err != nil {
			s.fail(err)
			return
		}
	}
	s.summary.Lines = it.line // what is recorded reaches no further
	if it.duplicate {
		s.summary.Duplicates++
		return
	}
	s.summary.Jobs++
	if skip {
		s.summary.Skipped++
		s.progress()
		return
	}
	size := len(it.body)
	if size > job.MaxBody {
		size = maxPointer
	}
	if s.size+size > job.MaxBody {
		s.begin(ctx)
	}
	s.batch = append(s.batch, it)
	s.size += size
	s.weight += len(it.body)
	if len(s.batch) == maxBatch || s.weight >= maxWeight {
		s.begin(ctx)
	}
}

// begin sends the batch.
func (s *sender) begin(ctx context.Context) {
	if len(s.batch) == 0 {
		return
	}
	batch := s.batch
	s.batch, s.size = nil, 0
	s.flying++
	go func() {
		failed, err := s.send(ctx, batch)
		s.outcomes <- outcome{batch, failed, err}
	}()
}

// settle takes back a batch.
func (s *sender) settle(o outcome) {
	s.flying--
	s.fail(o.err)
	s.drop(o.failed)
	for _, it := range o.batch {
		s.weight -= len(it.body)
		if slices.ContainsFunc(o.failed, func(f item) bool { return f.line == it.line }) {
			continue
		}
		s.summary.Sent++
		s.summary.Bytes += int64(len(it.body))
		if len(it.body) > job.MaxBody {
			s.summary.Payloads++
		}
		if s.manifest == nil {
			continue
		}
		if len(s.sent) == 0 {
			s.since = time.Now()
		}
		s.sent = append(s.sent, ref{ID: it.id, Digest: it.digest, line: it.line})
	}
	if len(s.sent) >= chunkJobs || len(s.sent) > 0 && time.Since(s.since) >= chunkAge {
		s.sealing = true
	}
	s.progress()
}

func (s *sender) progress() {
	if s.options.Progress != nil {
		s.options.Progress(Progress{Checked: s.total, Total: s.total, Sent: s.summary.Sent, Skipped: s.summary.Skipped})
	}
}

// seal writes the chunk of what was sent since the last one.
func (s *sender) seal(ctx context.Context) {
	s.sealing = false
	if len(s.sent) == 0 {
		return
	}
	slices.SortFunc(s.sent, func(a, b ref) int { return a.line - b.line })
	c := chunk{Lines: s.summary.Lines, Jobs: s.sent}
	if s.unsent > 0 {
		c.Lines = s.unsent - 1
	}
	// What was sent is recorded even if nothing more is to be.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := s.manifest.record(ctx, c); err != nil {
		s.fail(err)
		return // a later chunk must not reach beyond what is recorded
	}
	s.sent = nil
}

// finish marks the run as complete when all of the input was sent.
func (s *sender) finish(ctx context.Context, r *reader, in input) error {
	s.summary.Lines = r.line
	if s.summary.Jobs == 0 && !s.options.AllowEmpty {
		return errEmpty
	}
	if in.SHA256 != "" && in.SHA256 != r.sum() {
		return errors.New("the file changed while its jobs were sent: the run is left incomplete")
	}
	if s.manifest != nil {
		if r.line < s.manifest.lines {
			return inputErrorf(0, "the input ends at line %d, and %d were there before: the input has changed, and needs another run", r.line, s.manifest.lines)
		}
		e := end{SHA256: r.sum(), Lines: r.line, Jobs: s.summary.Jobs, EndedAt: time.Now().UTC()}
		if err := s.manifest.end(ctx, e); err != nil {
			return err
		}
	}
	s.summary.Complete = true
	return nil
}

// send sends a batch and returns the items that it could not, with the error of
// the first. What is under way when ctx ends is finished, and not tried again.
func (s *sender) send(ctx context.Context, batch []item) (failed []item, err error) {
	calls := context.WithoutCancel(ctx)
	entries := make([]types.SendMessageBatchRequestEntry, 0, len(batch))
	for i, it := range batch {
		body, e := s.message(calls, it)
		if e != nil {
			failed, err = append(failed, it), cmp.Or(err, fmt.Errorf("line %d: %w", it.line, e))
			continue
		}
		entry := types.SendMessageBatchRequestEntry{
			// By place: a name of its own for each, whatever the jobs' ids are.
			Id:           aws.String(strconv.Itoa(i)),
			MessageBody:  aws.String(string(body)),
			DelaySeconds: int32(s.options.Delay / time.Second),
		}
		if s.options.Group != "" {
			entry.MessageGroupId = &s.options.Group
		}
		entries = append(entries, entry)
	}
	for try := 1; len(entries) > 0; try++ {
		left, hopeless, e := s.sendOnce(calls, entries)
		if e == nil {
			break
		}
		if !hopeless && try < maxTries && pause(ctx, try) {
			entries = left
			continue
		}
		for _, entry := range left {
			i, _ := strconv.Atoi(*entry.Id) // we wrote it
			failed = append(failed, batch[i])
		}
		err = cmp.Or(err, fmt.Errorf("send to %s: %w", s.options.QueueURL, e))
		break
	}
	return failed, err
}

// sendOnce sends the entries and returns those that SQS did not take.
func (s *sender) sendOnce(ctx context.Context, entries []types.SendMessageBatchRequestEntry) (left []types.SendMessageBatchRequestEntry, hopeless bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := s.options.SQS.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: &s.options.QueueURL, Entries: entries})
	if err != nil {
		passes := retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err) == aws.TrueTernary
		return entries, !passes && !errors.Is(err, context.DeadlineExceeded), err
	}
	for _, f := range out.Failed {
		// A throttle is called the sender's fault as well, and passes.
		code := aws.ToString(f.Code)
		hopeless = hopeless || f.SenderFault && !strings.Contains(code, "Throttl")
		err = cmp.Or(err, fmt.Errorf("%s: %s", code, aws.ToString(f.Message)))
	}
	taken := func(e types.SendMessageBatchRequestEntry) bool {
		return slices.ContainsFunc(out.Successful, func(r types.SendMessageBatchResultEntry) bool {
			return aws.ToString(r.Id) == *e.Id
		})
	}
	left = slices.DeleteFunc(slices.Clone(entries), taken)
	if len(left) > 0 {
		err = cmp.Or(err, errors.New("no outcome for an entry"))
	}
	return left, hopeless, err
}

// pause waits before the next try, with full jitter. It reports false when ctx
// ends.
func pause(ctx context.Context, try int) bool {
	most := min(maxDelay, baseDelay<<(try-1))
	select {
	case <-time.After(rand.N(most)):
		return true
	case <-ctx.Done():
		return false
	}
}

// message returns what travels as the message's body: the job, or the pointer to
// it. An object's key is its hash, so that a second try writes no second one.
func (s *sender) message(ctx context.Context, it item) ([]byte, error) {
	if len(it.body) <= job.MaxBody {
		return it.body, nil
	}
	sum := sha256.Sum256(it.body)
	uri, err := s.payloads.Put(ctx, fmt.Sprintf("%x.json", sum), it.body)
	if err != nil {
		return nil, err
	}
	return job.Job{ID: it.id, Run: s.summary.Run, Payload: uri}.Encode()
}
