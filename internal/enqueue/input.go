package enqueue

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"slices"
	"strconv"

	"github.com/sluicehq/sluice/job"
)

// maxLine is the longest line: the largest job, and some room for a layout that
// is more generous than ours. One line is held at a time.
const maxLine = job.MaxPayload + 64<<10

// item is one line that asks for a job.
type item struct {
	line      int // from 1
	id        string
	digest    string
	body      []byte
	duplicate bool // the same job stood on an earlier line
}

// reader makes jobs of lines.
type reader struct {
	options Options
	scanner *bufio.Scanner
	hash    hash.Hash // of every byte read
	run     string
	line    int // the last one read
	jobs    int
	seen    fingerprints
}

// fingerprints maps ids to digests, both cut short: 24 bytes a job, so that
// millions fit. That two ids among 10 million share a key has a chance below
// 1 in 10^24.
type fingerprints map[[16]byte][8]byte

func (f fingerprints) add(id, digest string) {
	k, v := fingerprint(id, digest)
	f[k] = v
}

// find reports whether the id is known, and whether with this digest.
func (f fingerprints) find(id, digest string) (known, same bool) {
	k, want := fingerprint(id, digest)
	v, known := f[k]
	return known, v == want
}

func fingerprint(id, digest string) (k [16]byte, v [8]byte) {
	i, d := sha256.Sum256([]byte(id)), sha256.Sum256([]byte(digest))
	return [16]byte(i[:16]), [8]byte(d[:8])
}

// newReader reads the options' input from where it stands. An empty run lets
// the first line name it.
func newReader(o Options, run string) *reader {
	r := &reader{options: o, hash: sha256.New(), run: run, seen: make(fingerprints)}
	if run == "" {
		r.run = unnamed
	}
	r.scanner = bufio.NewScanner(io.TeeReader(o.Input, r.hash))
	r.scanner.Buffer(nil, maxLine)
	return r
}

// sum is the SHA-256 of the input, in hex, once items has come to the end.
func (r *reader) sum() string { return hex.EncodeToString(r.hash.Sum(nil)) }

// items yields an item or an error for each line that is not blank. An
// *InputError is one line's, and the next follows; any other error is the last.
func (r *reader) items() iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		for r.scanner.Scan() {
			r.line++
			line := r.scanner.Bytes()
			if r.line == 1 {
				line = bytes.TrimPrefix(line, []byte("\uFEFF")) // Windows
			}
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			it, err := r.item(line)
			if err != nil {
				err = &InputError{Line: r.line, Err: err}
			}
			if !yield(it, err) {
				return
			}
		}
		switch err := r.scanner.Err(); {
		case errors.Is(err, bufio.ErrTooLong):
			yield(item{}, inputErrorf(r.line+1, "longer than %d bytes", maxLine))
		case err != nil:
			yield(item{}, fmt.Errorf("read the input after line %d: %w", r.line, err))
		}
	}
}

func (r *reader) item(line []byte) (item, error) {
	j, names, err := r.decode(line)
	if err != nil {
		return item{}, err
	}
	if err := r.known(j); err != nil {
		return item{}, err
	}
	if j.ID == "" {
		// A second try makes the same id, and a changed line another one.
		sum := sha256.Sum256(line)
		j.ID = fmt.Sprintf("%07d-%x", r.line, sum[:4])
	}
	if r.run == unnamed && r.jobs == 0 && j.Run != "" {
		r.run = j.Run
	}
	r.jobs++
	if j.Run != "" && j.Run != r.run {
		return item{}, &job.FieldError{Field: "run", Problem: r.otherRun()}
	}
	j.Run = r.run
	body, err := j.Encode()
	if err != nil {
		return item{}, names.translate(err)
	}
	if len(body) > job.MaxBody && r.options.Payloads == nil {
		return item{}, fmt.Errorf("%d bytes, of which a message takes %d: --payloads or SLUICE_PAYLOADS_S3 must say where it can go", len(body), job.MaxBody)
	}
	it := item{line: r.line, id: j.ID, digest: j.Digest(), body: body}
	if j.Payload != "" {
		it.digest = job.DigestBody([]byte(j.Payload))
	}
	known, same := r.seen.find(it.id, it.digest)
	if known && !same {
		return item{}, &job.FieldError{Field: names.of("id"), Problem: "stands on an earlier line with another request"}
	}
	it.duplicate = known
	if !known {
		r.seen.add(it.id, it.digest)
	}
	return it, nil
}

