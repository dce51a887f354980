package bedrocksim_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/document"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
)

const (
	sonnet = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
	nova   = "amazon.nova-lite-v1:0"
	embed  = "amazon.titan-embed-text-v2:0"
)

// memory is an HTTP client that calls a handler, so that a real SDK client
// lives in a bubble.
type memory struct{ http.Handler }

func (m memory) Do(r *http.Request) (answer *http.Response, err error) {
	defer func() {
		if v := recover(); v == http.ErrAbortHandler {
			err = io.ErrUnexpectedEOF
		} else if v != nil {
			panic(v)
		}
	}()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	m.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

func client(h http.Handler, region string) *bedrockruntime.Client {
	return bedrockruntime.New(bedrockruntime.Options{
		Region:       region,
		BaseEndpoint: aws.String("http://bedrock.test"),
		Credentials:  credentials.NewStaticCredentialsProvider("test", "test", ""),
		HTTPClient:   memory{h},
		Retryer:      aws.NopRetryer{},
	})
}

// converse asks with a prompt and max_tokens (0: none).
func converse(ctx context.Context, c *bedrockruntime.Client, model, prompt string, maxTokens int32) (*bedrockruntime.ConverseOutput, error) {
	in := &bedrockruntime.ConverseInput{
		ModelId: &model,
		Messages: []types.Message{{
			Role:    types.ConversationRoleUser,
			Content: []types.ContentBlock{&types.ContentBlockMemberText{Value: prompt}},
		}},
	}
	if maxTokens > 0 {
		in.InferenceConfig = &types.InferenceConfiguration{MaxTokens: &maxTokens}
	}
	return c.Converse(ctx, in)
}

func invoke(ctx context.Context, c *bedrockruntime.Client, model, body string) (*bedrockruntime.InvokeModelOutput, error) {
	return c.InvokeModel(ctx, &bedrockruntime.InvokeModelInput{
		ModelId: &model, Body: []byte(body),
		ContentType: aws.String("application/json"), Accept: aws.String("application/json"),
	})
}

func one(m bedrocksim.Model) bedrocksim.Options {
	return bedrocksim.Options{Models: map[string]bedrocksim.Model{sonnet: m}}
}

func stats(t *testing.T, s *bedrocksim.Simulator, region, model string) bedrocksim.Stats {
	t.Helper()
	st, ok := s.Stats()[bedrocksim.Key{Region: region, ModelID: model}]
	if !ok {
		t.Fatalf("no stats of %s in %s", model, region)
	}
	return st
}

func TestConverse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := bedrocksim.New(one(bedrocksim.Model{
			RPM: 10, TPM: 100000,
			Latency: bedrocksim.Latency{Base: 300 * time.Millisecond, PerToken: 10 * time.Millisecond},
		}))
		begin := time.Now()
		prompt := strings.Repeat("a", 400) + " [[sim:output=20]]"
		out, err := converse(t.Context(), client(s, "eu-west-1"), sonnet, prompt, 100)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := time.Since(begin), 500*time.Millisecond; got != want {
			t.Errorf("took %v, want %v", got, want)
		}
		if got := aws.ToInt32(out.Usage.InputTokens); got != 105 { // ceil(418 bytes / 4)
			t.Errorf("input tokens = %d, want 105", got)
		}
		if got := aws.ToInt32(out.Usage.OutputTokens); got != 20 {
			t.Errorf("output tokens = %d, want 20", got)
		}
		if out.StopReason != types.StopReasonEndTurn {
			t.Errorf("stop reason = %s", out.StopReason)
		}
		text := out.Output.(*types.ConverseOutputMemberMessage).Value.Content[0].(*types.ContentBlockMemberText).Value
		if got := len(strings.Fields(text)); got != 20 {
			t.Errorf("answer has %d words, want one per token", got)
		}
		st := stats(t, s, "eu-west-1", sonnet)
		if st.Accepted != 1 || st.Answered != 1 || st.Reserved != 205 || st.Settled != 105+20*5 {
			t.Errorf("stats = %+v", st)
		}
	})
}

func TestMaxTokensCapsTheOutput(t *testing.T) {
	t.Parallel()
	s := bedrocksim.New(one(bedrocksim.Model{Output: bedrocksim.Range{Min: 500, Max: 900}}))
	out, err := converse(t.Context(), client(s, "us-east-1"), sonnet, "hello", 50)
	if err != nil {
		t.Fatal(err)
	}
	if got := aws.ToInt32(out.Usage.OutputTokens); got != 50 || out.StopReason != types.StopReasonMaxTokens {
		t.Errorf("output = %d, %s; want 50, max_tokens", got, out.StopReason)
	}
}

