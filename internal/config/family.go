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
// Longest output: "Max output tokens" of the model's card in AWS's user guide
// (https://docs.aws.amazon.com/bedrock/latest/userguide/model-cards.html; all
// cards as of August 2026, those of the newest Claude as of October), where 8K is
// taken for 8,192 and Anthropic's 64K for 64,000. A row that has another source
// says so. Third-party lists tell more of some models (81,920 of DeepSeek V3,
// where its card says 8K), but it is AWS that reserves.
var families = []family{
	{"anthropic.claude-*-4-8", "anthropic", 15, 128_000},
	{"anthropic.claude-opus-5-5", "anthropic", 10, 128_000},
	{"anthropic.claude-opus-5", "anthropic", 10, 128_000},
	{"anthropic.claude-sonnet-5", "anthropic", 10, 128_000},
	{"anthropic.claude-fable-5-1", "anthropic", 10, 128_000},
	{"anthropic.claude-sonnet-4-6", "anthropic", 5, 64_000},
	{"anthropic.claude-*-4-[67]", "anthropic", 5, 128_000},
	{"anthropic.claude-*-4-5", "anthropic", 5, 64_000},
	{"anthropic.claude-sonnet-4", "anthropic", 5, 64_000},
	{"anthropic.claude-opus-4", "anthropic", 5, 32_000}, // no card any more: as Opus 4.1
	{"anthropic.claude-opus-4-1", "anthropic", 5, 32_000},
	{"anthropic.claude-3-7-sonnet", "anthropic", 5, 64_000}, // no card any more: a guess, as Sonnet 4
	{"anthropic.claude-3-5-*", "anthropic", 5, 8_192},
	{"anthropic.claude-3-*", "anthropic", 5, 4_096},
	{"anthropic.*", "anthropic", 0, 0}, // newer than the page above

	{"openai.gpt-5.6-*", "openai", 10, 128_000}, // its card has none: a high guess
	{"openai.gpt-oss-*", "openai", 1, 16_384},

	{"amazon.nova-*-embeddings", "amazon.nova-embeddings", 1, 0},
	{"amazon.nova-canvas", "amazon.nova-canvas", 1, 0},
	{"amazon.nova-2-*", "amazon.nova", 1, 65_536},
	{"amazon.nova-premier", "amazon.nova", 1, 25_600},
	// The cards and the request's schema say 5K, https://models.dev says 8,192 of
	// these models on Bedrock: a high guess.
	{"amazon.nova-*", "amazon.nova", 1, 10_000},
	{"amazon.titan-embed-*", "amazon.titan-embed", 1, 0},
	{"amazon.titan-image-*", "amazon.titan-image", 1, 0},
	{"amazon.titan-text-*", "amazon.titan-text", 1, 8_192}, // no card: a high guess

	{"meta.llama4-*", "meta.llama", 1, 8_192},
	{"meta.llama3-[123]-*", "meta.llama", 1, 4_096},
	{"meta.llama3-*", "meta.llama", 1, 8_192},
	{"mistral.magistral-*", "mistral", 1, 40_960},
	{"mistral.mistral-large-3-*", "mistral", 1, 32_768},
	{"mistral.devstral-*", "mistral", 1, 32_768},
	{"mistral.pixtral-*", "mistral", 1, 16_384},
	{"mistral.*", "mistral", 1, 8_192}, // the largest of the others; Voxtral's card has none
	{"cohere.embed*", "cohere.embed", 1, 0},
	{"cohere.rerank*", "cohere.rerank", 1, 0},
	{"cohere.command-*", "cohere.command", 1, 4_096},
	{"ai21.jamba-*", "ai21.jamba", 1, 4_096},
	{"stability.*", "stability", 1, 0},
	{"deepseek.r1", "deepseek", 1, 8_192},
	{"deepseek.v3*", "deepseek", 1, 8_192},
	{"qwen.qwen3-coder-*", "qwen", 1, 16_384},
	{"qwen.qwen3-*", "qwen", 1, 8_192},
	{"google.gemma-3-*", "google.gemma", 1, 8_192},
	{"minimax.minimax-m2*", "minimax", 1, 8_192},
	{"moonshot*.kimi-k2*", "moonshot", 1, 16_384},
	{"nvidia.nemotron-super-*", "nvidia", 1, 32_768},
	{"nvidia.nemotron-*", "nvidia", 1, 8_192},
	{"writer.palmyra-*", "writer", 1, 8_192},
	{"zai.glm-4.7*", "zai", 1, 4_096},
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

// continents are where the profiles of a geography are called from, as the names
// of Regions begin. Of other Regions and geographies nothing is said: AWS lets
// some Regions call a neighbour's profiles, and new ones come.
var (
	continents = map[string]string{"us": "us", "us-gov": "us-gov", "eu": "eu", "apac": "ap", "au": "ap", "jp": "ap"}
	continent  = regexp.MustCompile(`^(us-gov|us|eu|ap)-`)
)

// mayCall reports whether a Region may call profiles of a geography, as far as
// can be told.
func mayCall(region, geography string) bool {
	here, there := continent.FindStringSubmatch(region), continents[geography]
	return here == nil || there == "" || here[1] == there
}

// geographyOf is the geography of an inference profile, or of the ARN of one;
// empty where there is none.
func geographyOf(modelID string) string {
	m := geography.FindStringSubmatch(naming.ReplaceAllString(modelID, ""))
	if m == nil {
		return ""
	}
	return m[1]
}

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