// known finds a job that would be buried as job.UnknownModel.
func (r *reader) known(j job.Job) error {
	if r.options.Models == nil || j.Payload != "" {
		return nil
	}
	if _, ok := r.options.Models.Resolve(j.Model); !ok {
		return fmt.Errorf("model: no model is called %q", j.Model)
	}
	for i, name := range j.Fallback {
		if _, ok := r.options.Models.Resolve(name); !ok {
			return fmt.Errorf("fallback[%d]: no model is called %q", i, name)
		}
	}
	return nil
}

func (r *reader) otherRun() string {
	if r.run == unnamed {
		return "one input is one run, and its first line names none"
	}
	return "one input is one run, and this one's is " + r.run
}

// renames maps a job's fields to those of another format, so that an error
// names what stands in the line.
type renames map[string]string

func (n renames) of(field string) string {
	if name, ok := n[field]; ok {
		return name
	}
	return field
}

func (n renames) translate(err error) error {
	if e, ok := errors.AsType[*job.FieldError](err); ok {
		return &job.FieldError{Field: n.of(e.Field), Problem: e.Problem}
	}
	return err
}

var (
	recordNames = renames{"id": "recordId", "invoke": "modelInput"}
	promptNames = renames{"converse": "prompt"}
)

// decode reads a line of any format. Which one it is, the strict decoder tells
// by the unknown field that it meets.
func (r *reader) decode(line []byte) (job.Job, renames, error) {
	j, err := job.Decode(line)
	if e, ok := errors.AsType[*job.FieldError](err); ok {
		switch e.Field {
		case "recordId", "modelInput":
			j, err = r.record(line)
			return j, recordNames, err
		case "prompt":
			j, err = r.prompt(line)
			return j, promptNames, err
		}
	}
	return j, nil, err
}

// record reads a line of Bedrock's batch inference.
func (r *reader) record(line []byte) (job.Job, error) {
	fields, err := members(line, "recordId", "modelInput")
	if err != nil {
		return job.Job{}, err
	}
	if r.options.Model == "" {
		return job.Job{}, &job.FieldError{Field: "modelInput", Problem: "a batch record names no model: one must be given beside the input"}
	}
	id, err := text(fields, "recordId")
	if err != nil {
		return job.Job{}, err
	}
	return job.Job{ID: id, Model: r.options.Model, Kind: job.Invoke, Request: fields["modelInput"]}, nil
}

// prompt reads a line that has a prompt and no more than an id beside it.
func (r *reader) prompt(line []byte) (job.Job, error) {
	fields, err := members(line, "id", "prompt")
	if err != nil {
		return job.Job{}, err
	}
	if r.options.Model == "" || r.options.MaxTokens == 0 {
		return job.Job{}, &job.FieldError{Field: "prompt", Problem: "a prompt names no model and no bound: model and max tokens must be given beside the input"}
	}
	id, err := text(fields, "id")
	if err != nil {
		return job.Job{}, err
	}
	prompt, err := text(fields, "prompt")
	if err != nil {
		return job.Job{}, err
	}
	if prompt == "" {
		return job.Job{}, &job.FieldError{Field: "prompt", Problem: "is empty"}
	}
	request := slices.Concat(
		[]byte(`{"messages":[{"role":"user","content":[{"text":`), fields["prompt"],
		[]byte(`}]}],"inferenceConfig":{"maxTokens":`), strconv.AppendInt(nil, int64(r.options.MaxTokens), 10), []byte(`}}`))
	return job.Job{ID: id, Model: r.options.Model, Kind: job.Converse, Request: request}, nil
}

// members reads an object that has no other fields than the allowed ones.
func members(line []byte, allowed ...string) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return nil, &job.FieldError{Problem: "not JSON: " + err.Error()}
	}
	for name := range fields {
		if !slices.Contains(allowed, name) {
			return nil, &job.FieldError{Field: name, Problem: "unknown field beside " + allowed[1]}
		}
	}
	return fields, nil
}

// text reads a field that is a string or absent.
func text(fields map[string]json.RawMessage, name string) (string, error) {
	raw, ok := fields[name]
	if !ok {
		return "", nil
	}
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return "", &job.FieldError{Field: name, Problem: "must be a string"}
	}
	return *s, nil
}
