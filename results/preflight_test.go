package results_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/sluicehq/sluice/results"
)

func TestPreflight(t *testing.T) {
	in(t, func(f *fixture) {
		for start := range 2 {
			if err := f.Preflight(f.Context()); err != nil {
				f.Errorf("start %d: %v", start, err)
			}
		}
		out, err := f.s3.ListObjectsV2(f.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("bucket")})
		if err != nil {
			f.Fatal(err)
		}
		if len(out.Contents) != 1 || aws.ToString(out.Contents[0].Key) != "results/_sluice-preflight" {
			f.Errorf("left behind: %v", out.Contents)
		}
	})
}

func TestPreflightOfTwoDrainersAtOnce(t *testing.T) {
	in(t, func(f *fixture) {
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := f.Preflight(f.Context()); err != nil {
					f.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

// What would lose or overwrite answers is found before one is paid for.
func TestPreflightRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		fault func(w http.ResponseWriter, r *http.Request, next http.Handler)
		want  string
	}{
		"no s3:ListBucket": {func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			next.ServeHTTP(w, r)
		}, "s3:ListBucket"},
		"no s3:PutObject": {func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Method == http.MethodPut {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			next.ServeHTTP(w, r)
		}, "put results/_sluice-preflight"},
		"the condition is asked before the key": {func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Method == http.MethodPut && r.Header.Get("If-Match") != "" {
				w.WriteHeader(http.StatusBadRequest)
				io.WriteString(w, "<Error><Code>KMS.DisabledException</Code></Error>")
				return
			}
			next.ServeHTTP(w, r)
		}, "KMS.DisabledException"},
		"If-None-Match ignored": {func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			r.Header.Del("If-None-Match")
			next.ServeHTTP(w, r)
		}, "ignores If-None-Match"},
		"everything is there": {func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusOK)
		}, "cannot exist"},
		"away": {func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}, "503"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(f *fixture) {
				f.aws.Intercept(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { tc.fault(w, r, next) })
				})
				if err := f.Preflight(f.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
					f.Errorf("error %v, want one with %q", err, tc.want)
				}
			})
		})
	}
}

func TestPreflightOfMissingBucket(t *testing.T) {
	in(t, func(f *fixture) {
		sink := results.New(results.Options{S3: f.s3, Bucket: "no-such-bucket"})
		if err := sink.Preflight(f.Context()); err == nil || !strings.Contains(err.Error(), "NoSuchBucket") {
			f.Errorf("error %v, want NoSuchBucket", err)
		}
	})
}
