package connect_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go/logging"

	"github.com/sluicehq/sluice/internal/connect"
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
	return answer(r, "{}"), nil
}

func answer(r *http.Request, body string) *http.Response {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r,
		ContentLength: int64(len(body)),
	}
}

func TestEarlyAnswerKeepsItsConnection(t *testing.T) {
	t.Parallel()
	client := &early{}
	ac := connect.Prepare(localaws.New(localaws.Options{}).Config(client))
	if _, err := sqs.NewFromConfig(ac).ListQueues(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, client.body); n != 0 || err != nil {
		t.Errorf("the closed body has %d bytes more, and %v: net/http will drop the connection", n, err)
	}
}

// The SDK loads a configuration without a client, or with one where AWS_CA_BUNDLE
// is set.
func TestEveryConnectionIsKept(t *testing.T) {
	t.Parallel()
	for _, loaded := range []aws.HTTPClient{nil, awshttp.NewBuildableClient()} {
		client := connect.Prepare(aws.Config{HTTPClient: loaded}).HTTPClient
		b, ok := client.(*awshttp.BuildableClient)
		if !ok {
			t.Fatalf("client is a %T", client)
		}
		if tr := b.GetTransport(); tr.MaxIdleConns != 0 || tr.MaxIdleConnsPerHost < 1000 || tr.MaxIdleConnsPerHost != tr.MaxConnsPerHost {
			t.Errorf("%d idle connections are kept, and %d of each host", tr.MaxIdleConns, tr.MaxIdleConnsPerHost)
		}
	}
}

// bare is an emulator that knows no checksums.
type bare struct{}

func (bare) Do(r *http.Request) (*http.Response, error) { return answer(r, "text"), nil }

func TestNoLineForEachObjectOfAnEmulator(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	ac := localaws.New(localaws.Options{}).Config(bare{})
	ac.Logger = logging.NewStandardLogger(&log)
	get := func(client *s3.Client) {
		t.Helper()
		out, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String("key")})
		if err != nil {
			t.Fatal(err)
		}
		if err := out.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
	get(s3.NewFromConfig(ac))
	if log.Len() == 0 {
		t.Fatal("the SDK is silent by itself: this test shows nothing")
	}
	log.Reset()
	get(connect.S3(ac))
	if log.Len() > 0 {
		t.Errorf("the log has %s", &log)
	}
}
