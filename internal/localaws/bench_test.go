package localaws_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/sluicehq/sluice/internal/localaws"
)

// BenchmarkQueue measures what a message of 1 KiB costs the server alone, sent,
// received and deleted in batches of ten, while 100,000 others are in flight
// on the same queue.
func BenchmarkQueue(b *testing.B) {
	s := localaws.New(localaws.Options{})
	url := s.CreateQueue("jobs", map[string]string{"VisibilityTimeout": "43200"})
	body := strings.Repeat(`{"text":"0123456789"} `, 47)
	cycle := func(remove bool) {
		var sends []map[string]string
		for i := range 10 {
			sends = append(sends, map[string]string{"Id": strconv.Itoa(i), "MessageBody": body})
		}
		call(b, s, "SendMessageBatch", map[string]any{"QueueUrl": url, "Entries": sends}, nil)
		var got struct {
			Messages []struct{ ReceiptHandle string }
		}
		call(b, s, "ReceiveMessage", map[string]any{
			"QueueUrl": url, "MaxNumberOfMessages": 10, "MessageSystemAttributeNames": []string{"ApproximateReceiveCount", "SentTimestamp", "MessageGroupId"},
		}, &got)
		if len(got.Messages) != 10 {
			b.Fatalf("received %d messages, want 10", len(got.Messages))
		}
		if !remove {
			return
		}
		var deletes []map[string]string
		for i, m := range got.Messages {
			deletes = append(deletes, map[string]string{"Id": strconv.Itoa(i), "ReceiptHandle": m.ReceiptHandle})
		}
		call(b, s, "DeleteMessageBatch", map[string]any{"QueueUrl": url, "Entries": deletes}, nil)
	}
	for range 10_000 {
		cycle(false)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		cycle(true)
		n += 10
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/message")
}

func call(b *testing.B, h http.Handler, operation string, in, out any) {
	b.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/", bytes.NewReader(body))
	r.Header.Set("X-Amz-Target", "AmazonSQS."+operation)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		b.Fatalf("%s: %s", operation, w.Body)
	}
	if out != nil {
		if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBucket measures a HEAD of an absent object and a conditional put of
// 1 KiB beside it, in a bucket that grows.
func BenchmarkBucket(b *testing.B) {
	s := localaws.New(localaws.Options{})
	s.CreateBucket("results")
	body := strings.Repeat("x", 1024)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		target := fmt.Sprintf("/results/run/%08d.json", i)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodHead, target, nil))
		if w.Code != http.StatusNotFound {
			b.Fatalf("head: %d", w.Code)
		}
		r := httptest.NewRequestWithContext(context.Background(), http.MethodPut, target, strings.NewReader(body))
		r.Header.Set("Content-Length", "1024")
		r.Header.Set("If-None-Match", "*")
		w = httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatalf("put: %d %s", w.Code, w.Body)
		}
	}
}
