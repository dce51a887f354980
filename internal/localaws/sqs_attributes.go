package localaws

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

// redrivePolicy is the zero value where a queue has none.
type redrivePolicy struct {
	target      string // ARN
	maxReceives int
}

func checkQueueName(name string, fifo bool) error {
	bare, suffixed := strings.CutSuffix(name, ".fifo")
	valid := name != "" && len(name) <= 80 && suffixed == fifo
	for _, c := range []byte(bare) {
		valid = valid && isEntryByte(c)
	}
	if !valid {
		return invalidParameter("QueueName", "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length, with .fifo at the end of a FIFO queue's name only.")
	}
	return nil
}

// isEntryByte is the alphabet of queue names and batch entry ids.
func isEntryByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_'
}

// numeric are the attributes that are numbers.
var numeric = map[string]struct{ least, most, preset int }{
	"DelaySeconds":                  {0, 900, 0},
	"MaximumMessageSize":            {1024, maxMessageBytes, maxMessageBytes},
	"MessageRetentionPeriod":        {60, 1_209_600, 345_600},
	"ReceiveMessageWaitTimeSeconds": {0, 20, 0},
	"VisibilityTimeout":             {0, 43_200, 30},
}

// optional are the attributes that a queue may lack.
var optional = map[string]bool{
	"Policy": true, "RedrivePolicy": true, "RedriveAllowPolicy": true, "KmsMasterKeyId": true,
	"KmsDataKeyReusePeriodSeconds": true, "SqsManagedSseEnabled": true, "FifoQueue": true,
	"ContentBasedDeduplication": true, "DeduplicationScope": true, "FifoThroughputLimit": true,
}

// settable checks attributes of CreateQueue and SetQueueAttributes.
func settable(attributes map[string]string) (redrive redrivePolicy, err error) {
	for name, value := range attributes {
		if limit, ok := numeric[name]; ok {
			if n, err := strconv.Atoi(value); err != nil || n < limit.least || n > limit.most {
				return redrive, invalidAttributeValue(name, fmt.Sprintf("must be between %d and %d.", limit.least, limit.most))
			}
			continue
		}
		if !optional[name] {
			return redrive, invalidAttributeName(name)
		}
		switch name {
		case "RedrivePolicy":
			if redrive, err = parseRedrive(value); err != nil {
				return redrive, err
			}
		case "FifoQueue":
			if value != "true" {
				return redrive, invalidAttributeValue(name, "must be true, or absent.")
			}
		}
	}
	return redrive, nil
}

// parseRedrive reads a RedrivePolicy. The empty value takes a policy off.
func parseRedrive(value string) (redrivePolicy, error) {
	if value == "" {
		return redrivePolicy{}, nil
	}
	var policy struct {
		Target      string      `json:"deadLetterTargetArn"`
		MaxReceives json.Number `json:"maxReceiveCount"` // a number, or a string with one
	}
	if err := json.Unmarshal([]byte(value), &policy); err != nil {
		return redrivePolicy{}, invalidAttributeValue("RedrivePolicy", "not valid JSON.")
	}
	n, err := strconv.Atoi(policy.MaxReceives.String())
	if err != nil || n < 1 || n > 1000 || policy.Target == "" {
		return redrivePolicy{}, invalidAttributeValue("RedrivePolicy", "needs a deadLetterTargetArn and a maxReceiveCount from 1 to 1000.")
	}
	return redrivePolicy{target: policy.Target, maxReceives: n}, nil
}

// describe returns the attributes of a queue, the computed ones among them.
func (s *sqsServer) describe(url string) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.lookup(url, time.Now())
	if err != nil {
		return nil, err
	}
	all := maps.Clone(q.attributes)
	all["QueueArn"] = queueARN(q.name)
	all["ApproximateNumberOfMessages"] = strconv.Itoa(q.ready.Len())
	all["ApproximateNumberOfMessagesNotVisible"] = strconv.Itoa(q.inFlight)
	all["ApproximateNumberOfMessagesDelayed"] = strconv.Itoa(q.hidden.Len() - q.inFlight)
	all["CreatedTimestamp"] = strconv.FormatInt(q.created.Unix(), 10)
	all["LastModifiedTimestamp"] = strconv.FormatInt(q.modified.Unix(), 10)
	return all, nil
}

// configure sets attributes of a queue.
func (s *sqsServer) configure(url string, attributes map[string]string) error {
	redrive, err := settable(attributes)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	q, err := s.lookup(url, now)
	if err != nil {
		return err
	}
	for name, value := range attributes {
		if value == "" {
			delete(q.attributes, name)
			continue
		}
		q.attributes[name] = value
	}
	if _, ok := attributes["RedrivePolicy"]; ok {
		q.redrive = redrive
	}
	q.modified = now
	return nil
}
