package bedrock_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/bedrock"
	"github.com/sluicehq/sluice/job"
)

var route = job.Route{Region: "eu-west-1", ModelID: "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"}

var request = []byte(`{"messages": [{"role":"user","content":[{"text":"<é>"}]}], "fieldOfTomorrow": 1e400}`)

// memory is a transport without a network, for bubbles.
type memory func(http.ResponseWriter, *http.Request)

func (m memory) Do(r *http.Request) (*http.Response, error) {
	done := make(chan *http.Response, 1)
	go func() {
		w := httptest.NewRecorder()
		m(w, r)
		done <- w.Result()
	}()
	select {
	case response := <-done:
		return response, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func configuration(endpoint string, client aws.HTTPClient) aws.Config {
	return aws.Config{
		Region:       "us-east-1",
		Credentials:  credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		BaseEndpoint: &endpoint,
		HTTPClient:   client,
	}
}

func clientOf(t *testing.T, cfg aws.Config) *bedrock.Client {
	t.Helper()
	c, err := bedrock.New(cfg, bedrock.Options{MaxInFlight: 64})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serve returns a client of a server on loopback.
func serve(t *testing.T, handler http.HandlerFunc) *bedrock.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return clientOf(t, configuration(server.URL, nil))
}

func failure(t *testing.T, err error) *job.Failure {
	t.Helper()
	f, ok := errors.AsType[*job.Failure](err)
	if !ok {
		t.Fatalf("error %v (%T), want a *job.Failure", err, err)
	}
	return f
}

func TestInvokeCarriesBytes(t *testing.T) {
	t.Parallel()
	const reply = `{"usage": {"inputTokens":7,"outputTokens":2}, "output":{"unknown":[{"member":"<é>"}]}, "n": 1e400}` + "\n"
	for _, kind := range []job.Kind{job.Converse, job.Invoke} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			var got *http.Request
			var body []byte
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				got = r
				body, _ = io.ReadAll(r.Body)
				w.Header().Set("X-Amzn-RequestId", "rid-1")
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, reply)
			})
			answer, err := c.Invoke(t.Context(), route, kind, request)
			if err != nil {
				t.Fatal(err)
			}
			want := job.Answer{
				Output: json.RawMessage(reply), Metered: true, RequestID: "rid-1",
				Usage: job.Usage{InputTokens: 7, OutputTokens: 2},
			}
			if diff := cmp.Diff(want, answer); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if !bytes.Equal(body, request) {
				t.Errorf("body %s, want %s", body, request)
			}
			if want := "/model/eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0/" + string(kind); got.URL.EscapedPath() != want {
				t.Errorf("path %s, want %s", got.URL.EscapedPath(), want)
			}
			for name, want := range map[string]string{"Content-Type": "application/json", "Accept": "application/json"} {
				if got.Header.Get(name) != want {
					t.Errorf("%s %q, want %q", name, got.Header.Get(name), want)
				}
			}
			if got.ContentLength != int64(len(request)) {
				t.Errorf("Content-Length %d, want %d", got.ContentLength, len(request))
			}
			if scope := "/eu-west-1/bedrock/aws4_request"; !strings.Contains(got.Header.Get("Authorization"), scope) {
				t.Errorf("signature %q, want the scope %s", got.Header.Get("Authorization"), scope)
			}
		})
	}
}

