package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/job"
)

// script is a queue that records what it is asked, takes a while for each call,
// and answers as its fail says.
type script struct {
	Queue
	took time.Duration
	fail func(op, handle string) error

	mu    sync.Mutex
	began time.Time
	calls []string
}

func (s *script) URL() string { return "https://sqs/queue" }

func (s *script) call(ctx context.Context, op string, handles []string, detail string) []error {
	s.mu.Lock()
	s.calls = append(s.calls, fmt.Sprintf("%v %s %s%s", time.Since(s.began).Round(time.Second), op, strings.Join(handles, ","), detail))
	s.mu.Unlock()
	errs := make([]error, len(handles))
	ended := sleep(ctx, s.took)
	for i, h := range handles {
		if !ended {
			errs[i] = ctx.Err()
		} else if s.fail != nil {
			errs[i] = s.fail(op, h)
		}
	}
	return errs
}

func (s *script) SetVisibility(ctx context.Context, changes []job.Visibility) []error {
	var handles []string
	for _, c := range changes {
		handles = append(handles, c.Handle)
	}
	return s.call(ctx, "visible", handles, " "+changes[0].For.Round(time.Second).String())
}

func (s *script) Delete(ctx context.Context, handles []string) []error {
	return s.call(ctx, "delete", handles, "")
}

// withKeeper runs a test on a keeper of 120 s visibility; the returned calls are
// those until every lease was settled or an hour was over.
func withKeeper(t *testing.T, s *script, f func(*keeper)) (calls []string) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s.began = time.Now()
		k := newKeeper(Source{Queue: s, Name: "q"}, 2*time.Minute, slog.New(slog.NewTextHandler(io.Discard, nil)), &stats{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		done := make(chan struct{})
		go func() {
			defer close(done)
			k.run(ctx)
		}()
		f(k)
		k.finish()
		<-done
	})
	return s.calls
}

// lease is one of a delivery that was just received.
func (k *keeper) lease(handle string) *lease {
	return k.add(job.Delivery{MessageID: "message " + handle, Handle: handle}, time.Now())
}

func TestLeaseIsExtendedAtHalfLife(t *testing.T) {
	calls := withKeeper(t, &script{}, func(k *keeper) {
		l := k.lease("a")
		time.Sleep(200 * time.Second)
		l.delete()
	})
	want := []string{"1m0s visible a 2m0s", "2m0s visible a 2m0s", "3m0s visible a 2m0s", "3m21s delete a"}
	// finish does not linger: the delete goes at once.
	want[3] = "3m20s delete a"
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Error(diff)
	}
}

// A heartbeat under way when the job ends must not follow its delete, nor be
// given up before it.
func TestHeartbeatNeverFollowsDelete_bbc260(t *testing.T) {
	calls := withKeeper(t, &script{took: 5 * time.Second}, func(k *keeper) {
		l := k.lease("a")
		time.Sleep(62 * time.Second) // the heartbeat is under way
		l.delete()
		time.Sleep(10 * time.Minute)
	})
	if diff := cmp.Diff([]string{"1m0s visible a 2m0s", "1m5s delete a"}, calls); diff != "" {
		t.Error(diff)
	}
}

func TestSettlementsFillBatches(t *testing.T) {
	calls := withKeeper(t, &script{}, func(k *keeper) {
		for i := range 25 {
			k.lease(string(rune('a' + i))).delete()
		}
		time.Sleep(10 * time.Second)
	})
	if len(calls) != 3 {
		t.Errorf("%d calls for 25 deletes: %q", len(calls), calls)
	}
}

func TestFailedEntriesAreTriedAgainUntilTheLeaseEnds_airflow73423(t *testing.T) {
	refused := 0
	s := &script{}
	s.fail = func(op, handle string) error {
		if handle == "b" {
			refused++
			return errors.New("throttled")
		}
		return nil
	}
	calls := withKeeper(t, s, func(k *keeper) {
		k.lease("a").delete()
		k.lease("b").delete()
		time.Sleep(5 * time.Minute)
	})
	if refused < 100 || refused > 130 {
		t.Errorf("a failed delete was tried %d times in a lease of 120 s", refused)
	}
	if last := calls[len(calls)-1]; !strings.HasPrefix(last, "2m") {
		t.Errorf("the last try was %q, the lease ended after 2 minutes", last)
	}
}

func TestLostLeaseIsTold(t *testing.T) {
	s := &script{fail: func(op, _ string) error {
		if op == "visible" {
			return fmt.Errorf("message a: %w", job.ErrGone)
		}
		return nil
	}}
	calls := withKeeper(t, s, func(k *keeper) {
		l := k.lease("a")
		time.Sleep(61 * time.Second)
		if l.held() {
			t.Error("the lease is held after SQS said that it is gone")
		}
		l.release(0) // has nothing to give back
		l.delete()   // its handle may still delete
	})
	if diff := cmp.Diff([]string{"1m0s visible a 2m0s", "1m1s delete a"}, calls); diff != "" {
		t.Error(diff)
	}
}

func TestUnreachableQueueLosesLeasesInTheEnd(t *testing.T) {
	s := &script{fail: func(string, string) error { return errors.New("503") }}
	var logged strings.Builder
	withKeeper(t, s, func(k *keeper) {
		k.log = slog.New(slog.NewTextHandler(&logged, nil))
		l := k.lease("a")
		time.Sleep(119 * time.Second)
		if !l.held() {
			t.Error("lost before its end")
		}
		time.Sleep(2 * time.Second)
		if l.held() {
			t.Error("held after its end")
		}
		if err := k.visible.err(); err == nil || k.deletes.err() != nil {
			t.Errorf("visibility changes: %v, deletes: %v; want the first to say that they are refused", err, k.deletes.err())
		}
	})
	if s := logged.String(); !strings.Contains(s, "message a") || !strings.Contains(s, "503") {
		t.Errorf("the lease was lost with %q, want the message and the error", s)
	}
	if n := len(s.calls); n > 80 {
		t.Errorf("%d calls in a minute of refusals", n)
	}
}