func TestSameSeedSameAnswer(t *testing.T) {
	t.Parallel()
	answer := func(seed uint64, prompt string) string {
		o := one(bedrocksim.Model{})
		o.Seed = seed
		out, err := invoke(t.Context(), client(bedrocksim.New(o), "us-east-1"), sonnet,
			`{"anthropic_version":"bedrock-2023-05-31","max_tokens":300,"messages":[{"role":"user","content":"`+prompt+`"}]}`)
		if err != nil {
			t.Fatal(err)
		}
		return string(out.Body)
	}
	if a, b := answer(1, "x"), answer(1, "x"); a != b {
		t.Errorf("same seed and request, other answer:\n%s\n%s", a, b)
	}
	if answer(1, "x") == answer(2, "x") {
		t.Error("another seed, same answer")
	}
	if answer(1, "x") == answer(1, "y") {
		t.Error("another request, same answer")
	}
}

// TestInvokeFamilies shows each family's body, and where its usage stands.
func TestInvokeFamilies(t *testing.T) {
	t.Parallel()
	const steer = "[[sim:input=7]][[sim:output=3]]"
	tests := []struct {
		model, body string
		keys        []string
		usage       string // JSON of the body's part that tells usage
		inHeader    bool
	}{
		{sonnet, `{"anthropic_version":"bedrock-2023-05-31","max_tokens":9,"messages":[{"role":"user","content":"` + steer + `"}]}`,
			[]string{"usage"}, `{"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"input_tokens":7,"output_tokens":3}`, true},
		{nova, `{"messages":[{"role":"user","content":[{"text":"` + steer + `"}]}],"inferenceConfig":{"maxTokens":9}}`,
			[]string{"usage"}, `{"inputTokens":7,"outputTokens":3,"totalTokens":10}`, true},
		{embed, `{"inputText":"` + steer + `"}`, []string{"inputTextTokenCount"}, `7`, true},
		{"amazon.titan-text-express-v1", `{"inputText":"` + steer + `"}`, []string{"inputTextTokenCount"}, `7`, true},
		{"meta.llama3-3-70b-instruct-v1:0", `{"prompt":"` + steer + `"}`, []string{"generation_token_count"}, `3`, true},
		{"mistral.mistral-large-2407-v1:0", `{"prompt":"` + steer + `"}`, nil, ``, true},
		{"mistral.mistral-large-2407-v1:0", `{"messages":[{"role":"user","content":"` + steer + `"}]}`, nil, ``, true},
		{"cohere.command-r-v1:0", `{"message":"` + steer + `"}`, nil, ``, false},
		{"cohere.embed-v4:0", `{"texts":["` + steer + `"]}`, nil, ``, true},
		{"amazon.nova-2-multimodal-embeddings-v1:0", `{"taskType":"SINGLE_EMBEDDING","singleEmbeddingParams":{"text":{"value":"` + steer + `"}}}`, nil, ``, true},
		{"stability.stable-image-core-v1:1", `{"prompt":"` + steer + `"}`, nil, ``, false},
		{"openai.gpt-oss-120b-1:0", `{"messages":[{"role":"user","content":"` + steer + `"}]}`,
			[]string{"usage"}, `{"completion_tokens":3,"prompt_tokens":7,"total_tokens":10}`, true},
	}
	models := map[string]bedrocksim.Model{}
	for _, tt := range tests {
		models[tt.model] = bedrocksim.Model{}
	}
	s := bedrocksim.New(bedrocksim.Options{Models: models})
	for _, tt := range tests {
		t.Run(tt.model, func(t *testing.T) {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest("POST", "/model/"+strings.ReplaceAll(tt.model, ":", "%3A")+"/invoke", strings.NewReader(tt.body)))
			if w.Code != http.StatusOK {
				t.Fatalf("status %d: %s", w.Code, w.Body)
			}
			var body map[string]json.RawMessage
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
				t.Fatal(err)
			}
			for _, key := range tt.keys {
				if diff := cmp.Diff(tt.usage, string(body[key])); diff != "" {
					t.Errorf("%s (-want +got):\n%s", key, diff)
				}
			}
			wantHeader := ""
			if tt.inHeader {
				wantHeader = "7"
			}
			if got := w.Header().Get("X-Amzn-Bedrock-Input-Token-Count"); got != wantHeader {
				t.Errorf("input token header = %q, want %q", got, wantHeader)
			}
		})
	}
}

