package conformance

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/google/go-cmp/cmp"
)

// Queue runs the suite of SQS.
func Queue(t *testing.T, target Target) {
	var names []string
	for _, c := range queueCases {
		names = append(names, c.name)
		target.run(t, c.name, c.slow, func(ctx context.Context, t *caseT, cfg aws.Config) {
			q := &queue{caseT: t, ctx: ctx, client: sqs.NewFromConfig(cfg)}
			q.url = q.create(unique("conformance"), c.attributes)
			c.run(q)
		})
	}
	target.covers(t, names)
}

var queueCases = []struct {
	name       string
	attributes map[string]string
	slow       bool
	run        func(q *queue)
}{
	{name: "a message comes back as it was sent", run: asSent},
	{name: "attributes come only where asked for", run: onlyWhereAskedFor},
	{name: "attributes are selected by name and prefix", run: selectedAttributes},
	{name: "at most ten in a receive", run: atMostTen},
	{name: "an empty short poll returns at once", run: emptyShortPoll},
	{name: "an empty long poll waits", run: emptyLongPoll},
	{name: "a long poll wakes for a message", run: wakesForMessage},
	{name: "a long poll wakes for a release", run: wakesForRelease},
	{name: "a long poll wakes when a lease lapses", run: wakesForLapse},
	{name: "a long poll wakes when a delay ends", run: wakesForDelay},
	{name: "a cancelled long poll loses nothing", attributes: map[string]string{"VisibilityTimeout": "2"}, run: cancelledPoll},
	{name: "every long poll gets its message", run: manyPolls},
	{name: "a lapsed lease counts and renews the handle", run: lapses},
	{name: "a lease is extended", run: extends},
	{name: "a release with delay", run: releasesLater},
	{name: "a lease ends twelve hours after its receive", run: twelveHours},
	{name: "the twelve hours count from each receive", slow: true, run: twelveHoursFromReceive},
	{name: "a lapsed lease can't be extended", run: extendLapsed},
	{name: "a deleted message can't be extended", run: extendDeleted},
	{name: "deletes", run: deletes},
	{name: "a delete with an old handle", run: oldHandle},
	{name: "a delete after the lease lapsed", run: deleteAfterLapse},
	{name: "handles that are none", run: badHandles},
	{name: "batches fail per entry", run: perEntry},
	{name: "batches refuse an entry's numbers per entry", run: perEntryNumbers},
	{name: "batches that fail as a whole", run: wholeBatch},
	{name: "sizes at and over the limit", run: sizes},
	{name: "a queue's own size limit", attributes: map[string]string{"MaximumMessageSize": "2048"}, run: ownSizeLimit},
	{name: "characters outside of XML", run: characters},
	{name: "too many attributes", run: tooManyAttributes},
	{name: "a delay", run: delays},
	{name: "a delay over fifteen minutes", run: longDelay},
	{name: "a queue's own delay", attributes: map[string]string{"DelaySeconds": "2"}, run: ownDelay},
	{name: "redrive on the next receive", run: redrives},
	{name: "a move back from the dead-letter queue", run: movesBack},
	{name: "a move back makes new messages", run: movesBackAsNew},
	{name: "a move out of a queue that is no dead-letter queue", run: movesOutOfQueue},
	{name: "retention ends a message", slow: true, attributes: map[string]string{"MessageRetentionPeriod": "60"}, run: retention},
	{name: "counts of messages", run: counts},
	{name: "attributes of a queue", attributes: map[string]string{"VisibilityTimeout": "7"}, run: queueAttributes},
	{name: "an attribute that does not exist", run: unknownAttribute},
	{name: "an attribute out of range", run: attributeOutOfRange},
	{name: "create is repeatable with the same attributes only", attributes: map[string]string{"VisibilityTimeout": "7"}, run: createAgain},
	{name: "a FIFO queue says so", run: fifo},
	{name: "purge", run: purges},
	{name: "a missing queue", run: missingQueue},
	{name: "answers carry the queue's clock", run: clock},
}

// queue is one case: a queue of its own, and what a case does with it.
type queue struct {
	*caseT
	ctx    context.Context
	client *sqs.Client
	url    string
}

func (q *queue) create(name string, attributes map[string]string) string {
	q.Helper()
	out, err := q.client.CreateQueue(q.ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	check(q, "create queue", err)
	q.Cleanup(func() {
		_, err := q.client.DeleteQueue(context.WithoutCancel(q.ctx), &sqs.DeleteQueueInput{QueueUrl: out.QueueUrl})
		if err != nil {
			q.Logf("delete queue: %v", err)
		}
	})
	return *out.QueueUrl
}

func (q *queue) arn(url string) string {
	q.Helper()
	return q.describe(url)["QueueArn"]
}

func (q *queue) describe(url string) map[string]string {
	q.Helper()
	out, err := q.client.GetQueueAttributes(q.ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &url, AttributeNames: []types.QueueAttributeName{"All"},
	})
	check(q, "get queue attributes", err)
	return out.Attributes
}

