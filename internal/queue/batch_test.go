package queue_test

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluicehq/sluice/job"
)

// both runs a test for the two operations that go in batches.
func both(t *testing.T, attributes map[string]string, test func(f *fixture, operation string, do func(handles ...string) []error)) {
	t.Run("visibility", func(t *testing.T) {
		in(t, attributes, func(f *fixture) {
			test(f, "SQS.ChangeMessageVisibilityBatch", func(handles ...string) []error {
				var changes []job.Visibility
				for _, h := range handles {
					changes = append(changes, job.Visibility{Handle: h, For: time.Hour})
				}
				return f.SetVisibility(f.Context(), changes)
			})
		})
	})
	t.Run("delete", func(t *testing.T) {
		in(t, attributes, func(f *fixture) {
			test(f, "SQS.DeleteMessageBatch", func(handles ...string) []error { return f.Delete(f.Context(), handles) })
		})
	})
}

// handles sends and receives n messages.
func (f *fixture) handles(n int) []string {
	f.Helper()
	for range n {
		f.send(job.Message{Body: []byte("{}")})
	}
	var handles []string
	for _, d := range f.receive(10) {
		handles = append(handles, d.Handle)
	}
	if len(handles) != n {
		f.Fatalf("received %d messages, want %d", len(handles), n)
	}
	return handles
}

// spell puts slots into words: "ok", "gone" or "error".
func spell(errs []error) string {
	words := make([]string, len(errs))
	for i, err := range errs {
		switch {
		case err == nil:
			words[i] = "ok"
		case errors.Is(err, job.ErrGone):
			words[i] = "gone"
		default:
			words[i] = "error"
		}
	}
	return strings.Join(words, " ")
}

// bbc/sqs-consumer #193, apache/airflow #73423: HTTP 200 with Failed entries.
func TestFailedEntriesAreSeen_193_73423(t *testing.T) {
	both(t, nil, func(f *fixture, operation string, do func(...string) []error) {
		h := f.handles(4)
		f.intercept(operation, func(answer map[string]any) {
			answer["Successful"] = []any{map[string]any{"Id": "3"}, map[string]any{"Id": "0"}}
			answer["Failed"] = []any{
				map[string]any{"Id": "2", "Code": "InternalError", "Message": "try again", "SenderFault": false},
				map[string]any{"Id": "1", "Code": "ReceiptHandleIsInvalid", "SenderFault": true},
				map[string]any{"Id": "9", "Code": "InternalError", "SenderFault": false},
			}
		})
		errs := do(h...)
		if got, want := spell(errs), "ok gone error ok"; got != want {
			f.Errorf("outcomes %q, want %q", got, want)
		}
		if got := errs[2].Error(); !strings.HasSuffix(got, " orders: InternalError: try again") {
			f.Errorf("error %q does not name the queue and the code", got)
		}
	})
}

func TestEntryWithoutOutcomeIsAnError(t *testing.T) {
	both(t, nil, func(f *fixture, operation string, do func(...string) []error) {
		h := f.handles(2)
		f.intercept(operation, func(answer map[string]any) {
			answer["Successful"] = []any{map[string]any{"Id": "0"}}
		})
		if got, want := spell(do(h...)), "ok error"; got != want {
			f.Errorf("outcomes %q, want %q", got, want)
		}
	})
}

// awspring #1654: the same message twice in a batch fails all of it where
// entries are named by message.
func TestSameMessageTwiceInABatch_1654(t *testing.T) {
	both(t, nil, func(f *fixture, _ string, do func(...string) []error) {
		h := f.handles(2)
		if got, want := spell(do(h[0], h[0], h[1])), "ok ok ok"; got != want {
			f.Errorf("outcomes %q, want %q", got, want)
		}
	})
}

func TestFullBatch(t *testing.T) {
	both(t, nil, func(f *fixture, _ string, do func(...string) []error) {
		h := f.handles(10)
		slices.Reverse(h)
		if errs := do(h...); slices.ContainsFunc(errs, func(err error) bool { return err != nil }) || len(errs) != 10 {
			f.Errorf("outcomes %q", spell(errs))
		}
		time.Sleep(2 * visibility)
		if d := f.receive(10); len(d) != 0 {
			f.Errorf("%d messages came back", len(d))
		}
	})
}

