package localaws

import (
	"fmt"
	"net/http"
)

// sqsError is an error of the SQS API: what the SDK decodes into a type.
type sqsError struct {
	shape   string // the error's type, which the body names
	query   string // its older name, which the x-amzn-query-error header and Failed entries carry
	message string
}

func (e *sqsError) Error() string { return e.query + ": " + e.message }

func (e *sqsError) write(w http.ResponseWriter) {
	w.Header().Set("X-Amzn-Query-Error", e.query+";Sender")
	writeJSON(w, http.StatusBadRequest, map[string]string{"__type": e.shape, "message": e.message})
}

// modelled is an error that the SDK has a type for.
func modelled(shape, query, message string) *sqsError {
	return &sqsError{shape: "com.amazonaws.sqs#" + shape, query: query, message: message}
}

var (
	errNoQueue = modelled("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue",
		"The specified queue does not exist.")
	errQueueExists = modelled("QueueNameExists", "QueueAlreadyExists",
		"A queue already exists with the same name and a different value for one of its attributes.")
	errHandle = modelled("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid",
		"The input receipt handle is invalid.")
	errNotInFlight = modelled("MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight",
		"The specified message isn't in flight.")
	errOverLimit = modelled("OverLimit", "OverLimit",
		"Too many messages in flight.")
	errEmptyBatch = modelled("EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest",
		"There should be at least one entry in the request.")
	errTooManyEntries = modelled("TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
		"Maximum number of entries per request are 10.")
	errNotDistinct = modelled("BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
		"Two or more batch entries in the request have the same Id.")
	errEntryID = modelled("InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId",
		"A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.")
	errBatchTooLong = modelled("BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong",
		fmt.Sprintf("Batch requests cannot be longer than %d bytes.", maxMessageBytes))
	errContents = modelled("InvalidMessageContents", "InvalidMessageContents",
		"Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF.")
	errNoTask = modelled("ResourceNotFoundException", "ResourceNotFoundException",
		"The resource that you specified for the SourceArn parameter doesn't exist.")
	errFIFO = modelled("UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation",
		"localaws creates and describes FIFO queues but moves no messages on them.")

	// SQS's words for a lease that can't be extended: the message is gone.
	errGone = invalidParameter("ReceiptHandle",
		"Message does not exist or is not available for visibility timeout change.")
	errBeyond12Hours = invalidParameter("VisibilityTimeout",
		"Total VisibilityTimeout for the message is beyond the limit [43200 seconds].")
)

// The errors below have no type in the SDK: a smithy.GenericAPIError with the
// query name as its code.

func invalidParameter(name, reason string) *sqsError {
	return &sqsError{
		shape:   "com.amazon.coral.service#InvalidParameterValueException",
		query:   "InvalidParameterValue",
		message: fmt.Sprintf("Value for parameter %s is invalid. Reason: %s", name, reason),
	}
}

func missingParameter(name string) *sqsError {
	return &sqsError{
		shape:   "com.amazon.coral.service#MissingRequiredParameterException",
		query:   "MissingParameter",
		message: "The request must contain the parameter " + name + ".",
	}
}

func invalidAttributeName(name string) *sqsError {
	return modelled("InvalidAttributeName", "InvalidAttributeName", "Unknown Attribute "+name+".")
}

func invalidAttributeValue(name, reason string) *sqsError {
	return modelled("InvalidAttributeValue", "InvalidAttributeValue", "Invalid value for the parameter "+name+". Reason: "+reason)
}