func (q *queue) send(body string) {
	q.Helper()
	_, err := q.client.SendMessage(q.ctx, &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: &body})
	check(q, "send", err)
}

// receive long-polls for up to ten messages with their system attributes.
func (q *queue) receive(wait, visibility int32) []types.Message {
	q.Helper()
	out, err := q.client.ReceiveMessage(q.ctx, &sqs.ReceiveMessageInput{
		QueueUrl: &q.url, MaxNumberOfMessages: 10, WaitTimeSeconds: wait, VisibilityTimeout: visibility,
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"},
		MessageAttributeNames:       []string{"All"},
	})
	check(q, "receive", err)
	return out.Messages
}

// one receives exactly one message.
func (q *queue) one(wait, visibility int32) types.Message {
	q.Helper()
	got := q.receive(wait, visibility)
	if len(got) != 1 {
		q.Fatalf("received %d messages, want 1", len(got))
	}
	return got[0]
}

// nothing checks that no message is visible.
func (q *queue) nothing() {
	q.Helper()
	if got := q.receive(0, 0); len(got) != 0 {
		q.Errorf("received %d messages, want none", len(got))
	}
}

func (q *queue) setVisibility(handle *string, seconds int32) error {
	_, err := q.client.ChangeMessageVisibility(q.ctx, &sqs.ChangeMessageVisibilityInput{
		QueueUrl: &q.url, ReceiptHandle: handle, VisibilityTimeout: seconds,
	})
	return err
}

func (q *queue) delete(handle *string) error {
	_, err := q.client.DeleteMessage(q.ctx, &sqs.DeleteMessageInput{QueueUrl: &q.url, ReceiptHandle: handle})
	return err
}

// within checks how long f takes.
func (q *queue) within(least, most time.Duration, f func()) {
	q.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took < least || took > most+q.grace {
		q.Errorf("took %v, want %v to %v", took, least, most)
	}
}

func receives(m types.Message) string {
	return m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)]
}

func text(s string) types.MessageAttributeValue {
	return types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &s}
}

