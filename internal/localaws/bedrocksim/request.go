package bedrocksim

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// What an image, a document and a video cost in input tokens: the order of
// magnitude that makers quote for a full-size image, two pages, and half a
// minute. Their bytes say nothing about it.
const (
	imageTokens    = 1600
	documentTokens = 4000
	videoTokens    = 8000
)

// request is what the simulator reads from a body.
type request struct {
	hash       uint64 // tells jobs apart
	text       int64  // bytes that the model reads
	media      int64  // tokens of images, documents and videos
	bound      int64  // max_tokens, 0: none
	prompted   bool
	dimensions int
	steer      steering
}

// steering is what the markers in a prompt ask for.
type steering struct {
	fault         FaultKind
	output        int64 // -1: not given
	input         int64 // -1: not given
	latency       time.Duration
	steered       bool // latency is given
	bytesPerToken float64
	cacheRead     int64
	cacheWrite    int64
}

// read checks a body as the API does and measures it.
func read(body []byte, fam *family, converse bool) (request, problem) {
	sum := sha256.Sum256(body)
	r := request{hash: binary.BigEndian.Uint64(sum[:])}
	var fields map[string]any
	if err := json.Unmarshal(body, &fields); err != nil {
		return r, invalid("Malformed input request, please reformat your input and try again.")
	}
	bound := fam.bound
	if converse {
		bound = []string{"inferenceConfig", "maxTokens"}
		if p := checkMessages(fields, fam); p.status != 0 {
			return r, p
		}
	} else {
		for _, key := range fam.required {
			if _, ok := pick(fields, key); !ok {
				return r, invalid(fmt.Sprintf("Malformed input request: #: required key [%s] not found, please reformat your input and try again.", key))
			}
		}
		if messages, ok := fields["messages"]; ok {
			if list, ok := messages.([]any); !ok || len(list) == 0 {
				return r, invalid("Malformed input request: #/messages: expected minimum item count: 1, found: 0, please reformat your input and try again.")
			}
		}
	}
	if v, ok := lookup(fields, bound); ok {
		n, isNumber := v.(float64)
		if !isNumber || n < 1 || n != math.Trunc(n) {
			return r, invalid("The maximum tokens must be a whole number of at least 1.")
		}
		r.bound = int64(n)
	}
	_, r.prompted = fields["prompt"]
	if n, ok := fields["dimensions"].(float64); ok && n >= 1 && n <= 4096 {
		r.dimensions = int(n)
	}
	for key, v := range fields {
		if !settings[key] {
			r.measure(v)
		}
	}
	var err error
	if r.steer, err = markers(body); err != nil {
		return r, invalid("sim: " + err.Error())
	}
	return r, problem{}
}

func checkMessages(fields map[string]any, fam *family) problem {
	if fam.maxTokens == 0 {
		return invalid("This action doesn't support the model that you provided. Try again with a supported text or chat model.")
	}
	messages, _ := fields["messages"].([]any)
	if len(messages) == 0 {
		return invalid("The messages field is required. Add at least one message and try again.")
	}
	for i, m := range messages {
		message, _ := m.(object)
		content, _ := message["content"].([]any)
		if len(content) == 0 {
			return invalid(fmt.Sprintf("The content field in the Message object at messages.%d is empty. Add a ContentBlock object to the content field and try again.", i))
		}
		if role := message["role"]; role != "user" && role != "assistant" {
			return invalid(fmt.Sprintf("Value at 'messages.%d.member.role' failed to satisfy constraint: Member must satisfy enum value set: [user, assistant]", i))
		} else if i == 0 && role != "user" {
			return invalid("A conversation must start with a user message. Try again with a conversation that starts with a user message.")
		}
	}
	return problem{}
}

// pick returns the first of the keys "a|b" that is there.
func pick(fields map[string]any, keys string) (any, bool) {
	for key := range strings.SplitSeq(keys, "|") {
		if v, ok := fields[key]; ok {
			return v, true
		}
	}
	return nil, false
}

func lookup(fields map[string]any, path []string) (v any, ok bool) {
	for i, keys := range path {
		if v, ok = pick(fields, keys); !ok || i == len(path)-1 {
			return v, ok
		}
		fields, _ = v.(object)
	}
	return nil, false
}

// settings are the fields of a body that the model does not read.
var settings = map[string]bool{
	"anthropic_version": true, "anthropic_beta": true, "inferenceConfig": true, "textGenerationConfig": true,
	"requestMetadata": true, "guardrailConfig": true, "performanceConfig": true, "serviceTier": true,
	"additionalModelRequestFields": true, "additionalModelResponseFieldPaths": true, "metadata": true,
	"schemaVersion": true, "taskType": true, "input_type": true, "embedding_types": true, "truncate": true,
	"stop_sequences": true, "stop": true, "model": true,
}

