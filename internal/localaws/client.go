package localaws

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Client returns an HTTP client that reaches the server without a network, and
// so may be used inside a testing/synctest bubble, by whoever made the server
// there. Each way of each request takes what delay returns; nil is no delay. A
// request whose context ends is given up at once, whether it was served or not,
// as on a network.
func (s *Server) Client(delay func() time.Duration) aws.HTTPClient {
	if delay == nil {
		delay = func() time.Duration { return 0 }
	}
	return &client{server: s, delay: delay}
}

type client struct {
	server http.Handler
	delay  func() time.Duration
}

// Do sends the request and returns its answer, or what net/http would return
// where the connection breaks.
func (c *client) Do(out *http.Request) (*http.Response, error) {
	ctx := out.Context()
	in, err := arriving(out)
	if err != nil {
		return nil, failed(out, err)
	}
	answers := make(chan *http.Response, 1)
	go func() {
		if pause(ctx, c.delay()) == nil {
			answer := serve(c.server, in)
			if pause(ctx, c.delay()) == nil {
				answers <- answer
			}
		}
	}()
	select {
	case answer := <-answers:
		if answer == nil {
			return nil, failed(out, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET})
		}
		answer.Request = out
		return answer, nil
	case <-ctx.Done():
		return nil, failed(out, ctx.Err())
	}
}

// arriving is the request as a server sees it. The body is read here and not by
// the handler: when the context ends, the caller may use it again.
func arriving(out *http.Request) (*http.Request, error) {
	in := out.Clone(out.Context())
	in.RequestURI = out.URL.RequestURI()
	in.RemoteAddr = "127.0.0.1:1"
	if in.Host == "" {
		in.Host = out.URL.Host
	}
	in.Body = http.NoBody
	if out.Body != nil {
		defer out.Body.Close()
		var b bytes.Buffer
		b.Grow(int(max(out.ContentLength, 0)) + bytes.MinRead)
		if _, err := b.ReadFrom(out.Body); err != nil {
			return nil, err
		}
		in.Body, in.ContentLength = io.NopCloser(&b), int64(b.Len())
	}
	if in.ContentLength > 0 || in.Method == http.MethodPut || in.Method == http.MethodPost {
		in.Header.Set("Content-Length", strconv.FormatInt(in.ContentLength, 10))
	}
	return in, nil
}

// serve returns nil when the handler drops the connection.
func serve(h http.Handler, r *http.Request) (answer *http.Response) {
	defer func() {
		if v := recover(); v == http.ErrAbortHandler {
			answer = nil
		} else if v != nil {
			panic(v)
		}
	}()
	w := &recorder{header: make(http.Header)}
	h.ServeHTTP(w, r)
	return w.answer(r)
}

// pause returns the context's error if it ends first.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func failed(r *http.Request, err error) error {
	return &url.Error{Op: r.Method, URL: r.URL.String(), Err: err}
}

// recorder is the http.ResponseWriter of one request.
type recorder struct {
	header http.Header
	sent   http.Header // as it was when the status was written
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status, w.sent = status, w.header.Clone()
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

func (w *recorder) answer(r *http.Request) *http.Response {
	w.WriteHeader(http.StatusOK)
	// net/http's server adds it too; Sluice takes SQS's clock from it.
	if w.sent.Get("Date") == "" {
		w.sent.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	}
	a := &http.Response{
		Status: fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)), StatusCode: w.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()),
	}
	if r.Method == http.MethodHead {
		a.Body, a.ContentLength = http.NoBody, -1
		if n, err := strconv.ParseInt(w.sent.Get("Content-Length"), 10, 64); err == nil {
			a.ContentLength = n
		}
	}
	return a
}

// Config returns what a process would load from an environment that names this
// server as its endpoint: the SDK's defaults, test credentials, us-east-1. The
// environment and the files of the machine play no part in it. A nil client is
// the SDK's own, which needs Listen.
//
// S3 clients made from it use path style, since no bucket has a host name here.
func (s *Server) Config(client aws.HTTPClient) aws.Config {
	endpoint := s.endpoint()
	return aws.Config{
		Region:       region,
		Credentials:  credentials.NewStaticCredentialsProvider("test", "test", ""),
		HTTPClient:   client,
		BaseEndpoint: &endpoint,
		ServiceOptions: []func(string, any){func(_ string, o any) {
			if o, ok := o.(*s3.Options); ok {
				o.UsePathStyle = true
			}
		}},
		// config.LoadDefaultConfig sets these where the environment does not, and
		// can't be told to look away from it. A test compares the two.
		DefaultsMode:                aws.DefaultsModeLegacy,
		AccountIDEndpointMode:       aws.AccountIDEndpointModePreferred,
		RequestMinCompressSizeBytes: 10240,
		RequestChecksumCalculation:  aws.RequestChecksumCalculationWhenSupported,
		ResponseChecksumValidation:  aws.ResponseChecksumValidationWhenSupported,
	}
}
