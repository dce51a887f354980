package results

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/sluicehq/sluice/job"
)

// standing is what stands under an identity: the zero value where nothing does,
// an etag alone where the object is not one of ours.
type standing struct {
	etag      string
	status    job.Status
	digest    string
	submitted time.Time
	content   string // hash of the object, by which a writer knows its own again
}

// decide holds the rule that a success is final and a failure is not. It says
// what the object that stands means for a claim: one that has yet to be
// answered (status empty), or one whose outcome has this status.
func decide(there standing, c job.Claim, status job.Status) job.Verdict {
	same := there.digest == c.Digest
	switch {
	case there.etag == "":
		return job.Open
	case there.status == "":
		// Somebody else's object, or one that lost its metadata in a restore.
		// Writing over it could destroy a success; calling it an answer could
		// lose a job. As a conflict it is buried, where a person sees both.
		return job.Contested
	case there.status == job.Succeeded && same:
		return job.Answered
	case there.status == job.Succeeded:
		return job.Contested
	case status == job.Succeeded:
		return job.Open
	case same && !c.Submitted.After(there.submitted):
		return job.Answered
	default:
		return job.Open // asked for again since it failed, or another request
	}
}

// The names of the object's metadata.
const (
	metaStatus    = "status"
	metaSubmitted = "submitted" // RFC 3339 with nanoseconds, UTC
	metaDigest    = "digest"
	metaContent   = "content"
)

func (s standing) metadata() map[string]string {
	return map[string]string{
		metaStatus:    string(s.status),
		metaSubmitted: s.submitted.UTC().Format(time.RFC3339Nano),
		metaDigest:    s.digest,
		metaContent:   s.content,
	}
}

// readMetadata is the inverse of metadata. What it can't read is foreign.
func readMetadata(etag string, m map[string]string) standing {
	s := standing{etag: etag, status: job.Status(m[metaStatus]), digest: m[metaDigest], content: m[metaContent]}
	var err error
	s.submitted, err = time.Parse(time.RFC3339Nano, m[metaSubmitted])
	known := s.status == job.Succeeded || s.status == job.Failed || s.status == job.Expired
	if !known || err != nil || s.digest == "" {
		return standing{etag: etag}
	}
	return s
}

func hash(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}