func TestInvokeEscapesARN(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abc"
	var path atomic.Value
	mux := http.NewServeMux()
	mux.HandleFunc("POST /model/{id}/invoke", func(w http.ResponseWriter, r *http.Request) {
		path.Store(r.PathValue("id"))
		fmt.Fprint(w, `{}`)
	})
	c := serve(t, mux.ServeHTTP)
	answer, err := c.Invoke(t.Context(), job.Route{Region: "us-east-1", ModelID: arn}, job.Invoke, request)
	if err != nil {
		t.Fatal(err)
	}
	if path.Load() != arn || answer.Metered {
		t.Errorf("asked for %v (metered %v), want %s, unmetered", path.Load(), answer.Metered, arn)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	headers := map[string]string{
		"X-Amzn-Bedrock-Input-Token-Count":             "11",
		"X-Amzn-Bedrock-Output-Token-Count":            "12",
		"X-Amzn-Bedrock-Cache-Read-Input-Token-Count":  "13",
		"X-Amzn-Bedrock-Cache-Write-Input-Token-Count": "14",
	}
	tests := []struct {
		name    string
		model   string // a Claude where empty
		kind    job.Kind
		body    string
		headers map[string]string
		want    job.Usage
		metered bool
	}{
		{
			name: "Converse", kind: job.Converse, metered: true,
			body: `{"usage":{"inputTokens":7,"outputTokens":2,"totalTokens":21,"cacheReadInputTokens":8,"cacheWriteInputTokens":4}}`,
			want: job.Usage{InputTokens: 7, OutputTokens: 2, CacheReadTokens: 8, CacheWriteTokens: 4},
		},
		{
			name: "Anthropic", kind: job.Invoke, metered: true,
			body: `{"usage":{"input_tokens":7,"output_tokens":2,"cache_read_input_tokens":8,"cache_creation_input_tokens":4}}`,
			want: job.Usage{InputTokens: 7, OutputTokens: 2, CacheReadTokens: 8, CacheWriteTokens: 4},
		},
		{
			name: "Nova", kind: job.Invoke, metered: true, model: "amazon.nova-lite-v1:0",
			body: `{"usage":{"inputTokens":7,"outputTokens":2,"totalTokens":9,"cacheReadInputTokenCount":1,"cacheWriteInputTokenCount":3}}`,
			want: job.Usage{InputTokens: 7, OutputTokens: 2, CacheReadTokens: 1, CacheWriteTokens: 3},
		},
		{
			name: "Llama", kind: job.Invoke, metered: true, model: "meta.llama3-3-70b-instruct-v1:0",
			body: `{"generation":"x","prompt_token_count":7,"generation_token_count":2,"stop_reason":"stop"}`,
			want: job.Usage{InputTokens: 7, OutputTokens: 2},
		},
		{
			name: "Titan text", kind: job.Invoke, metered: true, model: "amazon.titan-text-express-v1",
			body: `{"inputTextTokenCount":7,"results":[{"tokenCount":2},{"tokenCount":3}]}`,
			want: job.Usage{InputTokens: 7, OutputTokens: 5},
		},
		{
			name: "Titan embedding", kind: job.Invoke, metered: true, model: "amazon.titan-embed-text-v2:0",
			body: `{"embedding":[0.1],"inputTextTokenCount":7}`,
			want: job.Usage{InputTokens: 7},
		},
		{
			name: "OpenAI", kind: job.Invoke, metered: true, model: "openai.gpt-oss-120b-1:0",
			body: `{"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":4}}}`,
			want: job.Usage{InputTokens: 5, OutputTokens: 2, CacheReadTokens: 4},
		},
		{
			name: "Mistral by headers", kind: job.Invoke, metered: true, model: "mistral.mistral-large-2407-v1:0",
			body: `{"outputs":[{"text":"x"}]}`, headers: headers,
			want: job.Usage{InputTokens: 11, OutputTokens: 12, CacheReadTokens: 13, CacheWriteTokens: 14},
		},
		{
			name: "the body before the headers", kind: job.Invoke, metered: true, headers: headers,
			body: `{"usage":{"input_tokens":7,"output_tokens":2,"cache_read_input_tokens":0}}`,
			want: job.Usage{InputTokens: 7, OutputTokens: 2, CacheWriteTokens: 14},
		},
		{
			name: "Cohere embedding by header", kind: job.Invoke, metered: true, model: "cohere.embed-v4:0",
			body: `{"embeddings":[]}`, headers: map[string]string{"X-Amzn-Bedrock-Input-Token-Count": "11"},
			want: job.Usage{InputTokens: 11},
		},
		{
			name: "output untold", kind: job.Invoke, model: "mistral.mistral-large-2407-v1:0",
			body: `{"outputs":[]}`, headers: map[string]string{"X-Amzn-Bedrock-Input-Token-Count": "11"},
			want: job.Usage{InputTokens: 11},
		},
		{name: "none", kind: job.Invoke, model: "stability.stable-image-ultra-v1:1", body: `{"images":["AAAA"]}`},
		{name: "not an object", kind: job.Invoke, body: `[1]`},
		{
			name: "wrong types", kind: job.Converse, metered: true, headers: headers,
			body: `{"usage":{"inputTokens":"7","outputTokens":-1,"cacheReadInputTokens":1}}`,
			want: job.Usage{InputTokens: 11, OutputTokens: 12, CacheReadTokens: 1, CacheWriteTokens: 14},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				for name, value := range test.headers {
					w.Header().Set(name, value)
				}
				fmt.Fprint(w, test.body)
			})
			r := route
			if test.model != "" {
				r.ModelID = test.model
			}
			answer, err := c.Invoke(t.Context(), r, test.kind, request)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, answer.Usage); diff != "" {
				t.Errorf("usage (-want +got):\n%s", diff)
			}
			if answer.Metered != test.metered {
				t.Errorf("metered %v, want %v", answer.Metered, test.metered)
			}
		})
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	const html = "<html><body>Bad Gateway</body></html>"
	type headers map[string]string
	message := func(text string) string { return `{"message":"` + text + `"}` }
	typed := func(name string) headers { return headers{"X-Amzn-ErrorType": name} }
	tests := []struct {
		name    string
		status  int
		headers headers
		body    string
		want    job.Failure // RequestID and Message are compared apart
	}{
		{"requests", 429, typed("ThrottlingException"), message("Too many requests, please wait before trying again."), job.Failure{Reason: job.Throttled, Code: "ThrottlingException", Cause: "requests"}},
		{"rate", 429, typed("ThrottlingException"), message("Your request rate is too high. Reduce the frequency of requests."), job.Failure{Reason: job.Throttled, Code: "ThrottlingException", Cause: "requests"}},
		{"tokens", 429, typed("ThrottlingException"), message("Too many tokens, please wait before trying again."), job.Failure{Reason: job.Throttled, Code: "ThrottlingException", Cause: "tokens"}},
		{"day", 429, typed("ThrottlingException"), message("Too many tokens per day, please wait before trying again."), job.Failure{Reason: job.Exhausted, Code: "ThrottlingException", Cause: "day"}},
		{"unknown limit", 429, typed("ThrottlingException"), message("Slow down."), job.Failure{Reason: job.Throttled, Code: "ThrottlingException"}},
		{"type in the body only", 429, nil, `{"__type":"com.amazon.bedrock#ThrottlingException","message":"Too many tokens."}`, job.Failure{Reason: job.Throttled, Code: "ThrottlingException", Cause: "tokens"}},
		{"type in the header only", 429, typed("ThrottlingException:http://internal.amazon.com/coral/"), "", job.Failure{Reason: job.Throttled, Code: "ThrottlingException"}},
		{"type in the header of a page", 503, typed("ServiceUnavailableException"), html, job.Failure{Reason: job.Unavailable, Code: "ServiceUnavailableException"}},
		{"un-typed 429", 429, nil, "", job.Failure{Reason: job.Throttled, Code: "http_429"}},
		{"un-typed 429 with a page", 429, nil, html, job.Failure{Reason: job.Throttled, Code: "http_429"}},
		{"un-typed 429 with a message", 429, nil, message("Too many tokens per day"), job.Failure{Reason: job.Exhausted, Code: "http_429", Cause: "day"}},
		{"unknown type 429", 429, typed("SomethingNew"), message("x"), job.Failure{Reason: job.Throttled, Code: "SomethingNew"}},
		{"quota exceeded", 400, typed("ServiceQuotaExceededException"), message("Your request exceeds the service quota for your account."), job.Failure{Reason: job.Throttled, Code: "ServiceQuotaExceededException"}},

		{"not ready", 429, typed("ModelNotReadyException"), message("Model is not ready for inference."), job.Failure{Reason: job.Unavailable, Code: "ModelNotReadyException"}},
		{"503", 503, typed("ServiceUnavailableException"), message("Bedrock is unable to process your request."), job.Failure{Reason: job.Unavailable, Code: "ServiceUnavailableException"}},
		{"503 that sounds like a throttle", 503, typed("ServiceUnavailableException"), message("Too many connections, please wait before trying again."), job.Failure{Reason: job.Unavailable, Code: "ServiceUnavailableException"}},
		{"un-typed 503 that sounds like a throttle", 503, nil, message("Too many requests per day"), job.Failure{Reason: job.Unavailable, Code: "http_503"}},
		{"500", 500, typed("InternalServerException"), message("x"), job.Failure{Reason: job.Unavailable, Code: "InternalServerException"}},
		{"502 of a proxy", 502, nil, html, job.Failure{Reason: job.Unavailable, Code: "http_502"}},
		{"424", 424, typed("ModelErrorException"), `{"message":"x","originalStatusCode":400,"resourceName":"r"}`, job.Failure{Reason: job.Unavailable, Code: "ModelErrorException"}},
		{"424 malformed", 424, typed("ModelErrorException"), `{"message":"x","originalStatusCode":"400"}`, job.Failure{Reason: job.Unavailable, Code: "http_424"}},
		{"408", 408, typed("ModelTimeoutException"), message("x"), job.Failure{Reason: job.Unavailable, Code: "ModelTimeoutException", Timeout: true}},
		{"un-typed 408", 408, nil, "", job.Failure{Reason: job.Unavailable, Code: "http_408", Timeout: true}},
		{"529", 529, headers{"X-Amzn-ErrorType": "overloaded_error", "Retry-After": "2"}, message("Overloaded"), job.Failure{Reason: job.Unavailable, Code: "overloaded_error", RetryAfter: 2 * time.Second}},
		{"redirect", 301, headers{"Location": "https://example.com/"}, "", job.Failure{Reason: job.Unavailable, Code: "http_301"}},
		{"teapot", 418, typed("Teapot"), message("x"), job.Failure{Reason: job.Unavailable, Code: "Teapot"}},

		{"validation", 400, typed("ValidationException"), message("messages: at least one message is required"), job.Failure{Reason: job.Rejected, Code: "ValidationException"}},
		{"un-typed 400", 400, nil, "", job.Failure{Reason: job.Rejected, Code: "http_400"}},
		{"a rejection that quotes", 400, typed("ValidationException"), message("tools.0.name: get_account_access is too long"), job.Failure{Reason: job.Rejected, Code: "ValidationException"}},
		{"too long", 400, typed("ValidationException"), message("Input is too long for requested model."), job.Failure{Reason: job.Rejected, Code: "ValidationException"}},
		{"404", 404, typed("ResourceNotFoundException"), message("The guardrail does not exist."), job.Failure{Reason: job.Rejected, Code: "ResourceNotFoundException"}},
		{"404 of something else", 404, nil, "404 page not found", job.Failure{Reason: job.Unavailable, Code: "http_404"}},
		{"413", 413, nil, html, job.Failure{Reason: job.Rejected, Code: "http_413"}},

		{"denied", 403, typed("AccessDeniedException"), message("You don't have access to the model with the specified model ID."), job.Failure{Reason: job.Unauthorized, Code: "AccessDeniedException"}},
		{"un-typed 403", 403, nil, html, job.Failure{Reason: job.Unauthorized, Code: "http_403"}},
		{"expired token", 403, typed("ExpiredTokenException"), message("The security token included in the request is expired"), job.Failure{Reason: job.Unauthorized, Code: "ExpiredTokenException"}},
		{"unrecognized client", 403, typed("UnrecognizedClientException"), message("x"), job.Failure{Reason: job.Unauthorized, Code: "UnrecognizedClientException"}},
		{"incomplete signature", 400, typed("IncompleteSignature"), message("x"), job.Failure{Reason: job.Unauthorized, Code: "IncompleteSignature"}},
		{"request expired", 400, typed("RequestExpired"), message("x"), job.Failure{Reason: job.Unauthorized, Code: "RequestExpired"}},
		{"not authorized", 400, typed("NotAuthorized"), message("x"), job.Failure{Reason: job.Unauthorized, Code: "NotAuthorized"}},
		{"use-case form", 404, typed("FTUFormNotFilled"), message("x"), job.Failure{Reason: job.Unauthorized, Code: "FTUFormNotFilled"}},
		{"use-case form by its text", 404, typed("ResourceNotFoundException"), message("Model use case details have not been submitted for this account."), job.Failure{Reason: job.Unauthorized, Code: "ResourceNotFoundException"}},
		{"unverified account", 400, typed("ValidationException"), message("Operation not allowed"), job.Failure{Reason: job.Unauthorized, Code: "ValidationException"}},
		{"on-demand", 400, typed("ValidationException"), message("Invocation of model ID x with on-demand throughput isn’t supported."), job.Failure{Reason: job.Unauthorized, Code: "ValidationException"}},
		{"model ID", 400, typed("ValidationException"), message("The provided model identifier is invalid."), job.Failure{Reason: job.Unauthorized, Code: "ValidationException"}},
		{"legacy", 404, typed("ResourceNotFoundException"), message("Access denied. This Model is marked by provider as Legacy"), job.Failure{Reason: job.Unauthorized, Code: "ResourceNotFoundException"}},
		{"end of life", 404, typed("ResourceNotFoundException"), message("This model version has reached the end of its life."), job.Failure{Reason: job.Unauthorized, Code: "ResourceNotFoundException"}},

		{"no JSON", 200, nil, html, job.Failure{Reason: job.Unavailable, Code: "not_json"}},
		{"nothing", 200, nil, "", job.Failure{Reason: job.Unavailable, Code: "not_json"}},
		{"half a body", 200, headers{"Content-Length": "100"}, `{"output":`, job.Failure{Reason: job.Unavailable, Code: "network"}},
		{"half an error", 429, headers{"X-Amzn-ErrorType": "ThrottlingException", "Content-Length": "100"}, `{"message":`, job.Failure{Reason: job.Throttled, Code: "ThrottlingException"}},
		{"no UTF-8", 200, nil, "{\"output\":\"\xff\"}", job.Failure{Reason: job.Unavailable, Code: "not_json"}},
		{"a page as the type", 400, typed("a prompt, quoted"), message("x"), job.Failure{Reason: job.Rejected, Code: "http_400"}},

		{"Retry-After in seconds", 429, headers{"Retry-After": "7"}, "", job.Failure{Reason: job.Throttled, Code: "http_429", RetryAfter: 7 * time.Second}},
		{"x-amz-retry-after", 429, headers{"X-Amz-Retry-After": "1500"}, "", job.Failure{Reason: job.Throttled, Code: "http_429", RetryAfter: 1500 * time.Millisecond}},
		{"Retry-After as a date", 503, headers{"Date": "Mon, 23 Nov 2026 06:00:00 GMT", "Retry-After": "Mon, 23 Nov 2026 06:01:00 GMT"}, "", job.Failure{Reason: job.Unavailable, Code: "http_503", RetryAfter: time.Minute}},
		{"Retry-After in the past", 503, headers{"Date": "Mon, 23 Nov 2026 06:00:00 GMT", "Retry-After": "Mon, 23 Nov 2026 05:00:00 GMT"}, "", job.Failure{Reason: job.Unavailable, Code: "http_503"}},
		{"Retry-After out of bounds", 503, headers{"Retry-After": "9223372036854775807"}, "", job.Failure{Reason: job.Unavailable, Code: "http_503", RetryAfter: 24 * time.Hour}},
		{"Retry-After unreadable", 503, headers{"Retry-After": "soon"}, "", job.Failure{Reason: job.Unavailable, Code: "http_503"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				for name, value := range test.headers {
					w.Header().Set(name, value)
				}
				w.Header().Set("X-Amzn-RequestId", "rid-1")
				w.WriteHeader(test.status)
				fmt.Fprint(w, test.body)
			})
			for n, kind := range []job.Kind{job.Converse, job.Invoke} {
				_, err := c.Invoke(t.Context(), route, kind, request)
				got := *failure(t, err)
				if got.RequestID != "rid-1" {
					t.Errorf("%s: request ID %q", kind, got.RequestID)
				}
				got.RequestID, got.Message = "", ""
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", kind, diff)
				}
				if calls.Load() != int32(n+1) {
					t.Errorf("%s: %d calls in all, want %d: the SDK retried", kind, calls.Load(), n+1)
				}
			}
		})
	}
}

