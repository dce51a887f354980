package job

// Reason is why something other than a success happened to a job. The set is
// closed: a Reason is also a metric's dimension and a log's attribute.
type Reason string

// The reasons, in the order of design's table of treatments.
const (
	Throttled    Reason = "throttled"     // 429: our quota; never fails a job before its deadline
	Exhausted    Reason = "exhausted"     // 429 "per day": the quota of the day is gone
	Unavailable  Reason = "unavailable"   // 5xx, 424, 408, network, time-out: theirs
	Rejected     Reason = "rejected"      // the request is at fault; never retried
	Unauthorized Reason = "unauthorized"  // credentials, access, account
	Oversize     Reason = "oversize"      // larger than the undivided quota can ever admit
	Payload      Reason = "payload"       // the payload is absent, foreign or too large
	Malformed    Reason = "malformed"     // the body is no job
	UnknownModel Reason = "unknown_model" // no configured model of that name
	Conflict     Reason = "conflict"      // another job's success stands under this identity
	Receives     Reason = "receives"      // received too often: a job that kills the process
	DeadlinePast Reason = "expired"       // the effective deadline passed before the start
)

// Reasons lists every Reason.
var Reasons = []Reason{
	Throttled, Exhausted, Unavailable, Rejected, Unauthorized, Oversize,
	Payload, Malformed, UnknownModel, Conflict, Receives, DeadlinePast,
}
