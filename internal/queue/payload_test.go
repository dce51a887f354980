package queue_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/sluicehq/sluice/internal/queue"
	"github.com/sluicehq/sluice/job"
)

func TestPayloadRoundTrip(t *testing.T) {
	in(t, nil, func(f *fixture) {
		p := f.payloads()
		want := bytes.Repeat([]byte("a"), job.MaxPayload)
		uri, err := p.Put(f.Context(), "run/a.json", want)
		if err != nil || uri != "s3://bucket/payloads/run/a.json" {
			f.Fatalf("put: %q, %v", uri, err)
		}
		if got, err := p.Get(f.Context(), uri); err != nil || !bytes.Equal(got, want) {
			f.Errorf("get: %d bytes, %v, want %d", len(got), err, len(want))
		}
	})
}

// Without s3:ListBucket an absent payload looks forbidden. That S3 is away stops nobody
// who needs no payload.
func TestPayloadPreflight(t *testing.T) {
	in(t, nil, func(f *fixture) {
		p := f.payloads()
		if err := p.Preflight(f.Context()); err != nil {
			f.Error(err)
		}
		for status, want := range map[int]string{
			http.StatusForbidden: "s3:ListBucket", http.StatusBadRequest: "400", http.StatusOK: "cannot exist",
		} {
			f.refuse(status, "")
			if err := p.Preflight(f.Context()); err == nil || !strings.Contains(err.Error(), want) {
				f.Errorf("%d: error %v, want one with %q", status, err, want)
			}
		}
		f.refuse(http.StatusServiceUnavailable, "")
		if err := p.Preflight(f.Context()); err != nil {
			f.Error(err)
		}
	})
}

// Pointers that will never be good, whatever S3 says later.
func TestPayloadUnusable(t *testing.T) {
	in(t, nil, func(f *fixture) {
		p := f.payloads()
		f.aws.CreateBucket("other")
		client := s3.NewFromConfig(f.aws.Config(f.aws.Client(nil)))
		for bucket, keys := range map[string][]string{
			"bucket": {"payloads/large", "payloads", "payloads-of-others/a", "results/a", "payloads/a/b"},
			"other":  {"payloads/a"},
		} {
			for _, key := range keys {
				size := 1
				if key == "payloads/large" {
					size = job.MaxPayload + 1
				}
				_, err := client.PutObject(f.Context(), &s3.PutObjectInput{
					Bucket: &bucket, Key: &key, Body: bytes.NewReader(make([]byte, size)),
				})
				if err != nil {
					f.Fatal(err)
				}
			}
		}
		reads := f.aws.Calls()["S3.GetObject"]
		for uri, code := range map[string]string{
			"s3://bucket/payloads/absent":                            "absent",
			"s3://bucket/payloads/large":                             "too_large",
			"":                                                       "foreign",
			"s3://bucket":                                            "foreign",
			"s3://bucket/":                                           "foreign",
			"s3://bucket/payloads":                                   "foreign",
			"s3://bucket/payloads/":                                  "foreign",
			"s3://bucket/payloads//a":                                "foreign",
			"s3://bucket/payloads/a/":                                "foreign",
			"s3://bucket/payloads/../results/a":                      "foreign",
			"s3://bucket/payloads/a/../../results/a":                 "foreign",
			"s3://bucket/payloads/./a":                               "foreign",
			"s3://bucket/payloads/a/..":                              "foreign",
			"s3://bucket/payloads-of-others/a":                       "foreign",
			"s3://bucket/results/a":                                  "foreign",
			"s3://bucket//payloads/a":                                "foreign",
			"s3://other/payloads/a":                                  "foreign",
			"S3://bucket/payloads/a":                                 "foreign",
			"https://bucket/payloads/a":                              "foreign",
			"s3://bucket/payloads/" + strings.Repeat("a", 1024-8):    "foreign",
			"s3://bucket/payloads/" + strings.Repeat("a", 1024-8-10): "absent",
		} {
			_, err := p.Get(f.Context(), uri)
			failure, ok := errors.AsType[*job.Failure](err)
			if !ok || failure.Reason != job.Payload || failure.Code != code {
				f.Errorf("%s: %v, want %s", uri, err, code)
			}
		}
		if n := f.aws.Calls()["S3.GetObject"] - reads; n != 3 {
			f.Errorf("%d objects were asked for, want the 3 under the prefix", n)
		}
	})
}