func TestMessageGoesToResultsOnly(t *testing.T) {
	t.Parallel()
	const text = "messages.0: 'a prompt' is too long"
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Amzn-ErrorType", "ValidationException")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"message":%q}`, text)
	})
	_, err := c.Invoke(t.Context(), route, job.Converse, request)
	if got := failure(t, err).Message; got != text {
		t.Errorf("message %q, want %q", got, text)
	}
	if got := err.Error(); strings.Contains(got, "prompt") || got != "rejected: ValidationException" {
		t.Errorf("error text %q", got)
	}
}

func TestNoNetwork(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close() // nobody listens there any more
	_, err := clientOf(t, configuration(server.URL, nil)).Invoke(t.Context(), route, job.Converse, request)
	if f := failure(t, err); f.Reason != job.Unavailable || f.Code != "network" || f.Timeout {
		t.Errorf("%+v, want unavailable: network", f)
	}
}

func TestNoCredentials(t *testing.T) {
	t.Parallel()
	cfg := configuration("http://127.0.0.1:1", memory(func(http.ResponseWriter, *http.Request) {
		t.Error("a request was sent without credentials")
	}))
	cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{}, errors.New("no role found")
	})
	_, err := clientOf(t, cfg).Invoke(t.Context(), route, job.Converse, request)
	if f := failure(t, err); f.Reason != job.Unauthorized || f.Code != "credentials" {
		t.Errorf("%+v, want unauthorized: credentials", f)
	}
}

