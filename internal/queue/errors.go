package queue

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/sluicehq/sluice/job"
)

// wrap names the operation and the queue, and tells what only a person can mend
// from what passes by itself.
func (q *Queue) wrap(op string, err error) error {
	if denied(err) {
		return fmt.Errorf("%s %s: %w: %w", op, q.name, job.ErrDenied, err)
	}
	return fmt.Errorf("%s %s: %w", op, q.name, err)
}

// deniedCodes are AWS's common errors of identity and permission. Over JSON
// many of them come as 400, so that the status does not tell.
var deniedCodes = []string{
	"AccessDenied", "AccessDeniedException", "NotAuthorized", "OptInRequired",
	"ExpiredToken", "ExpiredTokenException", "RequestExpired",
	"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId",
	"MissingAuthenticationToken", "MissingAuthenticationTokenException",
	"IncompleteSignature", "InvalidSignatureException", "SignatureDoesNotMatch",
	"InvalidSecurity", "InvalidAddress",
	// The queue's encryption key; KmsThrottled passes by itself.
	"KmsAccessDenied", "KmsDisabled", "KmsInvalidKeyUsage", "KmsInvalidState", "KmsNotFound", "KmsOptInRequired",
}

// denied reports whether err is a missing queue, a lack of permission or a lack
// of credentials.
func denied(err error) bool {
	// By type: its code is a legacy string.
	if _, ok := errors.AsType[*types.QueueDoesNotExist](err); ok {
		return true
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok && slices.Contains(deniedCodes, shortCode(e.ErrorCode())) {
		return true
	}
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status := e.HTTPStatusCode()
		return status == http.StatusUnauthorized || status == http.StatusForbidden
	}
	// No credentials to sign with: the SDK has no type for it.
	e, ok := errors.AsType[*smithy.OperationError](err)
	return ok && strings.HasPrefix(e.Err.Error(), "get identity: ")
}

// gone reports whether the code of an entry means that its delivery is no
// longer ours. InvalidParameterValue is how SQS speaks of a handle that expired
// and of a visibility beyond 12 hours; an entry has no other parameter.
func gone(code string) bool {
	switch shortCode(code) {
	case "MessageNotInflight", "ReceiptHandleIsInvalid", "InvalidParameterValue":
		return true
	}
	return false
}

// shortCode drops the namespaces that SQS's older protocol puts before a code
// ("AWS.SimpleQueueService.MessageNotInflight", "KMS.NotFoundException").
func shortCode(code string) string {
	if s, ok := strings.CutPrefix(code, "KMS."); ok {
		return "Kms" + strings.TrimSuffix(s, "Exception")
	}
	return code[strings.LastIndexByte(code, '.')+1:]
}
