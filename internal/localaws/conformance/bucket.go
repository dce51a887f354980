package conformance

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"
)

// Bucket runs the suite of S3.
func Bucket(t *testing.T, target Target) {
	var names []string
	for _, c := range bucketCases {
		names = append(names, c.name)
		target.run(t, c.name, false, func(ctx context.Context, t *caseT, cfg aws.Config) {
			b := &bucket{caseT: t, ctx: ctx, client: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }), name: unique("conformance")}
			_, err := b.client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &b.name})
			check(t, "create bucket", err)
			t.Cleanup(b.destroy)
			c.run(b)
		})
	}
	target.covers(t, names)
}

var bucketCases = []struct {
	name string
	run  func(b *bucket)
}{
	{"an object comes back as it was put", objectAsPut},
	{"an absent object", absentObject},
	{"an absent bucket", absentBucket},
	{"the first put wins", firstPutWins},
	{"sixteen puts at once: one wins", onePutWins},
	{"a put in place of what was read", putInPlace},
	{"sixteen replacements at once: one wins", oneReplacementWins},
	{"a put in place of nothing", putInPlaceOfNothing},
	{"a put leaves nothing of what it replaces", replacesWhole},
	{"a damaged body is refused", damagedBody},
	{"a large object", largeObject},
	{"a range", partOfObject},
	{"a delete", deleteObject},
	{"a list by prefix", listByPrefix},
	{"a list in pages", listInPages},
	{"a list of runs", listOfRuns},
}

// bucket is one case: a bucket of its own, and what a case does with it.
type bucket struct {
	*caseT
	ctx    context.Context
	client *s3.Client
	name   string
}

func (b *bucket) destroy() {
	ctx := context.WithoutCancel(b.ctx)
	listed, err := b.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b.name})
	if err == nil {
		for _, o := range listed.Contents {
			_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: o.Key})
			if err != nil {
				b.Logf("delete object: %v", err)
			}
		}
		_, err = b.client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &b.name})
	}
	if err != nil {
		b.Logf("delete bucket: %v", err)
	}
}

// put stores a body under a key, with what options add.
func (b *bucket) put(key, body string, options ...func(*s3.PutObjectInput)) (etag string, err error) {
	in := &s3.PutObjectInput{Bucket: &b.name, Key: &key, Body: strings.NewReader(body), ContentType: aws.String("application/json")}
	for _, option := range options {
		option(in)
	}
	out, err := b.client.PutObject(b.ctx, in)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ETag), nil
}

func ifAbsent(in *s3.PutObjectInput) { in.IfNoneMatch = aws.String("*") }

func ifMatch(etag string) func(*s3.PutObjectInput) {
	return func(in *s3.PutObjectInput) { in.IfMatch = &etag }
}

func (b *bucket) mustPut(key, body string, options ...func(*s3.PutObjectInput)) (etag string) {
	b.Helper()
	etag, err := b.put(key, body, options...)
	check(b, "put "+key, err)
	return etag
}

// holds checks an object's body.
func (b *bucket) holds(key, want string) *s3.GetObjectOutput {
	b.Helper()
	out, err := b.client.GetObject(b.ctx, &s3.GetObjectInput{Bucket: &b.name, Key: &key})
	check(b, "get "+key, err)
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	check(b, "read "+key, err)
	if string(body) != want {
		b.Errorf("%s holds %d bytes %.40q, want %d bytes %.40q", key, len(body), body, len(want), want)
	}
	return out
}

// status checks the HTTP status of an error.
func (b *bucket) status(doing string, err error, want int) {
	b.Helper()
	if e, ok := errors.AsType[*awshttp.ResponseError](err); !ok || e.HTTPStatusCode() != want {
		b.Errorf("%s: got %v, want HTTP %d", doing, err, want)
	}
}

func objectAsPut(b *bucket) {
	metadata := map[string]string{"status": "succeeded", "submitted": "2026-11-22T10:00:00.000000001Z", "digest": "ab12"}
	etag := b.mustPut("p/run-1/id.json", `{"a":1}`, func(in *s3.PutObjectInput) { in.Metadata = metadata })
	got := b.holds("p/run-1/id.json", `{"a":1}`)
	head, err := b.client.HeadObject(b.ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: aws.String("p/run-1/id.json")})
	check(b, "head", err)
	if diff := cmp.Diff(metadata, head.Metadata); diff != "" {
		b.Errorf("head: metadata (-put +got):\n%s", diff)
	}
	if diff := cmp.Diff(metadata, got.Metadata); diff != "" {
		b.Errorf("get: metadata (-put +got):\n%s", diff)
	}
	if aws.ToString(head.ETag) != etag || aws.ToString(got.ETag) != etag || etag == "" {
		b.Errorf("ETags: put %s, head %s, get %s", etag, aws.ToString(head.ETag), aws.ToString(got.ETag))
	}
	if aws.ToInt64(head.ContentLength) != 7 || aws.ToString(head.ContentType) != "application/json" || head.LastModified == nil {
		b.Errorf("head: length %d, type %q, modified %v", aws.ToInt64(head.ContentLength), aws.ToString(head.ContentType), head.LastModified)
	}
}

