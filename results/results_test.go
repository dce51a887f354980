package results_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/results"
)

const (
	key    = "results/nightly/order-1.json" // of claim
	object = "/bucket/" + key               // its path
)

// fixture is a sink over the real S3 client and an embedded AWS.
type fixture struct {
	*testing.T
	aws    *localaws.Server
	s3     *s3.Client
	copies copies
	*results.Sink
}

// in runs a test in a bubble, where waiting costs nothing.
func in(t *testing.T, test func(*fixture)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{T: t, aws: localaws.New(localaws.Options{})}
		f.aws.CreateBucket("bucket")
		// The way there and back takes time, so that concurrent calls interleave.
		f.s3 = s3.NewFromConfig(f.aws.Config(f.aws.Client(func() time.Duration { return time.Millisecond })))
		f.copies.limit = job.MaxBody
		f.Sink = results.New(results.Options{S3: f.s3, Bucket: "bucket", Prefix: "results/", Copies: &f.copies})
		test(f)
	})
}

// copies is a results queue as Sink sees it: with a size above which it refuses.
type copies struct {
	limit int
	sent  []job.Message
	err   error
}

func (c *copies) Send(_ context.Context, m job.Message) error {
	if len(m.Body)+len(m.Traceparent) > c.limit {
		return job.ErrNoRoom
	}
	c.sent = append(c.sent, m)
	return c.err
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func claim() job.Claim {
	return job.Claim{Identity: job.Identity{Run: "nightly", ID: "order-1"}, Digest: "d", Submitted: noon}
}

// result is an outcome of claim; by tells two of one status apart.
func result(status job.Status, by string) job.Result {
	r := job.Result{ID: "order-1", Run: "nightly", Status: status, Model: by, FinishedAt: noon}
	if status == job.Succeeded {
		r.Output = json.RawMessage(`{"text": "<b>"}`)
	} else {
		r.Error = &job.Error{Reason: job.Rejected, Message: by}
	}
	return r
}

func (f *fixture) save(c job.Claim, r job.Result, want job.Verdict) {
	f.Helper()
	got, err := f.Save(f.Context(), c, r)
	if err != nil || got != want {
		f.Fatalf("save of %s by %s: verdict %d, error %v, want %d", r.Status, r.Model, got, err, want)
	}
}

// standing is the result that stands.
func (f *fixture) standing() job.Result {
	f.Helper()
	out, err := f.s3.GetObject(f.Context(), &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String(key)})
	if err != nil {
		f.Fatal(err)
	}
	body, err := io.ReadAll(out.Body)
	if err != nil {
		f.Fatal(err)
	}
	r, err := job.DecodeResult(body)
	if err != nil {
		f.Fatalf("%v in %s", err, body)
	}
	return r
}

func (f *fixture) stands(want job.Result) {
	f.Helper()
	if diff := cmp.Diff(want, f.standing()); diff != "" {
		f.Errorf("what stands (-want +got):\n%s", diff)
	}
}

// on puts fault around the requests with this method for claim's object.
func (f *fixture) on(method string, fault func(n int, w http.ResponseWriter, r *http.Request, next http.Handler)) {
	var mu sync.Mutex
	n := 0
	f.aws.Intercept(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != method || r.URL.Path != object {
				next.ServeHTTP(w, r)
				return
			}
			mu.Lock()
			n++
			k := n
			mu.Unlock()
			fault(k, w, r, next)
		})
	})
}

// swallow serves the request and drops its answer.
func swallow(r *http.Request, next http.Handler) {
	next.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

func TestFirstResult(t *testing.T) {
	in(t, func(f *fixture) {
		if v, err := f.Look(f.Context(), claim()); err != nil || v != job.Open {
			f.Errorf("look: %d, %v", v, err)
		}
		r := result(job.Succeeded, "a")
		f.save(claim(), r, job.Open)
		f.stands(r)
		head, err := f.s3.HeadObject(f.Context(), &s3.HeadObjectInput{Bucket: aws.String("bucket"), Key: aws.String(key)})
		if err != nil {
			f.Fatal(err)
		}
		want := map[string]string{"status": "succeeded", "submitted": "2026-11-23T12:00:00Z", "digest": "d"}
		delete(head.Metadata, "content")
		if diff := cmp.Diff(want, head.Metadata); diff != "" {
			f.Errorf("metadata (-want +got):\n%s", diff)
		}
		if got := aws.ToString(head.ContentType); got != "application/json" {
			f.Errorf("content type %q", got)
		}
		if n := f.aws.Calls()["S3.PutObject"]; n != 1 {
			f.Errorf("%d puts, want 1", n)
		}
	})
}

// A success is final, a failure is not: on the wire, one case each of what
// TestDecide walks through.
func TestWhatStandsDecides(t *testing.T) {
	later := claim()
	later.Submitted = noon.Add(time.Nanosecond)
	other := claim()
	other.Digest = "e"
	for name, tc := range map[string]struct {
		first  job.Status
		claim  job.Claim
		second job.Status
		look   job.Verdict
		save   job.Verdict
	}{
		"success again":             {job.Succeeded, claim(), job.Succeeded, job.Answered, job.Answered},
		"failure after success":     {job.Succeeded, later, job.Failed, job.Answered, job.Answered},
		"another's success":         {job.Succeeded, other, job.Succeeded, job.Contested, job.Contested},
		"failure again":             {job.Failed, claim(), job.Failed, job.Answered, job.Answered},
		"success after failure":     {job.Failed, claim(), job.Succeeded, job.Answered, job.Open},
		"asked again after failure": {job.Failed, later, job.Failed, job.Open, job.Open},
		"asked again after expiry":  {job.Expired, later, job.Succeeded, job.Open, job.Open},
		"another over a failure":    {job.Failed, other, job.Expired, job.Open, job.Open},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(f *fixture) {
				first, second := result(tc.first, "first"), result(tc.second, "second")
				f.save(claim(), first, job.Open)
				if v, err := f.Look(f.Context(), tc.claim); err != nil || v != tc.look {
					f.Errorf("look: %d, %v, want %d", v, err, tc.look)
				}
				f.save(tc.claim, second, tc.save)
				if tc.save == job.Open {
					f.stands(second)
				} else {
					f.stands(first)
				}
			})
		})
	}
}

