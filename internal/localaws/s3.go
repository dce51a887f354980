package localaws

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/johannesboyne/gofakes3"
)

// newS3 returns gofakes3's rendering of the S3 protocol over our own store.
// gofakes3's store carries the metadata, and so the checksum, of an overwritten
// object over to its successor, and answers 412 where S3 answers 404.
func newS3(store *objectStore, log *slog.Logger) http.Handler {
	// No time skew is refused: a test may well set a client's clock wrong.
	return gofakes3.New(store, gofakes3.WithTimeSkewLimit(0), gofakes3.WithLogger(s3Log{log})).Server()
}

// s3Log passes on the errors for which gofakes3 has just an HTTP 500.
type s3Log struct{ log *slog.Logger }

func (l s3Log) Print(level gofakes3.LogLevel, v ...any) {
	if level == gofakes3.LogErr {
		l.log.Error("the embedded S3 failed", "err", fmt.Sprint(v...))
	}
}

// objectStore implements gofakes3.Backend. An object never changes: a put sets
// another in its place, in the same critical section that checked its
// conditions, which is all that conditional writes need.
type objectStore struct {
	mu      sync.Mutex // guards what follows
	buckets map[string]*bucket
}

type bucket struct {
	created time.Time
	objects map[string]*object
	keys    []string // sorted; nil when the set has changed since
}

type object struct {
	body     []byte
	md5      []byte
	metadata map[string]string // headers as they came, and go
	modified time.Time
}

const crc32Header = "X-Amz-Checksum-Crc32"

func newObjectStore() *objectStore { return &objectStore{buckets: make(map[string]*bucket)} }

func (s *objectStore) ListBuckets() ([]gofakes3.BucketInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []gofakes3.BucketInfo
	for _, name := range slices.Sorted(maps.Keys(s.buckets)) {
		all = append(all, gofakes3.BucketInfo{Name: name, CreationDate: gofakes3.NewContentTime(s.buckets[name].created)})
	}
	return all, nil
}

// ListBucket returns a page of keys, in their order, those with the delimiter
// after the prefix rolled up.
func (s *objectStore) ListBucket(name string, prefix *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.buckets[name]
	if !ok {
		return nil, gofakes3.BucketNotFound(name)
	}
	if b.keys == nil {
		b.keys = slices.Sorted(maps.Keys(b.objects))
	}
	list := gofakes3.NewObjectList()
	// A marker that is a rolled-up prefix has all its keys behind it.
	last, n := page.Marker, int64(0)
	for _, key := range b.keys[sort.SearchStrings(b.keys, max(page.Marker, prefix.Prefix)):] {
		if !strings.HasPrefix(key, prefix.Prefix) {
			break
		}
		var match gofakes3.PrefixMatch
		if key == page.Marker || !prefix.Match(key, &match) || match.CommonPrefix && match.MatchedPart == last {
			continue
		}
		if page.MaxKeys > 0 && n == page.MaxKeys {
			list.IsTruncated, list.NextMarker = true, last
			break
		}
		n++
		if match.CommonPrefix {
			last = match.MatchedPart
			list.AddPrefix(last)
			continue
		}
		last = key
		o := b.objects[key]
		list.Add(&gofakes3.Content{
			Key: key, LastModified: gofakes3.NewContentTime(o.modified), ETag: gofakes3.FormatETag(o.md5), Size: int64(len(o.body)),
		})
	}
	return list, nil
}

func (s *objectStore) CreateBucket(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.buckets[name]; ok {
		return gofakes3.ResourceError(gofakes3.ErrBucketAlreadyExists, name)
	}
	s.buckets[name] = &bucket{created: time.Now(), objects: make(map[string]*object)}
	return nil
}

func (s *objectStore) BucketExists(name string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.buckets[name]
	return ok, nil
}

func (s *objectStore) DeleteBucket(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.buckets[name]
	if !ok {
		return gofakes3.BucketNotFound(name)
	}
	if len(b.objects) > 0 {
		return gofakes3.ResourceError(gofakes3.ErrBucketNotEmpty, name)
	}
	delete(s.buckets, name)
	return nil
}

func (s *objectStore) ForceDeleteBucket(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.buckets, name)
	return nil
}

