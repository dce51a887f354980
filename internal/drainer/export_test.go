package drainer

import (
	"context"

	"github.com/sluicehq/sluice/internal/metrics"
)

// Samples shows what is published.
func (d *Drainer) Samples() []metrics.Sample { return d.samples() }

// MeasureDepths makes a call to SQS.
func (d *Drainer) MeasureDepths(ctx context.Context) error { return d.measureDepths(ctx) }