func TestSomebodyElsesObjectStays(t *testing.T) {
	in(t, func(f *fixture) {
		_, err := f.s3.PutObject(f.Context(), &s3.PutObjectInput{
			Bucket: aws.String("bucket"), Key: aws.String(key), Body: strings.NewReader(`{"status":"failed"}`),
		})
		if err != nil {
			f.Fatal(err)
		}
		if v, err := f.Look(f.Context(), claim()); err != nil || v != job.Contested {
			f.Errorf("look: %d, %v, want Contested", v, err)
		}
		f.save(claim(), result(job.Succeeded, "a"), job.Contested)
		f.stands(job.Result{Status: job.Failed})
	})
}

// Sixteen finish at once: one result, and fifteen learn that it stands.
func TestSixteenAtOnce(t *testing.T) {
	for name, before := range map[string]job.Status{"nothing before": "", "over a failure": job.Failed} {
		t.Run(name, func(t *testing.T) {
			in(t, func(f *fixture) {
				if before != "" {
					f.save(claim(), result(before, "before"), job.Open)
				}
				var wg sync.WaitGroup
				verdicts := make([]job.Verdict, 16)
				for i := range verdicts {
					wg.Go(func() {
						var err error
						verdicts[i], err = f.Save(f.Context(), claim(), result(job.Succeeded, string(rune('a'+i))))
						if err != nil {
							f.Error(err)
						}
					})
				}
				wg.Wait()
				winner := f.standing().Model
				for i, v := range verdicts {
					want := job.Answered
					if winner == string(rune('a'+i)) {
						want = job.Open
					}
					if v != want {
						f.Errorf("saver %d of winner %s: verdict %d, want %d", i, winner, v, want)
					}
				}
			})
		})
	}
}

// aws-facts H: the retry of a put whose answer was lost meets its own object.
func TestAnswerLost(t *testing.T) {
	for name, before := range map[string]job.Status{"nothing before": "", "over a failure": job.Failed} {
		t.Run(name, func(t *testing.T) {
			in(t, func(f *fixture) {
				lost := 1 // the put that is served but not answered
				if before != "" {
					f.save(claim(), result(before, "before"), job.Open)
					lost = 2 // the first finds what stands
				}
				puts := 0
				f.on(http.MethodPut, func(n int, w http.ResponseWriter, r *http.Request, next http.Handler) {
					if puts = n; n == lost {
						swallow(r, next)
					}
					next.ServeHTTP(w, r)
				})
				r := result(job.Succeeded, "a")
				f.save(claim(), r, job.Open)
				f.stands(r)
				if puts != lost+1 {
					f.Errorf("%d puts, want the SDK to have tried once more than %d", puts, lost)
				}
			})
		})
	}
}

// Every try's answer is lost: the error says that nothing is known, and the next
// Save of the same result finds it.
func TestAllAnswersLost(t *testing.T) {
	in(t, func(f *fixture) {
		away := true
		f.on(http.MethodPut, func(_ int, w http.ResponseWriter, r *http.Request, next http.Handler) {
			if away {
				swallow(r, next)
			}
			next.ServeHTTP(w, r)
		})
		r := result(job.Failed, "a")
		if _, err := f.Save(f.Context(), claim(), r); err == nil {
			f.Fatal("no error though no answer came")
		}
		away = false
		f.save(claim(), r, job.Open)
		f.stands(r)
	})
}

