package config

import (
	"path"
	"regexp"
)

// family is what the name of a model tells about its quota.
type family struct {
	// models is a pattern (path.Match) of model IDs without geography, date and
	// version.
	models string
	// name groups models that take the same InvokeModel body.
	name string
	// burndown is how many tokens of quota an output token costs; 0 where AWS
	// has not said, so that the operator must.
	burndown float64
	// maxTokens is the longest output in tokens: what Converse reserves for a
	// request that sets no maxTokens. Too large, and such requests wait for
	// quota that they do not need; too small, and they are throttled.
	maxTokens int64
}

// families is searched from the top; the first match holds.
//
// Burndown: https://docs.aws.amazon.com/bedrock/latest/userguide/quotas-token-burndown.html
// (October 2026): 15 for Claude 4.8; 10 for Opus 5.5, Sonnet 5, Opus 5, Fable
// 5.1 and GPT-5.6; 5 for other Claude up to 4.7; 1 for everything else.
//
// Longest output: AWS's model cards for Claude 4.5 and later and Nova, the
// parameter pages for Llama, Mistral, Cohere, AI21 and Titan; for the rest the
// largest figure of third-party lists (models.dev, July 2026), rounded up.
var families = []family{
	{"anthropic.claude-*-4-8", "anthropic", 15, 128_000},
	{"anthropic.claude-opus-5-5", "anthropic", 10, 128_000},
	{"anthropic.claude-opus-5", "anthropic", 10, 128_000},
	{"anthropic.claude-sonnet-5", "anthropic", 10, 128_000},
	{"anthropic.claude-fable-5-1", "anthropic", 10, 128_000},
	{"anthropic.claude-*-4-[67]", "anthropic", 5, 128_000},
	{"anthropic.claude-*-4-5", "anthropic", 5, 64_000},
	{"anthropic.claude-sonnet-4", "anthropic", 5, 64_000},
	{"anthropic.claude-opus-4", "anthropic", 5, 32_000},
	{"anthropic.claude-opus-4-1", "anthropic", 5, 32_000},
	{"anthropic.claude-3-7-sonnet", "anthropic", 5, 64_000},
	{"anthropic.claude-3-5-*", "anthropic", 5, 8_192},
	{"anthropic.claude-3-*", "anthropic", 5, 4_096},
	{"anthropic.*", "anthropic", 0, 0}, // newer than the page above

	{"openai.gpt-5.6-*", "openai", 10, 128_000},
	{"openai.gpt-oss-*", "openai", 1, 16_384},

	{"amazon.nova-*-embeddings", "amazon.nova-embeddings", 1, 0},
	{"amazon.nova-canvas", "amazon.nova-canvas", 1, 0},
	{"amazon.nova-2-*", "amazon.nova", 1, 65_536},
	{"amazon.nova-premier", "amazon.nova", 1, 32_000},
	{"amazon.nova-*", "amazon.nova", 1, 10_000},
	{"amazon.titan-embed-*", "amazon.titan-embed", 1, 0},
	{"amazon.titan-image-*", "amazon.titan-image", 1, 0},
	{"amazon.titan-text-*", "amazon.titan-text", 1, 8_192},

	{"meta.llama4-*", "meta.llama", 1, 16_384},
	{"meta.llama3-*", "meta.llama", 1, 8_192},
	{"mistral.magistral-*", "mistral", 1, 40_000},
	{"mistral.*", "mistral", 1, 8_192},
	{"cohere.embed*", "cohere.embed", 1, 0},
	{"cohere.rerank*", "cohere.rerank", 1, 0},
	{"cohere.command-*", "cohere.command", 1, 4_096},
	{"ai21.jamba-*", "ai21.jamba", 1, 4_096},
	{"stability.*", "stability", 1, 0},
	{"deepseek.r1", "deepseek", 1, 32_768},
	{"deepseek.v3*", "deepseek", 1, 81_920},
	{"qwen.qwen3-next-*", "qwen", 1, 262_144},
	{"qwen.qwen3-vl-*", "qwen", 1, 262_144},
	{"qwen.qwen3-*", "qwen", 1, 131_072},
	{"google.gemma-3-*", "google.gemma", 1, 8_192},
	{"minimax.minimax-m2*", "minimax", 1, 131_072},
	{"moonshot*.kimi-k2*", "moonshot", 1, 16_384},
	{"nvidia.nemotron-*", "nvidia", 1, 131_072},
	{"writer.palmyra-*", "writer", 1, 8_192},
	{"zai.glm-*", "zai", 1, 131_072},
}

var (
	// geography is the prefix of a cross-Region inference profile.
	geography = regexp.MustCompile(`^(us|eu|apac|au|jp|ca|us-gov|global)\.`)
	// version is the tail of a model ID: -20250929-v1:0, -v2:0:8k, -v1, :0.
	version = regexp.MustCompile(`(-\d{8})?(-v\d+)?(:\d+)?(:\w+)?$`)
	// naming are the ARNs that end in a model ID. Those of application profiles,
	// provisioned throughput and custom models do not name the model.
	naming = regexp.MustCompile(`^arn:[a-z-]+:bedrock:[a-z0-9-]*:\d*:(foundation-model|inference-profile)/`)
)

// familyOf is the family of the model behind a model ID, an inference profile
// or an ARN; zero where it cannot be told.
func familyOf(modelID string) family {
	id := naming.ReplaceAllString(modelID, "")
	id = geography.ReplaceAllString(id, "")
	id = version.ReplaceAllString(id, "")
	for _, f := range families {
		if ok, _ := path.Match(f.models, id); ok {
			return f
		}
	}
	return family{}
}
