package job

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// FieldError is a body that is no job: which field is at fault, and why.
type FieldError struct {
	Field   string // "fallback[1]", "metadata.customer"; "" where the body as a whole is at fault
	Problem string // quotes no value of the body
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Problem
	}
	return e.Field + ": " + e.Problem
}

// within puts what encloses it before the field at fault.
func (e *FieldError) within(field string) *FieldError {
	if e == nil {
		return nil
	}
	return &FieldError{Field: field + e.Field, Problem: e.Problem}
}

// fields are the names that a job may have, in the order in which Encode writes
// them.
var fields = [...]string{"id", "run", "payload", "model", "converse", "invoke", "fallback", "deadline", "metadata"}

// ValidName reports whether s can be an id or a run:
// [A-Za-z0-9][A-Za-z0-9._-]{0,127}.
func ValidName(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}

const (
	badName    = "must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}"
	badPayload = "must be s3://bucket/key"
)

// Decode reads a whole job or the pointer to one (Payload set), of at most
// MaxPayload bytes. The job's Request is a part of body, not a copy. Every error
// is a *FieldError.
func Decode(body []byte) (Job, error) {
	d := decoder{}
	if err := scan(body, MaxPayload, d.body); err != nil {
		return Job{}, err
	}
	if err := d.job.check(); err != nil {
		return Job{}, err
	}
	return d.job, nil
}

// Resolve reads the object that the pointer j points to: a whole job whose id
// and run are the pointer's or absent. Every error is a *FieldError.
func (j Job) Resolve(object []byte) (Job, error) {
	whole, err := Decode(object)
	if err != nil {
		return Job{}, err
	}
	switch {
	case whole.Payload != "":
		return Job{}, &FieldError{"payload", "a pointer stands behind a pointer"}
	case whole.ID != "" && whole.ID != j.ID:
		return Job{}, &FieldError{"id", "is not the pointer's"}
	case whole.Run != "" && whole.Run != j.Run:
		return Job{}, &FieldError{"run", "is not the pointer's"}
	}
	whole.ID, whole.Run = j.ID, j.Run
	return whole, nil
}

// decoder reads one job. It sees each member once, so that what stands twice is
// found while reading.
type decoder struct {
	job  Job
	seen [len(fields)]bool
}

func (d *decoder) body(s *scanner) *FieldError {
	if s.peek() != '{' {
		return &FieldError{Problem: "not a JSON object"}
	}
	return s.object(d.member)
}

func (d *decoder) member(s *scanner, quoted []byte) *FieldError {
	i := fieldIndex(quoted)
	if i < 0 {
		return unknownField(unquote(quoted))
	}
	name := fields[i]
	if d.seen[i] {
		return &FieldError{name, "stands twice"}
	}
	d.seen[i] = true
	return d.value(s, name).within(name)
}

// fieldIndex finds a name in fields. Names are compared before they are
// unquoted, which would allocate.
func fieldIndex(quoted []byte) int {
	inner := quoted[1 : len(quoted)-1]
	for i, field := range fields {
		if field == string(inner) {
			return i
		}
	}
	return slices.Index(fields[:], unquote(quoted))
}

func unknownField(name string) *FieldError {
	for _, field := range fields {
		if strings.EqualFold(field, name) {
			return &FieldError{name, "unknown field: case matters, it is " + field}
		}
	}
	if len(name) > 64 { // enough to find a typo; the rest is not worth a log line
		name = strings.ToValidUTF8(name[:64], "") + "..."
	}
	return &FieldError{name, "unknown field"}
}

