package pacing_test

import (
	"fmt"
	"time"

	"github.com/sluicehq/sluice/pacing"
)

// A request is estimated, waits for its turn, starts, and settles with what it
// really cost.
func Example() {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	ledger := pacing.NewLedger(pacing.Limits{RPM: 60, TPM: 100_000}, now)
	estimator := pacing.NewEstimator(5, 64_000)

	now = now.Add(time.Hour) // an idle one
	size := pacing.Size{Text: 2_000, MaxTokens: 400}
	for range 3 {
		charge := estimator.Estimate(size, "tenant")
		if at := ledger.When(charge, now); at.After(now) {
			fmt.Println("wait", at.Sub(now).Round(100*time.Millisecond))
			now = at
		}
		grant := ledger.Start(charge, now)

		usage := pacing.Usage{Input: 520, Output: 90} // from the answer
		ledger.Settle(grant, usage.Settlement(5), usage.Read(), now)
		estimator.Learn(size, "tenant", usage)
	}
	fmt.Println(ledger.View(now).Tokens, "tokens")
	// The first backlog is used to explore: at twice the quota, until a throttle.

	// Output:
	// wait 500ms
	// 2910 tokens
}