func asSent(q *queue) {
	body := `{"text":"a < b && \"c\" é 漢 ` + "\t\r\n" + `"}`
	attributes := map[string]types.MessageAttributeValue{
		"sluice":      text(`{"id":"1"}`),
		"traceparent": text("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
		"count":       {DataType: aws.String("Number.int"), StringValue: aws.String("7")},
		"bytes":       {DataType: aws.String("Binary"), BinaryValue: []byte{0, 1, 255}},
	}
	before := time.Now().Add(-time.Second)
	sent, err := q.client.SendMessage(q.ctx, &sqs.SendMessageInput{
		QueueUrl: &q.url, MessageBody: &body, MessageAttributes: attributes, MessageGroupId: aws.String("tenant-1"),
	})
	check(q, "send", err)
	m := q.one(1, 30)
	if got := aws.ToString(m.Body); got != body {
		q.Errorf("body: got %q, want %q", got, body)
	}
	sum := md5.Sum([]byte(body))
	if want := hex.EncodeToString(sum[:]); aws.ToString(m.MD5OfBody) != want || aws.ToString(sent.MD5OfMessageBody) != want {
		q.Errorf("MD5: received %s, sent %s, want %s", aws.ToString(m.MD5OfBody), aws.ToString(sent.MD5OfMessageBody), want)
	}
	if aws.ToString(m.MessageId) != aws.ToString(sent.MessageId) {
		q.Errorf("message ID: received %s, sent %s", aws.ToString(m.MessageId), aws.ToString(sent.MessageId))
	}
	if diff := cmp.Diff(attributes, m.MessageAttributes, cmp.Comparer(sameAttribute)); diff != "" {
		q.Errorf("attributes (-sent +received):\n%s", diff)
	}
	// By the documented algorithm, computed apart from any code here.
	const digest = "fa021353b6c30e160f45f8cbf6f1d22b"
	if a, b := aws.ToString(sent.MD5OfMessageAttributes), aws.ToString(m.MD5OfMessageAttributes); a != digest || b != digest {
		q.Errorf("MD5 of attributes: sent %s, received %s, want %s", a, b, digest)
	}
	if m.Attributes["MessageGroupId"] != "tenant-1" || receives(m) != "1" || m.Attributes["SenderId"] == "" {
		q.Errorf("system attributes: %v", m.Attributes)
	}
	for _, name := range []string{"SentTimestamp", "ApproximateFirstReceiveTimestamp"} {
		millis, err := strconv.ParseInt(m.Attributes[name], 10, 64)
		if at := time.UnixMilli(millis); err != nil || at.Before(before.Add(-time.Minute)) || at.After(time.Now().Add(time.Minute)) {
			q.Errorf("%s: %q", name, m.Attributes[name])
		}
	}
}

func sameAttribute(a, b types.MessageAttributeValue) bool {
	return aws.ToString(a.DataType) == aws.ToString(b.DataType) && aws.ToString(a.StringValue) == aws.ToString(b.StringValue) &&
		string(a.BinaryValue) == string(b.BinaryValue)
}

func onlyWhereAskedFor(q *queue) {
	_, err := q.client.SendMessage(q.ctx, &sqs.SendMessageInput{
		QueueUrl: &q.url, MessageBody: aws.String("x"), MessageAttributes: map[string]types.MessageAttributeValue{"a": text("1")},
	})
	check(q, "send", err)
	out, err := q.client.ReceiveMessage(q.ctx, &sqs.ReceiveMessageInput{QueueUrl: &q.url, WaitTimeSeconds: 1})
	check(q, "receive", err)
	if len(out.Messages) != 1 {
		q.Fatalf("received %d messages, want 1", len(out.Messages))
	}
	if m := out.Messages[0]; len(m.Attributes) != 0 || len(m.MessageAttributes) != 0 || m.MD5OfMessageAttributes != nil {
		q.Errorf("received %v and %v, asked for none", m.Attributes, m.MessageAttributes)
	}
}

func selectedAttributes(q *queue) {
	_, err := q.client.SendMessage(q.ctx, &sqs.SendMessageInput{
		QueueUrl: &q.url, MessageBody: aws.String("x"),
		MessageAttributes: map[string]types.MessageAttributeValue{"sluice": text("1"), "b.one": text("2"), "b.two": text("3"), "c": text("4")},
	})
	check(q, "send", err)
	out, err := q.client.ReceiveMessage(q.ctx, &sqs.ReceiveMessageInput{
		QueueUrl: &q.url, WaitTimeSeconds: 1,
		MessageAttributeNames:       []string{"sluice", "b.*", "absent"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{"SentTimestamp"},
	})
	check(q, "receive", err)
	if len(out.Messages) != 1 {
		q.Fatalf("received %d messages, want 1", len(out.Messages))
	}
	m := out.Messages[0]
	var names []string
	for name := range m.MessageAttributes {
		names = append(names, name)
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"b.one", "b.two", "sluice"}, names); diff != "" {
		q.Errorf("attributes (-want +got):\n%s", diff)
	}
	if len(m.Attributes) != 1 || m.Attributes["SentTimestamp"] == "" {
		q.Errorf("system attributes: got %v, want SentTimestamp", m.Attributes)
	}
}

func atMostTen(q *queue) {
	for range 2 {
		q.sendBatch(8)
	}
	seen := make(map[string]bool)
	for range 16 {
		got := q.receive(1, 30)
		if len(got) > 10 {
			q.Errorf("received %d messages at once", len(got))
		}
		for _, m := range got {
			seen[*m.Body] = true
		}
		if len(seen) == 8 && len(got) == 0 {
			break
		}
	}
	if len(seen) != 8 {
		q.Errorf("received %d different bodies, want 8", len(seen))
	}
	_, err := q.client.ReceiveMessage(q.ctx, &sqs.ReceiveMessageInput{QueueUrl: &q.url, MaxNumberOfMessages: 11})
	refusedAs(q, "receive of 11", err, "InvalidParameterValue")
}

// sendBatch sends n messages "0", "1", ...
func (q *queue) sendBatch(n int) {
	q.Helper()
	var entries []types.SendMessageBatchRequestEntry
	for i := range n {
		id := strconv.Itoa(i)
		entries = append(entries, types.SendMessageBatchRequestEntry{Id: &id, MessageBody: &id})
	}
	out, err := q.client.SendMessageBatch(q.ctx, &sqs.SendMessageBatchInput{QueueUrl: &q.url, Entries: entries})
	check(q, "send batch", err)
	if len(out.Successful) != n || len(out.Failed) != 0 {
		q.Fatalf("send batch: %d successful, %d failed", len(out.Successful), len(out.Failed))
	}
}

func emptyShortPoll(q *queue) { q.within(0, 0, q.nothing) }

func emptyLongPoll(q *queue) {
	q.within(time.Second, time.Second, func() {
		if got := q.receive(1, 0); len(got) != 0 {
			q.Errorf("received %d messages, want none", len(got))
		}
	})
}

// later does something one second from now, beside the case, and returns what
// waits for it.
func (q *queue) later(f func() error) (wait func()) {
	done := make(chan error, 1)
	go func() {
		time.Sleep(time.Second)
		done <- f()
	}()
	return func() {
		q.Helper()
		check(q, "meanwhile", <-done)
	}
}

func wakesForMessage(q *queue) {
	wait := q.later(func() error {
		_, err := q.client.SendMessage(q.ctx, &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: aws.String("x")})
		return err
	})
	q.within(time.Second, time.Second, func() { q.one(10, 30) })
	wait()
}

func wakesForRelease(q *queue) {
	q.send("x")
	m := q.one(1, 30)
	wait := q.later(func() error { return q.setVisibility(m.ReceiptHandle, 0) })
	q.within(time.Second, time.Second, func() { q.one(10, 30) })
	wait()
}

func wakesForLapse(q *queue) {
	q.send("x")
	q.one(1, 2)
	q.within(time.Second, 3*time.Second, func() { q.one(10, 30) })
}