// value reads the value of the field with that name.
func (d *decoder) value(s *scanner, name string) (err *FieldError) {
	j := &d.job
	switch name {
	case "id":
		j.ID, err = s.name()
	case "run":
		j.Run, err = s.name()
	case "payload":
		if j.Payload, err = s.str(); err == nil && j.Payload == "" {
			err = &FieldError{"", badPayload}
		}
	case "model":
		if j.Model, err = s.str(); err == nil && j.Model == "" {
			err = &FieldError{"", "is empty"}
		}
	case "converse", "invoke":
		if j.Kind != "" {
			return &FieldError{"", "stands beside " + string(j.Kind) + ": exactly one of them is wanted"}
		}
		j.Kind = Kind(name)
		j.Request, err = s.raw()
	case "fallback":
		if s.peek() != '[' {
			return s.wrongType("an array of strings")
		}
		j.Fallback = []string{}
		err = s.array(func(s *scanner, i int) *FieldError {
			model, err := s.str()
			j.Fallback = append(j.Fallback, model)
			return err.within(index(i))
		})
	case "deadline":
		var text string
		if text, err = s.str(); err != nil {
			return err
		}
		if j.Deadline, err = parseTime(text); err != nil {
			return err
		}
	case "metadata":
		if s.peek() != '{' {
			return s.wrongType("an object of strings")
		}
		j.Metadata = make(map[string]string)
		err = s.object(func(s *scanner, quoted []byte) *FieldError {
			key := unquote(quoted)
			if _, ok := j.Metadata[key]; ok {
				return &FieldError{"." + key, "stands twice"}
			}
			text, err := s.str()
			j.Metadata[key] = text
			return err.within("." + key)
		})
	}
	return err
}

// parseTime reads RFC 3339 to the letter: package time also takes one digit of
// hours, a comma before the fraction, and offsets that it does not write.
func parseTime(text string) (time.Time, *FieldError) {
	var t time.Time
	err := t.UnmarshalText([]byte(text))
	if err == nil {
		_, err = t.MarshalText()
	}
	if err != nil || text[len("2006-01-02T15")] != ':' || strings.Contains(text, ",") || t.IsZero() {
		return time.Time{}, &FieldError{"", "must be a time of RFC 3339, like 2026-11-23T06:00:00Z"}
	}
	return t, nil
}

func index(i int) string { return fmt.Sprintf("[%d]", i) }

// str reads a string.
func (s *scanner) str() (string, *FieldError) {
	if s.peek() != '"' {
		return "", s.wrongType("a string")
	}
	quoted, err := s.quoted()
	if err != nil {
		return "", err
	}
	return unquote(quoted), nil
}

// name reads a string that can be an id or a run.
func (s *scanner) name() (string, *FieldError) {
	text, err := s.str()
	if err == nil && !ValidName(text) {
		return "", &FieldError{"", badName}
	}
	return text, err
}

// raw reads an object as its bytes.
func (s *scanner) raw() (json.RawMessage, *FieldError) {
	if s.peek() != '{' {
		return nil, s.wrongType("an object")
	}
	start := s.at
	if err := s.skip(); err != nil {
		return nil, err
	}
	return json.RawMessage(s.text[start:s.at:s.at]), nil
}

// wrongType says what stands where something else was wanted.
func (s *scanner) wrongType(want string) *FieldError {
	var is string
	switch c := s.peek(); {
	case c == '{':
		is = "an object"
	case c == '[':
		is = "an array"
	case c == '"':
		is = "a string"
	case c == 't', c == 'f':
		is = "a boolean"
	case c == 'n':
		is = "null"
	case c == '-', '0' <= c && c <= '9':
		is = "a number"
	default:
		return s.syntax()
	}
	return &FieldError{"", "must be " + want + ", is " + is}
}

// check holds the rules that decoded and composed jobs share.
func (j *Job) check() *FieldError {
	switch {
	case j.ID != "" && !ValidName(j.ID):
		return &FieldError{"id", badName}
	case j.Run != "" && !ValidName(j.Run):
		return &FieldError{"run", badName}
	case j.Payload != "":
		return j.checkPointer()
	case j.Model == "":
		return &FieldError{"model", "is missing"}
	case j.Kind != Converse && j.Kind != Invoke:
		return &FieldError{"", "one of converse and invoke is wanted"}
	}
	for i, model := range j.Fallback {
		if model == "" {
			return &FieldError{"fallback" + index(i), "is empty"}
		}
	}
	return nil
}

