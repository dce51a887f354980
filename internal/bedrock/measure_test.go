package bedrock_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/bedrock"
	"github.com/sluicehq/sluice/job"
)

func TestMeasure(t *testing.T) {
	t.Parallel()
	const (
		claude = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
		llama  = "us.meta.llama3-3-70b-instruct-v1:0"
		nova   = "amazon.nova-lite-v1:0"
		titan  = "amazon.titan-text-express-v1"
		gpt    = "openai.gpt-oss-120b-1:0"
	)
	b64 := base64.StdEncoding.EncodeToString(make([]byte, 100_000))
	tests := []struct {
		name    string
		model   string
		kind    job.Kind
		request string
		want    job.Size
	}{
		{
			"Converse", claude, job.Converse,
			`{"system":[{"text":"12345"}],"messages":[{"role":"user","content":[{"text":"1234567890"}]}],` +
				`"inferenceConfig":{"maxTokens":512,"stopSequences":["STOP"]},"requestMetadata":{"tenant":"x"}}`,
			job.Size{Text: 15, MaxTokens: 512},
		},
		{
			"Converse without a bound", claude, job.Converse,
			`{"messages":[{"role":"user","content":[{"text":"12345"},{"cachePoint":{"type":"default"}}]}]}`,
			job.Size{Text: 5},
		},
		{
			"Converse with media", nova, job.Converse,
			`{"messages":[{"content":[` +
				`{"image":{"format":"png","source":{"bytes":"` + b64 + `"}}},` +
				`{"image":{"format":"png","source":{"s3Location":{"uri":"s3://bucket/key"}}}},` +
				`{"video":{"format":"mp4","source":{"bytes":"` + b64 + `"}}},` +
				`{"audio":{"format":"mp3","source":{"bytes":"` + b64 + `"}}},` +
				`{"document":{"format":"pdf","name":"123","source":{"bytes":"` + b64 + `"}}},` +
				`{"text":"12345"}]}]}`,
			job.Size{Text: 8, Images: 2, Documents: 1, Videos: 2},
		},
		{
			"Converse with a document of text", claude, job.Converse,
			`{"messages":[{"content":[{"document":{"name":"123","source":{"text":"12345"}}},` +
				`{"document":{"name":"123","source":{"content":[{"text":"12345"}]}}}]}]}`,
			job.Size{Text: 16},
		},
		{
			"Converse with tools", claude, job.Converse,
			`{"messages":[{"content":[{"toolUse":{"toolUseId":"tooluse_1","name":"find","input":{"id":"77","type":"a"}}},` +
				`{"toolResult":{"toolUseId":"tooluse_1","status":"success","content":[{"json":{"data":"12345"}},` +
				`{"image":{"source":{"bytes":"` + b64 + `"}}}]}}]}],` +
				`"toolConfig":{"tools":[{"toolSpec":{"name":"find","inputSchema":{"json":{"type":"object"}}}}]}}`,
			// find id 77 type a, data 12345, find json type object
			job.Size{Text: 4 + 2 + 2 + 4 + 1 + 4 + 5 + 4 + 4 + 4 + 6, Images: 1},
		},
		{
			"Anthropic", claude, job.Invoke,
			`{"anthropic_version":"bedrock-2023-05-31","max_tokens":1024,"system":"12345",` +
				`"messages":[{"role":"user","content":"12345"}]}`,
			job.Size{Text: 10, MaxTokens: 1024},
		},
		{
			"Anthropic with media", claude, job.Invoke,
			`{"max_tokens":1,"messages":[{"role":"user","content":[` +
				`{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + b64 + `"}},` +
				`{"source":{"data":"` + b64 + `","type":"base64"},"type":"image"},` +
				`{"type":"document","title":"123","source":{"type":"base64","media_type":"application/pdf","data":"` + b64 + `"}},` +
				`{"type":"document","source":{"data":"12345","media_type":"text/plain","type":"text"}},` +
				`{"type":"document","source":{"type":"url","url":"https://example.com/a.pdf"}},` +
				`{"type":"tool_result","tool_use_id":"toolu_1","content":[{"type":"image","source":{"type":"base64","data":"AAAA"}}]},` +
				`{"type":"thinking","thinking":"1234","signature":"` + b64 + `"},` +
				`{"type":"redacted_thinking","data":"` + b64 + `"},` +
				`{"type":"text","text":"12"}]}]}`,
			job.Size{Text: 14, Images: 3, Documents: 2, MaxTokens: 1},
		},
		{
			"Nova", nova, job.Invoke,
			`{"messages":[{"content":[{"text":"12345"},{"image":{"format":"png","source":{"bytes":"` + b64 + `"}}}]}],` +
				`"inferenceConfig":{"max_new_tokens":300}}`,
			job.Size{Text: 5, Images: 1, MaxTokens: 300},
		},
		{"Llama", llama, job.Invoke, `{"prompt":"12345","max_gen_len":100}`, job.Size{Text: 5, MaxTokens: 100}},
		{"Llama without a bound", llama, job.Invoke, `{"prompt":"12345"}`, job.Size{Text: 5, MaxTokens: 512}},
		{"Llama by Converse without a bound", llama, job.Converse, `{"messages":[]}`, job.Size{}},
		{
			"Titan", titan, job.Invoke,
			`{"inputText":"12345","textGenerationConfig":{"maxTokenCount":100,"stopSequences":["x"]}}`,
			job.Size{Text: 5, MaxTokens: 100},
		},
		{
			"OpenAI", gpt, job.Invoke,
			`{"model":"x","max_completion_tokens":900,"max_tokens":50,"messages":[{"role":"user","content":[` +
				`{"type":"text","text":"12345"},{"type":"image_url","image_url":{"url":"data:image/png;base64,` + b64 + `"}},` +
				`{"type":"input_audio","input_audio":{"data":"` + b64 + `","format":"wav"}}]},` +
				`{"role":"assistant","tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]}]}`,
			job.Size{Text: 5 + 1 + 7, Images: 1, Videos: 1, MaxTokens: 900},
		},
		{"Titan embedding", "amazon.titan-embed-text-v2:0", job.Invoke, `{"inputText":"12345","dimensions":256}`, job.Size{Text: 5, NoOutput: true}},
		{"Titan image embedding", "amazon.titan-embed-image-v1", job.Invoke, `{"inputImage":"` + b64 + `"}`, job.Size{Images: 1, NoOutput: true}},
		{
			"Cohere embedding", "global.cohere.embed-v4:0", job.Invoke,
			`{"input_type":"search_document","texts":["12345","123"],"images":["data:image/png;base64,` + b64 + `"],"max_tokens":128000}`,
			job.Size{Text: 8, Images: 1, NoOutput: true},
		},
		{
			"Nova embedding", "amazon.nova-2-multimodal-embeddings-v1:0", job.Invoke,
			`{"taskType":"SINGLE_EMBEDDING","singleEmbeddingParams":{"embeddingPurpose":"GENERIC_INDEX",` +
				`"text":{"value":"12345"},"image":{"format":"png","source":{"bytes":"` + b64 + `"}}}}`,
			job.Size{Text: 5, Images: 1, NoOutput: true},
		},
		{
			"image", "stability.stable-image-ultra-v1:1", job.Invoke,
			`{"prompt":"12345","image":"` + b64 + `"}`, job.Size{Text: 5, Images: 1, NoOutput: true},
		},
		{
			"an ARN", "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.meta.llama3-3-70b-instruct-v1:0", job.Invoke,
			`{"prompt":"12345"}`, job.Size{Text: 5, MaxTokens: 512},
		},
		{"escapes", claude, job.Converse, `{"messages":[{"content":[{"text":"a\"\\\n\u0041\u00e9\u20ac\ud83d\ude00é"}]}]}`, job.Size{Text: 5 + 2 + 3 + 4 + 2}},
		{"a bound in a tool's input is none", claude, job.Invoke, `{"messages":[{"content":[{"type":"tool_use","input":{"max_tokens":9}}]}]}`, job.Size{Text: 10}},
		{"impossible bounds", claude, job.Invoke, `{"max_tokens":1e300,"max_completion_tokens":-5}`, job.Size{MaxTokens: 1 << 40}},
		{"bounds that are none", claude, job.Invoke, `{"max_tokens":"100","max_completion_tokens":null,"max_gen_len":[7]}`, job.Size{Text: 3}},
		{"spaces", claude, job.Converse, " {\n\t\"messages\" : [ { \"content\" : [ { \"text\" : \"12345\" } ] } ] ,\r\n \"inferenceConfig\" : { \"maxTokens\" : 7 } }", job.Size{Text: 5, MaxTokens: 7}},
		{"cut off", claude, job.Converse, `{"inferenceConfig":{"maxTokens":7},"messages":[{"content":[{"text":"123`, job.Size{Text: 3, MaxTokens: 7}},
		{"no JSON", claude, job.Converse, `}]:,`, job.Size{}},
		{"empty", claude, job.Converse, ``, job.Size{}},
		{"deep", claude, job.Converse, strings.Repeat(`{"a":[`, 1_000_000), job.Size{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := bedrock.Measure(test.model, test.kind, []byte(test.request))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("size (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzMeasure(f *testing.F) {
	f.Add(`{"messages":[{"content":[{"text":"a\u00e9"},{"image":{"source":{"bytes":"AAAA"}}}]}],"max_tokens":1e9}`)
	f.Add(`{"messages":[{"type":"image","source":{"data":"\\","type":"base64"}}`)
	f.Add(`[[["\u`)
	f.Fuzz(func(t *testing.T, request string) {
		s := bedrock.Measure("meta.llama3", job.Invoke, []byte(request))
		// Each character of text stands for at most three bytes: a \u escape is
		// longer, and what is cut off is short.
		if s.Text < 0 || s.Text > int64(len(request)) || s.MaxTokens < 0 {
			t.Errorf("%+v of %d bytes", s, len(request))
		}
		if n := s.Images + s.Documents + s.Videos; n > int64(len(request)) {
			t.Errorf("%d media in %d bytes", n, len(request))
		}
	})
}

func BenchmarkMeasure(b *testing.B) {
	for name, request := range map[string]string{
		"1KiB": `{"messages":[{"role":"user","content":[{"text":"` + strings.Repeat("word ", 180) + `"}]}],"inferenceConfig":{"maxTokens":512}}`,
		"4MiB": `{"messages":[{"role":"user","content":[{"image":{"format":"png","source":{"bytes":"` + strings.Repeat("AAAA", 1<<20) + `"}}}]}]}`,
	} {
		b.Run(name, func(b *testing.B) {
			body := []byte(request)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				bedrock.Measure("anthropic.claude", job.Converse, body)
			}
		})
	}
}
