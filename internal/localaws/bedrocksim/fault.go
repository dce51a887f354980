package bedrocksim

import (
	"net/http"
	"time"
)

// Fault is something that goes wrong with a part of a model's requests.
type Fault struct {
	Kind FaultKind
	Rate float64 // the part of the requests that it hits, 0 to 1
	// From and Until bound it in time since New; Until 0: for ever.
	From, Until time.Duration
}

func (f Fault) active(since time.Duration) bool {
	return since >= f.From && (f.Until == 0 || since < f.Until)
}

// FaultKind names what goes wrong.
type FaultKind string

// The kinds of fault. Each is also a marker that a prompt can carry (see
// [Simulator]).
const (
	Unavailable   FaultKind = "unavailable"    // 503, capacity
	Connections   FaultKind = "connections"    // 503 whose text sounds like a throttle
	Internal      FaultKind = "internal"       // 500
	ModelError    FaultKind = "model-error"    // 424 with originalStatusCode
	ModelTimeout  FaultKind = "model-timeout"  // 408
	Overloaded    FaultKind = "overloaded"     // 529 with Retry-After, as some model APIs answer
	NotReady      FaultKind = "not-ready"      // 429 that is no throttle
	Throttle      FaultKind = "throttle"       // 429 of a limit that this limiter does not know
	Bare429       FaultKind = "bare-429"       // 429 without a type, as a proxy answers
	Denied        FaultKind = "denied"         // 403
	ExpiredToken  FaultKind = "expired-token"  // 403
	QuotaExceeded FaultKind = "quota-exceeded" // 400 ServiceQuotaExceededException
	Absent        FaultKind = "absent"         // 404
	Reject        FaultKind = "reject"         // 400 ValidationException
	Garbage       FaultKind = "garbage"        // 200 whose body is no JSON
	Slow          FaultKind = "slow"           // slowFactor times the latency, at least slowLeast
	Hang          FaultKind = "hang"           // no answer until the client goes away
	Cut           FaultKind = "cut"            // the connection breaks after the work is done and charged
)

// A slow answer must outlast a backoff and stay below a time-out.
const (
	slowFactor = 10
	slowLeast  = 10 * time.Second
)

// effect is what a kind of fault does to a request.
type effect struct {
	problem
	// admitted says that the request passes the limiter and fails while it
	// runs; others are turned away at the door and cost nothing.
	admitted bool
}

// problem is an answer other than 200. The zero problem is none.
type problem struct {
	status  int
	typ     string // X-Amzn-ErrorType; "": un-typed
	message string
	// retryAfter is sent in seconds unless zero.
	retryAfter int
	// original is a ModelErrorException's originalStatusCode.
	original int
}

// faults gives every kind its effect. The texts are AWS's as users quote them.
var faults = map[FaultKind]effect{
	Unavailable:   {problem: problem{status: 503, typ: "ServiceUnavailableException", message: "Bedrock is unable to process your request."}},
	Connections:   {problem: problem{status: 503, typ: "ServiceUnavailableException", message: "Too many connections, please wait before trying again."}},
	Internal:      {admitted: true, problem: problem{status: 500, typ: "InternalServerException", message: "The system encountered an unexpected error during processing. Try your request again."}},
	ModelError:    {admitted: true, problem: problem{status: 424, typ: "ModelErrorException", message: "The system encountered an unexpected error during processing. Try your request again.", original: 500}},
	ModelTimeout:  {admitted: true, problem: problem{status: 408, typ: "ModelTimeoutException", message: "Model has timed out in processing the request. Try your request again."}},
	Overloaded:    {problem: problem{status: 529, typ: "overloaded_error", message: "Overloaded", retryAfter: 2}},
	NotReady:      {problem: problem{status: 429, typ: "ModelNotReadyException", message: "Model is not ready for inference. Wait and try your request again."}},
	Throttle:      {problem: problem{status: 429, typ: "ThrottlingException", message: "Your request rate is too high. Reduce the frequency of requests."}},
	Bare429:       {problem: problem{status: 429}},
	Denied:        {problem: problem{status: 403, typ: "AccessDeniedException", message: "You don't have access to the model with the specified model ID."}},
	ExpiredToken:  {problem: problem{status: 403, typ: "ExpiredTokenException", message: "The security token included in the request is expired"}},
	QuotaExceeded: {problem: problem{status: 400, typ: "ServiceQuotaExceededException", message: "Your request exceeds the service quota for your account."}},
	Absent:        {problem: problem{status: 404, typ: "ResourceNotFoundException", message: "Could not resolve the foundation model from the provided model identifier."}},
	Reject:        {problem: invalid("The model returned the following errors: this request is refused.")},
	Garbage:       {admitted: true},
	Slow:          {admitted: true},
	Hang:          {admitted: true},
	Cut:           {admitted: true},
}

// byStatus is the kind that the marker [[sim:status=N]] means.
var byStatus = map[string]FaultKind{
	"400": Reject, "403": Denied, "404": Absent, "408": ModelTimeout, "424": ModelError,
	"429": Throttle, "500": Internal, "503": Unavailable, "529": Overloaded,
}

// refusals are the limiter's 429s, in AWS's words.
var refusals = map[Cause]problem{
	Requests: {status: 429, typ: "ThrottlingException", message: "Too many requests, please wait before trying again."},
	Tokens:   {status: 429, typ: "ThrottlingException", message: "Too many tokens, please wait before trying again."},
	Day:      {status: 429, typ: "ThrottlingException", message: "Too many tokens per day, please wait before trying again."},
}

func invalid(message string) problem {
	return problem{status: http.StatusBadRequest, typ: "ValidationException", message: message}
}