func TestFailedRequestIsInEverySlot(t *testing.T) {
	both(t, nil, func(f *fixture, operation string, do func(...string) []error) {
		h := f.handles(3)
		for _, tc := range []struct {
			status int
			code   string
			denied bool
		}{
			{http.StatusServiceUnavailable, "ServiceUnavailable", false},
			{http.StatusForbidden, "AccessDenied", true},
		} {
			f.refuse(tc.status, tc.code)
			errs := do(h...)
			if len(errs) != 3 {
				f.Fatalf("%d slots, want 3", len(errs))
			}
			for _, err := range errs {
				if err == nil || errors.Is(err, job.ErrGone) || errors.Is(err, job.ErrDenied) != tc.denied {
					f.Errorf("%d: %v", tc.status, err)
				}
			}
		}
	})
}

func TestGone(t *testing.T) {
	in(t, nil, func(f *fixture) {
		set := func(handle string, d time.Duration) string {
			return spell(f.SetVisibility(f.Context(), []job.Visibility{{Handle: handle, For: d}}))
		}
		h := f.handles(1)[0]
		if got := set("no handle", time.Minute); got != "gone" {
			f.Errorf("a handle that SQS never gave: %s", got)
		}
		// localstack #3956, aws-sdk-net #794: 12 hours from the receipt, so that
		// 12 hours are refused a second later.
		time.Sleep(time.Second)
		if got := set(h, 12*time.Hour); got != "gone" {
			f.Errorf("past 12 hours: %s", got)
		}
		if got := set(h, 12*time.Hour-time.Minute); got != "ok" {
			f.Errorf("within 12 hours: %s", got)
		}
		if got := set(h, 0); got != "ok" {
			f.Errorf("release: %s", got)
		}
		if got := set(h, time.Minute); got != "gone" {
			f.Errorf("extension of what is not in flight: %s", got)
		}
		f.Delete(f.Context(), []string{f.receiveOne().Handle})
		if got := set(h, time.Minute); got != "gone" {
			f.Errorf("extension of what is deleted: %s", got)
		}
	})
}

// The zero must reach SQS: left out, a release would be refused or ignored.
func TestReleaseAtOnce(t *testing.T) {
	in(t, nil, func(f *fixture) {
		h := f.handles(1)[0]
		f.SetVisibility(f.Context(), []job.Visibility{{Handle: h}})
		if d := f.receiveOne(); d.Receives != 2 {
			f.Errorf("receive count %d, want 2", d.Receives)
		}
	})
}

// An extension may last longer than asked for, never shorter.
func TestVisibilityRoundsUp(t *testing.T) {
	in(t, nil, func(f *fixture) {
		h := f.handles(1)[0]
		f.SetVisibility(f.Context(), []job.Visibility{{Handle: h, For: 2500 * time.Millisecond}})
		start := time.Now()
		if d, err := f.Receive(f.Context(), 1, 20*time.Second, visibility); err != nil || len(d) != 1 {
			f.Fatalf("%d messages, error %v", len(d), err)
		}
		if got := time.Since(start); got != 3*time.Second {
			f.Errorf("2.5 s of invisibility lasted %v, want 3 s", got)
		}
	})
}

// justeattakeaway/JustSaying #1584, SlimMessageBus #473: an older handle deletes
// nothing and says yes. It is why a delivery's handle is replaced by a newer one.
func TestDeleteWithOldHandle_1584(t *testing.T) {
	in(t, nil, func(f *fixture) {
		old := f.handles(1)[0]
		time.Sleep(visibility)
		fresh := f.receiveOne().Handle
		if got := spell(f.Delete(f.Context(), []string{old})); got != "ok" {
			f.Errorf("delete with the old handle: %s", got)
		}
		time.Sleep(visibility)
		again := f.receiveOne()
		if again.Handle == fresh || again.Receives != 3 {
			f.Errorf("the message was deleted by its old handle")
		}
		// numaflow #3615: deleting again is harmless.
		if got := spell(f.Delete(f.Context(), []string{again.Handle, again.Handle})); got != "ok ok" {
			f.Errorf("delete twice: %s", got)
		}
		time.Sleep(visibility)
		if d := f.receive(10); len(d) != 0 {
			f.Errorf("%d messages left", len(d))
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	in(t, nil, func(f *fixture) {
		const n = 40
		done := make(chan string, n)
		for i := range n {
			go func() { f.Send(f.Context(), job.Message{Body: []byte(strconv.Itoa(i))}); done <- "" }()
		}
		for range n {
			<-done
		}
		for range 4 {
			go func() {
				for {
					d, err := f.Receive(f.Context(), 10, time.Second, visibility)
					if err != nil || len(d) == 0 {
						return
					}
					for _, d := range d {
						done <- string(d.Body)
					}
				}
			}()
		}
		seen := map[string]bool{}
		for range n {
			seen[<-done] = true
		}
		if len(seen) != n {
			f.Errorf("received %d different messages, want %d", len(seen), n)
		}
	})
}
