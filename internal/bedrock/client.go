// Package bedrock invokes models: raw JSON in, raw JSON out, with the usage that
// the response told and every error classified once, by type, then status, then
// message. It does not retry, pace, or know which models are configured: that is
// the worker's, which calls it through its Model port. It may import job and the
// AWS SDK.
//
// Requests and responses pass by the typed client of the SDK as bytes
// (exchange.go): endpoint, credentials, signature and error types are the SDK's,
// and a field that AWS adds tomorrow works today.
package bedrock

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"

	"github.com/sluicehq/sluice/job"
)

// Options is what the configuration says about a Client.
type Options struct {
	// MaxInFlight is the most invocations at once. The SDK keeps ten idle
	// connections a host, so that with more in flight every other call would
	// shake hands again.
	MaxInFlight int
}

// Client invokes models in any Region. It is safe for concurrent use.
type Client struct {
	cfg aws.Config

	mu      sync.Mutex
	regions map[string]*bedrockruntime.Client // guarded by mu
}

// errBearer is what would otherwise fail each call, one by one.
var errBearer = errors.New("AWS_BEARER_TOKEN_BEDROCK is set and the Bedrock endpoint is plain http, which the SDK " +
	"refuses: unset the variable, or use an https endpoint")

// New returns a client with cfg's endpoint and credentials. An HTTP client that
// cfg already holds is kept, with more idle connections where it is the SDK's
// own. The one error is a bearer token that could only travel in the clear.
func New(cfg aws.Config, o Options) (*Client, error) {
	cfg = cfg.Copy()
	cfg.HTTPClient = pooled(cfg.HTTPClient, o.MaxInFlight)
	c := &Client{cfg: cfg, regions: make(map[string]*bedrockruntime.Client)}

	resolved := c.region(cfg.Region).Options()
	bearer := len(resolved.AuthSchemePreference) > 0 && resolved.AuthSchemePreference[0] == "httpBearerAuth"
	if bearer && resolved.BaseEndpoint != nil && strings.HasPrefix(*resolved.BaseEndpoint, "http://") {
		return nil, errBearer
	}
	return c, nil
}

// buffer is what each connection holds for reading and for writing, in bytes,
// while the model works: a header's worth. Larger bodies pass it by.
const buffer = 2 << 10

// pooled gives the SDK's HTTP client room for n idle connections. It is copied
// rather than made anew, because the configuration may have put the roots of
// AWS_CA_BUNDLE into it. No timeout is set: a context's deadline is the only one.
// A redirect is an answer like others: a prompt goes to the endpoint only.
func pooled(client aws.HTTPClient, n int) aws.HTTPClient {
	if client == nil {
		client = awshttp.NewBuildableClient()
	}
	buildable, ok := client.(*awshttp.BuildableClient)
	if !ok {
		return client
	}
	t := buildable.GetTransport()
	t.ReadBufferSize, t.WriteBufferSize = buffer, buffer
	t.MaxIdleConns = max(t.MaxIdleConns, n)
	t.MaxIdleConnsPerHost = max(t.MaxIdleConnsPerHost, n)
	t.MaxConnsPerHost = max(t.MaxConnsPerHost, n)
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// region returns the client of a Region, making it at its first use.
func (c *Client) region(name string) *bedrockruntime.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	client, ok := c.regions[name]
	if !ok {
		client = bedrockruntime.NewFromConfig(c.cfg, func(o *bedrockruntime.Options) {
			o.Region = name
			// A retry inside the SDK is a request that no ledger granted.
			o.Retryer = aws.NopRetryer{}
		})
		c.regions[name] = client
	}
	return client
}

// Invoke sends one request, once. Its error is a *job.Failure, or wraps
// context.Canceled where ctx was cancelled before the answer was complete. The
// deadline of ctx is the model's time-out.
func (c *Client) Invoke(ctx context.Context, r job.Route, k job.Kind, request []byte) (job.Answer, error) {
	x := &exchange{request: request}
	err := c.send(ctx, r, k, x)
	switch {
	case x.whole && x.status/100 == 2:
		return x.answer(r.ModelID)
	case !x.whole && errors.Is(ctx.Err(), context.Canceled):
		return job.Answer{}, fmt.Errorf("invoke %s in %s: %w", r.ModelID, r.Region, ctx.Err())
	case x.sent && !x.whole && ctx.Err() != nil:
		return job.Answer{}, &job.Failure{
			Reason: job.Unavailable, Code: "timeout", Timeout: true, RequestID: x.requestID(),
			Message: "the model did not answer within its time-out",
		}
	}
	return job.Answer{}, x.failure(err)
}

// send has the SDK make and sign the request, sends it, and has the SDK read the
// reply where it is an error. While the model works nothing of the SDK stands on
// the stack or in memory: its steps hold some 30 KiB for a request, and there
// are a thousand in flight for minutes.
func (c *Client) send(ctx context.Context, r job.Route, k job.Kind, x *exchange) error {
	signed := make(chan error) // from a stack of its own, or this one would have grown for it
	go func() { signed <- c.operate(ctx, r, k, x) }()
	if err := <-signed; x.signed == nil {
		return err
	}
	if err := x.perform(ctx, c.cfg.HTTPClient); err != nil || x.status/100 == 2 {
		return err
	}
	return c.operate(ctx, r, k, x)
}

// operate is the SDK's operation, with the exchange in place of the network.
func (c *Client) operate(ctx context.Context, r job.Route, k job.Kind, x *exchange) error {
	raw := func(o *bedrockruntime.Options) {
		o.APIOptions = append(o.APIOptions, x.install)
		o.HTTPClient = x
	}
	if k == job.Converse {
		_, err := c.region(r.Region).Converse(ctx, &bedrockruntime.ConverseInput{ModelId: &r.ModelID}, raw)
		return err
	}
	_, err := c.region(r.Region).InvokeModel(ctx, &bedrockruntime.InvokeModelInput{ModelId: &r.ModelID}, raw)
	return err
}
