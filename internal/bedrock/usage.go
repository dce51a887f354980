package bedrock

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/sluicehq/sluice/job"
)

// count is a number of tokens that a response may tell.
type count struct {
	n    int64
	told bool
}

// UnmarshalJSON never errs: what is no count was not told.
func (c *count) UnmarshalJSON(text []byte) error {
	*c = parseCount(string(text))
	return nil
}

func parseCount(text string) count {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return count{}
	}
	return count{n, true}
}

// first returns the first count that was told.
func first(counts ...count) count {
	for _, c := range counts {
		if c.told {
			return c
		}
	}
	return count{}
}

// usage is what a response tells of its tokens.
type usage struct {
	input, output, cacheRead, cacheWrite count
}

// usageBody has the places where the families put their counts (AWS's model
// parameter pages; those of OpenAI's form are unconfirmed).
type usageBody struct {
	Usage struct {
		// Converse and Nova.
		InputTokens           count `json:"inputTokens"`
		OutputTokens          count `json:"outputTokens"`
		CacheReadInputTokens  count `json:"cacheReadInputTokens"`
		CacheWriteInputTokens count `json:"cacheWriteInputTokens"`
		// Nova's names for the last two under InvokeModel.
		CacheReadInputTokenCount  count `json:"cacheReadInputTokenCount"`
		CacheWriteInputTokenCount count `json:"cacheWriteInputTokenCount"`
		// Anthropic.
		AnthropicInput      count `json:"input_tokens"`
		AnthropicOutput     count `json:"output_tokens"`
		AnthropicCacheRead  count `json:"cache_read_input_tokens"`
		AnthropicCacheWrite count `json:"cache_creation_input_tokens"`
		// OpenAI's form. Its prompt_tokens include those read from the cache.
		PromptTokens        count `json:"prompt_tokens"`
		CompletionTokens    count `json:"completion_tokens"`
		PromptTokensDetails struct {
			CachedTokens count `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	} `json:"usage"`
	// Llama.
	PromptTokenCount     count `json:"prompt_token_count"`
	GenerationTokenCount count `json:"generation_token_count"`
	// Titan.
	InputTextTokenCount count `json:"inputTextTokenCount"`
	Results             []struct {
		TokenCount count `json:"tokenCount"`
	} `json:"results"`
}

// readUsage reads the body's counts, and from the header those that the body
// doesn't tell. It reports false where the body is no JSON.
func readUsage(body []byte, header http.Header) (usage, bool) {
	var b usageBody
	if err := json.Unmarshal(body, &b); err != nil {
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); !ok {
			return usage{}, false
		}
	}
	told := func(name string) count { return parseCount(header.Get("X-Amzn-Bedrock-" + name + "-Token-Count")) }
	u := &b.Usage
	cached := u.PromptTokensDetails.CachedTokens
	u.PromptTokens.n = max(0, u.PromptTokens.n-cached.n)
	return usage{
		input: first(u.InputTokens, u.AnthropicInput, u.PromptTokens, b.PromptTokenCount,
			b.InputTextTokenCount, told("Input")),
		output: first(u.OutputTokens, u.AnthropicOutput, u.CompletionTokens, b.GenerationTokenCount,
			b.titanOutput(), told("Output")),
		cacheRead: first(u.CacheReadInputTokens, u.CacheReadInputTokenCount, u.AnthropicCacheRead,
			cached, told("Cache-Read-Input")),
		cacheWrite: first(u.CacheWriteInputTokens, u.CacheWriteInputTokenCount, u.AnthropicCacheWrite,
			told("Cache-Write-Input")),
	}, true
}

// titanOutput is the sum over the results of a Titan answer. An answer without
// any is an embedding.
func (b *usageBody) titanOutput() count {
	sum := count{told: b.InputTextTokenCount.told}
	for _, r := range b.Results {
		sum.n += r.TokenCount.n
		sum.told = sum.told && r.TokenCount.told
	}
	return sum
}

// total returns the usage, and whether it can be settled with: without a count
// of the output it can't, unless there is none.
func (u usage) total(noOutput bool) (job.Usage, bool) {
	return job.Usage{
		InputTokens:      u.input.n,
		OutputTokens:     u.output.n,
		CacheReadTokens:  u.cacheRead.n,
		CacheWriteTokens: u.cacheWrite.n,
	}, u.input.told && (u.output.told || noOutput)
}