func wakesForDelay(q *queue) {
	_, err := q.client.SendMessage(q.ctx, &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: aws.String("x"), DelaySeconds: 2})
	check(q, "send", err)
	q.within(time.Second, 3*time.Second, func() { q.one(10, 30) })
}

// AWS and emulators may give a message to a poll that nobody waits for any more
// (aws-sdk-go-v2 #2068). It then comes back when that lease lapses.
func cancelledPoll(q *queue) {
	ctx, cancel := context.WithTimeout(q.ctx, time.Second)
	defer cancel()
	_, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &q.url, WaitTimeSeconds: 10})
	if err == nil {
		q.Fatal("the cancelled receive returned no error")
	}
	q.send("x")
	q.one(10, 30)
}

func manyPolls(q *queue) {
	const polls = 4
	got := make(chan int, polls)
	for range polls {
		go func() {
			out, err := q.client.ReceiveMessage(q.ctx, &sqs.ReceiveMessageInput{QueueUrl: &q.url, WaitTimeSeconds: 5, VisibilityTimeout: 60})
			if err != nil {
				q.Errorf("receive: %v", err)
				got <- 0
				return
			}
			got <- len(out.Messages)
		}()
	}
	time.Sleep(time.Second)
	q.within(0, time.Second, func() {
		for range polls {
			q.send("x")
		}
		for range polls {
			if n := <-got; n != 1 {
				q.Errorf("a poll received %d messages, want 1", n)
			}
		}
	})
}

func lapses(q *queue) {
	q.send("x")
	first := q.one(1, 2)
	q.nothing()
	time.Sleep(3 * time.Second)
	second := q.one(1, 30)
	if receives(first) != "1" || receives(second) != "2" {
		q.Errorf("receive counts %s and %s, want 1 and 2", receives(first), receives(second))
	}
	if *first.MessageId != *second.MessageId || *first.ReceiptHandle == *second.ReceiptHandle {
		q.Error("want the same message with another handle")
	}
	for _, name := range []string{"SentTimestamp", "ApproximateFirstReceiveTimestamp"} {
		if first.Attributes[name] != second.Attributes[name] {
			q.Errorf("%s changed from %s to %s", name, first.Attributes[name], second.Attributes[name])
		}
	}
}

func extends(q *queue) {
	q.send("x")
	m := q.one(1, 2)
	check(q, "extend", q.setVisibility(m.ReceiptHandle, 30))
	time.Sleep(3 * time.Second)
	q.nothing()
	check(q, "delete", q.delete(m.ReceiptHandle))
}

func releasesLater(q *queue) {
	q.send("x")
	m := q.one(1, 30)
	check(q, "release", q.setVisibility(m.ReceiptHandle, 2))
	q.nothing()
	time.Sleep(3 * time.Second)
	if m := q.one(1, 30); receives(m) != "2" {
		q.Errorf("received %s times, want 2", receives(m))
	}
}

// A lease can't be moved to 12 hours from now, since some of the 12 hours has
// passed already (localstack #3956, aws-sdk-net #794).
func twelveHours(q *queue) {
	q.send("x")
	m := q.one(1, 30)
	time.Sleep(time.Second)
	check(q, "extend by 12 h less a minute", q.setVisibility(m.ReceiptHandle, 43140))
	refusedAs(q, "extend by 12 h", q.setVisibility(m.ReceiptHandle, 43200), "InvalidParameterValue")
	refusedAs(q, "extend by more", q.setVisibility(m.ReceiptHandle, 43201), "InvalidParameterValue")
}

func twelveHoursFromReceive(q *queue) {
	q.send("x")
	m := q.one(1, 43200)
	time.Sleep(11 * time.Hour)
	refusedAs(q, "extend beyond", q.setVisibility(m.ReceiptHandle, 3601), "InvalidParameterValue")
	check(q, "extend to the end", q.setVisibility(m.ReceiptHandle, 3600))
	time.Sleep(time.Hour)
	m = q.one(0, 30)
	check(q, "extend the next receipt", q.setVisibility(m.ReceiptHandle, 43100))
}

// AWS documents MessageNotInflight (ChangeMessageVisibility, errors); it has been
// seen to say nothing and do nothing (localstack PR #9632). Either way the
// message stays visible.
func extendLapsed(q *queue) {
	q.send("x")
	m := q.one(1, 30)
	check(q, "release", q.setVisibility(m.ReceiptHandle, 0))
	if err := q.setVisibility(m.ReceiptHandle, 30); err != nil {
		refused[*types.MessageNotInflight](q, "extend what is visible", err)
	}
	q.one(1, 30)
}

// The error is not the one that is documented (aws-sdk-net #1927).
func extendDeleted(q *queue) {
	q.send("x")
	m := q.one(1, 30)
	check(q, "delete", q.delete(m.ReceiptHandle))
	refusedAs(q, "extend", q.setVisibility(m.ReceiptHandle, 30), "InvalidParameterValue")
}

func deletes(q *queue) {
	q.send("x")
	m := q.one(1, 1)
	check(q, "delete", q.delete(m.ReceiptHandle))
	check(q, "delete again", q.delete(m.ReceiptHandle))
	time.Sleep(2 * time.Second)
	q.nothing()
}

