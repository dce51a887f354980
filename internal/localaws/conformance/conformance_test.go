package conformance_test

import (
	"cmp"
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/sluicehq/sluice/internal/connect"
	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/localaws/conformance"
)

func TestQueue(t *testing.T) {
	suite(t, conformance.Queue, "SLUICE_TEST_ENDPOINT_SQS", func(d deviations) map[string]conformance.Deviation { return d.queue })
}

func TestBucket(t *testing.T) {
	suite(t, conformance.Bucket, "SLUICE_TEST_ENDPOINT_S3", func(d deviations) map[string]conformance.Deviation { return d.bucket })
}

func TestMetrics(t *testing.T) {
	suite(t, conformance.Metrics, "SLUICE_TEST_ENDPOINT_CLOUDWATCH", func(d deviations) map[string]conformance.Deviation { return d.metrics })
}

// suite runs a suite on the embedded AWS, in virtual time, and against the
// endpoint that the variable names. SLUICE_TEST_TARGET says whose endpoint that
// is, for what it is known to get wrong; without it, nothing is.
func suite(t *testing.T, run func(*testing.T, conformance.Target), variable string, of func(deviations) map[string]conformance.Deviation) {
	t.Run("localaws", func(t *testing.T) {
		t.Parallel()
		run(t, conformance.Target{
			Virtual: true,
			Config: func(*testing.T) aws.Config {
				server := localaws.New(localaws.Options{})
				return server.Config(server.Client(nil))
			},
		})
	})
	name := cmp.Or(os.Getenv("SLUICE_TEST_TARGET"), "endpoint")
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		endpoint := os.Getenv(variable)
		if endpoint == "" {
			t.Skip(variable + " names no endpoint")
		}
		run(t, conformance.Target{
			Deviations: of(known[name]),
			Config: func(t *testing.T) aws.Config {
				cfg, err := config.LoadDefaultConfig(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				cfg.BaseEndpoint = &endpoint
				return connect.Prepare(cfg)
			},
		})
	})
}
