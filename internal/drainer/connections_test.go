package drainer_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"github.com/sluicehq/sluice/internal/config"
	"github.com/sluicehq/sluice/internal/drainer"
	"github.com/sluicehq/sluice/internal/localaws"
)

// early answers before it looks whether the body has more than it announced, as
// net/http does when the server is quick.
type early struct{ body io.Reader }

func (e *early) Do(r *http.Request) (*http.Response, error) {
	e.body = r.Body
	if _, err := io.CopyN(io.Discard, r.Body, r.ContentLength); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), Request: r,
	}, nil
}

// minimal is the least configuration that a drainer can be made of.
func minimal(t *testing.T) config.Config {
	t.Helper()
	cfg, err := config.LoadForRun([]string{
		"SLUICE_QUEUE_URLS=http://aws.localhost/jobs", "SLUICE_DLQ_URL=http://aws.localhost/dead", "SLUICE_RESULTS_S3=s3://results/",
		`SLUICE_MODELS={"nova": {"routes": [{"model_id": "us.amazon.nova-lite-v1:0", "region": "us-east-1", "rpm": 1}]}}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestEarlyAnswerKeepsItsConnection(t *testing.T) {
	t.Parallel()
	client := &early{}
	d, err := drainer.New(minimal(t), localaws.New(localaws.Options{}).Config(client), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.MeasureDepths(t.Context()); err == nil || client.body == nil {
		t.Fatalf("an answer without attributes was to be missed: %v", err)
	}
	if n, err := io.Copy(io.Discard, client.body); n != 0 || err != nil {
		t.Errorf("the closed body has %d bytes more, and %v: net/http will drop the connection", n, err)
	}
}

// The SDK loads a configuration without a client, or with one where AWS_CA_BUNDLE
// is set.
func TestEveryCallInFlightKeepsItsConnection(t *testing.T) {
	t.Parallel()
	for _, loaded := range []aws.HTTPClient{nil, awshttp.NewBuildableClient()} {
		cfg := minimal(t)
		d, err := drainer.New(cfg, localaws.New(localaws.Options{}).Config(loaded), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for _, client := range d.HTTPClients() {
			b, ok := client.(*awshttp.BuildableClient)
			if !ok {
				t.Fatalf("client is a %T", client)
			}
			if n := b.GetTransport().MaxIdleConnsPerHost; n != cfg.MaxInFlight {
				t.Errorf("%d idle connections are kept, want %d", n, cfg.MaxInFlight)
			}
		}
	}
}