// Changing the visibility to more than what is left of SQS's 12 hours is an
// error; a release of zero in its place would hand the job to somebody else.
func TestTwelveHoursAreNotOverrun_localstack3956(t *testing.T) {
	t.Parallel()
	s := &script{}
	synctest.Test(t, func(t *testing.T) {
		s.began = time.Now()
		k := newKeeper(Source{Queue: s, Name: "q"}, 2*time.Hour, slog.New(slog.NewTextHandler(io.Discard, nil)), &stats{})
		ctx, cancel := context.WithCancel(t.Context())
		go k.run(ctx)
		l := k.lease("a")
		<-l.gone
		if at := time.Since(s.began); at < 10*time.Hour || at > 12*time.Hour {
			t.Errorf("lost after %v", at)
		}
		cancel()
		synctest.Wait()
	})
	for _, c := range s.calls {
		if strings.HasSuffix(c, " 0s") {
			t.Errorf("made visible while held: %s", c)
		}
	}
}

func TestNewerDeliveryGivesItsHandle(t *testing.T) {
	calls := withKeeper(t, &script{}, func(k *keeper) {
		l := k.lease("old")
		time.Sleep(30 * time.Second)
		l.adopt(k.lease("new"))
		time.Sleep(61 * time.Second)
		l.delete()
	})
	if diff := cmp.Diff([]string{"1m30s visible new 2m0s", "1m31s delete new"}, calls); diff != "" {
		t.Error(diff)
	}
}

// A newer delivery is adopted while its own extension is under way.
func TestAdoptedDuringItsExtension(t *testing.T) {
	calls := withKeeper(t, &script{took: 5 * time.Second}, func(k *keeper) {
		l, newer := k.lease("old"), k.lease("new")
		time.Sleep(62 * time.Second) // both heartbeats are under way
		l.adopt(newer)
		time.Sleep(10 * time.Second)
		l.delete()
	})
	if last := calls[len(calls)-1]; !strings.HasSuffix(last, "delete new") {
		t.Errorf("the last call was %q", last)
	}
}

// A newer delivery that was lost before it was adopted is not counted twice.
func TestAdoptedWhenItWasLost(t *testing.T) {
	s := &script{fail: func(op, handle string) error {
		if op == "visible" && handle == "new" {
			return job.ErrGone
		}
		return nil
	}}
	calls := withKeeper(t, s, func(k *keeper) {
		newer := k.lease("new")
		time.Sleep(61 * time.Second)
		l, other := k.lease("old"), k.lease("other")
		l.adopt(newer)
		l.delete()
		time.Sleep(10 * time.Second)
		other.release(0)
	})
	if last := calls[len(calls)-1]; !strings.HasSuffix(last, "visible other 0s") {
		t.Errorf("the other lease was never released: %q", calls)
	}
}

// A job whose lease was lost is finished if it has started. Until then what was
// received again for it is kept from others, who would pay for it too.
func TestALostLeaseIsTakenUpAgain(t *testing.T) {
	s := &script{}
	s.fail = func(op, handle string) error {
		if op == "visible" && (handle == "old" || time.Since(s.began) > 3*time.Minute) {
			return job.ErrGone
		}
		return nil
	}
	calls := withKeeper(t, s, func(k *keeper) {
		l := k.lease("old")
		time.Sleep(70 * time.Second)
		l.adopt(k.lease("new"))
		if l.held() {
			t.Error("the lease is held, although its holder was told that it is lost")
		}
		time.Sleep(3 * time.Minute)
		l.delete()
	})
	want := []string{"1m0s visible old 2m0s", "2m10s visible new 2m0s", "3m10s visible new 2m0s", "4m10s delete new"}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Error(diff)
	}
}

// One whose job has ended without it is not: nobody would settle it.
func TestALostLeaseThatIsOverIsNotTakenUp(t *testing.T) {
	s := &script{fail: func(_, handle string) error {
		if handle == "old" {
			return job.ErrGone
		}
		return nil
	}}
	calls := withKeeper(t, s, func(k *keeper) {
		l := k.lease("old")
		time.Sleep(70 * time.Second)
		l.release(0)
		l.adopt(k.lease("new"))
	})
	if diff := cmp.Diff([]string{"1m0s visible old 2m0s"}, calls); diff != "" {
		t.Error(diff)
	}
}

// Deleting with an older handle says yes and deletes nothing.
func TestOlderDeliveryGivesNoHandle_JustSaying1584(t *testing.T) {
	calls := withKeeper(t, &script{}, func(k *keeper) {
		older := k.lease("older")
		time.Sleep(30 * time.Second)
		newer := k.lease("newer")
		newer.adopt(older)
		newer.delete()
	})
	if last := calls[len(calls)-1]; !strings.HasSuffix(last, "delete newer") {
		t.Errorf("the last call was %q", last)
	}
}

// While extensions hang, the lease ends when SQS says, not when the call does.
func TestLeaseIsNotHeldPastItsEnd(t *testing.T) {
	withKeeper(t, &script{took: 10 * time.Minute}, func(k *keeper) {
		l := k.lease("a")
		time.Sleep(121 * time.Second)
		if l.held() {
			t.Error("held after 121 s of 120")
		}
	})
}