func (s *objectStore) find(bucket, key string) (*object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.buckets[bucket]
	if !ok {
		return nil, gofakes3.BucketNotFound(bucket)
	}
	o, ok := b.objects[key]
	if !ok {
		return nil, gofakes3.KeyNotFound(key)
	}
	return o, nil
}

func (s *objectStore) HeadObject(bucket, key string) (*gofakes3.Object, error) {
	o, err := s.find(bucket, key)
	if err != nil {
		return nil, err
	}
	return o.answer(key, o.metadata, nil, nil), nil
}

func (s *objectStore) GetObject(bucket, key string, asked *gofakes3.ObjectRangeRequest) (*gofakes3.Object, error) {
	o, err := s.find(bucket, key)
	if err != nil {
		return nil, err
	}
	part, err := asked.Range(int64(len(o.body)))
	if err != nil {
		return nil, err
	}
	if part == nil {
		return o.answer(key, o.metadata, o.body, nil), nil
	}
	metadata := maps.Clone(o.metadata)
	delete(metadata, crc32Header) // it is the whole object's
	return o.answer(key, metadata, o.body[part.Start:part.Start+part.Length], part), nil
}

func (o *object) answer(key string, metadata map[string]string, body []byte, part *gofakes3.ObjectRange) *gofakes3.Object {
	return &gofakes3.Object{
		Name: key, Hash: o.md5, Metadata: metadata, Size: int64(len(o.body)), Range: part,
		Contents: io.NopCloser(bytes.NewReader(body)),
	}
}

// PutObject stores an object if the conditions hold.
func (s *objectStore) PutObject(bucket, key string, headers map[string]string, input io.Reader, size int64, conditions *gofakes3.PutConditions) (gofakes3.PutObjectResult, error) {
	var none gofakes3.PutObjectResult
	body, err := gofakes3.ReadAll(input, size)
	if err != nil {
		return none, err
	}
	if sum, ok := headers[crc32Header]; ok && sum != crc32Of(body) {
		return none, gofakes3.ErrorMessage(gofakes3.ErrBadDigest, "The CRC32 you specified did not match the calculated checksum.")
	}
	digest := md5.Sum(body)
	o := &object{body: body, md5: digest[:], modified: time.Now(), metadata: kept(headers)}

	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.buckets[bucket]
	if !ok {
		return none, gofakes3.BucketNotFound(bucket)
	}
	there, exists := b.objects[key]
	if conditions != nil {
		info := gofakes3.ConditionalObjectInfo{Exists: exists}
		if exists {
			info.Hash = there.md5
		} else if conditions.IfMatch != nil {
			return none, gofakes3.KeyNotFound(key)
		}
		if err := gofakes3.CheckPutConditions(conditions, &info); err != nil {
			return none, err
		}
	}
	if !exists {
		b.keys = nil
	}
	b.objects[key] = o
	return none, nil
}

// kept are the request headers that belong to the object.
func kept(headers map[string]string) map[string]string {
	out := make(map[string]string)
	for name, value := range headers {
		if strings.HasPrefix(name, "X-Amz-Meta-") || strings.HasPrefix(name, "Content-") || name == "Last-Modified" || name == crc32Header {
			out[name] = value
		}
	}
	return out
}

func crc32Of(body []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(body)))
}

func (s *objectStore) CopyObject(fromBucket, fromKey, toBucket, toKey string, headers map[string]string) (gofakes3.CopyObjectResult, error) {
	return gofakes3.CopyObject(s, fromBucket, fromKey, toBucket, toKey, headers)
}

func (s *objectStore) DeleteObject(bucket, key string) (gofakes3.ObjectDeleteResult, error) {
	_, err := s.DeleteMulti(bucket, key)
	return gofakes3.ObjectDeleteResult{}, err
}

func (s *objectStore) DeleteMulti(bucket string, keys ...string) (gone gofakes3.MultiDeleteResult, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.buckets[bucket]
	if !ok {
		return gone, gofakes3.BucketNotFound(bucket)
	}
	for _, key := range keys {
		if _, ok := b.objects[key]; ok {
			delete(b.objects, key)
			b.keys = nil
		}
		gone.Deleted = append(gone.Deleted, gofakes3.ObjectID{Key: key})
	}
	return gone, nil
}
