package results

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/sluicehq/sluice/job"
)

// Copy sends a copy of the result, if copies are wanted. What a message can't
// hold is shortened: first the output, to where it stands in S3, then all but
// what outline keeps.
func (s *Sink) Copy(ctx context.Context, r job.Result) error {
	if s.o.Copies == nil {
		return nil
	}
	err := s.send(ctx, r)
	if errors.Is(err, job.ErrNoRoom) && r.Output != nil {
		r.Output, r.Object = nil, s.object(r.Identity())
		err = s.send(ctx, r)
	}
	if errors.Is(err, job.ErrNoRoom) {
		err = s.send(ctx, s.outline(r))
	}
	return err
}

// outline is the shortest copy: of whom, how it ended, and the object that says
// the rest (of a conflict, the one in its way). Nothing in it is as long as a
// sender likes.
func (s *Sink) outline(r job.Result) job.Result {
	short := job.Result{ID: r.ID, Run: r.Run, Status: r.Status, Group: r.Group, Object: s.object(r.Identity())}
	if r.Error != nil {
		short.Error = &job.Error{Reason: r.Error.Reason}
	}
	return short
}

func (s *Sink) object(who job.Identity) string {
	return "s3://" + s.o.Bucket + "/" + s.o.Prefix + who.Key()
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
// sent before its writer died. What went into an archive, and can be seen and not
// read, is copied in outline.
func (s *Sink) CopyStored(ctx context.Context, who job.Identity) error {
	if s.o.Copies == nil {
		return nil
	}
	r, err := s.stored(ctx, who)
	if err == nil {
		return s.Copy(ctx, r)
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorCode() == "InvalidObjectState" {
		if there, e := s.head(ctx, who.Key()); e == nil && there.status != "" {
			return s.send(ctx, s.outline(job.Result{ID: who.ID, Run: who.Run, Status: there.status}))
		}
	}
	return err
}

func (s *Sink) stored(ctx context.Context, who job.Identity) (job.Result, error) {
	body, err := s.get(ctx, who.Key())
	if err != nil {
		return job.Result{}, err
	}
	r, err := job.DecodeResult(body)
	if err != nil {
		return job.Result{}, fmt.Errorf("read stored result: %w", err)
	}
	return r, nil
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