func (j *Job) checkPointer() *FieldError {
	path, ok := strings.CutPrefix(j.Payload, "s3://")
	if bucket, key, _ := strings.Cut(path, "/"); !ok || bucket == "" || key == "" {
		return &FieldError{"payload", badPayload}
	}
	var beside string
	switch {
	case j.Model != "":
		beside = "model"
	case j.Kind != "":
		beside = string(j.Kind)
	case j.Fallback != nil:
		beside = "fallback"
	case !j.Deadline.IsZero():
		beside = "deadline"
	case j.Metadata != nil:
		beside = "metadata"
	default:
		return nil
	}
	return &FieldError{beside, "stands beside payload: only id and run may"}
}

// Encode validates the job and returns its body. The bytes of Request stand in
// it untouched. A body above MaxBody has to travel as a payload; one above
// MaxPayload is an error. Every error is a *FieldError.
func (j Job) Encode() ([]byte, error) {
	if err := j.check(); err != nil {
		return nil, err
	}
	e := encoder{body: make([]byte, 0, len(j.Request)+512)}
	if j.ID != "" {
		e.str("id", j.ID)
	}
	if j.Run != "" {
		e.str("run", j.Run)
	}
	if j.Payload != "" {
		e.str("payload", j.Payload)
	} else {
		e.whole(j)
	}
	e.body = append(e.body, '}')
	if e.err == nil && len(e.body) > MaxPayload {
		e.err = &FieldError{Problem: fmt.Sprintf("too large: %d bytes, at most %d", len(e.body), MaxPayload)}
	}
	if e.err != nil {
		return nil, e.err
	}
	return e.body, nil
}

// encoder appends fields to a body and keeps the first error.
type encoder struct {
	body []byte
	err  *FieldError
}

func (e *encoder) whole(j Job) {
	e.str("model", j.Model)
	e.request(string(j.Kind), j.Request)
	if j.Fallback != nil {
		e.key("fallback")
		e.body = append(e.body, '[')
		for i, model := range j.Fallback {
			if i > 0 {
				e.body = append(e.body, ',')
			}
			e.quote("fallback"+index(i), model)
		}
		e.body = append(e.body, ']')
	}
	if !j.Deadline.IsZero() {
		text, err := j.Deadline.MarshalText()
		if err != nil {
			e.fail("deadline", "no time of RFC 3339")
		}
		e.str("deadline", string(text))
	}
	if j.Metadata != nil {
		e.key("metadata")
		e.body = append(e.body, '{')
		for i, key := range slices.Sorted(maps.Keys(j.Metadata)) {
			if i > 0 {
				e.body = append(e.body, ',')
			}
			e.quote("metadata", key)
			e.body = append(e.body, ':')
			e.quote("metadata."+key, j.Metadata[key])
		}
		e.body = append(e.body, '}')
	}
}

func (e *encoder) fail(field, problem string) {
	if e.err == nil {
		e.err = &FieldError{field, problem}
	}
}

func (e *encoder) key(name string) {
	separator := byte(',')
	if len(e.body) == 0 {
		separator = '{'
	}
	e.body = append(e.body, separator, '"')
	e.body = append(e.body, name...)
	e.body = append(e.body, '"', ':')
}

func (e *encoder) str(name, text string) {
	e.key(name)
	e.quote(name, text)
}

func (e *encoder) quote(field, text string) {
	if !utf8.ValidString(text) {
		e.fail(field, "not UTF-8")
		return
	}
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string
	}
	e.body = append(e.body, escapeRefused(quoted)...)
}

// refused are the characters that may stand in JSON and not in a message: SQS
// takes those of XML 1.0.
var refused = []struct{ text, escaped string }{{"\uFFFE", `\ufffe`}, {"\uFFFF", `\uffff`}}

