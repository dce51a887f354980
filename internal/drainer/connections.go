package drainer

import (
	"context"
	"fmt"
	"io"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

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
