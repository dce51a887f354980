package bedrock

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/aws/smithy-go"

	"github.com/sluicehq/sluice/job"
)

// byCode classifies the error types that Bedrock, and the front doors of AWS
// before it, are known to send.
var byCode = map[string]job.Reason{
	"ThrottlingException":           job.Throttled,
	"Throttling":                    job.Throttled,
	"ThrottledException":            job.Throttled,
	"TooManyRequestsException":      job.Throttled,
	"RequestLimitExceeded":          job.Throttled,
	"LimitExceededException":        job.Throttled,
	"ServiceQuotaExceededException": job.Throttled, // status 400

	"ModelNotReadyException":      job.Unavailable, // status 429, and no throttle
	"ServiceUnavailableException": job.Unavailable,
	"ServiceUnavailable":          job.Unavailable,
	"InternalServerException":     job.Unavailable,
	"InternalFailure":             job.Unavailable,
	"ModelErrorException":         job.Unavailable,
	"ModelStreamErrorException":   job.Unavailable,
	"ModelTimeoutException":       job.Unavailable,
	"overloaded_error":            job.Unavailable, // status 529

	"ValidationException":       job.Rejected,
	"ResourceNotFoundException": job.Rejected,

	"AccessDeniedException":               job.Unauthorized,
	"AccessDenied":                        job.Unauthorized,
	"UnauthorizedException":               job.Unauthorized,
	"NotAuthorized":                       job.Unauthorized, // status 400
	"OptInRequired":                       job.Unauthorized,
	"ExpiredToken":                        job.Unauthorized,
	"ExpiredTokenException":               job.Unauthorized,
	"RequestExpired":                      job.Unauthorized, // status 400
	"UnrecognizedClientException":         job.Unauthorized,
	"IncompleteSignature":                 job.Unauthorized, // status 400
	"IncompleteSignatureException":        job.Unauthorized,
	"InvalidSignatureException":           job.Unauthorized,
	"SignatureDoesNotMatch":               job.Unauthorized,
	"InvalidClientTokenId":                job.Unauthorized,
	"MissingAuthenticationToken":          job.Unauthorized,
	"MissingAuthenticationTokenException": job.Unauthorized,
	"FTUFormNotFilled":                    job.Unauthorized, // status 404: Anthropic's use-case form
}

// byStatus classifies what has no known type; what isn't here is unavailable.
var byStatus = map[int]job.Reason{
	http.StatusBadRequest:            job.Rejected,
	http.StatusUnauthorized:          job.Unauthorized,
	http.StatusForbidden:             job.Unauthorized,
	http.StatusNotFound:              job.Rejected,
	http.StatusRequestEntityTooLarge: job.Rejected,
	http.StatusUnprocessableEntity:   job.Rejected,
	http.StatusTooManyRequests:       job.Throttled, // of a proxy, say
}

// routeFaults are the words of rejections that every job on the route would
// meet: the account, its access to the model, or the configured model ID is at
// fault. To fail jobs for them would fail the backlog. They are phrases of
// Bedrock's own sentences, because a rejection can quote the request.
var routeFaults = []string{
	"operation not allowed",  // an account that AWS has not verified
	"access to the model",    // "You don't have access to the model with the specified model ID."
	"access denied",          // "Access denied. This Model is marked by provider as Legacy ..."
	"model access is denied", // Marketplace subscription
	"aws marketplace",
	"not available for this account",
	"account is not authorized",
	"use case details",           // Anthropic's form
	"from unsupported countries", // "Access to Anthropic models is not allowed from ..."
	"on-demand throughput",       // the model wants an inference profile
	"model identifier",           // "The provided model identifier is invalid.", "Could not resolve ..."
	"model not found",
	"reached the end of its life",
}

// failure classifies what came back in place of an answer.
func (x *exchange) failure(err error) *job.Failure {
	f := &job.Failure{Message: err.Error(), RequestID: x.requestID(), RetryAfter: retryAfter(x.header, time.Now())}
	switch {
	case !x.sent:
		// No endpoint, no credentials or no signature: nothing that the job can
		// help. Where the credentials' own service is away, a stopped route that
		// probes is right as well.
		f.Reason, f.Code = job.Unauthorized, "credentials"
	case !x.whole:
		f.Reason, f.Code = job.Unavailable, "network"
	default:
		f.Message = ""
		if e, ok := errors.AsType[smithy.APIError](err); ok {
			f.Code, f.Message = told(e.ErrorCode()), told(e.ErrorMessage())
		}
		f.Reason, f.Cause, f.Timeout = classify(f.Code, x.status, f.Message)
		if !isCode(f.Code) {
			f.Code = fmt.Sprintf("http_%d", x.status)
		}
		if f.Message == "" {
			f.Message = http.StatusText(x.status)
		}
	}
	return f
}

// told undoes what the SDK says in place of a type or message that is absent.
func told(text string) string {
	if text == "UnknownError" {
		return ""
	}
	return text
}

// classify is the one place that reads errors: by type, then status, then
// message. code is "" where the error has no type.
func classify(code string, status int, message string) (reason job.Reason, cause string, timeout bool) {
	message = strings.ToLower(message)
	reason, known := byCode[code]
	if !known {
		reason, known = byStatus[status]
	}
	switch {
	case !known:
		reason = job.Unavailable
	case code == "" && status == http.StatusNotFound:
		// Bedrock types its errors: what stands at the endpoint isn't Bedrock, and
		// no job is to fail for it.
		reason = job.Unavailable
	case reason == job.Rejected && containsAny(message, routeFaults):
		reason = job.Unauthorized
	case reason == job.Throttled:
		if cause = throttleCause(message); cause == "day" {
			reason = job.Exhausted
		}
	}
	return reason, cause, code == "ModelTimeoutException" || status == http.StatusRequestTimeout
}

// throttleCause tells from a throttle's message, in lower case, which quota
// fired. The texts are as users quote them, and not documented as stable: ""
// is an answer too.
func throttleCause(message string) string {
	switch {
	case strings.Contains(message, "per day"):
		return "day"
	case strings.Contains(message, "tokens"):
		return "tokens"
	case containsAny(message, []string{"requests", "request rate"}):
		return "requests"
	default:
		return ""
	}
}

func containsAny(text string, phrases []string) bool {
	return slices.ContainsFunc(phrases, func(phrase string) bool { return strings.Contains(text, phrase) })
}

// isCode reports whether text can be an error type. It is logged and becomes a
// queue attribute, and what a proxy puts in its place must not.
func isCode(text string) bool {
	return text != "" && len(text) <= 64 && !strings.ContainsFunc(text, func(c rune) bool {
		return c > unicode.MaxASCII || !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune("._-", c)
	})
}

// retryAfter reads the service's own wish, which the SDK ignores: x-amz-retry-after
// in milliseconds, or Retry-After in seconds or as a date.
func retryAfter(header http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseInt(header.Get("X-Amz-Retry-After"), 10, 64); err == nil {
		return wish(ms, time.Millisecond)
	}
	text := header.Get("Retry-After")
	if s, err := strconv.ParseInt(text, 10, 64); err == nil {
		return wish(s, time.Second)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0 // absent, or in no form that HTTP knows
	}
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		now = date // the clock that the wish was made by
	}
	return min(max(0, at.Sub(now)), longestWish)
}

// longestWish keeps a wish from overflowing, and from parking a route for years.
const longestWish = 24 * time.Hour

func wish(n int64, unit time.Duration) time.Duration {
	return time.Duration(min(max(n, 0), int64(longestWish/unit))) * unit
}