// The message "might not be deleted" (DeleteMessage; JustSaying #1584), but
// there is no error to tell.
func oldHandle(q *queue) {
	q.send("x")
	first := q.one(1, 30)
	check(q, "release", q.setVisibility(first.ReceiptHandle, 0))
	q.one(1, 30)
	check(q, "delete with the old handle", q.delete(first.ReceiptHandle))
}

func deleteAfterLapse(q *queue) {
	q.send("x")
	m := q.one(1, 1)
	time.Sleep(2 * time.Second)
	check(q, "delete", q.delete(m.ReceiptHandle))
	q.nothing()
}

func badHandles(q *queue) {
	other := &queue{caseT: q.caseT, ctx: q.ctx, client: q.client}
	other.url = other.create(unique("conformance"), nil)
	other.send("x")
	for _, handle := range []*string{aws.String("nonsense"), other.one(1, 30).ReceiptHandle} {
		refused[*types.ReceiptHandleIsInvalid](q, "delete", q.delete(handle))
		refused[*types.ReceiptHandleIsInvalid](q, "extend", q.setVisibility(handle, 30))
	}
}

// HTTP 200 with Failed entries: bbc/sqs-consumer #193, apache/airflow #73423.
func perEntry(q *queue) {
	sent, err := q.client.SendMessageBatch(q.ctx, &sqs.SendMessageBatchInput{QueueUrl: &q.url, Entries: []types.SendMessageBatchRequestEntry{
		{Id: aws.String("good"), MessageBody: aws.String("x")},
		{Id: aws.String("bad"), MessageBody: aws.String("\x00")},
	}})
	check(q, "send batch", err)
	q.outcome("send", sent.Failed, "bad")
	if len(sent.Successful) != 1 || *sent.Successful[0].Id != "good" {
		q.Errorf("send: successful %v", sent.Successful)
	}

	m := q.one(1, 30)
	extended, err := q.client.ChangeMessageVisibilityBatch(q.ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &q.url, Entries: []types.ChangeMessageVisibilityBatchRequestEntry{
		{Id: aws.String("good"), ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: 60},
		{Id: aws.String("bad"), ReceiptHandle: aws.String("nonsense"), VisibilityTimeout: 60},
	}})
	check(q, "extend batch", err)
	q.outcome("extend", extended.Failed, "bad")

	deleted, err := q.client.DeleteMessageBatch(q.ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &q.url, Entries: []types.DeleteMessageBatchRequestEntry{
		{Id: aws.String("bad"), ReceiptHandle: aws.String("nonsense")},
		{Id: aws.String("good"), ReceiptHandle: m.ReceiptHandle},
	}})
	check(q, "delete batch", err)
	q.outcome("delete", deleted.Failed, "bad")
	if len(deleted.Successful) != 1 || *deleted.Successful[0].Id != "good" {
		q.Errorf("delete: successful %v", deleted.Successful)
	}
}

func perEntryNumbers(q *queue) {
	sent, err := q.client.SendMessageBatch(q.ctx, &sqs.SendMessageBatchInput{QueueUrl: &q.url, Entries: []types.SendMessageBatchRequestEntry{
		{Id: aws.String("good"), MessageBody: aws.String("x")},
		{Id: aws.String("late"), MessageBody: aws.String("x"), DelaySeconds: 901},
	}})
	check(q, "send batch", err)
	q.outcome("send", sent.Failed, "late")
	m := q.one(1, 30)
	extended, err := q.client.ChangeMessageVisibilityBatch(q.ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &q.url, Entries: []types.ChangeMessageVisibilityBatchRequestEntry{
		{Id: aws.String("long"), ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: 43201},
		{Id: aws.String("good"), ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: 60},
	}})
	check(q, "extend batch", err)
	q.outcome("extend", extended.Failed, "long")
}

func (q *queue) outcome(doing string, failed []types.BatchResultErrorEntry, want ...string) {
	q.Helper()
	var got []string
	for _, f := range failed {
		if aws.ToString(f.Code) == "" {
			q.Errorf("%s: entry %s failed without a code", doing, *f.Id)
		}
		got = append(got, *f.Id)
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		q.Errorf("%s: failed entries (-want +got):\n%s", doing, diff)
	}
}

func wholeBatch(q *queue) {
	send := func(entries ...types.SendMessageBatchRequestEntry) error {
		_, err := q.client.SendMessageBatch(q.ctx, &sqs.SendMessageBatchInput{QueueUrl: &q.url, Entries: entries})
		return err
	}
	entry := func(id, body string) types.SendMessageBatchRequestEntry {
		return types.SendMessageBatchRequestEntry{Id: &id, MessageBody: &body}
	}
	var eleven []types.SendMessageBatchRequestEntry
	for i := range 11 {
		eleven = append(eleven, entry(strconv.Itoa(i), "x"))
	}
	half := strings.Repeat("x", 1<<19)
	refused[*types.EmptyBatchRequest](q, "no entry", send([]types.SendMessageBatchRequestEntry{}...))
	refused[*types.TooManyEntriesInBatchRequest](q, "eleven entries", send(eleven...))
	// awspring PR #1654: one double id and nothing of the batch is done.
	refused[*types.BatchEntryIdsNotDistinct](q, "an id twice", send(entry("a", "x"), entry("b", "x"), entry("a", "x")))
	refused[*types.InvalidBatchEntryId](q, "an id with a dot", send(entry("a.b", "x")))
	// The limit is on the sum: vmihailenco/taskq #36, redpanda connect #756.
	refused[*types.BatchRequestTooLong](q, "a sum over the limit", send(entry("a", half), entry("b", half), entry("c", "x")))
	q.nothing()
	check(q, "a sum at the limit", send(entry("a", half), entry("b", half)))
}

