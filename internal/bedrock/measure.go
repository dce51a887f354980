package bedrock

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/sluicehq/sluice/job"
)

// withoutOutput are the models that have no output tokens: embeddings, ranks and
// images.
var withoutOutput = []string{
	"amazon.titan-embed", "amazon.titan-image", "amazon.nova-canvas", "amazon.nova-2-multimodal-embeddings",
	"amazon.rerank", "cohere.embed", "cohere.rerank", "stability.", "twelvelabs.marengo",
}

func noOutput(modelID string) bool { return hasFamily(modelID, withoutOutput...) }

// hasFamily reports whether a model ID, that of a cross-Region profile, or an ARN
// of either is of one of the families.
func hasFamily(modelID string, families ...string) bool {
	modelID = modelID[strings.LastIndexByte(modelID, '/')+1:]
	_, afterGeo, _ := strings.Cut(modelID, ".") // "us.", "global."
	for _, family := range families {
		if strings.HasPrefix(modelID, family) || strings.HasPrefix(afterGeo, family) {
			return true
		}
	}
	return false
}

// llamaMaxTokens is what Llama generates at most where the body has no
// max_gen_len (AWS's page on its parameters).
const llamaMaxTokens = 512

// Measure tells what can be told about a request before it is sent: the text
// that the model reads, in bytes, its pictures, documents and videos, counted,
// and its bound on the output. It reads the request once and in any family's
// form; of what is no JSON it measures the part that is.
func Measure(modelID string, k job.Kind, request []byte) job.Size {
	m := measurer{text: request}
	m.skipSpace()
	m.value("", reading)
	if k == job.Invoke {
		if m.size.MaxTokens == 0 && hasFamily(modelID, "meta.llama") {
			m.size.MaxTokens = llamaMaxTokens
		}
		if noOutput(modelID) {
			// What these call max_tokens truncates the input.
			m.size.MaxTokens, m.size.NoOutput = 0, true
		}
	}
	return m.size
}

// mode is how the strings of a value are taken.
type mode uint8

const (
	reading  mode = iota // the model reads them, but for those that byKey knows better
	verbatim             // it reads them all, and the names too: a tool's schema, input or output
	ignoring             // it reads none: settings, labels, signatures
)

// deepest is how deep values are followed; what lies deeper is not measured.
// Jobs are refused well before; this protects the stack of other callers.
const deepest = 1000

// medium is a kind of content that costs tokens whatever its bytes.
type medium uint8

const (
	none medium = iota
	image
	document
	video // and audio: what has a length in time
)

// mediumOf tells it from the name of a member, or an object's "type".
func mediumOf(name string) medium {
	switch name {
	case "image", "images", "image_url", "inputImage", "conditionImage", "init_image", "mask_image", "maskImage":
		return image
	case "document":
		return document
	case "video", "audio", "input_audio", "video_url", "audio_url":
		return video
	}
	return none
}

// modeOf is how the value under a name is taken by a reader.
func modeOf(name string) mode {
	switch name {
	case "role", "format", "id", "media_type", "status", "model",
		"toolUseId", "tool_use_id", "tool_call_id", "signature", "redactedContent",
		"cachePoint", "cache_control", "anthropic_version", "anthropic_beta",
		"inferenceConfig", "textGenerationConfig", "imageGenerationConfig", "embeddingConfig",
		"stop", "stop_sequences", "stopSequences",
		"guardrailConfig", "requestMetadata", "performanceConfig", "serviceTier", "service_tier",
		"additionalModelResponseFieldPaths",
		"taskType", "input_type", "embedding_types", "embeddingTypes", "embeddingPurpose", "truncate":
		return ignoring
	case "input", "json", "arguments", "inputSchema", "input_schema", "parameters":
		return verbatim
	}
	return reading
}

// boundsOutput reports whether the number under a name bounds the output. In
// order: Anthropic and most others, OpenAI, Llama, the first Claudes; Converse
// and Nova, older Nova; Titan.
func boundsOutput(parent, name string) bool {
	switch parent {
	case "":
		return name == "max_tokens" || name == "max_completion_tokens" || name == "max_gen_len" || name == "max_tokens_to_sample"
	case "inferenceConfig":
		return name == "maxTokens" || name == "max_new_tokens"
	case "textGenerationConfig":
		return name == "maxTokenCount"
	}
	return false
}

// measurer walks over a JSON text.
type measurer struct {
	text  []byte
	at    int
	depth int
	size  job.Size
}

// value walks over the value of the member called name. It reports whether that
// is an object with the payload of a medium that it does not name itself.
func (m *measurer) value(name string, as mode) (payload bool) {
	switch m.peek() {
	case '"':
		quoted, plain := m.quoted()
		if as == ignoring {
			return false
		}
		if kind := mediumOf(name); as == reading && (kind == image || kind == video) {
			m.count(kind) // base64, or where it is to be found
			return false
		}
		m.size.Text += decodedLen(quoted, plain)
		return false
	case '{':
		return m.object(name, as)
	case '[':
		m.elements(func() { m.value(name, as) })
		return false
	default:
		m.scalar()
		return false
	}
}

