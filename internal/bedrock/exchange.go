package bedrock

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/sluicehq/sluice/job"
)

// maxReply bounds a response body, in bytes. Bedrock's own bound on an
// InvokeModel body is 25,000,000 bytes (InvokeModel in its API reference). Too
// small: an answer that was paid for is lost. Too large: one endless body takes
// the memory of all jobs.
const maxReply = 32 << 20

// exchange is one request and its reply on the wire. It stands among the SDK's
// own steps: after a request was serialized and before it is signed, and before
// a response is read by anybody else.
type exchange struct {
	request []byte

	sent   bool // the request reached the transport: endpoint, credentials and signature were had
	status int  // 0: no response
	header http.Header
	body   []byte
	whole  bool // the reply was read to its end
	large  bool // the reply exceeds maxReply
}

// install puts the exchange into an operation's steps.
func (x *exchange) install(stack *middleware.Stack) error {
	serialize := middleware.SerializeMiddlewareFunc("SluiceRequest", x.serialize)
	if err := stack.Serialize.Add(serialize, middleware.After); err != nil {
		return err
	}
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("SluiceReply", x.deserialize), middleware.After)
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

// deserialize keeps the reply and hands the SDK no more of it than it needs: the
// body of an error, for its type and message. A success that it can't decode, or
// an error that is a proxy's HTML page, would end in an error of its own, and
// hide the type in the header.
func (x *exchange) deserialize(
	ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler,
) (middleware.DeserializeOutput, middleware.Metadata, error) {
	x.sent = true
	out, metadata, err := next.HandleDeserialize(ctx, in)
	if err != nil {
		return out, metadata, err
	}
	resp, ok := out.RawResponse.(*smithyhttp.Response)
	if !ok {
		return out, metadata, fmt.Errorf("unknown transport %T", out.RawResponse)
	}
	x.status, x.header = resp.StatusCode, resp.Header
	err = x.read(resp)
	seen := []byte("{}")
	if x.status/100 != 2 {
		// Half an error is classified by its status and header all the same.
		x.whole, err = true, nil
		if isObject(x.body) {
			seen = x.body
		}
	}
	resp.Body = io.NopCloser(bytes.NewReader(seen))
	return out, metadata, err
}

func (x *exchange) read(resp *smithyhttp.Response) (err error) {
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
