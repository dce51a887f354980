package results

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// preflightKey is an object that stays for good below the prefix. No identity
// has this key: those have a "/".
const preflightKey = "_sluice-preflight"

// Preflight proves that answers can be kept, before the first one is paid for:
// that the absence of a result can be seen, that S3 (or what stands in for it)
// honours If-None-Match, on which one result per job rests, and that a write
// goes through. A refusal for the condition would not prove that: it may come
// before the encryption key, say, is asked for.
func (s *Sink) Preflight(ctx context.Context) error {
	if err := s.seesAbsence(ctx); err != nil {
		return err
	}
	// The object stands already unless this is the first start ever, and then
	// the second put must be refused. One more for two drainers that start
	// together and disturb each other.
	last := errors.New("the endpoint ignores If-None-Match, so that results could be overwritten")
	for range 3 {
		err := s.put(ctx, preflightKey, []byte("{}"), nil, "")
		if status(err) == http.StatusPreconditionFailed {
			if err = s.rewrite(ctx); err == nil {
				return nil
			}
			last = err
		}
		if err != nil && !lostRace(err, "") {
			return fmt.Errorf("results preflight: put %s: %w", s.o.Prefix+preflightKey, err)
		}
	}
	return fmt.Errorf("results preflight: %w", last)
}

// rewrite writes the object that stands once more.
func (s *Sink) rewrite(ctx context.Context) error {
	there, err := s.head(ctx, preflightKey)
	if err != nil {
		return err
	}
	return s.put(ctx, preflightKey, []byte("{}"), nil, there.etag)
}

func (s *Sink) seesAbsence(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := s.o.S3.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &s.o.Bucket, Key: aws.String(s.o.Prefix + preflightKey + "-absent-" + rand.Text()),
	})
	switch status(err) {
	case http.StatusNotFound:
		return nil
	case http.StatusForbidden:
		return fmt.Errorf("results preflight: an absent result looks forbidden: "+
			"s3:ListBucket on the bucket %s or s3:GetObject on its objects is missing: %w", s.o.Bucket, err)
	}
	if err == nil {
		err = errors.New("an object that cannot exist was found")
	}
	return fmt.Errorf("results preflight: head of an absent result: %w", err)
}
