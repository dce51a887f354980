package localaws

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The SQS API as the SDKs speak it: JSON 1.0, the operation in X-Amz-Target.

const sqsTarget = "AmazonSQS."

// sqsOperations maps an operation to what decodes, performs and answers it.
var sqsOperations = map[string]func(*sqsServer, context.Context, []byte) (any, error){
	"CreateQueue":                  operation((*sqsServer).createQueue),
	"GetQueueUrl":                  operation((*sqsServer).getQueueURL),
	"ListQueues":                   operation((*sqsServer).listQueues),
	"GetQueueAttributes":           operation((*sqsServer).getQueueAttributes),
	"SetQueueAttributes":           operation((*sqsServer).setQueueAttributes),
	"PurgeQueue":                   operation((*sqsServer).purgeQueue),
	"DeleteQueue":                  operation((*sqsServer).deleteQueue),
	"SendMessage":                  operation((*sqsServer).sendMessage),
	"SendMessageBatch":             operation((*sqsServer).sendMessageBatch),
	"ReceiveMessage":               operation((*sqsServer).receiveMessage),
	"ChangeMessageVisibility":      operation((*sqsServer).changeMessageVisibility),
	"ChangeMessageVisibilityBatch": operation((*sqsServer).changeMessageVisibilityBatch),
	"DeleteMessage":                operation((*sqsServer).deleteMessage),
	"DeleteMessageBatch":           operation((*sqsServer).deleteMessageBatch),
	"StartMessageMoveTask":         operation((*sqsServer).startMessageMoveTask),
	"ListMessageMoveTasks":         operation((*sqsServer).listMessageMoveTasks),
}

func operation[In, Out any](do func(*sqsServer, context.Context, In) (Out, error)) func(*sqsServer, context.Context, []byte) (any, error) {
	return func(s *sqsServer, ctx context.Context, body []byte) (any, error) {
		var in In
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, &sqsError{
				shape: "com.amazon.coral.service#SerializationException", query: "MalformedInput", message: err.Error(),
			}
		}
		return do(s, ctx, in)
	}
}

func (s *sqsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), sqsTarget)
	do, ok := sqsOperations[name]
	if !ok {
		(&sqsError{
			shape: "com.amazon.coral.service#UnknownOperationException", query: "InvalidAction",
			message: "localaws does not implement " + name + ".",
		}).write(w)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away
	}
	out, err := do(s, r.Context(), body)
	if known, ok := errors.AsType[*sqsError](err); ok {
		known.write(w)
		return
	}
	if err != nil {
		return // the context's: the client went away
	}
	writeJSON(w, http.StatusOK, out)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // the client went away
}

type none struct{}

// Queues.

type onQueue struct{ QueueUrl string }

type queueURL struct {
	QueueUrl string `json:"QueueUrl"`
}

func (s *sqsServer) createQueue(_ context.Context, in struct {
	QueueName  string
	Attributes map[string]string
}) (queueURL, error) {
	url, err := s.create(in.QueueName, in.Attributes)
	return queueURL{url}, err
}

func (s *sqsServer) getQueueURL(_ context.Context, in struct{ QueueName string }) (queueURL, error) {
	if err := s.exists(in.QueueName); err != nil {
		return queueURL{}, err
	}
	return queueURL{s.url(in.QueueName)}, nil
}

func (s *sqsServer) listQueues(_ context.Context, in struct {
	QueueNamePrefix string
	MaxResults      *int
	NextToken       string
}) (out struct {
	QueueUrls []string
	NextToken string `json:",omitempty"`
}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	most := 1000
	if in.MaxResults != nil {
		if most = *in.MaxResults; most < 1 || most > 1000 {
			return out, invalidParameter("MaxResults", "Must be between 1 and 1000.")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.queues)) {
		if !strings.HasPrefix(name, in.QueueNamePrefix) || name <= in.NextToken {
			continue
		}
		if len(out.QueueUrls) == most {
			// AWS pages only for those who ask for it.
			if in.MaxResults != nil {
				out.NextToken = nameIn(out.QueueUrls[most-1])
			}
			break
		}
		out.QueueUrls = append(out.QueueUrls, s.url(name))
	}
	return out, nil
}