// TestThrottlesTellTheirCause runs into each limit.
func TestThrottlesTellTheirCause(t *testing.T) {
	t.Parallel()
	tests := []struct {
		model bedrocksim.Model
		want  string
		cause bedrocksim.Cause
	}{
		{bedrocksim.Model{RPM: 2}, "Too many requests, please wait before trying again.", bedrocksim.Requests},
		{bedrocksim.Model{TPM: 250}, "Too many tokens, please wait before trying again.", bedrocksim.Tokens},
		{bedrocksim.Model{RPM: 2, TPD: 250}, "Too many tokens per day, please wait before trying again.", bedrocksim.Day},
	}
	for _, tt := range tests {
		t.Run(string(tt.cause), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := bedrocksim.New(one(tt.model))
				c := client(s, "us-east-1")
				ask := func() error {
					_, err := converse(t.Context(), c, sonnet, "[[sim:input=20]][[sim:output=16]]", 90)
					return err
				}
				for range 2 {
					if err := ask(); err != nil {
						t.Fatal(err)
					}
				}
				throttle, ok := errors.AsType[*types.ThrottlingException](ask())
				if !ok {
					t.Fatal("the third request was not throttled")
				}
				if got := throttle.ErrorMessage(); got != tt.want {
					t.Errorf("message = %q, want %q", got, tt.want)
				}
				if got := stats(t, s, "us-east-1", sonnet).Throttled[tt.cause]; got != 1 {
					t.Errorf("counted %d throttles by %s, want 1", got, tt.cause)
				}
				if tt.cause == bedrocksim.Day {
					time.Sleep(24 * time.Hour)
				} else {
					time.Sleep(time.Minute)
				}
				if err := ask(); err != nil {
					t.Errorf("after its time: %v", err)
				}
			})
		})
	}
}

// TestRegionsAndModelsHaveLedgersOfTheirOwn: one endpoint serves all Regions.
func TestRegionsAndModelsHaveLedgersOfTheirOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := bedrocksim.New(bedrocksim.Options{Models: map[string]bedrocksim.Model{sonnet: {RPM: 1}, nova: {RPM: 1}}})
		for _, region := range []string{"us-east-1", "eu-central-1"} {
			for _, model := range []string{sonnet, nova} {
				c := client(s, region)
				if _, err := converse(t.Context(), c, model, "x", 10); err != nil {
					t.Errorf("%s in %s: %v", model, region, err)
				}
				if _, err := converse(t.Context(), c, model, "x", 10); err == nil {
					t.Errorf("%s in %s admitted a second request", model, region)
				}
			}
		}
	})
}

// TestSettlementReplacesReservation is AWS's worked example (burndown 5): input
// 3,000, cache write 1,000, output 1,000.
func TestSettlementReplacesReservation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		maxTokens         int32
		reserved, settled int64
	}{
		{32000, 36000, 9000},
		{1250, 5250, 9000}, // the settlement is the larger one
	} {
		synctest.Test(t, func(t *testing.T) {
			s := bedrocksim.New(one(bedrocksim.Model{TPM: 40000, Latency: bedrocksim.Latency{Base: time.Second}}))
			c := client(s, "us-east-1")
			ask := func(prompt string, maxTokens int32) error {
				_, err := converse(t.Context(), c, sonnet, prompt, maxTokens)
				return err
			}
			if err := ask("[[sim:input=3000]][[sim:cache_read=4000]][[sim:cache_write=1000]][[sim:output=1000]]", tt.maxTokens); err != nil {
				t.Fatal(err)
			}
			st := stats(t, s, "us-east-1", sonnet)
			if st.Reserved != tt.reserved || st.Settled != tt.settled {
				t.Errorf("reserved %d, settled %d; want %d, %d", st.Reserved, st.Settled, tt.reserved, tt.settled)
			}
			// What is left of the minute is the quota less the settlement, to the token.
			rest := int32(40000 - tt.settled)
			if err := ask("[[sim:input=1]][[sim:output=1]]", rest); err == nil {
				t.Error("admitted one token too many")
			}
			if err := ask("[[sim:input=1]][[sim:output=1]]", rest-1); err != nil {
				t.Errorf("refused what was left: %v", err)
			}
		})
	}
}

func TestUnboundedRequestReservesTheModelsMost(t *testing.T) {
	t.Parallel()
	s := bedrocksim.New(bedrocksim.Options{Models: map[string]bedrocksim.Model{
		sonnet: {}, nova: {MaxTokens: 777}, "meta.llama3-8b-instruct-v1:0": {},
	}})
	c := client(s, "us-east-1")
	for model, want := range map[string]int64{sonnet: 64010, nova: 787} {
		if _, err := converse(t.Context(), c, model, "[[sim:input=10]]", 0); err != nil {
			t.Fatal(err)
		}
		if got := stats(t, s, "us-east-1", model).Reserved; got != want {
			t.Errorf("%s reserved %d, want %d", model, got, want)
		}
	}
	const llama = "meta.llama3-8b-instruct-v1:0"
	if _, err := invoke(t.Context(), c, llama, `{"prompt":"[[sim:input=10]]"}`); err != nil {
		t.Fatal(err)
	}
	if got := stats(t, s, "us-east-1", llama).Reserved; got != 522 {
		t.Errorf("llama reserved %d, want 522", got)
	}
}