// measure adds what a part of the body costs. Media are known by their key
// (Converse, Nova) or their type (Anthropic, OpenAI).
func (r *request) measure(v any) {
	switch v := v.(type) {
	case string:
		r.text += int64(len(v))
	case []any:
		for _, e := range v {
			r.measure(e)
		}
	case object:
		switch v["type"] {
		case "image", "image_url":
			r.media += imageTokens
			return
		case "document":
			r.media += documentTokens
			return
		}
		for key, e := range v {
			switch key {
			case "image":
				r.media += imageTokens
			case "document":
				r.media += documentTokens
			case "video":
				r.media += videoTokens
			case "role", "type", "cachePoint", "cache_control":
			default:
				r.measure(e)
			}
		}
	}
}

// markers reads every [[sim:...]] of a body.
func markers(body []byte) (steering, error) {
	s := steering{output: -1, input: -1}
	for {
		_, rest, found := bytes.Cut(body, []byte("[[sim:"))
		if !found {
			return s, nil
		}
		marker, rest, found := bytes.Cut(rest, []byte("]]"))
		if !found {
			return s, fmt.Errorf("a marker without its end")
		}
		if err := s.apply(string(marker)); err != nil {
			return s, err
		}
		body = rest
	}
}

func (s *steering) apply(marker string) (err error) {
	key, value, valued := strings.Cut(marker, "=")
	known := true
	switch key {
	case "output":
		s.output, err = strconv.ParseInt(value, 10, 64)
	case "input":
		s.input, err = strconv.ParseInt(value, 10, 64)
	case "cache_read":
		s.cacheRead, err = strconv.ParseInt(value, 10, 64)
	case "cache_write":
		s.cacheWrite, err = strconv.ParseInt(value, 10, 64)
	case "bytes_per_token":
		s.bytesPerToken, err = strconv.ParseFloat(value, 64)
	case "latency":
		s.latency, err = time.ParseDuration(value)
		s.steered = true
	case "status":
		s.fault, known = byStatus[value]
	default:
		s.fault = FaultKind(key)
		_, known = faults[s.fault]
		known = known && !valued
	}
	if err != nil || !known {
		return fmt.Errorf("unknown marker %q", marker)
	}
	return nil
}

// plan is what will become of a request, fixed before it starts.
type plan struct {
	input, cacheRead, cacheWrite int64
	output                       int64 // tokens
	capped                       bool  // max_tokens ended the output
	reserve                      int64 // input + cache writes + max_tokens
	lead                         time.Duration
	latency                      time.Duration // lead included
}

// settlement is the charge at the end, after so many output tokens.
func (p *plan) settlement(output int64, burndown float64) int64 {
	return p.input + p.cacheWrite + int64(math.Round(float64(output)*burndown))
}

// generated is how much of the output there is after the time.
func (p *plan) generated(after time.Duration) int64 {
	if after >= p.latency {
		return p.output
	}
	if after <= p.lead {
		return 0
	}
	return int64(float64(p.output) * float64(after-p.lead) / float64(p.latency-p.lead))
}

// plan draws the request's fate; rng depends on seed and body alone, so that
// the same job always costs the same.
func (r *request) plan(m *Model, fam *family, converse bool, rng *rand.Rand) (plan, problem) {
	density := m.BytesPerToken
	if density <= 0 {
		density = 4
	}
	s := r.steer
	if s.bytesPerToken > 0 {
		density = s.bytesPerToken
	}
	p := plan{cacheRead: s.cacheRead, cacheWrite: s.cacheWrite}
	if p.input = s.input; p.input < 0 {
		p.input = int64(math.Ceil(float64(r.text)/density)) + r.media
	}

	var bound int64
	if fam.maxTokens > 0 {
		most := fam.maxTokens
		if m.MaxTokens > 0 {
			most = m.MaxTokens
		}
		switch {
		case r.bound > most:
			return p, invalid(fmt.Sprintf("The maximum tokens you requested exceeds the model limit of %d. Try again with a maximum tokens value that is lower than %d.", most, most))
		case r.bound > 0:
			bound = r.bound
		case !converse && fam.unset > 0:
			bound = min(fam.unset, most)
		default:
			bound = most
		}
		var want float64
		switch {
		case m.OutputPart != Range{}:
			want = m.OutputPart.draw(rng) * float64(bound)
		case m.Output != Range{}:
			want = m.Output.draw(rng)
		default:
			want = Range{20, 400}.draw(rng)
		}
		p.output = max(1, int64(math.Round(want)))
		if s.output >= 0 {
			p.output = s.output
		}
		if p.output > bound {
			p.output, p.capped = bound, true
		}
	}
	p.reserve = p.input + p.cacheWrite + bound

	scale := 1 + m.Latency.Jitter*(2*rng.Float64()-1)
	p.lead = time.Duration(scale * float64(m.Latency.Base))
	p.latency = p.lead + time.Duration(scale*float64(p.output)*float64(m.Latency.PerToken))
	if s.steered {
		p.lead, p.latency = 0, s.latency
	}
	return p, problem{}
}
