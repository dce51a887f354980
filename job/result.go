package job

import (
	"encoding/json"
	"time"
)

// Status is how a job ended.
type Status string

// The three ways to end. Only a success is final.
const (
	Succeeded Status = "succeeded"
	Failed    Status = "failed"
	Expired   Status = "expired"
)

// Route is one place that can answer for a model.
type Route struct {
	Region  string `json:"region"`
	ModelID string `json:"model_id"`
}

// Usage is what an invocation consumed, in tokens.
type Usage struct {
	InputTokens      int64 `json:"input_tokens"`
	OutputTokens     int64 `json:"output_tokens"`
	CacheReadTokens  int64 `json:"cache_read_tokens"`
	CacheWriteTokens int64 `json:"cache_write_tokens"`
	// QuotaTokens is the settlement: input + cache writes + output x burndown.
	QuotaTokens int64 `json:"quota_tokens"`
}

// Error says why a job did not succeed. Message can quote the request, so it
// goes to the result only: never to a log, a metric or a queue attribute.
type Error struct {
	Reason    Reason `json:"reason"`
	Code      string `json:"code,omitempty"`
	Message   string `json:"message,omitempty"`
	RequestID string `json:"request_id,omitempty"`
}

// Result is the one outcome of a job: an S3 object, and optionally a copy on a
// queue.
type Result struct {
	ID     string          `json:"id"`
	Run    string          `json:"run,omitempty"`
	Status Status          `json:"status"`
	Model  string          `json:"model,omitempty"` // the model that answered: a fallback shows here
	Route  *Route          `json:"route,omitempty"`
	Output json.RawMessage `json:"output,omitempty"` // Bedrock's response body, untouched
	// Object, the s3:// URI of the result, replaces Output in a copy that would
	// exceed what its queue takes; where that is too long still, or the result
	// can't be read any more, it replaces all but ID, Run, Status and the reason.
	Object string `json:"result,omitempty"`
	Usage  *Usage `json:"usage,omitempty"`
	// Attempts, Throttles and StartedAt are those of the last delivery.
	Attempts    int               `json:"attempts"`
	Throttles   int               `json:"throttles"`
	Receives    int               `json:"receives"`
	EnqueuedAt  time.Time         `json:"enqueued_at,omitzero"`
	StartedAt   time.Time         `json:"started_at,omitzero"`
	FinishedAt  time.Time         `json:"finished_at,omitzero"`
	Error       *Error            `json:"error,omitempty"`
	Traceparent string            `json:"traceparent,omitempty"`
	Group       string            `json:"group,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
}

// Identity returns the identity of the job that the result answers.
func (r Result) Identity() Identity { return Identity{Run: r.Run, ID: r.ID} }
