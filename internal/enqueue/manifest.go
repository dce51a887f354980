package enqueue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/sluicehq/sluice/internal/config"
)

// The manifest of a run says which jobs belong to it, so that a second try can
// skip what was sent and others can tell when all results are there. It is a
// folder of JSON objects beside the results,
//
//	<results prefix>/<run>/_manifest/
//
// which no result can collide with, for an id does not begin with "_". Each
// object is written once, with If-None-Match, and in this order:
//
//	run.json           header: what the run was begun with, before the first send
//	chunk-000001.json  chunk: jobs that were sent, after they were
//	chunk-000002.json
//	end.json           end: every job of the input was sent
//
// Without end.json the run is not complete: more jobs may come. A job that is
// in no chunk may still have been sent, if the process was killed before it
// could say so; sent again, it has the same identity and is done once. The jobs
// of all chunks are different ones, and end.json counts them.

// header is run.json.
type header struct {
	Run       string    `json:"run"`
	CreatedAt time.Time `json:"created_at"`
	Input     input     `json:"input"`
}

// input is what must be the same for a second try. Of a pipe, only what is known
// beforehand.
type input struct {
	SHA256    string `json:"sha256,omitempty"` // of the file
	Lines     int    `json:"lines,omitempty"`
	Jobs      int    `json:"jobs,omitempty"` // different ones
	Model     string `json:"model,omitempty"`
	MaxTokens int    `json:"max_tokens,omitempty"`
}

// chunk is chunk-<n>.json.
type chunk struct {
	// Lines says that every job up to this line of the input is in this chunk or
	// in an earlier one.
	Lines int   `json:"lines"`
	Jobs  []ref `json:"jobs"`
}

// ref is a job that was sent. Digest is job.Digest's, and for a line that was a
// pointer already job.DigestBody's of its URI.
type ref struct {
	ID     string `json:"id"`
	Digest string `json:"digest"`

	line int
}

// end is end.json.
type end struct {
	SHA256  string    `json:"sha256"` // of the input, also of a pipe
	Lines   int       `json:"lines"`
	Jobs    int       `json:"jobs"`
	Chunks  int       `json:"chunks"`
	EndedAt time.Time `json:"ended_at"`
}

const manifestFolder = "_manifest/"

// manifest is the manifest of one run while it is being enqueued.
type manifest struct {
	s3     *s3.Client
	bucket string
	prefix string // of the folder, with its "/"

	recorded fingerprints // what was sent by earlier tries
	lines    int          // every job up to this line is recorded
	chunks   int
	ended    bool
}

// openManifest begins the run, or finds out how far an earlier try came. A run
// that was begun with another input is an *InputError.
func openManifest(ctx context.Context, client *s3.Client, results config.Location, run string, in input) (*manifest, error) {
	m := &manifest{s3: client, bucket: results.Bucket, prefix: results.Prefix + run + "/" + manifestFolder}
	_, begun, err := m.putOnce(ctx, "run.json", header{Run: run, CreatedAt: time.Now().UTC(), Input: in})
	if err != nil || begun == nil {
		return m, err
	}
	var h header
	if err := json.Unmarshal(begun, &h); err != nil {
		return nil, fmt.Errorf("read %srun.json: %w", m.uri(), err)
	}
	if h.Input != in {
		return nil, inputErrorf(0, "run %s was begun with another input (%s): an input that has changed needs another run", run, h.CreatedAt.Format(time.RFC3339))
	}
	return m, m.load(ctx)
}

func (m *manifest) uri() string { return "s3://" + m.bucket + "/" + m.prefix }

// load reads the chunks of earlier tries.
func (m *manifest) load(ctx context.Context) error {
	m.recorded = make(fingerprints)
	pages := s3.NewListObjectsV2Paginator(m.s3, &s3.ListObjectsV2Input{Bucket: &m.bucket, Prefix: &m.prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list %s: %w", m.uri(), err)
		}
		for _, object := range page.Contents {
			switch name := strings.TrimPrefix(aws.ToString(object.Key), m.prefix); {
			case strings.HasPrefix(name, "chunk-"):
				if err := m.loadChunk(ctx, name); err != nil {
					return err
				}
			case name == "end.json":
				m.ended = true
			}
		}
	}
	return nil
}

func (m *manifest) loadChunk(ctx context.Context, name string) error {
	body, err := m.get(ctx, name)
	if err != nil {
		return err
	}
	var c chunk
	if err := json.Unmarshal(body, &c); err != nil {
		return fmt.Errorf("read %s%s: %w", m.uri(), name, err)
	}
	for _, r := range c.Jobs {
		m.recorded.add(r.ID, r.Digest)
	}
	m.lines = max(m.lines, c.Lines)
	m.chunks++
	return nil
}

// skips reports whether an earlier try recorded the item. An item that it must
// have met and did not is an *InputError: the input has changed.
func (m *manifest) skips(it item) (bool, error) {
	known, same := m.recorded.find(it.id, it.digest)
	switch {
	case known && same:
		return true, nil
	case known:
		return false, inputErrorf(it.line, "job %s was sent with another request: the input has changed, and needs another run", it.id)
	case m.ended || it.line <= m.lines:
		return false, inputErrorf(it.line, "job %s was not here before: the input has changed, and needs another run", it.id)
	}
	return false, nil
}

// record writes the next chunk.
func (m *manifest) record(ctx context.Context, c chunk) error {
	c.Lines = max(m.lines, c.Lines)
	if err := m.putSame(ctx, fmt.Sprintf("chunk-%06d.json", m.chunks+1), c); err != nil {
		return err
	}
	m.lines = c.Lines
	m.chunks++
	return nil
}

// end marks the run as complete.
func (m *manifest) end(ctx context.Context, e end) error {
	if m.ended {
		return nil
	}
	e.Chunks = m.chunks
	return m.putSame(ctx, "end.json", e)
}

// putSame is putOnce where what stands must be this very object, which an
// answer lost on the way leaves behind.
func (m *manifest) putSame(ctx context.Context, name string, v any) error {
	body, standing, err := m.putOnce(ctx, name, v)
	if err != nil || standing == nil || bytes.Equal(standing, body) {
		return err
	}
	return fmt.Errorf("write %s%s: somebody else is enqueueing this run: try again when they are done", m.uri(), name)
}

// putOnce writes an object, or returns what stands there already.
func (m *manifest) putOnce(ctx context.Context, name string, v any) (body, standing []byte, err error) {
	body, err = json.Marshal(v)
	if err != nil {
		return nil, nil, fmt.Errorf("write %s%s: %w", m.uri(), name, err)
	}
	_, err = m.s3.PutObject(ctx, &s3.PutObjectInput{
		Bucket:      &m.bucket,
		Key:         aws.String(m.prefix + name),
		Body:        bytes.NewReader(body),
		ContentType: aws.String("application/json"),
		IfNoneMatch: aws.String("*"),
	})
	if err == nil {
		return body, nil, nil
	}
	if e, ok := errors.AsType[*awshttp.ResponseError](err); !ok || e.HTTPStatusCode() != http.StatusPreconditionFailed {
		return nil, nil, fmt.Errorf("write %s%s: %w", m.uri(), name, err)
	}
	standing, err = m.get(ctx, name)
	return body, standing, err
}

func (m *manifest) get(ctx context.Context, name string) ([]byte, error) {
	out, err := m.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &m.bucket, Key: aws.String(m.prefix + name)})
	if err != nil {
		return nil, fmt.Errorf("read %s%s: %w", m.uri(), name, err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		return nil, fmt.Errorf("read %s%s: %w", m.uri(), name, err)
	}
	return body, nil
}
