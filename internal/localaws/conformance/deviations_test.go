package conformance_test

import "github.com/sluicehq/sluice/internal/localaws/conformance"

// deviations are what one target gets wrong, by suite and case.
type deviations struct {
	queue, bucket, metrics map[string]conformance.Deviation
}

// Where AWS says what it does.
const (
	sqsAPI        = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/"
	sqsGuide      = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/"
	s3Guide       = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/"
	cloudwatchAPI = "https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/"
	cloudwatch    = "https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/"
)

// accepted is the failure of a case that wants a refusal.
var accepted = []string{"got <nil>, want "}

// known are the deviations of the emulators that CI runs, by the name that
// SLUICE_TEST_TARGET gives. The embedded AWS has none: where it differs from one
// of these, the page says that it is right.
var known = map[string]deviations{
	"localstack": { // 4.14.0
		queue: map[string]conformance.Deviation{
			"a lease ends twelve hours after its receive": {
				"any visibility is accepted", sqsAPI + "API_ChangeMessageVisibility.html", accepted,
			},
			"batches refuse an entry's numbers per entry": {
				"any delay and visibility is accepted", sqsAPI + "API_SendMessageBatchRequestEntry.html",
				[]string{"send: failed entries", "extend: failed entries"},
			},
			"a delay over fifteen minutes": {
				"any delay is accepted", sqsAPI + "API_SendMessage.html", accepted,
			},
			"an attribute out of range": {
				"any number is accepted", sqsAPI + "API_SetQueueAttributes.html", accepted,
			},
			"too many attributes": {
				"any number of attributes is accepted", sqsGuide + "quotas-messages.html", accepted,
			},
			"a move back makes new messages": {
				"message ID and receive count are kept", sqsGuide + "sqs-configure-dead-letter-queue-redrive.html",
				[]string{"want a message other than"},
			},
		},
		metrics: map[string]conformance.Deviation{
			"percentiles of values and counts": {
				"HTTP 500", cloudwatch + "Statistics-definitions.html", []string{"StatusCode: 500"},
			},
			"fewer dimensions are another metric": {
				"metrics with more dimensions are added in", cloudwatch + "cloudwatch_concepts.html",
				[]string{"Succeeded (-want +got)"},
			},
			"more than 1,000 data": {
				"accepted", cloudwatchAPI + "API_PutMetricData.html", accepted,
			},
			"more than 150 values": {
				"accepted", cloudwatchAPI + "API_MetricDatum.html", accepted,
			},
			"more than 30 dimensions": {
				"accepted", cloudwatchAPI + "API_MetricDatum.html", accepted,
			},
			"a value that is no number": {
				"accepted", cloudwatchAPI + "API_MetricDatum.html", accepted,
			},
			"a time that is too old or to come": {
				"accepted", cloudwatchAPI + "API_PutMetricData.html", accepted,
			},
		},
	},
	"moto": { // 5.2.1; its CloudWatch does not speak the SDK's protocol, CBOR
		queue: map[string]conformance.Deviation{
			"a lapsed lease can't be extended": {
				"what is visible is hidden again", sqsAPI + "API_ChangeMessageVisibility.html",
				[]string{"received 0 messages, want 1"},
			},
			"a deleted message can't be extended": {
				"the error that is documented, not the one that comes", "https://github.com/aws/aws-sdk-net/issues/1927",
				[]string{"ReceiptHandleIsInvalid"},
			},
			"batches fail per entry": {
				"characters outside of XML are accepted", sqsAPI + "API_SendMessageBatch.html",
				[]string{"send: failed entries", "send: successful", "received 2 messages, want 1"},
			},
			"batches refuse an entry's numbers per entry": {
				"the answer's SenderFault is a string", sqsAPI + "API_BatchResultErrorEntry.html",
				[]string{`expected bool, got "true"`},
			},
			"sizes at and over the limit": {
				"attributes do not count, and a body may be empty", sqsAPI + "API_SendMessage.html",
				[]string{
					"body and attributes over the limit: got <nil>", "no body: got <nil>",
					"received 3 messages, want 1", // what should have been refused
				},
			},
			"characters outside of XML": {
				"accepted", sqsAPI + "API_SendMessage.html",
				[]string{"got <nil>, want ", "received 6 messages, want 1"},
			},
			"too many attributes": {
				"any number of attributes is accepted", sqsGuide + "quotas-messages.html", accepted,
			},
			"redrive on the next receive": {
				"the source of a dead letter is not told", sqsAPI + "API_ReceiveMessage.html", []string{`source: got ""`},
			},
			"a move back from the dead-letter queue":             noMoves,
			"a move back makes new messages":                     noMoves,
			"a move out of a queue that is no dead-letter queue": noMoves,
			"an attribute that does not exist": {
				"accepted", sqsAPI + "API_SetQueueAttributes.html", accepted,
			},
			"an attribute out of range": {
				"any number is accepted", sqsAPI + "API_SetQueueAttributes.html", accepted,
			},
		},
		bucket: map[string]conformance.Deviation{
			"a damaged body is refused": {
				"a wrong checksum is accepted", s3Guide + "checking-object-integrity.html", accepted,
			},
		},
	},
}

var noMoves = conformance.Deviation{
	Does: "HTTP 500: there is no such operation", Page: sqsAPI + "API_StartMessageMoveTask.html",
	Fails: []string{"StatusCode: 500"},
}
