package results

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/sluicehq/sluice/job"
)

// Copy sends a copy of the result, if copies are wanted. What a message can't
// hold is shortened: first the output, to where it stands in S3, then the
// error's text and the metadata.
func (s *Sink) Copy(ctx context.Context, r job.Result) error {
	if s.o.Copies == nil {
		return nil
	}
	err := s.send(ctx, r)
	if errors.Is(err, job.ErrNoRoom) && r.Output != nil {
		r.Output, r.Object = nil, "s3://"+s.o.Bucket+"/"+s.o.Prefix+r.Identity().Key()
		err = s.send(ctx, r)
	}
	if errors.Is(err, job.ErrNoRoom) {
		r.Metadata = nil
		if r.Error != nil {
			short := *r.Error
			short.Message = ""
			r.Error = &short
		}
		err = s.send(ctx, r)
	}
	return err
}

func (s *Sink) send(ctx context.Context, r job.Result) error {
	body, err := r.Encode()
	if err != nil {
		return fmt.Errorf("copy result: %w", err)
	}
	m := job.Message{Body: body, Group: r.Group, Traceparent: r.Traceparent}
	if err := s.o.Copies.Send(ctx, m); err != nil {
		return fmt.Errorf("copy result: %w", err)
	}
	return nil
}

// CopyStored sends a copy of the result that stands under the identity, if
// copies are wanted: whoever finds a job answered can't know that the copy was
// sent before its writer died.
func (s *Sink) CopyStored(ctx context.Context, who job.Identity) error {
	if s.o.Copies == nil {
		return nil
	}
	body, err := s.get(ctx, who.Key())
	if err != nil {
		return err
	}
	r, err := job.DecodeResult(body)
	if err != nil {
		return fmt.Errorf("read stored result: %w", err)
	}
	return s.Copy(ctx, r)
}

func (s *Sink) get(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := s.o.S3.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &s.o.Bucket, Key: aws.String(s.o.Prefix + key),
	})
	if err != nil {
		return nil, fmt.Errorf("read stored result: %w", err)
	}
	defer out.Body.Close()
	body := bytes.NewBuffer(make([]byte, 0, aws.ToInt64(out.ContentLength)+bytes.MinRead))
	if _, err := body.ReadFrom(out.Body); err != nil {
		return nil, fmt.Errorf("read stored result: %w", err)
	}
	return body.Bytes(), nil
}
