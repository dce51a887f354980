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

// deviations are what SLUICE_TEST_TARGET, the name of the emulator behind the
// endpoints, is known to get wrong.
var deviations = map[string]map[string]string{
	"localstack": { // 4.14.0
		"a lease ends twelve hours after its receive": "any visibility is accepted",
		"batches refuse an entry's numbers per entry": "any delay and visibility is accepted",
		"a delay over fifteen minutes":                "any delay is accepted",
		"an attribute out of range":                   "any number is accepted",
		"too many attributes":                         "any number of attributes is accepted",
		"a move back makes new messages":              "message ID and receive count are kept",
		"percentiles of values and counts":            "HTTP 500",
		"fewer dimensions are another metric":         "metrics with more dimensions are added in",
		"more than 1,000 data":                        "accepted",
		"more than 150 values":                        "accepted",
		"more than 30 dimensions":                     "accepted",
		"a value that is no number":                   "accepted",
		"a time that is too old or to come":           "accepted",
		"an end before the start":                     "answered without data",
	},
}

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
		run(t, conformance.Target{
			Deviations: deviations[os.Getenv("SLUICE_TEST_TARGET")],
			Config: func(t *testing.T) aws.Config {
				cfg, err := config.LoadDefaultConfig(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				cfg.BaseEndpoint = &endpoint
				return cfg
			},
		})
	})
}
