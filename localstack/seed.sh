#!/usr/bin/env bash
# Makes the queues and the bucket that localstack/env.sh names, at the endpoint
# of AWS_ENDPOINT_URL, with the AWS CLI. What is there already stays.

set -euo pipefail

readonly patience=60 # seconds for the endpoint to come up

# Version 1 of the CLI does not read the endpoint's variable.
aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }

# queue makes a queue with attributes (JSON) and prints its URL.
queue() {
	aws sqs create-queue --queue-name "$1" --attributes "$2" --query QueueUrl --output text
}

until answer=$(aws sqs list-queues 2>&1); do
	if ((SECONDS > patience)); then
		echo "seed: no SQS at $AWS_ENDPOINT_URL in $patience s:$answer" >&2
		exit 1
	fi
	sleep 1
done

# Retention is in seconds: 14 days for dead letters, 10 for jobs. The redrive
# policy is a net: the drainer buries what it cannot do itself, long before.
dead_letters=$(queue sluice-dead-letters '{"MessageRetentionPeriod": "1209600"}')
arn=$(aws sqs get-queue-attributes --queue-url "$dead_letters" --attribute-names QueueArn --query Attributes.QueueArn --output text)
echo "$dead_letters"
queue sluice-results '{"MessageRetentionPeriod": "1209600"}'
queue sluice-jobs "{
	\"MessageRetentionPeriod\": \"864000\",
	\"RedrivePolicy\": \"{\\\"deadLetterTargetArn\\\": \\\"$arn\\\", \\\"maxReceiveCount\\\": \\\"1000\\\"}\"
}"
aws s3api create-bucket --bucket sluice --query Location --output text
