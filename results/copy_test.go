package results_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/results"
)

// copied wants exactly this one copy to have been sent.
func (f *fixture) copied(want job.Result) {
	f.Helper()
	if len(f.copies.sent) != 1 {
		f.Fatalf("%d copies, want 1", len(f.copies.sent))
	}
	got, err := job.DecodeResult(f.copies.sent[0].Body)
	if err != nil {
		f.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		f.Errorf("copy (-want +got):\n%s", diff)
	}
}

func TestCopy(t *testing.T) {
	in(t, func(f *fixture) {
		r := result(job.Succeeded, "a")
		r.Group, r.Traceparent = "tenant-7", "00-4b-00-01"
		if err := f.Copy(f.Context(), r); err != nil {
			f.Fatal(err)
		}
		f.copied(r)
		if m := f.copies.sent[0]; m.Group != r.Group || m.Traceparent != r.Traceparent || m.Trail != (job.Trail{}) {
			f.Errorf("message %+v, want group and traceparent on it and no trail", m)
		}
	})
}

// What does not fit loses its output first, then all that can be long.
func TestCopyIsShortened(t *testing.T) {
	success := func(change func(*job.Result)) job.Result {
		r := result(job.Succeeded, "a")
		r.Metadata = map[string]string{"customer": "42"}
		change(&r)
		return r
	}
	failure := func(change func(*job.Result)) job.Result {
		r := result(job.Failed, "a")
		change(&r)
		return r
	}
	keep := func(*job.Result) {}
	byReference := func(r *job.Result) { r.Output, r.Object = nil, "s3://bucket/"+key }
	outline := job.Result{ID: "order-1", Run: "nightly", Status: job.Succeeded, Object: "s3://bucket/" + key}
	failed := outline
	failed.Status, failed.Error = job.Failed, &job.Error{Reason: job.Rejected}
	for name, tc := range map[string]struct{ full, want job.Result }{
		"just fits": {failure(keep), failure(keep)},
		"output": {
			success(func(r *job.Result) { r.Output = []byte(`"` + strings.Repeat("x", 2000) + `"`) }),
			success(byReference),
		},
		"metadata": {
			success(func(r *job.Result) { r.Metadata["customer"] = strings.Repeat("x", 2000) }),
			outline,
		},
		"error text": {
			failure(func(r *job.Result) { r.Error.Message = strings.Repeat("x", 2000) }),
			failed,
		},
		"model, which escapes make longer": {
			success(func(r *job.Result) { r.Model = strings.Repeat("<", 200) }),
			outline,
		},
		"trace, which stands on the message too": {
			success(func(r *job.Result) { r.Traceparent = strings.Repeat("0", 600) }),
			outline,
		},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(f *fixture) {
				f.copies.limit = 1000
				before := tc.full
				before.Metadata = maps.Clone(before.Metadata)
				before.Output = slices.Clone(before.Output)
				if before.Error != nil {
					text := *before.Error
					before.Error = &text
				}
				if err := f.Copy(f.Context(), tc.full); err != nil {
					f.Fatal(err)
				}
				f.copied(tc.want)
				if diff := cmp.Diff(before, tc.full); diff != "" {
					f.Errorf("the caller's result was changed:\n%s", diff)
				}
			})
		})
	}
}

func TestCopyFailure(t *testing.T) {
	in(t, func(f *fixture) {
		f.copies.err = errors.New("no queue")
		if err := f.Copy(f.Context(), result(job.Succeeded, "a")); !errors.Is(err, f.copies.err) {
			f.Errorf("error %v", err)
		}
		if len(f.copies.sent) != 1 {
			f.Errorf("tried %d times, want 1: what is away gets no shorter copy", len(f.copies.sent))
		}
		f.copies.err, f.copies.limit = nil, 10
		if err := f.Copy(f.Context(), result(job.Succeeded, "a")); !errors.Is(err, job.ErrNoRoom) {
			f.Errorf("error %v, want job.ErrNoRoom", err)
		}
	})
}

// A crash between the result and its copy loses no copy: whoever finds the
// result sends what stands, to the byte.
func TestCopyStored(t *testing.T) {
	in(t, func(f *fixture) {
		if err := f.CopyStored(f.Context(), claim().Identity); err == nil {
			f.Error("no error though nothing stands")
		}
		r := result(job.Succeeded, "a")
		f.save(claim(), r, job.Open)
		if err := f.CopyStored(f.Context(), claim().Identity); err != nil {
			f.Fatal(err)
		}
		f.copied(r)
		if want := []byte(`{"text": "<b>"}`); !bytes.Contains(f.copies.sent[0].Body, want) {
			f.Errorf("%s does not hold %s", f.copies.sent[0].Body, want)
		}
	})
}

// What is in an archive is copied in outline; what can't be read for another reason
// may be there again.
func TestCopyOfWhatIsArchived(t *testing.T) {
	in(t, func(f *fixture) {
		f.save(claim(), result(job.Succeeded, "a"), job.Open)
		code := "AccessDenied"
		f.on(http.MethodGet, func(_ int, w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", code)
		})
		if err := f.CopyStored(f.Context(), claim().Identity); err == nil {
			f.Error("no error though it was refused")
		}
		code = "InvalidObjectState"
		if err := f.CopyStored(f.Context(), claim().Identity); err != nil {
			f.Fatal(err)
		}
		f.copied(job.Result{ID: "order-1", Run: "nightly", Status: job.Succeeded, Object: "s3://bucket/" + key})
	})
}

func TestNoCopiesWanted(t *testing.T) {
	in(t, func(f *fixture) {
		sink := results.New(results.Options{S3: f.s3, Bucket: "bucket"})
		if err := sink.Copy(f.Context(), result(job.Succeeded, "a")); err != nil {
			f.Error(err)
		}
		if err := sink.CopyStored(f.Context(), claim().Identity); err != nil {
			f.Error(err)
		}
		if n := f.aws.Calls()["S3.GetObject"]; n != 0 {
			f.Errorf("%d objects read for copies that nobody wants", n)
		}
	})
}
