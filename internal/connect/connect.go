// Package connect readies the AWS SDK for many calls at once: it prepares the
// configuration that the SDK loaded, and makes the S3 client. It knows no queue, no
// bucket and no model. internal/drainer and cmd/producer call it; it imports the
// SDK only.
package connect

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Prepare returns the configuration with every connection kept that many calls at
// once have opened. An HTTP client that is not the SDK's own stays as it is.
func Prepare(ac aws.Config) aws.Config {
	if ac.HTTPClient == nil { // as the SDK loads it, but for a CA bundle
		ac.HTTPClient = awshttp.NewBuildableClient()
	}
	if b, ok := ac.HTTPClient.(*awshttp.BuildableClient); ok {
		ac.HTTPClient = b.WithTransportOptions(func(t *http.Transport) {
			// Above the transport's ten, every further call would shake hands again.
			// What nobody uses any more it closes by itself, after 90 s.
			t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, t.MaxConnsPerHost
		})
	}
	ac.APIOptions = append(slices.Clip(ac.APIOptions), plainBody)
	return ac
}

// S3 makes a client of S3.
func S3(ac aws.Config) *s3.Client {
	return s3.NewFromConfig(ac, func(o *s3.Options) {
		// An endpoint that somebody set has no host name for each bucket.
		o.UsePathStyle = o.BaseEndpoint != nil
		// Where an emulator sends no checksums, each object that is read would say so,
		// in plain text amid a log of JSON.
		o.DisableLogOutputChecksumValidationSkipped = o.BaseEndpoint != nil
	})
}

// plainBody keeps net/http from dropping a connection whose answer came early.
//
// The SDK closes a request's body as soon as the answer begins. net/http may
// look only then whether the body has more than it announced, and to that
// smithy-go's closed body says io.EOF where io.WriterTo wants nil: net/http
// takes the request for failed and closes the connection under the answer. A
// busy process meets this some times in a thousand calls, and what SQS had just
// handed out is then nobody's for the whole visibility timeout. A body that can
// only be read has no such case; it is hidden after the signature, for which the
// SDK hashes what can write itself without a buffer.
func plainBody(stack *middleware.Stack) error {
	return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("SluicePlainBody", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (out middleware.FinalizeOutput, metadata middleware.Metadata, err error) {
		if r, ok := in.Request.(*smithyhttp.Request); ok {
			if body, ok := r.GetStream().(io.ReadSeeker); ok {
				if in.Request, err = r.SetStream(struct{ io.ReadSeeker }{body}); err != nil {
					return out, metadata, fmt.Errorf("set the body: %w", err)
				}
			}
		}
		return next.HandleFinalize(ctx, in)
	}), middleware.After)
}
