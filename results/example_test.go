package results_test

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/results"
)

// Two drainers hold copies of one job. The second looks before it pays, and
// would learn when it saves that the first was faster.
func ExampleSink() {
	server := localaws.New(localaws.Options{})
	server.CreateBucket("bucket")
	sink := results.New(results.Options{
		S3: s3.NewFromConfig(server.Config(server.Client(nil))), Bucket: "bucket", Prefix: "results/",
	})
	ctx := context.Background()
	if err := sink.Preflight(ctx); err != nil {
		panic(err)
	}

	j := job.Job{ID: "order-8412", Run: "nightly", Model: "sonnet", Kind: job.Converse, Request: []byte(`{"messages": []}`)}
	claim := job.Claim{
		Identity: j.Identity(), Digest: j.Digest(),
		Submitted: time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC),
	}
	for _, drainer := range []string{"first", "second"} {
		verdict, err := sink.Look(ctx, claim)
		if err != nil {
			panic(err)
		}
		if verdict == job.Answered {
			fmt.Println(drainer, "finds the job answered")
			continue
		}
		r := job.Result{ID: j.ID, Run: j.Run, Status: job.Succeeded, Model: j.Model, Output: []byte(`{}`)}
		if _, err = sink.Save(ctx, claim, r); err != nil {
			panic(err)
		}
		fmt.Println(drainer, "answers the job")
	}
	// Output:
	// first answers the job
	// second finds the job answered
}
