package drainer

import "github.com/sluicehq/sluice/internal/metrics"

func (d *Drainer) samples() []metrics.Sample { return nil }
