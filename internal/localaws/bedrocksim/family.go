package bedrocksim

import (
	"encoding/base64"
	"math"
	"math/rand/v2"
	"strings"
)

// family is what the models of one maker have in common on the wire.
type family struct {
	prefix string
	// maxTokens is the most that a model generates, 0: no output tokens at all.
	maxTokens int64
	// unset is what an invoke body without a bound reserves, 0: maxTokens. What
	// AWS reserves then is UNCONFIRMED.
	unset int64
	// required are the keys without which an invoke body is refused; "a|b" asks
	// for one of the two.
	required []string
	// bound is the path of the output's bound in an invoke body.
	bound []string
	// unmetered families do not tell their usage in headers.
	unmetered bool
	// answer makes the body of an invoke response.
	answer func(answer) any
}

// families in order: the first whose prefix the model ID has. Sources: AWS's
// token burndown page and the model parameter pages of the user guide.
var families = []family{
	{prefix: "anthropic.", maxTokens: 64000, required: []string{"anthropic_version", "max_tokens", "messages"}, bound: []string{"max_tokens"}, answer: anthropicAnswer},
	{prefix: "amazon.nova-canvas", required: []string{"taskType"}, unmetered: true, answer: imageAnswer},
	{prefix: "amazon.nova-2-multimodal-embeddings", required: []string{"taskType"}, answer: novaEmbedAnswer},
	{prefix: "amazon.nova", maxTokens: 10000, required: []string{"messages"}, bound: []string{"inferenceConfig", "maxTokens|max_new_tokens"}, answer: novaAnswer},
	{prefix: "amazon.titan-embed", required: []string{"inputText|inputImage"}, answer: titanEmbedAnswer},
	{prefix: "amazon.titan-image", required: []string{"taskType"}, unmetered: true, answer: imageAnswer},
	{prefix: "amazon.titan", maxTokens: 8192, unset: 512, required: []string{"inputText"}, bound: []string{"textGenerationConfig", "maxTokenCount"}, answer: titanAnswer},
	{prefix: "meta.llama", maxTokens: 8192, unset: 512, required: []string{"prompt"}, bound: []string{"max_gen_len"}, answer: llamaAnswer},
	{prefix: "mistral.", maxTokens: 8192, required: []string{"prompt|messages"}, bound: []string{"max_tokens"}, answer: mistralAnswer},
	// The max_tokens of Cohere's embeddings truncates the input.
	{prefix: "cohere.embed", required: []string{"texts|images|inputs"}, answer: cohereEmbedAnswer},
	{prefix: "cohere.", maxTokens: 4096, required: []string{"message"}, bound: []string{"max_tokens"}, unmetered: true, answer: cohereAnswer},
	{prefix: "stability.", required: []string{"prompt"}, unmetered: true, answer: imageAnswer},
	// Everybody else speaks OpenAI's form.
	{prefix: "", maxTokens: 32000, required: []string{"messages"}, bound: []string{"max_completion_tokens|max_tokens"}, answer: openaiAnswer},
}

// burndowns are the quota tokens per output token, by prefix of the model ID;
// the first counts, everything else has 1 (AWS's token burndown page, October
// 2026).
var burndowns = []struct {
	prefix string
	rate   float64
}{
	{"anthropic.claude-opus-4-8", 15},
	{"anthropic.claude-sonnet-4-8", 15},
	{"anthropic.claude-haiku-4-8", 15},
	{"anthropic.claude-opus-5", 10},
	{"anthropic.claude-sonnet-5", 10},
	{"anthropic.claude-fable-5", 10},
	{"anthropic.", 5},
	{"openai.gpt-5.6", 10},
}

func burndownOf(id string) float64 {
	id = bare(id)
	for _, b := range burndowns {
		if strings.HasPrefix(id, b.prefix) {
			return b.rate
		}
	}
	return 1
}

// bare strips from a model ID what does not tell the model: the ARN around it
// and the geography of a cross-Region profile.
func bare(id string) string {
	id = id[strings.LastIndexByte(id, '/')+1:]
	switch geo, rest, _ := strings.Cut(id, "."); geo {
	case "us", "eu", "apac", "au", "jp", "ca", "us-gov", "global":
		return rest
	}
	return id
}

// familyOf finds the family of a model ID, a profile's ID or an ARN of either.
func familyOf(id string) *family {
	id = bare(id)
	for i := range families {
		if strings.HasPrefix(id, families[i].prefix) {
			return &families[i]
		}
	}
	panic("unreachable: the last family has no prefix")
}

// answer is what a model has to say.
type answer struct {
	model      string
	id         string // the same for the same request
	prompted   bool   // the body had a prompt instead of messages
	dimensions int    // of an embedding, where the body asks for them
	plan       *plan
	rng        *rand.Rand
}

type object = map[string]any

// stop returns one of two stop reasons: the model ended, or its bound did.
func (a answer) stop(ended, bounded string) string {
	if a.plan.capped {
		return bounded
	}
	return ended
}

