package bedrock

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/sluicehq/sluice/job"
)

// maxReply bounds a response body, in bytes. Bedrock's own bound on an
// InvokeModel body is 25,000,000 bytes (InvokeModel in its API reference). Too
// small: an answer that was paid for is lost. Too large: one endless body takes
// the memory of all jobs.
const maxReply = 32 << 20

// exchange is one request and its reply on the wire. To the SDK it is the
// network: the first time it takes the signed request, and the second time it
// gives the reply.
type exchange struct {
	request []byte
	signed  *http.Request // nil until endpoint, credentials and signature were had

	sent   bool // the request was handed to the transport
	status int  // 0: no response
	header http.Header
	body   []byte
	whole  bool // the reply was read to its end
	large  bool // the reply exceeds maxReply
}

// install puts the request's body into an operation's steps: after the SDK made
// its own, and before it is signed.
func (x *exchange) install(stack *middleware.Stack) error {
	return stack.Serialize.Add(middleware.SerializeMiddlewareFunc("SluiceRequest", x.serialize), middleware.After)
}

// serialize replaces the body that the SDK made of an almost empty input.
func (x *exchange) serialize(
	ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler,
) (middleware.SerializeOutput, middleware.Metadata, error) {
	req, ok := in.Request.(*smithyhttp.Request)
	if !ok {
		return middleware.SerializeOutput{}, middleware.Metadata{}, fmt.Errorf("unknown transport %T", in.Request)
	}
	req, err := req.SetStream(bytes.NewReader(x.request))
	if err != nil {
		return middleware.SerializeOutput{}, middleware.Metadata{}, fmt.Errorf("set the body: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	in.Request = req
	return next.HandleSerialize(ctx, in)
}

// errSigned ends the SDK's steps when all that is left is to send.
var errSigned = errors.New("signed, and not sent")

// Do implements aws.HTTPClient.
func (x *exchange) Do(r *http.Request) (*http.Response, error) {
	if !x.sent {
		x.signed = r
		return nil, errSigned
	}
	// The SDK can't read a proxy's HTML page, and would end in an error of its
	// own that hides the type in the header.
	body := []byte("{}")
	if isObject(x.body) {
		body = x.body
	}
	return &http.Response{
		Status: http.StatusText(x.status), StatusCode: x.status, Header: x.header,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}, nil
}

// perform sends the signed request and reads the reply.
func (x *exchange) perform(ctx context.Context, client aws.HTTPClient) error {
	r := x.signed.WithContext(ctx) // without what the SDK hung on it
	// A new connection gets the body again where the old one sent nothing or the
	// server says that it has not looked at it. No other POST is sent twice.
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(x.request)), nil }
	r.Body, _ = r.GetBody() // the SDK has closed its own
	x.signed, x.sent = nil, true
	resp, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("send the request: %w", err)
	}
	x.status, x.header = resp.StatusCode, resp.Header
	err = x.read(resp)
	if x.status/100 != 2 {
		// Half an error is classified by its status and header all the same.
		x.whole, err = true, nil
	}
	return err
}

func (x *exchange) read(resp *http.Response) (err error) {
	defer func() {
		if closeErr := resp.Body.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("close the response: %w", closeErr)
		}
	}()
	var body bytes.Buffer
	if n := resp.ContentLength; 0 < n && n <= maxReply {
		body.Grow(int(n) + bytes.MinRead) // ReadFrom wants room for one read more
	}
	_, err = body.ReadFrom(io.LimitReader(resp.Body, maxReply+1))
	x.body, x.large = body.Bytes(), body.Len() > maxReply
	if err != nil {
		return fmt.Errorf("read the response: %w", err)
	}
	x.whole = true
	return nil
}

func isObject(text []byte) bool {
	var members struct{}
	return json.Unmarshal(text, &members) == nil && bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{"))
}

func (x *exchange) requestID() string { return x.header.Get("X-Amzn-Requestid") }

// answer makes an answer of a reply with status 200.
func (x *exchange) answer(modelID string) (job.Answer, error) {
	if x.large {
		// The model answered and was paid; so it would be the next time.
		return job.Answer{}, &job.Failure{
			Reason: job.Rejected, Code: "too_large", RequestID: x.requestID(),
			Message: fmt.Sprintf("the model's answer exceeds %d bytes", maxReply),
		}
	}
	u, ok := readUsage(x.body, x.header)
	if !ok || !utf8.Valid(x.body) {
		// Every model's answer is JSON, an image's too. What isn't comes from
		// something between us and Bedrock, so nothing says that the model saw the
		// request.
		return job.Answer{}, &job.Failure{
			Reason: job.Unavailable, Code: "not_json", RequestID: x.requestID(),
			Message: "the response is no JSON",
		}
	}
	usage, metered := u.total(noOutput(modelID))
	return job.Answer{Output: x.body, Usage: usage, Metered: metered, RequestID: x.requestID()}, nil
}