func (s *sqsServer) getQueueAttributes(_ context.Context, in struct {
	QueueUrl       string
	AttributeNames []string
}) (out struct {
	Attributes map[string]string `json:",omitempty"`
}, err error) {
	all, err := s.describe(in.QueueUrl)
	if err != nil {
		return out, err
	}
	out.Attributes = make(map[string]string)
	for _, name := range in.AttributeNames {
		switch value, ok := all[name]; {
		case name == "All":
			out.Attributes = all
			return out, nil
		case ok:
			out.Attributes[name] = value
		case !optional[name]:
			return out, invalidAttributeName(name)
		}
	}
	return out, nil
}

func (s *sqsServer) setQueueAttributes(_ context.Context, in struct {
	QueueUrl   string
	Attributes map[string]string
}) (none, error) {
	return none{}, s.configure(in.QueueUrl, in.Attributes)
}

func (s *sqsServer) purgeQueue(_ context.Context, in onQueue) (none, error) {
	return none{}, s.purge(in.QueueUrl)
}

func (s *sqsServer) deleteQueue(_ context.Context, in onQueue) (none, error) {
	return none{}, s.destroy(in.QueueUrl)
}

// Messages.

type sendInput struct {
	Id                      string // in a batch only
	MessageBody             string
	DelaySeconds            *int
	MessageAttributes       map[string]attribute
	MessageSystemAttributes map[string]attribute
	MessageGroupId          string
}

type sendOutput struct {
	Id                     string `json:"Id,omitempty"`
	MessageId              string `json:"MessageId"`
	MD5OfMessageBody       string `json:"MD5OfMessageBody"`
	MD5OfMessageAttributes string `json:"MD5OfMessageAttributes,omitempty"`
}

// checked returns the content of a send that breaks no rule but, perhaps, the
// queue's own.
func (in sendInput) checked() (content, error) {
	switch {
	case in.MessageBody == "":
		return content{}, missingParameter("MessageBody")
	case !validCharacters(in.MessageBody):
		return content{}, errContents
	case in.DelaySeconds != nil && (*in.DelaySeconds < 0 || *in.DelaySeconds > 900):
		return content{}, invalidParameter("DelaySeconds", "DelaySeconds must be >= 0 and <= 900.")
	case len(in.MessageGroupId) > 128:
		return content{}, invalidParameter("MessageGroupId", "MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length.")
	}
	if err := checkAttributes(in.MessageAttributes); err != nil {
		return content{}, err
	}
	return content{
		body:       in.MessageBody,
		md5:        md5Hex(in.MessageBody),
		attributes: in.MessageAttributes,
		group:      in.MessageGroupId,
		trace:      in.MessageSystemAttributes["AWSTraceHeader"].value(),
	}, nil
}

func (s *sqsServer) sendOne(url string, in sendInput) (sendOutput, error) {
	c, err := in.checked()
	if err != nil {
		return sendOutput{}, err
	}
	id, err := s.send(url, c, in.DelaySeconds)
	if err != nil {
		return sendOutput{}, err
	}
	return sendOutput{
		Id: in.Id, MessageId: id.String(), MD5OfMessageBody: c.md5, MD5OfMessageAttributes: md5OfAttributes(c.attributes),
	}, nil
}

func (s *sqsServer) sendMessage(_ context.Context, in struct {
	QueueUrl string
	sendInput
}) (sendOutput, error) {
	return s.sendOne(in.QueueUrl, in.sendInput)
}

func (s *sqsServer) sendMessageBatch(_ context.Context, in struct {
	QueueUrl string
	Entries  []sendInput
}) (out batchOutput[sendOutput], err error) {
	total := 0
	for _, e := range in.Entries {
		total += (&content{body: e.MessageBody, attributes: e.MessageAttributes}).size()
	}
	if total > maxMessageBytes {
		return out, errBatchTooLong
	}
	return batch(s, in.QueueUrl, in.Entries, func(e sendInput) string { return e.Id }, s.sendOne)
}

