package drainer

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/sluicehq/sluice/internal/metrics"
)

// Samples shows what is published.
func (d *Drainer) Samples() []metrics.Sample { return d.samples() }

// MeasureDepths makes a call to SQS.
func (d *Drainer) MeasureDepths(ctx context.Context) error { return d.measureDepths(ctx) }

// HTTPClients are those that call SQS and S3.
func (d *Drainer) HTTPClients() []aws.HTTPClient {
	return []aws.HTTPClient{d.sqs.Options().HTTPClient, d.s3.Options().HTTPClient}
}