func TestRejections(t *testing.T) {
	t.Parallel()
	s := bedrocksim.New(bedrocksim.Options{Models: map[string]bedrocksim.Model{sonnet: {RPM: 1}, nova: {}, embed: {}}})
	const message = `{"role":"user","content":[{"text":"x"}]}`
	tests := []struct{ name, model, operation, body, want string }{
		{"unknown model", "no.such-model", "converse", `{"messages":[` + message + `]}`, "model identifier is invalid"},
		{"no JSON", sonnet, "converse", `{"messages":`, "Malformed input request"},
		{"array", sonnet, "converse", `[]`, "Malformed input request"},
		{"no messages", sonnet, "converse", `{}`, "messages field is required"},
		{"empty content", sonnet, "converse", `{"messages":[{"role":"user","content":[]}]}`, "messages.0 is empty"},
		{"assistant first", sonnet, "converse", `{"messages":[{"role":"assistant","content":[{"text":"x"}]}]}`, "must start with a user"},
		{"role", sonnet, "converse", `{"messages":[{"role":"system","content":[{"text":"x"}]}]}`, "enum value set"},
		{"bound too large", sonnet, "converse", `{"messages":[` + message + `],"inferenceConfig":{"maxTokens":64001}}`, "model limit of 64000"},
		{"bound of nothing", sonnet, "converse", `{"messages":[` + message + `],"inferenceConfig":{"maxTokens":0}}`, "at least 1"},
		{"bound is text", sonnet, "converse", `{"messages":[` + message + `],"inferenceConfig":{"maxTokens":"9"}}`, "whole number"},
		{"embedding in a conversation", embed, "converse", `{"messages":[` + message + `]}`, "doesn't support the model"},
		{"invoke without its bound", sonnet, "invoke", `{"anthropic_version":"x","messages":[` + message + `]}`, "[max_tokens] not found"},
		{"invoke without messages", nova, "invoke", `{}`, "[messages] not found"},
		{"invoke with none", nova, "invoke", `{"messages":[]}`, "minimum item count"},
		{"asked for", sonnet, "converse", `{"messages":[{"role":"user","content":[{"text":"[[sim:reject]]"}]}]}`, "refused"},
		{"unknown marker", sonnet, "converse", `{"messages":[{"role":"user","content":[{"text":"[[sim:outptu=3]]"}]}]}`, `unknown marker "outptu=3"`},
		{"open marker", sonnet, "converse", `{"messages":[{"role":"user","content":[{"text":"[[sim:output=3"}]}]}`, "without its end"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest("POST", "/model/"+strings.ReplaceAll(tt.model, ":", "%3A")+"/"+tt.operation, strings.NewReader(tt.body)))
			if w.Code != http.StatusBadRequest || !strings.HasPrefix(w.Header().Get("X-Amzn-Errortype"), "ValidationException") {
				t.Errorf("status %d, type %q", w.Code, w.Header().Get("X-Amzn-Errortype"))
			}
			if !strings.Contains(w.Body.String(), strings.ReplaceAll(tt.want, `"`, `\"`)) {
				t.Errorf("body %s\nlacks %q", w.Body, tt.want)
			}
		})
	}
	// None of them cost the quota of one request.
	if _, err := converse(t.Context(), client(s, "us-east-1"), sonnet, "x", 9); err != nil {
		t.Error(err)
	}
}

// TestFaultsDecodeToTheSDKsTypes asks for each fault by its marker.
func TestFaultsDecodeToTheSDKsTypes(t *testing.T) {
	t.Parallel()
	s := bedrocksim.New(one(bedrocksim.Model{}))
	c := client(s, "us-east-1")
	is := func(target any) func(error) bool {
		return func(err error) bool { return errors.As(err, target) }
	}
	code := func(want string) func(error) bool {
		return func(err error) bool {
			api, ok := errors.AsType[smithy.APIError](err)
			return ok && api.ErrorCode() == want
		}
	}
	tests := []struct {
		marker string
		status int
		match  func(error) bool
	}{
		{"unavailable", 503, is(new(*types.ServiceUnavailableException))},
		{"status=503", 503, is(new(*types.ServiceUnavailableException))},
		{"connections", 503, is(new(*types.ServiceUnavailableException))},
		{"internal", 500, is(new(*types.InternalServerException))},
		{"status=424", 424, func(err error) bool {
			e, ok := errors.AsType[*types.ModelErrorException](err)
			return ok && aws.ToInt32(e.OriginalStatusCode) == 500
		}},
		{"model-timeout", 408, is(new(*types.ModelTimeoutException))},
		{"overloaded", 529, code("overloaded_error")},
		{"not-ready", 429, is(new(*types.ModelNotReadyException))},
		{"throttle", 429, is(new(*types.ThrottlingException))},
		{"bare-429", 429, code("UnknownError")},
		{"denied", 403, is(new(*types.AccessDeniedException))},
		{"expired-token", 403, code("ExpiredTokenException")},
		{"absent", 404, is(new(*types.ResourceNotFoundException))},
		{"reject", 400, is(new(*types.ValidationException))},
		{"quota-exceeded", 400, code("ServiceQuotaExceededException")},
		{"garbage", 200, func(err error) bool { return err != nil }},
	}
	want := map[int]int64{}
	for _, tt := range tests {
		_, err := converse(t.Context(), c, sonnet, "[[sim:"+tt.marker+"]]", 10)
		if !tt.match(err) {
			t.Errorf("%s: %v", tt.marker, err)
		}
		if tt.status != 200 {
			want[tt.status]++
		}
	}
	if diff := cmp.Diff(want, stats(t, s, "us-east-1", sonnet).Errors); diff != "" {
		t.Errorf("errors by status (-want +got):\n%s", diff)
	}
}

func TestFaultsByRateAndTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := bedrocksim.New(one(bedrocksim.Model{Faults: []bedrocksim.Fault{
			{Kind: bedrocksim.Unavailable, Rate: 1, From: 10 * time.Second, Until: 20 * time.Second},
			{Kind: bedrocksim.Internal, Rate: 0.3, From: 30 * time.Second},
		}}))
		c := client(s, "us-east-1")
		failed := func() (n int) {
			for range 1000 {
				if _, err := converse(t.Context(), c, sonnet, "the same each time", 10); err != nil {
					n++
				}
			}
			return n
		}
		var got []int
		for range 4 {
			got = append(got, failed())
			time.Sleep(10 * time.Second)
		}
		if diff := cmp.Diff([]int{0, 1000, 0}, got[:3]); diff != "" {
			t.Errorf("failures in each ten seconds (-want +got):\n%s", diff)
		}
		if got[3] < 250 || got[3] > 350 {
			t.Errorf("%d of 1,000 failed at a rate of 0.3", got[3])
		}
	})
}

// TestErrorsGiveTheirTokensBack: a request that fails while it runs has its
// tokens returned, but it was a request.
func TestErrorsGiveTheirTokensBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := bedrocksim.New(one(bedrocksim.Model{RPM: 3, TPM: 100}))
		c := client(s, "us-east-1")
		for range 2 {
			if _, err := converse(t.Context(), c, sonnet, "[[sim:input=10]][[sim:status=500]]", 90); err == nil {
				t.Fatal("no error")
			}
		}
		if _, err := converse(t.Context(), c, sonnet, "[[sim:input=10]][[sim:output=1]]", 90); err != nil {
			t.Errorf("the tokens did not come back: %v", err)
		}
		_, err := converse(t.Context(), c, sonnet, "[[sim:input=1]]", 1)
		if _, ok := errors.AsType[*types.ThrottlingException](err); !ok || stats(t, s, "us-east-1", sonnet).Throttled[bedrocksim.Requests] != 1 {
			t.Errorf("the fourth request of a minute of three: %v", err)
		}
	})
}

// TestClientGoesAway charges what was generated by then.
func TestClientGoesAway(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		prompt  string
		settled int64
	}{
		{"[[sim:input=100]][[sim:output=100]]", 100 + 40*5}, // 1 s + 40 x 100 ms
		{"[[sim:input=100]][[sim:hang]]", 100},
		{"[[sim:input=100]][[sim:output=100]][[sim:slow]]", 100}, // the lead is ten times as long too
		{"[[sim:input=100]][[sim:output=3]][[sim:latency=1h]]", 100},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := bedrocksim.New(one(bedrocksim.Model{
				TPM: 10000, Latency: bedrocksim.Latency{Base: time.Second, PerToken: 100 * time.Millisecond},
			}))
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if _, err := converse(ctx, client(s, "us-east-1"), sonnet, tt.prompt, 200); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("err = %v", err)
			}
			st := stats(t, s, "us-east-1", sonnet)
			if st.Settled != tt.settled || st.Abandoned != 1 || st.InFlight != 0 || st.Answered != 0 {
				t.Errorf("stats = %+v, want %d settled", st, tt.settled)
			}
		})
	}
}

// TestCutAnswersNobody: the work is done and paid for, and the connection
// breaks.
func TestCutAnswersNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := bedrocksim.New(one(bedrocksim.Model{Latency: bedrocksim.Latency{Base: time.Second}}))
		begin := time.Now()
		_, err := converse(t.Context(), client(s, "us-east-1"), sonnet, "[[sim:input=100]][[sim:output=10]][[sim:cut]]", 20)
		if !errors.Is(err, io.ErrUnexpectedEOF) || time.Since(begin) != time.Second {
			t.Errorf("err = %v after %v", err, time.Since(begin))
		}
		if st := stats(t, s, "us-east-1", sonnet); st.Settled != 150 || st.Abandoned != 1 || st.Answered != 0 || st.InFlight != 0 {
			t.Errorf("stats = %+v", st)
		}
	})
}

func TestSlowAnswersLate(t *testing.T) {
	t.Parallel()
	for base, want := range map[time.Duration]time.Duration{0: 10 * time.Second, 3 * time.Second: 30 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := bedrocksim.New(one(bedrocksim.Model{Latency: bedrocksim.Latency{Base: base}}))
			begin := time.Now()
			if _, err := converse(t.Context(), client(s, "us-east-1"), sonnet, "[[sim:slow]]", 20); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(begin); got != want {
				t.Errorf("took %v, want %v", got, want)
			}
		})
	}
}

