package conformance_test

import (
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/localaws/conformance"
)

func TestQueue(t *testing.T) { suite(t, "SLUICE_TEST_ENDPOINT_SQS", conformance.Queue) }

func TestBucket(t *testing.T) { suite(t, "SLUICE_TEST_ENDPOINT_S3", conformance.Bucket) }

func TestMetrics(t *testing.T) { suite(t, "SLUICE_TEST_ENDPOINT_CLOUDWATCH", conformance.Metrics) }

// suite runs a suite on the embedded AWS, in virtual time, and against the
// endpoint that the variable names.
func suite(t *testing.T, variable string, run func(*testing.T, conformance.Target)) {
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
	t.Run("endpoint", func(t *testing.T) {
		t.Parallel()
		endpoint := os.Getenv(variable)
		if endpoint == "" {
			t.Skip(variable + " names no endpoint")
		}
		run(t, conformance.Target{Config: func(t *testing.T) aws.Config {
			cfg, err := config.LoadDefaultConfig(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			cfg.BaseEndpoint = &endpoint
			return cfg
		}})
	})
}
