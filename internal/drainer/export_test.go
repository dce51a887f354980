package drainer

import "github.com/sluicehq/sluice/internal/metrics"

// Samples shows what is published.
func (d *Drainer) Samples() []metrics.Sample { return d.samples() }