func (s *sqsServer) receiveMessage(ctx context.Context, in struct {
	QueueUrl                    string
	MaxNumberOfMessages         *int
	VisibilityTimeout           *int
	WaitTimeSeconds             *int
	AttributeNames              []string // the older name of the next
	MessageSystemAttributeNames []string
	MessageAttributeNames       []string
}) (out struct {
	Messages []receivedMessage `json:",omitempty"`
}, err error) {
	most := 1
	if in.MaxNumberOfMessages != nil {
		most = *in.MaxNumberOfMessages
	}
	switch {
	case most < 1 || most > 10:
		return out, invalidParameter("MaxNumberOfMessages", "Must be between 1 and 10, if provided.")
	case in.WaitTimeSeconds != nil && (*in.WaitTimeSeconds < 0 || *in.WaitTimeSeconds > 20):
		return out, invalidParameter("WaitTimeSeconds", "Must be >= 0 and <= 20, if provided.")
	case in.VisibilityTimeout != nil && (*in.VisibilityTimeout < 0 || *in.VisibilityTimeout > 43200):
		return out, invalidParameter("VisibilityTimeout", "Must be >= 0 and <= 43200, if provided.")
	}
	got, err := s.receive(ctx, in.QueueUrl, most, in.WaitTimeSeconds, in.VisibilityTimeout)
	if err != nil {
		return out, err
	}
	names := append(in.MessageSystemAttributeNames, in.AttributeNames...)
	for _, m := range got {
		attributes := selected(m.attributes, in.MessageAttributeNames)
		out.Messages = append(out.Messages, receivedMessage{
			MessageId:              m.id.String(),
			ReceiptHandle:          m.handle.String(),
			MD5OfBody:              m.md5,
			Body:                   m.body,
			Attributes:             m.systemAttributes(names),
			MessageAttributes:      attributes,
			MD5OfMessageAttributes: md5OfAttributes(attributes),
		})
	}
	return out, nil
}

type receivedMessage struct {
	MessageId              string               `json:"MessageId"`
	ReceiptHandle          string               `json:"ReceiptHandle"`
	MD5OfBody              string               `json:"MD5OfBody"`
	Body                   string               `json:"Body"`
	Attributes             map[string]string    `json:"Attributes,omitempty"`
	MessageAttributes      map[string]attribute `json:"MessageAttributes,omitempty"`
	MD5OfMessageAttributes string               `json:"MD5OfMessageAttributes,omitempty"`
}

