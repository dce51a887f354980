package bedrock_test

import (
	"fmt"
	"testing"

	"github.com/sluicehq/sluice/internal/bedrock"
	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
	"github.com/sluicehq/sluice/job"
)

// The simulator's faults and families were written apart from what reads them
// here: that the two agree is worth a test.
func TestAgainstTheSimulator(t *testing.T) {
	t.Parallel()
	const (
		claude = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
		steer  = "[[sim:input=70]][[sim:output=5]]"
	)
	models := make(map[string]bedrocksim.Model)
	invocations := []struct{ model, body string }{
		{claude, `{"anthropic_version":"bedrock-2023-05-31","max_tokens":50,"messages":[{"role":"user","content":"%s"}]}`},
		{"amazon.nova-lite-v1:0", `{"messages":[{"role":"user","content":[{"text":"%s"}]}],"inferenceConfig":{"maxTokens":50}}`},
		{"meta.llama3-3-70b-instruct-v1:0", `{"prompt":"%s","max_gen_len":50}`},
		{"amazon.titan-text-express-v1", `{"inputText":"%s","textGenerationConfig":{"maxTokenCount":50}}`},
		{"mistral.mistral-large-2407-v1:0", `{"prompt":"%s","max_tokens":50}`},
		{"openai.gpt-oss-120b-1:0", `{"messages":[{"role":"user","content":"%s"}],"max_completion_tokens":50}`},
		{"amazon.titan-embed-text-v2:0", `{"inputText":"%s"}`},
		{"cohere.embed-v4:0", `{"texts":["%s"],"input_type":"search_document"}`},
	}
	for _, i := range invocations {
		models[i.model] = bedrocksim.Model{}
	}
	server := localaws.New(localaws.Options{Bedrock: bedrocksim.Options{Models: models}})
	c := clientOf(t, server.Config(server.Client(nil)))

	for _, i := range invocations {
		t.Run(i.model, func(t *testing.T) {
			t.Parallel()
			body := fmt.Appendf(nil, i.body, steer)
			answer, err := c.Invoke(t.Context(), job.Route{Region: "us-east-1", ModelID: i.model}, job.Invoke, body)
			if err != nil {
				t.Fatalf("%v: %s", err, failure(t, err).Message)
			}
			want, bound := job.Usage{InputTokens: 70, OutputTokens: 5}, int64(50)
			size := bedrock.Measure(i.model, job.Invoke, body)
			if size.NoOutput {
				want.OutputTokens, bound = 0, 0
			}
			if answer.Usage != want || !answer.Metered {
				t.Errorf("usage %+v (metered %v), want %+v", answer.Usage, answer.Metered, want)
			}
			if size.MaxTokens != bound || size.Text != int64(len(steer)) {
				t.Errorf("size %+v, want a bound of %d and %d bytes", size, bound, len(steer))
			}
		})
	}

	for kind, want := range map[bedrocksim.FaultKind]job.Reason{
		bedrocksim.Unavailable:   job.Unavailable,
		bedrocksim.Connections:   job.Unavailable,
		bedrocksim.Internal:      job.Unavailable,
		bedrocksim.ModelError:    job.Unavailable,
		bedrocksim.ModelTimeout:  job.Unavailable,
		bedrocksim.Overloaded:    job.Unavailable,
		bedrocksim.NotReady:      job.Unavailable,
		bedrocksim.Garbage:       job.Unavailable,
		bedrocksim.Throttle:      job.Throttled,
		bedrocksim.Bare429:       job.Throttled,
		bedrocksim.QuotaExceeded: job.Throttled,
		bedrocksim.Denied:        job.Unauthorized,
		bedrocksim.ExpiredToken:  job.Unauthorized,
		bedrocksim.Absent:        job.Unauthorized, // the configured model ID is wrong
		bedrocksim.Reject:        job.Rejected,
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			body := fmt.Appendf(nil, `{"messages":[{"role":"user","content":[{"text":"[[sim:%s]]"}]}]}`, kind)
			_, err := c.Invoke(t.Context(), job.Route{Region: "us-east-1", ModelID: claude}, job.Converse, body)
			f := failure(t, err)
			if f.Reason != want || f.RequestID == "" || f.Timeout != (kind == bedrocksim.ModelTimeout) {
				t.Errorf("%+v, want %s", f, want)
			}
		})
	}

	t.Run("a model that is not there", func(t *testing.T) {
		t.Parallel()
		_, err := c.Invoke(t.Context(), job.Route{Region: "us-east-1", ModelID: "anthropic.claude-typo"}, job.Converse, request)
		if f := failure(t, err); f.Reason != job.Unauthorized {
			t.Errorf("%+v (%s), want unauthorized", f, f.Message)
		}
	})
}