// 1 MiB since August 2025, attributes included (floci #1277, #894).
func sizes(q *queue) {
	attributes := map[string]types.MessageAttributeValue{"sluice": text("12345")} // 6 + 6 + 5
	send := func(size int, attributes map[string]types.MessageAttributeValue) error {
		_, err := q.client.SendMessage(q.ctx, &sqs.SendMessageInput{
			QueueUrl: &q.url, MessageBody: aws.String(strings.Repeat("x", size)), MessageAttributes: attributes,
		})
		return err
	}
	refusedAs(q, "a body over the limit", send(1<<20+1, nil), "InvalidParameterValue")
	refusedAs(q, "body and attributes over the limit", send(1<<20-16, attributes), "InvalidParameterValue")
	refusedAs(q, "no body", send(0, nil), "MissingParameter")
	check(q, "body and attributes at the limit", send(1<<20-17, attributes))
	if m := q.one(1, 30); len(*m.Body) != 1<<20-17 {
		q.Errorf("received %d bytes", len(*m.Body))
	}
	check(q, "a body at the limit", send(1<<20, nil))
}

func ownSizeLimit(q *queue) {
	_, err := q.client.SendMessage(q.ctx, &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: aws.String(strings.Repeat("x", 2049))})
	refusedAs(q, "send", err, "InvalidParameterValue")
	q.send(strings.Repeat("x", 2048))
}

func characters(q *queue) {
	for _, c := range []string{"\x00", "\x08", "\x1f", "\uFFFE", "\uFFFF"} {
		_, err := q.client.SendMessage(q.ctx, &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: aws.String("a" + c)})
		refused[*types.InvalidMessageContents](q, fmt.Sprintf("send of %q", c), err)
	}
	body := "\t\n\r \u007f\u0085\uD7FF\uE000\uFFFD\U00010000\U0010FFFF"
	q.send(body)
	if m := q.one(1, 30); *m.Body != body {
		q.Errorf("got %q, want %q", *m.Body, body)
	}
}

func tooManyAttributes(q *queue) {
	attributes := make(map[string]types.MessageAttributeValue)
	for i := range 11 {
		attributes["a"+strconv.Itoa(i)] = text("x")
	}
	_, err := q.client.SendMessage(q.ctx, &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: aws.String("x"), MessageAttributes: attributes})
	refusedAs(q, "send with 11 attributes", err, "InvalidParameterValue")
}

func delays(q *queue) {
	_, err := q.client.SendMessage(q.ctx, &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: aws.String("x"), DelaySeconds: 2})
	check(q, "send", err)
	q.nothing()
	time.Sleep(3 * time.Second)
	if m := q.one(1, 30); receives(m) != "1" {
		q.Errorf("received %s times, want 1", receives(m))
	}
}

func longDelay(q *queue) {
	_, err := q.client.SendMessage(q.ctx, &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: aws.String("x"), DelaySeconds: 901})
	refusedAs(q, "send", err, "InvalidParameterValue")
}

func ownDelay(q *queue) {
	q.send("x")
	q.nothing()
	time.Sleep(3 * time.Second)
	q.one(1, 30)
}

// The move happens on the next receive, not when the lease lapses (localstack
// #8234), and maxReceiveCount is deliveries (sst #5792).
func redrives(q *queue) {
	dead := q.deadLetters(2)
	_, err := q.client.SendMessage(q.ctx, &sqs.SendMessageInput{
		QueueUrl: &q.url, MessageBody: aws.String("x"), MessageAttributes: map[string]types.MessageAttributeValue{"a": text("1")},
	})
	check(q, "send", err)
	var last types.Message
	for range 2 {
		last = q.one(1, 30)
		check(q, "release", q.setVisibility(last.ReceiptHandle, 0))
	}
	dead.nothing()
	q.nothing()
	m := dead.one(2, 30)
	if *m.Body != "x" || *m.MessageId != *last.MessageId || aws.ToString(m.MessageAttributes["a"].StringValue) != "1" {
		q.Errorf("the dead letter is %s %q %v", *m.MessageId, *m.Body, m.MessageAttributes)
	}
	if got, want := m.Attributes["DeadLetterQueueSourceArn"], q.arn(q.url); got != want {
		q.Errorf("source: got %q, want %q", got, want)
	}
	if m.Attributes["SentTimestamp"] != last.Attributes["SentTimestamp"] {
		q.Errorf("sent %s, then %s: want the first for ever", last.Attributes["SentTimestamp"], m.Attributes["SentTimestamp"])
	}
}

