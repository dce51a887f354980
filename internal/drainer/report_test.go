package drainer

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/pacing"
	"github.com/sluicehq/sluice/worker"
)

// snapshot is a minute of a drainer that has done a bit of everything.
func snapshot() worker.Snapshot {
	at := time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	route := func(region, model string, limits pacing.Limits, answered, settled int64, v pacing.View) worker.RouteSnapshot {
		return worker.RouteSnapshot{
			Route: job.Route{Region: region, ModelID: model}, Quota: model, Limits: limits, Gate: "open",
			Invocations: answered, Settled: settled, Ledger: v,
		}
	}
	sonnet := pacing.Limits{TPM: 200_000, RPM: 300}
	spread := func(least, most float64) (h worker.Histogram) {
		for i := range 100 {
			h.Observe(least + (most-least)*float64(i)/99)
		}
		return h
	}
	return worker.Snapshot{
		At: at.Add(time.Minute), Started: at, InFlight: 7, Held: 31, Released: 12,
		PaidTwice: 1, SlotBound: 2 * time.Second,
		Buried: map[job.Reason]int64{job.Malformed: 3, job.Conflict: 1},
		Sources: []worker.SourceSnapshot{
			{Name: "urgent", Received: 100, Mix: map[string]float64{"sonnet": 1}},
			{Name: "bulk", Received: 1200},
		},
		Models: []worker.ModelSnapshot{
			{
				Alias: "embed", Invocations: 1000, Succeeded: 1000,
				Routes: []worker.RouteSnapshot{route("us-east-1", "titan", pacing.Limits{RPM: 2000}, 1000, 50_000, pacing.View{Share: 1, Requests: 998, Shape: "bucket of 1s"})},
			},
			{
				Alias: "haiku", Invocations: 90, Succeeded: 90, QuotaBound: 20 * time.Second,
				Latency: spread(0.5, 1.5), QueueWait: spread(0, 20),
				Routes: []worker.RouteSnapshot{route("us-east-1", "haiku", pacing.Limits{TPM: 50_000}, 90, 45_000, pacing.View{Share: 1, Tokens: 44_900, Shape: "bucket of 10s"})},
			},
			{
				Alias: "sonnet", Waiting: 30, Held: 31, InFlight: 7,
				Invocations: 198, Throttles: 2, Capacity: 4, Succeeded: 210, Fallbacks: 12, Expired: 1, QuotaTokens: 190_000,
				Failed:     map[job.Reason]int64{job.Rejected: 3, job.Unavailable: 1},
				QuotaBound: 55 * time.Second, Latency: spread(1, 9), QueueWait: spread(5, 900),
				Routes: []worker.RouteSnapshot{
					route("us-east-1", "sonnet", sonnet, 150, 150_000, pacing.View{Share: 0.9, Requests: 149, Tokens: 151_000, Bound: true, Margin: 50 * time.Millisecond, Shape: "bucket of 10s in a rolling minute", Bucket: 10 * time.Second, Minute: true, RequestLevel: 12.5, TokenLevel: -300}),
					route("us-west-2", "sonnet", sonnet, 48, 40_000, pacing.View{Share: 1, Requests: 48, Tokens: 40_500, Shape: "bucket of 1s"}),
				},
			},
		},
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	const want = `
1,309 jobs ended in 1m0s

Jobs
  succeeded 1,300 (12 by a fallback)
  failed 4 (3 rejected, 1 unavailable)
  expired 1
  buried 4 (3 malformed, 1 conflict)
  paid twice 1: another drainer answered the same job at the same moment

Models
                    answered  429s   rate  5xx  latency p50   p90   p99  queue wait p50     p90     p99
  embed                1,000     0    0 %    0            -     -     -               -       -       -
  haiku                   90     0    0 %    0           1s  1.5s  1.5s            9.8s     17s     19s
  sonnet                 198     2  1.0 %    4         5.1s  8.1s    9s           7m26s  13m10s  14m29s

Used of the quotas, a minute on average
  embed               1,000  of 2,000 requests  50 %
  haiku              45,000   of 50,000 tokens  90 %
  sonnet us-east-1      150    of 300 requests  50 %
  sonnet us-east-1  150,000  of 200,000 tokens  75 %
  sonnet us-west-2       48    of 300 requests  16 %
  sonnet us-west-2   40,000  of 200,000 tokens  20 %

Quota-bound: jobs were waiting, and the quota was the limit
  embed              0s   0 %  there was room for more
  haiku             20s  33 %  bursts, smoothed by the queue: raise the quota only if the waits are too long
  sonnet            55s  92 %  demand: raise the quota, add a route, or move what can wait to Batch
  SLUICE_MAX_IN_FLIGHT, and no quota, was the limit for 2s: raise it.

Results: s3://bucket/results/
`
	var got strings.Builder
	if err := Report(&got, snapshot(), time.Minute, "s3://bucket/results/"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, "\n"+got.String()); diff != "" {
		t.Errorf("(-want +got):\n%s\n%s", diff, got.String())
	}
}