// words are about one token each, so that an answer's length fits its usage.
var words = strings.Fields(`the of and to in is that for it as was with be by on not he at this are or
	from an but which have one all their when there been can more if no out so said what up its about
	than into them only other time new some could these two may first then do any like now over such`)

func (a answer) text() string {
	var b strings.Builder
	b.Grow(int(a.plan.output) * 4)
	for i := range a.plan.output {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(words[a.rng.IntN(len(words))])
	}
	return b.String()
}

func (a answer) vector(dimensions int) []float64 {
	if a.dimensions > 0 {
		dimensions = a.dimensions
	}
	v := make([]float64, dimensions)
	for i := range v {
		v[i] = math.Round(a.rng.NormFloat64()*1000) / 10000
	}
	return v
}

func converseAnswer(a answer) any {
	p := a.plan
	return object{
		"metrics": object{"latencyMs": a.plan.latency.Milliseconds()},
		"output": object{"message": object{
			"role": "assistant", "content": []object{{"text": a.text()}},
		}},
		"stopReason": a.stop("end_turn", "max_tokens"),
		"usage": object{
			"inputTokens": p.input, "outputTokens": p.output,
			"totalTokens":          p.input + p.cacheRead + p.cacheWrite + p.output,
			"cacheReadInputTokens": p.cacheRead, "cacheWriteInputTokens": p.cacheWrite,
		},
	}
}

func anthropicAnswer(a answer) any {
	return object{
		"id": "msg_bdrk_" + a.id, "type": "message", "role": "assistant", "model": a.model,
		"content":     []object{{"type": "text", "text": a.text()}},
		"stop_reason": a.stop("end_turn", "max_tokens"), "stop_sequence": nil,
		"usage": object{
			"input_tokens": a.plan.input, "output_tokens": a.plan.output,
			"cache_creation_input_tokens": a.plan.cacheWrite, "cache_read_input_tokens": a.plan.cacheRead,
		},
	}
}

func novaAnswer(a answer) any {
	return object{
		"output": object{"message": object{
			"role": "assistant", "content": []object{{"text": a.text()}},
		}},
		"stopReason": a.stop("end_turn", "max_tokens"),
		"usage": object{
			"inputTokens": a.plan.input, "outputTokens": a.plan.output, "totalTokens": a.plan.input + a.plan.output,
		},
	}
}

func titanAnswer(a answer) any {
	return object{
		"inputTextTokenCount": a.plan.input,
		"results": []object{{
			"tokenCount": a.plan.output, "outputText": a.text(), "completionReason": a.stop("FINISH", "LENGTH"),
		}},
	}
}

func titanEmbedAnswer(a answer) any {
	return object{"embedding": a.vector(1024), "inputTextTokenCount": a.plan.input}
}

func novaEmbedAnswer(a answer) any {
	return object{"embeddings": []object{{"embeddingType": "TEXT", "embedding": a.vector(1024)}}}
}

func llamaAnswer(a answer) any {
	return object{
		"generation": a.text(), "prompt_token_count": a.plan.input,
		"generation_token_count": a.plan.output, "stop_reason": a.stop("stop", "length"),
	}
}

// Mistral tells no usage in its body.
func mistralAnswer(a answer) any {
	stop := a.stop("stop", "length")
	if a.prompted {
		return object{"outputs": []object{{"text": a.text(), "stop_reason": stop}}}
	}
	return object{"choices": []object{{
		"index": 0, "message": object{"role": "assistant", "content": a.text()}, "stop_reason": stop,
	}}}
}

// Cohere tells no usage at all.
func cohereAnswer(a answer) any {
	return object{
		"response_id": a.id, "generation_id": a.id,
		"text": a.text(), "finish_reason": a.stop("COMPLETE", "MAX_TOKENS"),
	}
}

func cohereEmbedAnswer(a answer) any {
	return object{
		"id": a.id, "response_type": "embeddings_floats", "embeddings": [][]float64{a.vector(1024)},
	}
}

func openaiAnswer(a answer) any {
	return object{
		"id": "chatcmpl-" + a.id, "object": "chat.completion", "model": a.model,
		"choices": []object{{
			"index": 0, "message": object{"role": "assistant", "content": a.text()}, "finish_reason": a.stop("stop", "length"),
		}},
		"usage": object{
			"prompt_tokens": a.plan.input, "completion_tokens": a.plan.output, "total_tokens": a.plan.input + a.plan.output,
		},
	}
}

// pixel is a PNG of one pixel.
var pixel = base64.StdEncoding.EncodeToString([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89" +
	"\x00\x00\x00\nIDATx\x9cc\x00\x01\x00\x00\x05\x00\x01\r\n-\xb4\x00\x00\x00\x00IEND\xaeB`\x82"))

func imageAnswer(answer) any {
	return object{"images": []string{pixel}, "error": nil}
}
