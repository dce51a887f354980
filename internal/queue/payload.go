package queue

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/sluicehq/sluice/job"
)

// payloadTimeout bounds one transfer of up to 25 MiB with the SDK's own retries.
// Too small, and a slow line never gets its largest jobs; too large, and a hung
// connection keeps a job waiting with its bytes counted.
const payloadTimeout = time.Minute

// maxKey is the longest key that S3 takes, in bytes.
const maxKey = 1024

// Payloads is the prefix of a bucket under which jobs stand that exceed a
// message. Nothing outside it is ever read, whatever a message says.
type Payloads struct {
	client *s3.Client
	bucket string
	prefix string // empty, or ends in "/"
}

// NewPayloads returns the payload objects under prefix.
func NewPayloads(client *s3.Client, bucket, prefix string) *Payloads {
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		prefix += "/" // "jobs" is not to cover "jobs-of-others/"
	}
	return &Payloads{client: client, bucket: bucket, prefix: prefix}
}

// Preflight proves that a payload that is absent can be told from one that may
// not be read: as the latter it would be asked for until its job's deadline. That S3
// is away is no error: jobs without a payload do not need it.
func (p *Payloads) Preflight(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := p.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &p.bucket, Key: aws.String(p.prefix + "_sluice-absent-" + rand.Text())})
	e, ok := errors.AsType[*awshttp.ResponseError](err)
	switch {
	case ok && e.HTTPStatusCode() == http.StatusNotFound:
		return nil
	case ok && e.HTTPStatusCode() == http.StatusForbidden:
		return fmt.Errorf("payloads preflight: an absent payload looks forbidden: "+
			"s3:ListBucket on the bucket %s or s3:GetObject on its objects is missing: %w", p.bucket, err)
	case !ok && err != nil, ok && e.HTTPStatusCode() >= http.StatusInternalServerError:
		return nil
	case err == nil:
		err = errors.New("an object that cannot exist was found")
	}
	return fmt.Errorf("payloads preflight: head of an absent payload: %w", err)
}

// Get reads the object behind a pointer. Where it is absent, too large or
// outside the prefix, the error is a *job.Failure for job.Payload, and the
// pointer will never be good; any other error says that S3 is away.
func (p *Payloads) Get(ctx context.Context, uri string) ([]byte, error) {
	key, ok := p.key(uri)
	if !ok {
		return nil, unusable("foreign", "%s is not under s3://%s/%s", uri, p.bucket, p.prefix)
	}
	ctx, cancel := context.WithTimeout(ctx, payloadTimeout)
	defer cancel()
	out, err := p.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &p.bucket, Key: &key})
	if err != nil {
		if _, ok := errors.AsType[*types.NoSuchKey](err); ok {
			return nil, unusable("absent", "%s does not exist", uri)
		}
		return nil, fmt.Errorf("get payload: %w", err)
	}
	defer out.Body.Close()

	size := aws.ToInt64(out.ContentLength)
	if size > job.MaxPayload {
		return nil, unusable("too_large", "%s has %d bytes, at most %d are read", uri, size, job.MaxPayload)
	}
	// The announced length is a promise: the reader is bounded as well.
	body := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	if _, err := body.ReadFrom(io.LimitReader(out.Body, job.MaxPayload+1)); err != nil {
		return nil, fmt.Errorf("get payload: %w", err)
	}
	if body.Len() > job.MaxPayload {
		return nil, unusable("too_large", "%s has more than the %d bytes that are read", uri, job.MaxPayload)
	}
	return body.Bytes(), nil
}

// Put stores body under the key below the prefix and returns its URI.
func (p *Payloads) Put(ctx context.Context, key string, body []byte) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, payloadTimeout)
	defer cancel()
	key = p.prefix + key
	_, err := p.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket:      &p.bucket,
		Key:         &key,
		Body:        bytes.NewReader(body), // plain http needs a body that can seek
		ContentType: aws.String("application/json"),
	})
	if err != nil {
		return "", fmt.Errorf("put payload: %w", err)
	}
	return "s3://" + p.bucket + "/" + key, nil
}

// key returns the key in uri if that is an object below the prefix. S3 takes a
// key as it is, but a proxy before it may resolve dots and empty parts like a
// path, and so leave the prefix.
func (p *Payloads) key(uri string) (string, bool) {
	key, ok := strings.CutPrefix(uri, "s3://"+p.bucket+"/")
	if !ok || len(key) > maxKey {
		return "", false
	}
	below, ok := strings.CutPrefix(key, p.prefix)
	if !ok {
		return "", false
	}
	tricky := slices.ContainsFunc(strings.Split(below, "/"), func(part string) bool {
		return part == "" || part == "." || part == ".."
	})
	return key, !tricky
}

func unusable(code, format string, args ...any) error {
	return &job.Failure{Reason: job.Payload, Code: code, Message: fmt.Sprintf(format, args...)}
}