// systemAttributes returns those that were asked for and have a value.
func (m received) systemAttributes(names []string) map[string]string {
	if len(names) == 0 {
		return nil
	}
	millis := func(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
	out := make(map[string]string)
	for name, value := range map[string]string{
		"ApproximateReceiveCount":          strconv.Itoa(m.receives),
		"SentTimestamp":                    millis(m.sent),
		"ApproximateFirstReceiveTimestamp": millis(m.firstReceived),
		"SenderId":                         account,
		"MessageGroupId":                   m.group,
		"DeadLetterQueueSourceArn":         m.source,
		"AWSTraceHeader":                   m.trace,
	} {
		if value != "" && (slices.Contains(names, name) || slices.Contains(names, "All")) {
			out[name] = value
		}
	}
	return out
}

type visibilityInput struct {
	Id                string // in a batch only
	ReceiptHandle     string
	VisibilityTimeout int
}

func (s *sqsServer) changeMessageVisibility(_ context.Context, in struct {
	QueueUrl string
	visibilityInput
}) (none, error) {
	return none{}, s.setVisibility(in.QueueUrl, in.ReceiptHandle, in.VisibilityTimeout)
}

func (s *sqsServer) changeMessageVisibilityBatch(_ context.Context, in struct {
	QueueUrl string
	Entries  []visibilityInput
}) (batchOutput[entryDone], error) {
	return batch(s, in.QueueUrl, in.Entries, func(e visibilityInput) string { return e.Id },
		func(url string, e visibilityInput) (entryDone, error) {
			return entryDone{e.Id}, s.setVisibility(url, e.ReceiptHandle, e.VisibilityTimeout)
		})
}

type deleteInput struct {
	Id            string // in a batch only
	ReceiptHandle string
}

func (s *sqsServer) deleteMessage(_ context.Context, in struct {
	QueueUrl string
	deleteInput
}) (none, error) {
	return none{}, s.remove(in.QueueUrl, in.ReceiptHandle)
}

func (s *sqsServer) deleteMessageBatch(_ context.Context, in struct {
	QueueUrl string
	Entries  []deleteInput
}) (batchOutput[entryDone], error) {
	return batch(s, in.QueueUrl, in.Entries, func(e deleteInput) string { return e.Id },
		func(url string, e deleteInput) (entryDone, error) {
			return entryDone{e.Id}, s.remove(url, e.ReceiptHandle)
		})
}

// Batches.

type entryDone struct {
	Id string `json:"Id"`
}

type entryFailed struct {
	Id          string `json:"Id"`
	Code        string `json:"Code"`
	Message     string `json:"Message"`
	SenderFault bool   `json:"SenderFault"`
}

type batchOutput[Done any] struct {
	Successful []Done        `json:"Successful,omitempty"`
	Failed     []entryFailed `json:"Failed,omitempty"`
}

// batch performs each entry by itself, once the batch as a whole is in order.
func batch[Entry, Done any](s *sqsServer, url string, entries []Entry, id func(Entry) string, do func(url string, e Entry) (Done, error)) (out batchOutput[Done], err error) {
	if err := checkBatch(entries, id); err != nil {
		return out, err
	}
	if err := s.exists(url); err != nil {
		return out, err // a missing queue fails the batch, not each entry
	}
	for _, e := range entries {
		done, err := do(url, e)
		if known, ok := errors.AsType[*sqsError](err); ok {
			out.Failed = append(out.Failed, entryFailed{Id: id(e), Code: known.query, Message: known.message, SenderFault: true})
			continue
		}
		out.Successful = append(out.Successful, done)
	}
	return out, nil
}

// checkBatch refuses a batch that fails as a whole.
func checkBatch[Entry any](entries []Entry, id func(Entry) string) error {
	if len(entries) == 0 {
		return errEmptyBatch
	}
	if len(entries) > 10 {
		return errTooManyEntries
	}
	seen := make(map[string]bool)
	for _, e := range entries {
		id := id(e)
		if id == "" || len(id) > 80 {
			return errEntryID
		}
		for _, c := range []byte(id) {
			if !isEntryByte(c) {
				return errEntryID
			}
		}
		if seen[id] {
			return errNotDistinct
		}
		seen[id] = true
	}
	return nil
}

// Redrives.

func (s *sqsServer) startMessageMoveTask(_ context.Context, in struct{ SourceArn, DestinationArn string }) (out struct{ TaskHandle string }, err error) {
	out.TaskHandle, err = s.move(in.SourceArn, in.DestinationArn)
	return out, err
}

func (s *sqsServer) listMessageMoveTasks(_ context.Context, in struct {
	SourceArn  string
	MaxResults *int
}) (out struct{ Results []moveTaskOutput }, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	most := 1
	if in.MaxResults != nil {
		most = *in.MaxResults
	}
	for _, t := range slices.Backward(s.tasks) {
		if t.source != in.SourceArn || len(out.Results) == most {
			continue
		}
		status := "COMPLETED"
		if t.failure != "" {
			status = "FAILED"
		}
		out.Results = append(out.Results, moveTaskOutput{
			SourceArn: t.source, DestinationArn: t.destination, Status: status, FailureReason: t.failure,
			ApproximateNumberOfMessagesMoved: t.moved, StartedTimestamp: t.started.UnixMilli(),
		})
	}
	return out, nil
}

type moveTaskOutput struct {
	SourceArn                        string
	DestinationArn                   string `json:",omitempty"`
	Status                           string
	FailureReason                    string `json:",omitempty"`
	ApproximateNumberOfMessagesMoved int
	StartedTimestamp                 int64
}
