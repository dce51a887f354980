package e2e

import (
	"context"
	"crypto/rand"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/sluicehq/sluice/internal/connect"
	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/localaws/awstest"
)

// target is an AWS without a Bedrock: the clients with which the test looks at
// it, and the environment with which the processes find it.
type target struct {
	sqs        *sqs.Client
	s3         *s3.Client
	cloudwatch *cloudwatch.Client
	env        []string
}

// inside is the embedded AWS for every service.
func inside(t *testing.T) target {
	server, url := awstest.Serve(t, localaws.Options{})
	return newTarget(server.Config(http.DefaultClient), url, url, url, []string{
		"AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test",
	})
}

// outside is whatever the variables name. An emulator without the protocol
// that CloudWatch's client speaks leaves that to the embedded AWS.
func outside(t *testing.T) target {
	queues, buckets, metrics := os.Getenv("SLUICE_TEST_ENDPOINT_SQS"), os.Getenv("SLUICE_TEST_ENDPOINT_S3"), os.Getenv("SLUICE_TEST_ENDPOINT_CLOUDWATCH")
	if queues == "" || buckets == "" {
		t.Skip("SLUICE_TEST_ENDPOINT_SQS and SLUICE_TEST_ENDPOINT_S3 name no endpoints")
	}
	if metrics == "" {
		t.Log("SLUICE_TEST_ENDPOINT_CLOUDWATCH names no endpoint: the metrics go to the embedded AWS")
		_, metrics = awstest.Serve(t, localaws.Options{})
	}
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var env []string
	for _, variable := range os.Environ() {
		if strings.HasPrefix(variable, "AWS_") {
			env = append(env, variable)
		}
	}
	return newTarget(cfg, queues, buckets, metrics, env)
}

func newTarget(cfg aws.Config, queues, buckets, metrics string, env []string) target {
	cfg = connect.Prepare(cfg) // or a receive's answer is lost now and then, and its messages with it
	return target{
		sqs: sqs.NewFromConfig(cfg, func(o *sqs.Options) { o.BaseEndpoint = &queues }),
		s3: s3.NewFromConfig(cfg, func(o *s3.Options) {
			o.BaseEndpoint, o.UsePathStyle = &buckets, true
			o.DisableLogOutputChecksumValidationSkipped = true // moto sends none, and each get would say so
		}),
		cloudwatch: cloudwatch.NewFromConfig(cfg, func(o *cloudwatch.Options) { o.BaseEndpoint = &metrics }),
		env: append(env,
			"AWS_ENDPOINT_URL_SQS="+queues, "AWS_ENDPOINT_URL_S3="+buckets, "AWS_ENDPOINT_URL_CLOUDWATCH="+metrics),
	}
}

// unique returns a name that nobody else uses on a shared endpoint.
func unique(prefix string) string { return prefix + "-" + strings.ToLower(rand.Text()[:12]) }

// queue makes a queue that goes with the test.
func (a target) queue(t *testing.T, name string, attributes map[string]string) (url string) {
	t.Helper()
	out, err := a.sqs.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := a.sqs.DeleteQueue(context.WithoutCancel(t.Context()), &sqs.DeleteQueueInput{QueueUrl: out.QueueUrl})
		if err != nil {
			t.Error(err)
		}
	})
	return *out.QueueUrl
}

// bucket makes a bucket that goes with the test.
func (a target) bucket(t *testing.T, name string) {
	t.Helper()
	if _, err := a.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for _, key := range a.keys(ctx, t, name, "") {
			if _, err := a.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &name, Key: &key}); err != nil {
				t.Error(err)
			}
		}
		if _, err := a.s3.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &name}); err != nil {
			t.Error(err)
		}
	})
}

// keys lists the keys of a bucket, without the prefix.
func (a target) keys(ctx context.Context, t *testing.T, bucket, prefix string) (keys []string) {
	t.Helper()
	pages := s3.NewListObjectsV2Paginator(a.s3, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			keys = append(keys, strings.TrimPrefix(*o.Key, prefix))
		}
	}
	return keys
}