// object walks over an object, and counts it where it is a medium: by its name
// as {"image": {"source": {...}}}, or by its type as {"type": "image", "source":
// {...}}. A document whose source is text is text.
func (m *measurer) object(name string, as mode) (payload bool) {
	var typ string
	var data int64
	m.elements(func() {
		quoted, plain := m.quoted()
		member := string(quoted)
		if m.skipSpace(); m.peek() == ':' {
			m.at++
			m.skipSpace()
		}
		switch {
		case as == verbatim:
			m.size.Text += decodedLen(quoted, plain)
			m.value("", verbatim)
		case '0' <= m.peek() && m.peek() <= '9' && m.depth <= 2 && boundsOutput(name, member):
			m.bound()
		case as == ignoring:
			m.value(member, ignoring)
		case m.peek() == '"' && member == "type":
			text, _ := m.quoted()
			typ = string(text)
		case m.peek() == '"' && member == "data":
			// Read by the model if the type, which may follow, is text.
			data += decodedLen(m.quoted())
		case m.peek() == '"' && (member == "bytes" || member == "url" || member == "uri"),
			m.peek() == '{' && member == "s3Location":
			m.value(member, ignoring)
			payload = true
		case member == "source":
			if m.value(member, reading) {
				payload = true
			}
		default:
			m.value(member, modeOf(member))
		}
	})
	if data > 0 && typ == "text" {
		m.size.Text += data
	} else if data > 0 {
		payload = true
	}
	kind := mediumOf(name)
	if kind == none {
		kind = mediumOf(typ)
	}
	if payload && kind != none {
		m.count(kind)
		return false
	}
	return payload
}

func (m *measurer) count(kind medium) {
	switch kind {
	case image:
		m.size.Images++
	case document:
		m.size.Documents++
	case video:
		m.size.Videos++
	}
}

// mostTokens is above every model's bound. A larger number is as impossible, and
// stays one when it is added to.
const mostTokens = 1 << 40

// bound reads a bound on the output. Of two the larger holds: that one may be
// reserved.
func (m *measurer) bound() {
	n, err := strconv.ParseFloat(string(m.scalar()), 64)
	if err == nil {
		m.size.MaxTokens = max(m.size.MaxTokens, int64(min(n, mostTokens)))
	}
}

// elements walks over what stands between a pair of brackets, calling element at
// the start of each.
func (m *measurer) elements(element func()) {
	if m.depth++; m.depth > deepest {
		m.at = len(m.text)
	}
	defer func() { m.depth-- }()
	for m.at++; ; {
		switch m.skipSpace(); m.peek() {
		case '}', ']':
			m.at++
			return
		case ',':
			m.at++
		case 0: // the end of the text
			return
		default:
			before := m.at
			if element(); m.at == before { // no JSON
				m.at = len(m.text)
				return
			}
		}
	}
}

// peek returns the byte to be read next, 0 at the end.
func (m *measurer) peek() byte {
	if m.at >= len(m.text) {
		return 0
	}
	return m.text[m.at]
}

func (m *measurer) skipSpace() {
	for m.at < len(m.text) && (m.text[m.at] == ' ' || m.text[m.at] == '\n' || m.text[m.at] == '\t' || m.text[m.at] == '\r') {
		m.at++
	}
}

// quoted reads a string and returns what stands between its quotes, and whether
// that is without escapes.
func (m *measurer) quoted() (inner []byte, plain bool) {
	if m.peek() != '"' {
		return nil, true
	}
	start := m.at + 1
	for end, escapes := start, false; ; {
		quote := bytes.IndexByte(m.text[end:], '"')
		if quote < 0 {
			m.at = len(m.text)
			return m.text[start:], false
		}
		part := m.text[end : end+quote]
		escapes = escapes || bytes.IndexByte(part, '\\') >= 0
		end += quote + 1
		if backslashes := len(part) - len(bytes.TrimRight(part, `\`)); backslashes%2 == 0 {
			m.at = end
			return m.text[start : end-1], !escapes
		}
	}
}

// scalar reads a number, a literal, or what stands in the place of one.
func (m *measurer) scalar() []byte {
	start := m.at
	for m.at < len(m.text) && !strings.ContainsRune(" \t\r\n,]}", rune(m.text[m.at])) {
		m.at++
	}
	return m.text[start:m.at]
}

// decodedLen is the length of a string in UTF-8 once its escapes are resolved:
// many encoders write each character that is not ASCII as six bytes.
func decodedLen(inner []byte, plain bool) (n int64) {
	if plain {
		return int64(len(inner))
	}
	for i := 0; i < len(inner); n++ {
		if inner[i] != '\\' {
			i++
			continue
		}
		if i+6 > len(inner) || inner[i+1] != 'u' {
			i += 2
			continue
		}
		code, err := strconv.ParseUint(string(inner[i+2:i+6]), 16, 16)
		switch {
		case err != nil || code < 0x80:
		case code < 0x800, 0xD800 <= code && code < 0xE000: // half of a pair
			n++
		default:
			n += 2
		}
		i += 6
	}
	return n
}
