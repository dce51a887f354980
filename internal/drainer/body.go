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
// only be read has no such case.
func plainBody(stack *middleware.Stack) error {
	return stack.Build.Add(middleware.BuildMiddlewareFunc("SluicePlainBody", func(
		ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler,
	) (out middleware.BuildOutput, metadata middleware.Metadata, err error) {
		if r, ok := in.Request.(*smithyhttp.Request); ok {
			if body, ok := r.GetStream().(io.ReadSeeker); ok {
				if in.Request, err = r.SetStream(struct{ io.ReadSeeker }{body}); err != nil {
					return out, metadata, fmt.Errorf("set the body: %w", err)
				}
			}
		}
		return next.HandleBuild(ctx, in)
	}), middleware.After)
}
