package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Location is a place in S3 below which objects are read or written.
type Location struct {
	Bucket string
	Prefix string // ends in "/" or is empty
}

// maxPrefix leaves an object's key (1,024 bytes) room for a run and an id of
// 128 characters each, the slashes, and the manifest's names.
const maxPrefix = 512

// bucketForm is S3's form of a bucket's name, access point aliases included.
var bucketForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// ParseLocation reads s3://bucket/prefix/. A prefix without its trailing "/"
// gets it: "results" must not hold what stands below "results-old/".
func ParseLocation(s string) (Location, error) {
	rest, ok := strings.CutPrefix(s, "s3://")
	bucket, prefix, _ := strings.Cut(rest, "/")
	if !ok || bucket == "" {
		return Location{}, errors.New("must be s3://bucket/prefix/")
	}
	if !bucketForm.MatchString(bucket) {
		return Location{}, fmt.Errorf(`must have a bucket of 3 to 63 of a-z, 0-9, "." and "-", not %q`, redact(bucket))
	}
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		prefix += "/"
	}
	segments := strings.Split(strings.TrimSuffix(prefix, "/"), "/")
	odd := func(s string) bool { return s == "" || s == "." || s == ".." }
	if prefix != "" && (slices.ContainsFunc(segments, odd) || strings.ContainsFunc(prefix, unprintable)) {
		return Location{}, errors.New(`must have a prefix without empty, "." or ".." segments and of printable ASCII`)
	}
	if len(prefix) > maxPrefix {
		return Location{}, errors.New("must have a prefix of at most 512 bytes")
	}
	return Location{Bucket: bucket, Prefix: prefix}, nil
}

// Decode reads the value of a variable (envconfig.Decoder).
func (l *Location) Decode(s string) (err error) {
	*l, err = ParseLocation(s)
	return err
}

// String is the URI of the location, or empty.
func (l Location) String() string {
	if l.Bucket == "" {
		return ""
	}
	return "s3://" + l.Bucket + "/" + l.Prefix
}

func (l Location) overlaps(m Location) bool {
	return l.Bucket == m.Bucket && (strings.HasPrefix(l.Prefix, m.Prefix) || strings.HasPrefix(m.Prefix, l.Prefix))
}

func unprintable(r rune) bool { return r <= ' ' || r > '~' }