// deadLetters gives the queue a redrive policy and returns its other end.
func (q *queue) deadLetters(maxReceives int) *queue {
	q.Helper()
	dead := &queue{caseT: q.caseT, ctx: q.ctx, client: q.client}
	dead.url = dead.create(unique("conformance-dead"), nil)
	_, err := q.client.SetQueueAttributes(q.ctx, &sqs.SetQueueAttributesInput{QueueUrl: &q.url, Attributes: map[string]string{
		"RedrivePolicy": fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":%d}`, q.arn(dead.url), maxReceives),
	}})
	check(q, "set redrive policy", err)
	return dead
}

func movesBack(q *queue) {
	dead := q.deadLetters(1)
	q.moveBack(dead)
	if m := q.one(5, 30); *m.Body != "x" {
		q.Errorf("got %q, want x", *m.Body)
	}
	dead.nothing()
	tasks, err := q.client.ListMessageMoveTasks(q.ctx, &sqs.ListMessageMoveTasksInput{SourceArn: aws.String(q.arn(dead.url))})
	check(q, "list moves", err)
	if len(tasks.Results) != 1 || tasks.Results[0].ApproximateNumberOfMessagesMoved != 1 {
		q.Errorf("tasks: %+v", tasks.Results)
	}
}

// "All redriven messages are considered new messages with a new messageID and
// enqueueTime" (SQS developer guide, dead-letter queue redrive).
func movesBackAsNew(q *queue) {
	dead := q.deadLetters(1)
	first := q.moveBack(dead)
	if m := q.one(5, 30); receives(m) != "1" || *m.MessageId == *first.MessageId {
		q.Errorf("got %s received %s times, want a message other than %s", *m.MessageId, receives(m), *first.MessageId)
	}
}

// moveBack lets a message become a dead letter, then moves it back.
func (q *queue) moveBack(dead *queue) (first types.Message) {
	q.Helper()
	q.send("x")
	first = q.one(1, 30)
	check(q, "release", q.setVisibility(first.ReceiptHandle, 0))
	q.nothing()
	_, err := q.client.StartMessageMoveTask(q.ctx, &sqs.StartMessageMoveTaskInput{SourceArn: aws.String(q.arn(dead.url))})
	check(q, "start move", err)
	return first
}

func movesOutOfQueue(q *queue) {
	_, err := q.client.StartMessageMoveTask(q.ctx, &sqs.StartMessageMoveTaskInput{SourceArn: aws.String(q.arn(q.url))})
	if _, ok := errors.AsType[smithy.APIError](err); !ok {
		q.Errorf("got %v, want a refusal", err)
	}
}

func retention(q *queue) {
	q.send("old")
	time.Sleep(30 * time.Second)
	q.send("new")
	time.Sleep(31 * time.Second)
	if m := q.one(0, 60); *m.Body != "new" {
		q.Errorf("received %q, want the one that is young enough", *m.Body)
	}
	time.Sleep(30 * time.Second)
	if n := q.describe(q.url)["ApproximateNumberOfMessagesNotVisible"]; n != "0" {
		q.Errorf("%s in flight after their retention", n)
	}
}

func counts(q *queue) {
	q.sendBatch(5)
	_, err := q.client.SendMessage(q.ctx, &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: aws.String("x"), DelaySeconds: 60})
	check(q, "send", err)
	out, err := q.client.ReceiveMessage(q.ctx, &sqs.ReceiveMessageInput{QueueUrl: &q.url, WaitTimeSeconds: 1, VisibilityTimeout: 60})
	check(q, "receive", err)
	if len(out.Messages) != 1 {
		q.Fatalf("received %d, want 1", len(out.Messages))
	}
	want := map[string]string{
		"ApproximateNumberOfMessages": "4", "ApproximateNumberOfMessagesNotVisible": "1", "ApproximateNumberOfMessagesDelayed": "1",
	}
	var got map[string]string
	for range 10 { // AWS's counts are approximate, and late
		got = q.describe(q.url)
		maps.DeleteFunc(got, func(name, _ string) bool { return want[name] == "" })
		if maps.Equal(want, got) {
			return
		}
		time.Sleep(time.Second)
	}
	q.Errorf("counts (-want +got):\n%s", cmp.Diff(want, got))
}