// TestLatencyJitters within its bounds, and the same job always alike.
func TestLatencyJitters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := bedrocksim.New(one(bedrocksim.Model{Latency: bedrocksim.Latency{Base: time.Second, Jitter: 0.2}}))
		c := client(s, "us-east-1")
		took := func(prompt string) time.Duration {
			begin := time.Now()
			if _, err := converse(t.Context(), c, sonnet, prompt, 20); err != nil {
				t.Fatal(err)
			}
			return time.Since(begin)
		}
		least, most := time.Hour, time.Duration(0)
		for i := range 200 {
			d := took(strconv.Itoa(i))
			least, most = min(least, d), max(most, d)
		}
		if least < 800*time.Millisecond || least > 820*time.Millisecond || most > 1200*time.Millisecond || most < 1180*time.Millisecond {
			t.Errorf("200 requests took %v to %v, want 0.8 to 1.2 s", least, most)
		}
		if a, b := took("again"), took("again"); a != b {
			t.Errorf("the same job took %v, then %v", a, b)
		}
	})
}

// TestInputTokens measures what the model reads: text by its bytes, media by
// their kind, settings not at all.
func TestInputTokens(t *testing.T) {
	t.Parallel()
	const media = 100_000 // bytes, base64
	data := strings.Repeat("A", media)
	tests := []struct {
		name, model, operation, body string
		want                         string
	}{
		{"text and system", nova, "converse", `{"system":[{"text":"12345678"}],"messages":[{"role":"user","content":[{"text":"1234"},{"text":"1234"}]}]}`, "4"},
		{"settings", nova, "converse", `{"requestMetadata":{"k":"long value"},"messages":[{"role":"user","content":[{"text":"1234"}]}]}`, "1"},
		{"image", nova, "converse", `{"messages":[{"role":"user","content":[{"text":"1234"},{"image":{"format":"png","source":{"bytes":"` + data + `"}}}]}]}`, "1601"},
		{"document and video", nova, "converse", `{"messages":[{"role":"user","content":[{"document":{"name":"a","source":{"bytes":"` + data + `"}}},{"video":{"source":{"bytes":"` + data + `"}}}]}]}`, "12000"},
		{"Anthropic's image", sonnet, "invoke", `{"anthropic_version":"bedrock-2023-05-31","max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"1234"},{"type":"image","source":{"data":"` + data + `"}}]}]}`, "1601"},
		{"density", nova, "converse", `{"messages":[{"role":"user","content":[{"text":"[[sim:bytes_per_token=2]] 123"}]}]}`, "15"},
	}
	s := bedrocksim.New(bedrocksim.Options{Models: map[string]bedrocksim.Model{sonnet: {}, nova: {}}})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest("POST", "/model/"+strings.ReplaceAll(tt.model, ":", "%3A")+"/"+tt.operation, strings.NewReader(tt.body)))
			var body struct {
				Usage struct {
					InputTokens int64 `json:"inputTokens"`
					Anthropic   int64 `json:"input_tokens"`
				} `json:"usage"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
				t.Fatal(err)
			}
			if got := strconv.FormatInt(body.Usage.InputTokens+body.Usage.Anthropic, 10); got != tt.want {
				t.Errorf("%s input tokens, want %s", got, tt.want)
			}
		})
	}
}

// TestOutputDistribution draws from the ranges that are set.
func TestOutputDistribution(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		model       bedrocksim.Model
		least, most int32
	}{
		{bedrocksim.Model{Output: bedrocksim.Range{Min: 450, Max: 500}}, 450, 500},
		{bedrocksim.Model{OutputPart: bedrocksim.Range{Min: 0.05, Max: 0.2}}, 50, 200},
		{bedrocksim.Model{}, 20, 400},
	} {
		c := client(bedrocksim.New(one(tt.model)), "us-east-1")
		least, most := int32(math.MaxInt32), int32(0)
		for i := range 300 {
			out, err := converse(t.Context(), c, sonnet, strconv.Itoa(i), 1000)
			if err != nil {
				t.Fatal(err)
			}
			n := aws.ToInt32(out.Usage.OutputTokens)
			least, most = min(least, n), max(most, n)
		}
		slack := (tt.most - tt.least) / 20
		if least < tt.least || least > tt.least+slack || most > tt.most || most < tt.most-slack {
			t.Errorf("%d to %d tokens, want %d to %d", least, most, tt.least, tt.most)
		}
	}
}

// TestBurndown by model, by the operator's word, and for IDs that do not tell.
func TestBurndown(t *testing.T) {
	t.Parallel()
	const profile = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"
	for id, tt := range map[string]struct {
		model bedrocksim.Model
		want  int64
	}{
		sonnet: {want: 5},
		"global.anthropic.claude-opus-4-8-20260801-v1:0": {want: 15},
		"anthropic.claude-sonnet-5-20260501-v1:0":        {want: 10},
		nova: {want: 1},
		"arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-haiku-4-5-v1:0": {want: 5},
		profile:                             {want: 1},
		"application-inference-profile/xyz": {model: bedrocksim.Model{Family: "anthropic"}, want: 5},
		"us.meta.llama4-scout-v1:0":         {model: bedrocksim.Model{Burndown: 2.5}, want: 3}, // rounded
	} {
		s := bedrocksim.New(bedrocksim.Options{Models: map[string]bedrocksim.Model{id: tt.model}})
		if _, err := converse(t.Context(), client(s, "us-east-1"), id, "[[sim:input=0]][[sim:output=1]]", 9); err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		if got := stats(t, s, "us-east-1", id).Settled; got != tt.want {
			t.Errorf("%s: one output token costs %d, want %d", id, got, tt.want)
		}
	}
}

func TestSetTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := bedrocksim.New(one(bedrocksim.Model{RPM: 60}))
		c := client(s, "us-east-1")
		ask := func(model string) error {
			_, err := converse(t.Context(), c, model, "x", 10)
			return err
		}
		if err := ask(nova); err == nil {
			t.Error("an unknown model answered")
		}
		s.Set(nova, func(m *bedrocksim.Model) {})
		if err := ask(nova); err != nil {
			t.Errorf("a model that was set: %v", err)
		}
		if err := ask(sonnet); err != nil {
			t.Error(err)
		}
		s.Set(sonnet, func(m *bedrocksim.Model) { m.Shape = bedrocksim.Bucket(time.Second) })
		if err := ask(sonnet); err != nil {
			t.Error(err)
		}
		if err := ask(sonnet); err == nil {
			t.Error("the bucket of one request admitted a second one")
		}
		s.Set(sonnet, func(m *bedrocksim.Model) {
			m.RPM = 0
			m.Faults = []bedrocksim.Fault{{Kind: bedrocksim.Internal, Rate: 1}}
		})
		if _, ok := errors.AsType[*types.InternalServerException](ask(sonnet)); !ok {
			t.Error("no fault")
		}
		s.Set(sonnet, func(m *bedrocksim.Model) {
			m.RPM, m.Faults, m.Neighbour = 60, nil, bedrocksim.Neighbour{Fraction: 0.5}
		})
		time.Sleep(time.Minute)
		if got := stats(t, s, "us-east-1", sonnet).NeighbourRequests; got != 30 {
			t.Errorf("the neighbour of 0.5 had %d requests of 60, want 30", got)
		}
	})
}

func TestReadModels(t *testing.T) {
	t.Parallel()
	got, err := bedrocksim.ReadModels(strings.NewReader(`{
		"m": {"rpm": 200, "tpm": 2e5, "tpd": 7, "shape": "bucket:1m+bucket:1s", "burndown": 5, "family": "anthropic",
			"latency": {"base": "300ms", "per_token": "15ms", "jitter": 0.2},
			"output": {"min": 50, "max": 400}, "output_part": {"min": 0.05, "max": 0.2},
			"max_tokens": 64000, "bytes_per_token": 3.5,
			"neighbour": {"fraction": 0.5, "on": "10s", "off": "20s"},
			"faults": [{"kind": "unavailable", "rate": 0.1, "from": "1m", "until": "2m"}]},
		"n": {}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bedrocksim.Model{"n": {}, "m": {
		RPM: 200, TPM: 200000, TPD: 7, Shape: behind, Burndown: 5, Family: "anthropic",
		Latency: bedrocksim.Latency{Base: 300 * time.Millisecond, PerToken: 15 * time.Millisecond, Jitter: 0.2},
		Output:  bedrocksim.Range{Min: 50, Max: 400}, OutputPart: bedrocksim.Range{Min: 0.05, Max: 0.2},
		MaxTokens: 64000, BytesPerToken: 3.5,
		Neighbour: bedrocksim.Neighbour{Fraction: 0.5, On: 10 * time.Second, Off: 20 * time.Second},
		Faults:    []bedrocksim.Fault{{Kind: bedrocksim.Unavailable, Rate: 0.1, From: time.Minute, Until: 2 * time.Minute}},
	}}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b bedrocksim.Shape) bool { return slices.Equal(a, b) })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, bad := range []string{
		`{"m": {"rmp": 1}}`, `{"m": {"latency": {"bsae": "1s"}}}`, `{"m": {"latency": {"base": 1}}}`,
		`{"m": {"shape": "minute"}}`, `{"m": {"neighbour": {"part": 1}}}`, `{"m": {"faults": [{"kind": "flood"}]}}`, `[]`, ``,
		`{"m": {"faults": [{"kind": "hang", "rate": 1.5}]}}`, `{"m": {"rpm": -1}}`, `{"m": {"neighbour": {"fraction": -1}}}`, `{} {}`,
	} {
		if _, err := bedrocksim.ReadModels(strings.NewReader(bad)); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

func TestSetInMidRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := bedrocksim.New(one(bedrocksim.Model{RPM: 4}))
		admitted := func(region string) (n int) {
			for range 20 {
				if _, err := converse(t.Context(), client(s, region), sonnet, "x", 10); err == nil {
					n++
				}
			}
			return n
		}
		got := []int{admitted("us-east-1")}
		s.Set(sonnet, func(m *bedrocksim.Model) { m.RPM = 10 })
		got = append(got, admitted("us-east-1"), admitted("us-west-2"))
		s.Set(sonnet, func(m *bedrocksim.Model) { m.RPM = 12 }, "us-west-2")
		got = append(got, admitted("us-east-1"), admitted("us-west-2"))
		if diff := cmp.Diff([]int{4, 6, 10, 0, 2}, got); diff != "" {
			t.Errorf("admitted (-want +got):\n%s", diff)
		}
	})
}

