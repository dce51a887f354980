// Package job is Sluice's vocabulary: the job that an app puts on the queue,
// the result it gets back, the closed set of reasons, and the wire codec of
// both. It does no I/O and knows no AWS; every other package speaks in its
// words, and a producer in another repository needs nothing else to build a
// valid body. It imports the standard library only.
package job

import (
	"encoding/json"
	"time"
)

// Limits of the wire format.
const (
	// MaxBody is the largest body of a message, in bytes (SQS since August
	// 2025). A larger job travels as a payload.
	MaxBody = 1 << 20
	// MaxPayload is the largest job that may stand behind a payload pointer, in
	// bytes.
	MaxPayload = 25 << 20
)

// Kind is the Bedrock operation that a job asks for.
type Kind string

// The two kinds; each is also the field of the body that carries the request.
const (
	Converse Kind = "converse" // POST /model/{id}/converse
	Invoke   Kind = "invoke"   // POST /model/{id}/invoke
)

// Job is one model invocation that somebody asked for.
type Job struct {
	// ID matches [A-Za-z0-9][A-Za-z0-9._-]{0,127}. A message without one gets
	// its SQS message ID.
	ID string
	// Run groups jobs; same alphabet as ID, or empty.
	Run string
	// Model is an alias of the configuration, or a model ID that exactly one
	// alias serves.
	Model string
	// Kind says which operation Request is for.
	Kind Kind
	// Request is the operation's body exactly as the AWS API documents it. It
	// reaches Bedrock byte for byte.
	Request json.RawMessage
	// Fallback names the models to try when the asked-for one is exhausted. Nil
	// means the model's configured chain, empty means none.
	Fallback []string
	// Deadline bounds the start of the invocation, not its end. Zero means none
	// but the queue's retention.
	Deadline time.Time
	// Metadata is carried to the result untouched.
	Metadata map[string]string

	// Payload, when set, makes this a pointer: the whole job is the object at
	// this s3:// URI, and only ID and Run may stand beside it.
	Payload string
}

// Identity is what makes two jobs the same job.
type Identity struct {
	Run, ID string
}

// Identity returns the job's identity.
func (j Job) Identity() Identity { return Identity{Run: j.Run, ID: j.ID} }

// Key is where the result of this identity stands, below the results prefix:
// "<run or _>/<id>.json".
func (i Identity) Key() string {
	run := i.Run
	if run == "" {
		run = "_"
	}
	return run + "/" + i.ID + ".json"
}