// A length that lies, in either direction, is no way past the limit.
func TestPayloadLengthIsNotBelieved(t *testing.T) {
	in(t, nil, func(f *fixture) {
		f.aws.CreateBucket("bucket")
		for _, announced := range []int64{10, 1 << 40} {
			body := &endless{}
			config := f.aws.Config(doer(func(*http.Request) (*http.Response, error) {
				return &http.Response{
					StatusCode: http.StatusOK, Body: body, ContentLength: announced,
					Header: http.Header{"Content-Length": {strconv.FormatInt(announced, 10)}},
				}, nil
			}))
			p := queue.NewPayloads(s3.NewFromConfig(config), "bucket", "payloads/")
			_, err := p.Get(f.Context(), "s3://bucket/payloads/a")
			if failure, ok := errors.AsType[*job.Failure](err); !ok || failure.Code != "too_large" {
				f.Errorf("%d bytes announced: error %v, want too_large", announced, err)
			}
			if body.read > job.MaxPayload+1 {
				f.Errorf("%d bytes announced: %d read, want at most %d", announced, body.read, job.MaxPayload+1)
			}
			if !body.closed {
				f.Errorf("%d bytes announced: the body was left open", announced)
			}
		}
	})
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// endless is a body of many times the limit.
type endless struct {
	read   int
	closed bool
}

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	if e.read > 4*job.MaxPayload {
		return 0, io.EOF
	}
	return len(p), nil
}

func (e *endless) Close() error {
	e.closed = true
	return nil
}

// A prefix without its slash does not cover its neighbours.
func TestPayloadPrefixEndsInSlash(t *testing.T) {
	in(t, nil, func(f *fixture) {
		f.payloads()
		p := queue.NewPayloads(s3.NewFromConfig(f.aws.Config(f.aws.Client(nil))), "bucket", "payloads")
		if uri, err := p.Put(f.Context(), "a", nil); err != nil || uri != "s3://bucket/payloads/a" {
			f.Errorf("put: %q, %v", uri, err)
		}
		_, err := p.Get(f.Context(), "s3://bucket/payloads-of-others/a")
		if failure, ok := errors.AsType[*job.Failure](err); !ok || failure.Code != "foreign" {
			f.Errorf("error %v, want foreign", err)
		}
	})
}

// What S3 may answer differently a minute later buries no job.
func TestPayloadAway(t *testing.T) {
	in(t, nil, func(f *fixture) {
		p := f.payloads()
		nowhere := queue.NewPayloads(s3.NewFromConfig(f.aws.Config(f.aws.Client(nil))), "no-such-bucket", "payloads/")
		_, err := nowhere.Get(f.Context(), "s3://no-such-bucket/payloads/a")
		away(f, "a missing bucket", err)
		for name, status := range map[string]int{"AccessDenied": 403, "ExpiredToken": 400, "SlowDown": 503, "InternalError": 500} {
			f.aws.Intercept(func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.WriteHeader(status)
					w.Write([]byte("<Error><Code>" + name + "</Code><Message>no</Message></Error>"))
				})
			})
			_, err := p.Get(f.Context(), "s3://bucket/payloads/a")
			away(f, name, err)
			_, err = p.Put(f.Context(), "a", nil)
			away(f, name, err)
		}
		f.aws.Intercept(func(http.Handler) http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
		})
		_, err = p.Get(f.Context(), "s3://bucket/payloads/a")
		away(f, "a broken connection", err)
	})
}

func away(f *fixture, name string, err error) {
	f.Helper()
	if _, ok := errors.AsType[*job.Failure](err); err == nil || ok {
		f.Errorf("%s: %v (%T), want an error that passes", name, err, err)
	}
}