// TestCountsJobs tells one body from another, across models and Regions.
func TestCountsJobs(t *testing.T) {
	t.Parallel()
	s := bedrocksim.New(bedrocksim.Options{Models: map[string]bedrocksim.Model{sonnet: {}, nova: {}}})
	for _, ask := range []struct{ region, model, prompt string }{
		{"us-east-1", sonnet, "first"}, {"us-east-1", sonnet, "second"}, {"us-east-1", sonnet, "first"},
		{"us-west-2", sonnet, "second"}, {"us-east-1", nova, "third"}, {"us-east-1", nova, "first"},
	} {
		if _, err := converse(t.Context(), client(s, ask.region), ask.model, ask.prompt, 10); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := converse(t.Context(), client(s, "us-east-1"), nova, "[[sim:garbage]]", 10); err == nil {
			t.Fatal("garbage was understood")
		}
	}
	type counts struct{ Jobs, Repeats int64 }
	got := map[string]counts{}
	for key, st := range s.Stats() {
		got[key.Region+" "+key.ModelID] = counts{st.Jobs, st.Repeats}
	}
	want := map[string]counts{
		"us-east-1 " + sonnet: {2, 1}, "us-west-2 " + sonnet: {0, 1}, "us-east-1 " + nova: {1, 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSeesTheSDKsOwnRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := bedrocksim.New(one(bedrocksim.Model{RPM: 1}))
		c := bedrockruntime.New(bedrockruntime.Options{
			Region: "us-east-1", BaseEndpoint: aws.String("http://bedrock.test"), HTTPClient: memory{s},
			Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
		})
		for range 2 {
			converse(t.Context(), c, sonnet, "x", 10) // the second is refused three times
		}
		if st := stats(t, s, "us-east-1", sonnet); st.Requests != 4 || st.Retries != 2 {
			t.Errorf("%d requests, %d of them the SDK's retries; want 4, 2", st.Requests, st.Retries)
		}
	})
}

