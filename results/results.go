// Package results keeps the one outcome of each job: an S3 object written with
// conditions, so that whoever finishes first wins, and optionally a copy of it
// on a queue, sent at least once. It does not decide what a job's outcome is.
// It is called by the drain loop, through the interface that worker declares,
// and by whoever composes a drainer; it may import job and the AWS SDK, never
// another adapter and never worker.
package results

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/sluicehq/sluice/job"
)

// callTimeout bounds one call to S3 with the SDK's own retries, which has no
// time-out of its own. Too small, and a result of tens of megabytes never gets
// through a slow line; too large, and a hung connection holds a finished job.
const callTimeout = time.Minute

// maxTries is how often Save decides again when what stands changes between the
// look and the write. Each further try needs another writer or a delete in the
// milliseconds between; too small, and a busy moment becomes an error (and the
// caller tries later); too large, and an endpoint that always answers 412 is
// asked in a hot loop.
const maxTries = 5

// conflictPause, doubled with each try, is waited before the third try and the
// later ones, 1.4 s in all: the order of time that another's write takes.
const conflictPause = 50 * time.Millisecond

// Sink is where the results of one deployment go. It is safe for concurrent use.
type Sink struct{ o Options }

// Options of a Sink.
type Options struct {
	S3     *s3.Client
	Bucket string
	Prefix string // empty, or ends in "/"
	// Copies takes a copy of each result. It must refuse what is larger than a
	// message with job.ErrNoRoom. Nil means no copies.
	Copies interface {
		Send(ctx context.Context, m job.Message) error
	}
}

// New returns a sink.
func New(o Options) *Sink { return &Sink{o} }

// Look decides what stands under the claim's identity means for it: Open,
// Answered or Contested.
func (s *Sink) Look(ctx context.Context, c job.Claim) (job.Verdict, error) {
	found, err := s.head(ctx, c.Key())
	if err != nil {
		return job.Open, err
	}
	return decide(found, c, ""), nil
}

// Save writes the result unless what stands there is to stay: Open says that r
// is what stands now, whether this call or an earlier one of unknown outcome
// wrote it; Answered and Contested that another result does. After an error
// nothing is known, and Save may be called again with the same result.
func (s *Sink) Save(ctx context.Context, c job.Claim, r job.Result) (job.Verdict, error) {
	body, err := r.Encode()
	if err != nil {
		return job.Open, fmt.Errorf("save result: %w", err)
	}
	ours := standing{status: r.Status, digest: c.Digest, submitted: c.Submitted, content: hash(body)}

	var there standing // nothing, as far as we know: most results are the first
	for try := range maxTries {
		// The first look explains most refusals; one that it does not explain is
		// a write or a delete still under way.
		if try > 1 {
			if err := pause(ctx, conflictPause<<try); err != nil {
				return job.Open, fmt.Errorf("save result: %w", err)
			}
		}
		err := s.put(ctx, c.Key(), body, ours.metadata(), there.etag)
		if err == nil {
			return job.Open, nil
		}
		if !lostRace(err, there.etag) {
			return job.Open, fmt.Errorf("save result: %w", err)
		}
		if there, err = s.head(ctx, c.Key()); err != nil {
			return job.Open, err
		}
		// A try whose answer was lost can have written it.
		if there.content == ours.content {
			return job.Open, nil
		}
		if v := decide(there, c, r.Status); v != job.Open {
			return v, nil
		}
	}
	return job.Open, fmt.Errorf("save result: what stands there changed %d times", maxTries)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// put writes an object in place of the one with that etag, or as a new one
// where the etag is empty.
func (s *Sink) put(ctx context.Context, key string, body []byte, metadata map[string]string, etag string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	in := &s3.PutObjectInput{
		Bucket:      &s.o.Bucket,
		Key:         aws.String(s.o.Prefix + key),
		Body:        bytes.NewReader(body), // plain http needs a body that can seek
		ContentType: aws.String("application/json"),
		Metadata:    metadata,
	}
	if etag == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = &etag
	}
	_, err := s.o.S3.PutObject(ctx, in)
	return err
}

// lostRace reports whether a write on condition of etag failed for what stands
// there: 412 where the condition does not hold, 409 where another write or a
// delete was under way, 404 where the object to replace is gone.
func lostRace(err error, etag string) bool {
	switch status(err) {
	case http.StatusPreconditionFailed, http.StatusConflict:
		return true
	case http.StatusNotFound:
		return etag != "" // else it is the bucket that is missing
	}
	return false
}

// status is the HTTP status that S3 answered with, 0 where it did not answer.
// For HEAD it is all there is: the answer has no body that could name an error.
func status(err error) int {
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return e.HTTPStatusCode()
	}
	return 0
}

// head reads what stands under the key; absence is no error.
func (s *Sink) head(ctx context.Context, key string) (standing, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := s.o.S3.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &s.o.Bucket, Key: aws.String(s.o.Prefix + key),
	})
	if err != nil {
		if status(err) == http.StatusNotFound {
			return standing{}, nil
		}
		return standing{}, fmt.Errorf("look for result: %w", err)
	}
	return readMetadata(aws.ToString(out.ETag), out.Metadata), nil
}
