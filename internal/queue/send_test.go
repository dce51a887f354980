package queue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/queue"
	"github.com/sluicehq/sluice/job"
)

// attributeBytes is what the trail and the traceparent take from a message:
// names, types and values.
func attributeBytes(m job.Message) int {
	n := 0
	if m.Trail != (job.Trail{}) {
		trail, _ := json.Marshal(m.Trail)
		n += len("sluice") + len("String") + len(trail)
	}
	if m.Traceparent != "" {
		n += len("traceparent") + len("String") + len(m.Traceparent)
	}
	return n
}

// body is a job of exactly n bytes.
func body(n int) []byte {
	const open, shut = `{"id":"order-1","run":"nightly","model":"sonnet","converse":{"x":"`, `"}}`
	return []byte(open + strings.Repeat("a", n-len(open)-len(shut)) + shut)
}

// taskq #36, amazon-sqs-python-extended-client-lib #25: attributes count.
// floci #1277: a message is 1 MiB, an older queue's 256 KiB.
func TestSendCountsAttributes_36(t *testing.T) {
	for name, limit := range map[string]int{"": 1 << 20, "262144": 256 << 10} {
		t.Run(name, func(t *testing.T) {
			attributes := map[string]string{}
			if name != "" {
				attributes["MaximumMessageSize"] = name
			}
			in(t, attributes, func(f *fixture) {
				if _, err := f.Describe(f.Context()); err != nil {
					f.Fatal(err)
				}
				for _, m := range []job.Message{
					{},
					{Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
					{Trail: job.Trail{ID: "order-1", Attempts: 2}, Traceparent: "00-4b-00-01"},
				} {
					m.Body = body(limit - attributeBytes(m))
					f.send(m)
					if d := f.receiveOne(); !bytes.Equal(d.Body, m.Body) {
						f.Errorf("a body of %d bytes came back as %d", len(m.Body), len(d.Body))
					} else {
						f.Delete(f.Context(), []string{d.Handle})
					}
					m.Body = body(limit - attributeBytes(m) + 1)
					if err := f.Send(f.Context(), m); !errors.Is(err, job.ErrNoRoom) {
						f.Errorf("one byte more: %v, want job.ErrNoRoom", err)
					}
				}
			})
		})
	}
}

func TestSendRefusedCharacters(t *testing.T) {
	in(t, nil, func(f *fixture) {
		if err := f.Send(f.Context(), job.Message{Body: []byte("{\"output\":\"\uffff\"}")}); !errors.Is(err, job.ErrNoRoom) {
			f.Errorf("error %v, want job.ErrNoRoom", err)
		}
	})
}

func TestSendByPayload(t *testing.T) {
	in(t, nil, func(f *fixture) {
		payloads := f.payloads()
		large := body(1 << 20)
		for name, tc := range map[string]struct {
			message job.Message
			want    job.Identity
		}{
			"the body's names win":  {job.Message{Body: large, Trail: job.Trail{ID: "other", Attempts: 1}}, job.Identity{Run: "nightly", ID: "order-1"}},
			"a body without a name": {job.Message{Body: bytes.Replace(large, []byte(`"id":"order-1",`), nil, 1), Trail: job.Trail{ID: "m-1", Code: strings.Repeat("x", 99)}}, job.Identity{Run: "nightly", ID: "m-1"}},
			"a body that is no job": {job.Message{Body: append([]byte(`{"id":"order-2","id`), large[:len(large)-1]...), Trail: job.Trail{Reason: job.Malformed}}, job.Identity{ID: "order-2"}},
		} {
			f.send(tc.message)
			d := f.receiveOne()
			f.Delete(f.Context(), []string{d.Handle})
			if d.Trail != tc.message.Trail {
				f.Errorf("%s: trail %+v, want %+v", name, d.Trail, tc.message.Trail)
			}
			pointer, err := job.Decode(d.Body)
			if err != nil {
				f.Fatalf("%s: %v in %s", name, err, d.Body)
			}
			if diff := cmp.Diff(tc.want, pointer.Identity()); diff != "" {
				f.Errorf("%s (-want +got):\n%s", name, diff)
			}
			got, err := payloads.Get(f.Context(), pointer.Payload)
			if err != nil || !bytes.Equal(got, tc.message.Body) {
				f.Errorf("%s: %d bytes behind the pointer, error %v, want %d bytes", name, len(got), err, len(tc.message.Body))
			}
		}
	})
}

// A job that is renewed twenty times leaves one object.
func TestPayloadKeyIsTheContent(t *testing.T) {
	in(t, nil, func(f *fixture) {
		f.payloads()
		m := job.Message{Body: body(1 << 20), Trail: job.Trail{ID: "order-1"}}
		f.send(m)
		f.send(m)
		d := f.receive(10)
		if len(d) != 2 || !bytes.Equal(d[0].Body, d[1].Body) {
			f.Errorf("%d pointers, want 2 equal ones", len(d))
		}
	})
}

func TestSendDelay(t *testing.T) {
	in(t, nil, func(f *fixture) {
		f.send(job.Message{Body: []byte("{}"), Delay: 14500 * time.Millisecond})
		start := time.Now()
		if d, err := f.Receive(f.Context(), 1, 20*time.Second, visibility); err != nil || len(d) != 1 {
			f.Fatalf("%d messages, error %v", len(d), err)
		}
		if got := time.Since(start); got != 15*time.Second {
			f.Errorf("a delay of 14.5 s lasted %v, want 15 s", got)
		}
	})
}

// Copies of results share their calls.
func TestSendsShareCalls(t *testing.T) {
	in(t, nil, func(f *fixture) {
		f.open(queue.Options{Linger: 100 * time.Millisecond})
		start := time.Now()
		var sends sync.WaitGroup
		for i := range 25 {
			sends.Go(func() {
				m := job.Message{Body: fmt.Appendf(nil, `{"id":"%d"}`, i)}
				want := error(nil)
				if i == 7 {
					m.Body, want = []byte("\uffff"), job.ErrNoRoom
				}
				if err := f.Send(f.Context(), m); !errors.Is(err, want) {
					f.Errorf("message %d: error %v, want %v", i, err, want)
				}
			})
		}
		sends.Wait()
		if took := time.Since(start); took != 100*time.Millisecond {
			f.Errorf("the last was sent after %v, want the linger", took)
		}
		if n := f.aws.Calls()["SQS.SendMessageBatch"]; n != 3 {
			f.Errorf("%d calls for 25 messages, want 3", n)
		}
		ids := map[string]bool{}
		for range 3 {
			for _, d := range f.receive(10) {
				ids[string(d.Body)] = true
			}
		}
		if len(ids) != 24 {
			f.Errorf("%d messages on the queue, want 24", len(ids))
		}
	})
}

// A call takes as much as one message may have.
func TestSharedCallsKeepTheLimit(t *testing.T) {
	in(t, nil, func(f *fixture) {
		f.open(queue.Options{Linger: 100 * time.Millisecond})
		var sends sync.WaitGroup
		for range 5 {
			sends.Go(func() { f.send(job.Message{Body: body(400 << 10)}) })
		}
		sends.Wait()
		if n := f.aws.Calls()["SQS.SendMessageBatch"]; n != 3 {
			f.Errorf("%d calls for 2,000 KiB, want 3", n)
		}
	})
}

// Who gives up does not take the others' message with it.
func TestSendGivenUp(t *testing.T) {
	in(t, nil, func(f *fixture) {
		f.open(queue.Options{Linger: time.Second})
		hasty, cancel := context.WithTimeout(f.Context(), 500*time.Millisecond)
		defer cancel()
		var sends sync.WaitGroup
		sends.Go(func() { f.send(job.Message{Body: body(100)}) })
		sends.Go(func() {
			if err := f.Send(hasty, job.Message{Body: body(200)}); !errors.Is(err, context.DeadlineExceeded) {
				f.Errorf("error %v, want the deadline's", err)
			}
		})
		sends.Wait()
		if n := len(f.receive(10)); n != 2 {
			f.Errorf("%d messages on the queue, want 2", n)
		}
	})
}