func absentObject(b *bucket) {
	_, err := b.client.HeadObject(b.ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: aws.String("absent")})
	refused[*types.NotFound](b, "head", err)
	_, err = b.client.GetObject(b.ctx, &s3.GetObjectInput{Bucket: &b.name, Key: aws.String("absent")})
	refused[*types.NoSuchKey](b, "get", err)
	_, err = b.client.DeleteObject(b.ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: aws.String("absent")})
	check(b, "delete", err)
}

func absentBucket(b *bucket) {
	missing := &bucket{caseT: b.caseT, ctx: b.ctx, client: b.client, name: unique("conformance-missing")}
	_, err := missing.put("a", "x")
	refusedAs(b, "put", err, "NoSuchBucket")
	_, err = missing.client.GetObject(b.ctx, &s3.GetObjectInput{Bucket: &missing.name, Key: aws.String("a")})
	refusedAs(b, "get", err, "NoSuchBucket")
	_, err = missing.client.HeadBucket(b.ctx, &s3.HeadBucketInput{Bucket: &missing.name})
	b.status("head bucket", err, http.StatusNotFound)
	_, err = b.client.HeadBucket(b.ctx, &s3.HeadBucketInput{Bucket: &b.name})
	check(b, "head bucket", err)
}

func firstPutWins(b *bucket) {
	b.mustPut("a", "first", ifAbsent)
	_, err := b.put("a", "second", ifAbsent)
	b.status("second put", err, http.StatusPreconditionFailed)
	refusedAs(b, "second put", err, "PreconditionFailed")
	b.holds("a", "first")
}

// atOnce puts 16 bodies at the same time and returns the one that was stored.
// Each of the others must be a 412, or the 409 of a conflict.
func (b *bucket) atOnce(key string, options ...func(*s3.PutObjectInput)) (won string) {
	b.Helper()
	var (
		mu     sync.Mutex
		wg     sync.WaitGroup
		stored []string
	)
	for i := range 16 {
		wg.Go(func() {
			body := strconv.Itoa(i)
			_, err := b.put(key, body, options...)
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				stored = append(stored, body)
				return
			}
			if e, ok := errors.AsType[*awshttp.ResponseError](err); !ok ||
				e.HTTPStatusCode() != http.StatusPreconditionFailed && e.HTTPStatusCode() != http.StatusConflict {
				b.Errorf("put: got %v, want HTTP 412 or 409", err)
			}
		})
	}
	wg.Wait()
	if len(stored) != 1 {
		b.Fatalf("%d puts were accepted, want 1", len(stored))
	}
	return stored[0]
}

func onePutWins(b *bucket) { b.holds("a", b.atOnce("a", ifAbsent)) }

func putInPlace(b *bucket) {
	first := b.mustPut("a", "first")
	second := b.mustPut("a", "second", ifMatch(first))
	_, err := b.put("a", "third", ifMatch(first))
	b.status("put in place of what has gone", err, http.StatusPreconditionFailed)
	b.holds("a", "second")
	b.mustPut("a", "third", ifMatch(second))
}

func oneReplacementWins(b *bucket) {
	etag := b.mustPut("a", "first")
	b.holds("a", b.atOnce("a", ifMatch(etag)))
}

func putInPlaceOfNothing(b *bucket) {
	etag := b.mustPut("a", "x")
	_, err := b.client.DeleteObject(b.ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: aws.String("a")})
	check(b, "delete", err)
	_, err = b.put("a", "y", ifMatch(etag))
	b.status("put", err, http.StatusNotFound)
	b.mustPut("a", "z", ifAbsent)
}

func replacesWhole(b *bucket) {
	b.mustPut("a", "first", func(in *s3.PutObjectInput) { in.Metadata = map[string]string{"status": "failed", "old": "1"} })
	b.mustPut("a", "second", func(in *s3.PutObjectInput) { in.Metadata = map[string]string{"status": "succeeded"} })
	got := b.holds("a", "second")
	if diff := cmp.Diff(map[string]string{"status": "succeeded"}, got.Metadata); diff != "" {
		b.Errorf("metadata (-want +got):\n%s", diff)
	}
}

