package drainer

import (
	"github.com/sluicehq/sluice/internal/metrics"
	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/pacing"
	"github.com/sluicehq/sluice/worker"
)

// samples is the snapshot as metrics.Table wants it.
func (d *Drainer) samples() (all []metrics.Sample) {
	s := d.Snapshot()
	add := func(name, model, route, label string, v float64) {
		all = append(all, metrics.Sample{Name: name, Model: model, Route: route, Label: label, Value: v})
	}
	spread := func(name, model, route string, h worker.Histogram) {
		sample := metrics.Sample{Name: name, Model: model, Route: route}
		h.Buckets(func(v float64, n uint64) {
			sample.Buckets = append(sample.Buckets, metrics.Bucket{Value: v, Count: n})
		})
		all = append(all, sample)
	}

	for _, m := range s.Models {
		add("QuotaUse", m.Alias, "", "", quotaUse(m))
		add("QuotaBoundSeconds", m.Alias, "", "", m.QuotaBound.Seconds())
		add("Succeeded", m.Alias, "", "", float64(m.Succeeded))
		add("Expired", m.Alias, "", "", float64(m.Expired))
		add("Fallbacks", m.Alias, "", "", float64(m.Fallbacks))
		for _, reason := range job.Reasons { // all of them: a series that is absent can't be alarmed on
			add("Failed", m.Alias, "", string(reason), float64(m.Failed[reason]))
		}
		spread("QueueWait", m.Alias, "", m.QueueWait)
		for _, r := range m.Routes {
			route := r.Region + "/" + r.ModelID
			add("Invocations", m.Alias, route, "", float64(r.Invocations))
			for _, cause := range []string{"requests", "tokens", "day", ""} {
				add("Throttles", m.Alias, route, cause, float64(r.Throttles[cause]))
			}
			add("CapacityErrors", m.Alias, route, "", float64(r.Capacity))
			add("QuotaTokens", m.Alias, route, "", float64(r.Settled))
			add("ReservedTokens", m.Alias, route, "", float64(r.Reserved))
			add("Share", m.Alias, route, "", 100*r.Ledger.Share)
			add("Margin", m.Alias, route, "", r.Ledger.Margin.Seconds())
			limited := r.Limits.RPM > 0 || r.Limits.TPM > 0
			if limited {
				add("Shape", m.Alias, route, "bucket", r.Ledger.Bucket.Seconds())
				minute := 0.0
				if r.Ledger.Minute {
					minute = 60
				}
				add("Shape", m.Alias, route, "minute", minute)
			}
			if r.Limits.RPM > 0 {
				add("Level", m.Alias, route, "requests", r.Ledger.RequestLevel)
			}
			if r.Limits.TPM > 0 {
				add("Level", m.Alias, route, "tokens", r.Ledger.TokenLevel)
			}
			for _, cause := range []pacing.Cause{pacing.Broken, pacing.Parked, pacing.Stopped} {
				closed := 0.0
				if r.Gate == cause.String() {
					closed = 1
				}
				add("Closed", m.Alias, route, cause.String(), closed)
			}
			spread("InvokeLatency", m.Alias, route, r.Latency)
		}
	}

	add("InFlight", "", "", "", float64(s.InFlight))
	add("SlotBoundSeconds", "", "", "", s.SlotBound.Seconds())
	add("OldestJobAge", "", "", "", s.OldestJob.Seconds())
	if left, known := d.drainTime(s); known {
		add("DrainSeconds", "", "", "", left.Seconds())
	}
	for _, reason := range job.Reasons {
		add("Buried", "", "", string(reason), float64(s.Buried[reason]))
	}
	add("ResultErrors", "", "", "", float64(s.ResultErrors))
	add("CopiesLost", "", "", "", float64(s.CopiesLost))
	add("PaidTwice", "", "", "", float64(s.PaidTwice))
	add("Cancelled", "", "", "", float64(s.Cancelled))
	add("Unbounded", "", "", "", float64(s.Unbounded))
	add("Releases", "", "", "", float64(s.Releases))
	add("Renewals", "", "", "", float64(s.Renewals))
	spread("ReceivesPerJob", "", "", s.Receives)
	return all
}

// quotaUse is the last minute's part of the configured quotas of a model, in
// percent: of requests or of tokens, whichever is larger.
func quotaUse(m worker.ModelSnapshot) float64 {
	var requests, tokens, rpm, tpm float64
	for _, r := range m.Routes {
		if r.Limits.RPM > 0 {
			requests, rpm = requests+r.Ledger.Requests, rpm+r.Limits.RPM
		}
		if r.Limits.TPM > 0 {
			tokens, tpm = tokens+r.Ledger.Tokens, tpm+r.Limits.TPM
		}
	}
	var use float64
	if rpm > 0 {
		use = 100 * requests / rpm
	}
	if tpm > 0 {
		use = max(use, 100*tokens/tpm)
	}
	return use
}