func TestContext(t *testing.T) {
	t.Parallel()
	hang := memory(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	trickle := memory(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"output":`); <-r.Context().Done() })

	for name, transport := range map[string]memory{"hang": hang, "trickle": trickle} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := clientOf(t, configuration("http://bedrock.test", transport))

				ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
				defer cancel()
				start := time.Now()
				_, err := c.Invoke(ctx, route, job.Converse, request)
				if f := failure(t, err); f.Reason != job.Unavailable || f.Code != "timeout" || !f.Timeout {
					t.Errorf("%+v, want unavailable: timeout", f)
				}
				if took := time.Since(start); took != 15*time.Minute {
					t.Errorf("took %v: the context's deadline is the only one", took)
				}

				ctx, stop := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, stop)
				_, err = c.Invoke(ctx, route, job.Converse, request)
				if _, ok := errors.AsType[*job.Failure](err); ok || !errors.Is(err, context.Canceled) {
					t.Errorf("error %v, want context.Canceled and no failure", err)
				}
			})
		})
	}
}

func TestAnswerIsBounded(t *testing.T) {
	t.Parallel()
	c := clientOf(t, configuration("http://bedrock.test", memory(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(bytes.Repeat([]byte(" "), 33<<20))
	})))
	_, err := c.Invoke(t.Context(), route, job.Invoke, request)
	if f := failure(t, err); f.Reason != job.Rejected || f.Code != "too_large" {
		t.Errorf("%+v, want rejected: too_large", f)
	}
}

// The variables of the environment that a host may have set must neither break
// the client nor make it retry.
func TestEnvironment(t *testing.T) {
	var calls atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if r.Header.Get("Authorization") != "Bearer token" {
			t.Errorf("authorization %q", r.Header.Get("Authorization"))
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	roots := filepath.Join(t.TempDir(), "roots.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(roots, block, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"AWS_CA_BUNDLE":                       roots,
		"AWS_ENDPOINT_URL_BEDROCK_RUNTIME":    server.URL,
		"AWS_MAX_ATTEMPTS":                    "5",
		"AWS_NEW_RETRIES_2026":                "true",
		"AWS_BEARER_TOKEN_BEDROCK":            "token",
		"AWS_REGION":                          "us-east-1",
		"AWS_ACCESS_KEY_ID":                   "AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY":               "secret",
		"AWS_CONFIG_FILE":                     os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE":         os.DevNull,
		"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
	} {
		t.Setenv(name, value)
	}
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = clientOf(t, cfg).Invoke(t.Context(), route, job.Converse, request)
	if f := failure(t, err); f.Code != "http_503" || calls.Load() != 1 {
		t.Errorf("%+v (%s) after %d calls, want one 503", f, f.Message, calls.Load())
	}

	t.Setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "http://127.0.0.1:4567")
	cfg, err = config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bedrock.New(cfg, bedrock.Options{}); err == nil || !strings.Contains(err.Error(), "AWS_BEARER_TOKEN_BEDROCK") {
		t.Errorf("error %v, want one that names the variable", err)
	}
}

// With the SDK's ten idle connections a host, each round of calls would open
// most of its connections anew.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	const inFlight = 48
	var opened atomic.Int32
	arrived := make(chan struct{}, inFlight)
	leave := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-leave
		fmt.Fprint(w, `{}`)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	c := clientOf(t, configuration(server.URL, nil))
	for range 3 {
		var calls sync.WaitGroup
		for range inFlight {
			calls.Go(func() {
				if _, err := c.Invoke(t.Context(), route, job.Converse, request); err != nil {
					t.Error(err)
				}
			})
		}
		for range inFlight {
			<-arrived
		}
		for range inFlight {
			leave <- struct{}{}
		}
		calls.Wait()
	}
	// A connection may still be on its way back to the pool when the next round
	// begins.
	if n := opened.Load(); n > inFlight*3/2 {
		t.Errorf("%d connections opened for %d calls at once", n, inFlight)
	}
}

func TestNoRedirectIsFollowed(t *testing.T) {
	t.Parallel()
	var asked int
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	_, err := c.Invoke(t.Context(), route, job.Converse, request)
	if f := failure(t, err); f.Reason != job.Unavailable || asked != 1 {
		t.Errorf("%v, asked %d times; want it unavailable at once", f, asked)
	}
}

// brittle is a connection that takes nothing more once it is broken.
type brittle struct {
	net.Conn
	broken *atomic.Bool
}

func (c brittle) Write(b []byte) (int, error) {
	if c.broken.Load() {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(b)
}

// A request of which nothing was sent, because its connection had died idle, is
// sent on another one: Bedrock has seen none of it.
func TestAConnectionThatDiedIdle(t *testing.T) {
	t.Parallel()
	var asked, dialled int
	var broken atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, `{"usage":{"inputTokens":1,"outputTokens":1}}`)
	}))
	t.Cleanup(server.Close)
	c := clientOf(t, configuration(server.URL, awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) {
		tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if dialled++; dialled == 1 {
				return brittle{conn, &broken}, err
			}
			return conn, err
		}
	})))
	for i := range 2 {
		if _, err := c.Invoke(t.Context(), route, job.Converse, request); err != nil {
			t.Errorf("request %d: %v, %s", i, err, failure(t, err).Message)
		}
		broken.Store(true)
	}
	if asked != 2 || dialled != 2 {
		t.Errorf("asked %d times over %d connections, want 2 and 2", asked, dialled)
	}
}