func escapeRefused(text []byte) []byte {
	for _, c := range refused {
		text = bytes.ReplaceAll(text, []byte(c.text), []byte(c.escaped))
	}
	return text
}

func (e *encoder) request(name string, request []byte) {
	err := scan(request, MaxPayload, func(s *scanner) *FieldError {
		s.depth++ // it will stand in the body
		_, err := s.raw()
		return err
	})
	if err != nil {
		e.fail(name, err.Problem)
	}
	for _, c := range refused {
		if bytes.Contains(request, []byte(c.text)) {
			e.fail(name, "holds a character that SQS refuses: escape it as "+c.escaped)
		}
	}
	e.key(name)
	e.body = append(e.body, request...)
}

// Digest is the SHA-256, in hex, over model, kind and the request without
// insignificant whitespace: two jobs of one digest ask for the same thing. A
// pointer has none of its own: resolve it first.
func (j Job) Digest() string {
	h := sha256.New()
	// No request holds a zero byte, so the parts cannot run into each other.
	io.WriteString(h, j.Model+"\x00"+string(j.Kind)+"\x00")
	quoted, start := false, 0
	for i := 0; i < len(j.Request); i++ {
		switch j.Request[i] {
		case '"':
			quoted = !quoted
		case '\\':
			i++ // what it escapes is no quote
		case ' ', '\t', '\n', '\r':
			if !quoted {
				h.Write(j.Request[start:i])
				start = i + 1
			}
		}
	}
	h.Write(j.Request[start:])
	return hex.EncodeToString(h.Sum(nil))
}

// DigestBody is the digest of a body that is no job.
func DigestBody(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Peek reads id and run from a body that may be malformed, as far as they can
// be read and are valid; what cannot be read, or stands twice, is empty.
func Peek(body []byte) Identity {
	s := scanner{text: body}
	if s.space(); s.peek() != '{' {
		return Identity{}
	}
	found := make(map[string][]string, 2)
	// That the body is malformed is known: what stands before the fault counts.
	_ = s.object(func(s *scanner, quoted []byte) *FieldError {
		field := unquote(quoted)
		if field != "id" && field != "run" {
			return s.skip()
		}
		start, name := s.at, ""
		if err := s.skip(); err != nil {
			return err
		}
		if value := s.text[start:s.at]; value[0] == '"' {
			name = unquote(value)
		}
		if !ValidName(name) {
			name = ""
		}
		found[field] = append(found[field], name)
		return nil
	})
	var id Identity
	if f := found["id"]; len(f) == 1 {
		id.ID = f[0]
	}
	if f := found["run"]; len(f) == 1 {
		id.Run = f[0]
	}
	return id
}

// DecodeResult reads a result object or a copy of one. Unlike a job's, its
// unknown fields are passed over: a newer drainer may have written it.
func DecodeResult(body []byte) (Result, error) {
	var r Result
	if err := json.Unmarshal(body, &r); err != nil {
		return Result{}, fmt.Errorf("decode result: %w", err)
	}
	switch r.Status {
	case Succeeded, Failed, Expired:
		return r, nil
	default:
		return Result{}, fmt.Errorf("decode result: unknown status %q", r.Status)
	}
}

// Encode returns the result as JSON; the bytes of Output stand in it untouched,
// as its last field.
func (r Result) Encode() ([]byte, error) {
	output := r.Output
	if output != nil && !json.Valid(output) {
		return nil, errors.New("encode result: the output is not JSON")
	}
	// Marshal would compact the output and escape its HTML.
	r.Output = nil
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode result: %w", err)
	}
	body = escapeRefused(body)
	if output == nil {
		return body, nil
	}
	const field = `,"output":`
	body = slices.Grow(body, len(field)+len(output))
	body = append(body[:len(body)-1], field...)
	body = append(body, output...)
	return append(body, '}'), nil
}