// The put was lost on its way there, and another finished meanwhile.
func TestLostPutIsNotTakenForOurs(t *testing.T) {
	in(t, func(f *fixture) {
		f.on(http.MethodPut, func(n int, w http.ResponseWriter, r *http.Request, next http.Handler) {
			if n == 1 {
				f.save(claim(), result(job.Succeeded, "other"), job.Open)
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		})
		f.save(claim(), result(job.Succeeded, "a"), job.Answered)
		f.stands(result(job.Succeeded, "other"))
	})
}

// What was in the way is deleted between the refusal and the look, or between
// the look and the replacement.
func TestDeletedMeanwhile(t *testing.T) {
	for name, method := range map[string]string{"before the look": http.MethodHead, "after the look": http.MethodPut} {
		t.Run(name, func(t *testing.T) {
			in(t, func(f *fixture) {
				f.save(claim(), result(job.Failed, "before"), job.Open)
				deleted := false
				f.on(method, func(n int, w http.ResponseWriter, r *http.Request, next http.Handler) {
					if method == http.MethodHead || n == 2 {
						_, err := f.s3.DeleteObject(f.Context(), &s3.DeleteObjectInput{Bucket: aws.String("bucket"), Key: aws.String(key)})
						if err != nil {
							f.Error(err)
						}
						deleted = true
					}
					next.ServeHTTP(w, r)
				})
				r := result(job.Succeeded, "a")
				f.save(claim(), r, job.Open)
				f.stands(r)
				if !deleted {
					f.Error("nothing was deleted: the test tests nothing")
				}
			})
		})
	}
}

// 409 is a write or delete under way: Save waits a little between its tries.
func TestConflictIsTriedAgain(t *testing.T) {
	in(t, func(f *fixture) {
		f.on(http.MethodPut, func(n int, w http.ResponseWriter, r *http.Request, next http.Handler) {
			if n <= 3 {
				w.WriteHeader(http.StatusConflict)
				io.WriteString(w, "<Error><Code>ConditionalRequestConflict</Code></Error>")
				return
			}
			next.ServeHTTP(w, r)
		})
		start := time.Now()
		r := result(job.Succeeded, "a")
		f.save(claim(), r, job.Open)
		f.stands(r)
		if took := time.Since(start); took < 100*time.Millisecond || took > time.Second {
			f.Errorf("three conflicts took %v", took)
		}
	})
}

func TestEndlessRefusalIsAnError(t *testing.T) {
	in(t, func(f *fixture) {
		puts := 0
		f.on(http.MethodPut, func(n int, w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			puts = n
			w.WriteHeader(http.StatusPreconditionFailed)
		})
		if v, err := f.Save(f.Context(), claim(), result(job.Succeeded, "a")); err == nil {
			f.Errorf("verdict %d without an error", v)
		}
		if puts != 5 {
			f.Errorf("%d puts, want 5", puts)
		}
	})
}

func TestAway(t *testing.T) {
	in(t, func(f *fixture) {
		answers := 0
		status := http.StatusServiceUnavailable
		f.aws.Intercept(func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answers++
				w.WriteHeader(status)
			})
		})
		for _, status = range []int{http.StatusServiceUnavailable, http.StatusForbidden} {
			if v, err := f.Look(f.Context(), claim()); err == nil {
				f.Errorf("look at %d: verdict %d without an error", status, v)
			}
			if v, err := f.Save(f.Context(), claim(), result(job.Succeeded, "a")); err == nil {
				f.Errorf("save at %d: verdict %d without an error", status, v)
			}
			if err := f.CopyStored(f.Context(), claim().Identity); err == nil {
				f.Errorf("copy at %d: no error", status)
			}
		}
		if answers != 3*3+3 {
			f.Errorf("%d requests, want three tries each at 503, one at 403", answers)
		}
	})
}

// A connection that went silent ends the call, after a minute.
func TestSilenceEnds(t *testing.T) {
	in(t, func(f *fixture) {
		f.aws.Intercept(func(http.Handler) http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		})
		start := time.Now()
		if _, err := f.Save(f.Context(), claim(), result(job.Succeeded, "a")); !errors.Is(err, context.DeadlineExceeded) {
			f.Errorf("error %v", err)
		}
		if took := time.Since(start); took != time.Minute {
			f.Errorf("took %v", took)
		}
	})
}

func TestLargeResult(t *testing.T) {
	in(t, func(f *fixture) {
		r := result(job.Succeeded, "a")
		r.Output = append(append([]byte(`"`), bytes.Repeat([]byte("x"), 30<<20)...), '"')
		f.save(claim(), r, job.Open)
		if got := f.standing(); !bytes.Equal(got.Output, r.Output) {
			f.Errorf("%d bytes of output stand, want %d", len(got.Output), len(r.Output))
		}
		if err := f.CopyStored(f.Context(), claim().Identity); err != nil {
			f.Error(err)
		}
		r.Output, r.Object = nil, "s3://bucket/"+key
		f.copied(r)
	})
}