func queueAttributes(q *queue) {
	got := q.describe(q.url)
	for name, want := range map[string]string{
		"VisibilityTimeout": "7", "MessageRetentionPeriod": "345600", "MaximumMessageSize": "1048576",
		"DelaySeconds": "0", "ReceiveMessageWaitTimeSeconds": "0", "FifoQueue": "", "RedrivePolicy": "",
	} {
		if got[name] != want {
			q.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if !strings.HasPrefix(got["QueueArn"], "arn:aws:sqs:") || got["CreatedTimestamp"] == "" {
		q.Errorf("ARN %q, created %q", got["QueueArn"], got["CreatedTimestamp"])
	}
	_, err := q.client.SetQueueAttributes(q.ctx, &sqs.SetQueueAttributesInput{QueueUrl: &q.url, Attributes: map[string]string{"VisibilityTimeout": "3"}})
	check(q, "set", err)
	one, err := q.client.GetQueueAttributes(q.ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &q.url, AttributeNames: []types.QueueAttributeName{"VisibilityTimeout", "FifoQueue"},
	})
	check(q, "get", err)
	if diff := cmp.Diff(map[string]string{"VisibilityTimeout": "3"}, one.Attributes); diff != "" {
		q.Errorf("attributes asked for by name (-want +got):\n%s", diff)
	}
}

func unknownAttribute(q *queue) {
	_, err := q.client.SetQueueAttributes(q.ctx, &sqs.SetQueueAttributesInput{QueueUrl: &q.url, Attributes: map[string]string{"Visibility": "1"}})
	refused[*types.InvalidAttributeName](q, "set", err)
	_, err = q.client.GetQueueAttributes(q.ctx, &sqs.GetQueueAttributesInput{QueueUrl: &q.url, AttributeNames: []types.QueueAttributeName{"Visibility"}})
	refused[*types.InvalidAttributeName](q, "get", err)
}

func attributeOutOfRange(q *queue) {
	_, err := q.client.SetQueueAttributes(q.ctx, &sqs.SetQueueAttributesInput{QueueUrl: &q.url, Attributes: map[string]string{"VisibilityTimeout": "43201"}})
	refused[*types.InvalidAttributeValue](q, "set", err)
}

func createAgain(q *queue) {
	name := q.url[strings.LastIndex(q.url, "/")+1:]
	again, err := q.client.CreateQueue(q.ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: map[string]string{"VisibilityTimeout": "7"}})
	check(q, "create again", err)
	if *again.QueueUrl != q.url {
		q.Errorf("got %s, want %s", *again.QueueUrl, q.url)
	}
	_, err = q.client.CreateQueue(q.ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: map[string]string{"VisibilityTimeout": "8"}})
	refused[*types.QueueNameExists](q, "create with another attribute", err)
	found, err := q.client.GetQueueUrl(q.ctx, &sqs.GetQueueUrlInput{QueueName: &name})
	check(q, "get queue URL", err)
	if *found.QueueUrl != q.url {
		q.Errorf("got %s, want %s", *found.QueueUrl, q.url)
	}
	listed, err := q.client.ListQueues(q.ctx, &sqs.ListQueuesInput{QueueNamePrefix: &name})
	check(q, "list queues", err)
	if diff := cmp.Diff([]string{q.url}, listed.QueueUrls); diff != "" {
		q.Errorf("list (-want +got):\n%s", diff)
	}
}

func fifo(q *queue) {
	url := q.create(unique("conformance")+".fifo", map[string]string{"FifoQueue": "true"})
	if got := q.describe(url)["FifoQueue"]; got != "true" {
		q.Errorf("FifoQueue is %q, want true", got)
	}
}

func purges(q *queue) {
	q.sendBatch(5)
	_, err := q.client.PurgeQueue(q.ctx, &sqs.PurgeQueueInput{QueueUrl: &q.url})
	check(q, "purge", err)
	q.nothing()
}

func missingQueue(q *queue) {
	url := strings.TrimSuffix(q.url, "/") + "-missing"
	_, err := q.client.ReceiveMessage(q.ctx, &sqs.ReceiveMessageInput{QueueUrl: &url, WaitTimeSeconds: 10})
	refused[*types.QueueDoesNotExist](q, "receive", err)
	_, err = q.client.SendMessage(q.ctx, &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("x")})
	refused[*types.QueueDoesNotExist](q, "send", err)
	_, err = q.client.GetQueueAttributes(q.ctx, &sqs.GetQueueAttributesInput{QueueUrl: &url})
	refused[*types.QueueDoesNotExist](q, "describe", err)
	_, err = q.client.DeleteMessageBatch(q.ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &url, Entries: []types.DeleteMessageBatchRequestEntry{
		{Id: aws.String("0"), ReceiptHandle: aws.String("x")},
	}})
	refused[*types.QueueDoesNotExist](q, "delete batch", err)
}

func clock(q *queue) {
	out, err := q.client.SendMessage(q.ctx, &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: aws.String("x")})
	check(q, "send", err)
	raw, ok := awsmiddleware.GetRawResponse(out.ResultMetadata).(*smithyhttp.Response)
	if !ok {
		q.Fatal("no raw response")
	}
	date, err := time.Parse(time.RFC1123, raw.Header.Get("Date"))
	check(q, "read the Date header", err)
	m := q.one(1, 30)
	millis, err := strconv.ParseInt(m.Attributes["SentTimestamp"], 10, 64)
	check(q, "read SentTimestamp", err)
	if apart := date.Sub(time.UnixMilli(millis)); apart.Abs() > 5*time.Second {
		q.Errorf("the answer's Date and the message's SentTimestamp are %v apart", apart)
	}
}
