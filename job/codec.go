package job

import "errors"

// FieldError is a body that is no job: which field is at fault, and why.
type FieldError struct {
	Field   string // "" where the body as a whole is at fault
	Problem string
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Problem
	}
	return e.Field + ": " + e.Problem
}

// Decode reads the body of a message: a job, or the pointer to one (Payload
// set). Every error is a *FieldError.
func Decode(body []byte) (Job, error) { return Job{}, errors.ErrUnsupported }

// Resolve reads the object behind the pointer p: a whole job whose id and run
// are the pointer's or absent. Every error is a *FieldError.
func (p Job) Resolve(object []byte) (Job, error) { return Job{}, errors.ErrUnsupported }

// Encode validates the job and returns its body. The bytes of Request stand in
// it untouched. Every error is a *FieldError.
func (j Job) Encode() ([]byte, error) { return nil, errors.ErrUnsupported }

// Digest is the SHA-256, in hex, over model, kind and the request without
// insignificant whitespace: two jobs of one digest ask for the same thing.
func (j Job) Digest() string { return "" }

// DigestBody is the digest of a body that is no job.
func DigestBody(body []byte) string { return "" }

// DecodeResult reads a result object or a copy of one.
func DecodeResult(body []byte) (Result, error) { return Result{}, errors.ErrUnsupported }

// Encode returns the result as JSON; the bytes of Output stand in it untouched.
func (r Result) Encode() ([]byte, error) { return nil, errors.ErrUnsupported }

// Peek reads id and run from a body that may be malformed, as far as they can
// be read and are valid; what cannot is empty.
func Peek(body []byte) Identity { return Identity{} }