func damagedBody(b *bucket) {
	_, err := b.put("a", "x", func(in *s3.PutObjectInput) { in.ChecksumCRC32 = aws.String("AAAAAA==") })
	b.status("put with a wrong checksum", err, http.StatusBadRequest)
	_, err = b.client.HeadObject(b.ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: aws.String("a")})
	refused[*types.NotFound](b, "head", err)
}

func largeObject(b *bucket) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 25<<16) // 25 MiB
	b.mustPut("a", string(body), ifAbsent)
	b.holds("a", string(body))
}

func partOfObject(b *bucket) {
	b.mustPut("a", "0123456789")
	out, err := b.client.GetObject(b.ctx, &s3.GetObjectInput{Bucket: &b.name, Key: aws.String("a"), Range: aws.String("bytes=2-4")})
	check(b, "get", err)
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	check(b, "read", err)
	if string(body) != "234" {
		b.Errorf("got %q, want 234", body)
	}
}

func deleteObject(b *bucket) {
	for _, key := range []string{"a", "b", "c"} {
		b.mustPut(key, "x")
	}
	_, err := b.client.DeleteObject(b.ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: aws.String("a")})
	check(b, "delete", err)
	_, err = b.client.DeleteObjects(b.ctx, &s3.DeleteObjectsInput{Bucket: &b.name, Delete: &types.Delete{
		Objects: []types.ObjectIdentifier{{Key: aws.String("b")}, {Key: aws.String("absent")}},
	}})
	check(b, "delete some", err)
	if diff := cmp.Diff([]string{"c"}, b.list(&s3.ListObjectsV2Input{})); diff != "" {
		b.Errorf("keys (-want +got):\n%s", diff)
	}
}

// list returns all keys and rolled-up prefixes, a page at a time.
func (b *bucket) list(in *s3.ListObjectsV2Input) (names []string) {
	b.Helper()
	in.Bucket = &b.name
	pages := s3.NewListObjectsV2Paginator(b.client, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(b.ctx)
		check(b, "list", err)
		for _, o := range page.Contents {
			if aws.ToString(o.ETag) == "" || o.LastModified == nil {
				b.Errorf("list: %s has ETag %q, modified %v", *o.Key, aws.ToString(o.ETag), o.LastModified)
			}
			names = append(names, *o.Key)
		}
		for _, p := range page.CommonPrefixes {
			names = append(names, *p.Prefix)
		}
	}
	return names
}

func listByPrefix(b *bucket) {
	for _, key := range []string{"p/run-1/a.json", "p/run-1/b.json", "p/run-10/c.json", "p/run-1", "q/d.json"} {
		b.mustPut(key, "x")
	}
	got := b.list(&s3.ListObjectsV2Input{Prefix: aws.String("p/run-1/")})
	if diff := cmp.Diff([]string{"p/run-1/a.json", "p/run-1/b.json"}, got); diff != "" {
		b.Errorf("keys (-want +got):\n%s", diff)
	}
	got = b.list(&s3.ListObjectsV2Input{StartAfter: aws.String("p/run-1/b.json")})
	if diff := cmp.Diff([]string{"p/run-10/c.json", "q/d.json"}, got); diff != "" {
		b.Errorf("keys after (-want +got):\n%s", diff)
	}
}

func listInPages(b *bucket) {
	var want []string
	for i := range 10 {
		key := "k/" + strconv.Itoa(i)
		b.mustPut(key, "x")
		want = append(want, key)
	}
	for _, size := range []int32{1, 3, 5, 10, 100} {
		if diff := cmp.Diff(want, b.list(&s3.ListObjectsV2Input{Prefix: aws.String("k/"), MaxKeys: &size})); diff != "" {
			b.Errorf("pages of %d (-want +got):\n%s", size, diff)
		}
	}
}

func listOfRuns(b *bucket) {
	for _, key := range []string{"p/_/a", "p/r1/a", "p/r1/b", "p/r1/c", "p/r2/a", "p/r3/a", "p/r3/b"} {
		b.mustPut(key, "x")
	}
	for _, size := range []int32{1, 2, 100} {
		got := b.list(&s3.ListObjectsV2Input{Prefix: aws.String("p/"), Delimiter: aws.String("/"), MaxKeys: &size})
		if diff := cmp.Diff([]string{"p/_/", "p/r1/", "p/r2/", "p/r3/"}, got); diff != "" {
			b.Errorf("pages of %d (-want +got):\n%s", size, diff)
		}
	}
}