func TestConcurrencyAndSeries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := bedrocksim.New(one(bedrocksim.Model{RPM: 8, Latency: bedrocksim.Latency{Base: 2 * time.Second}}))
		c := client(s, "us-east-1")
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() { converse(t.Context(), c, sonnet, fmt.Sprintf("[[sim:input=10]][[sim:output=2]] %d", i), 10) })
		}
		wg.Wait()
		st := stats(t, s, "us-east-1", sonnet)
		if st.MaxInFlight != 8 || st.InFlight != 0 {
			t.Errorf("max in flight %d, in flight %d; want 8, 0", st.MaxInFlight, st.InFlight)
		}
		want := []bedrocksim.Second{{At: 0, Accepted: 8, Throttled: 2}, {At: 2, Answered: 8, Settled: 8 * 20}}
		if diff := cmp.Diff(want, st.Series); diff != "" {
			t.Errorf("series (-want +got):\n%s", diff)
		}
		if _, err := json.Marshal(s.Stats()); err != nil {
			t.Error(err)
		}
	})
}

func TestOtherOperations(t *testing.T) {
	t.Parallel()
	s := bedrocksim.New(one(bedrocksim.Model{}))
	_, err := client(s, "us-east-1").ConverseStream(t.Context(), &bedrockruntime.ConverseStreamInput{
		ModelId: aws.String(sonnet), AdditionalModelRequestFields: document.NewLazyDocument(map[string]any{}),
	})
	if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "UnknownOperationException" {
		t.Errorf("err = %v", err)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("GET / = %d", w.Code)
	}
}

func BenchmarkConverse(b *testing.B) {
	s := bedrocksim.New(one(bedrocksim.Model{}))
	body := `{"messages":[{"role":"user","content":[{"text":"` + strings.Repeat("word ", 200) + `"}]}],"inferenceConfig":{"maxTokens":100}}`
	path := "/model/" + strings.ReplaceAll(sonnet, ":", "%3A") + "/converse"
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(body)))
		if w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
}
