// Package enqueue turns the lines of an input into jobs on a queue, and keeps
// the manifest of the run that they form. It is no client library: an app that
// has jobs of its own sends them with any SQS client and package job alone. It
// is called by cmd/producer, by the demo and by benchmarks, and composes
// adapters (ADR 1): it may import job, internal/queue, internal/config and the
// AWS SDK.
package enqueue

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/sluicehq/sluice/internal/config"
	"github.com/sluicehq/sluice/internal/queue"
	"github.com/sluicehq/sluice/job"
)

// Options of a Run.
type Options struct {
	// Input has one job a line: a native job, a record of Bedrock's batch
	// inference (recordId, modelInput), or a prompt. Where it can seek, all of it
	// is checked before the first job is sent; where it cannot, as a pipe, jobs
	// are sent as they come.
	Input io.Reader

	SQS      *sqs.Client
	QueueURL string

	S3 *s3.Client // for Results and Payloads
	// Results is where the manifest is kept, beside the results. Nil means no
	// manifest, and with it no resuming.
	Results *config.Location
	// Payloads takes jobs above job.MaxBody. Nil makes them an error.
	Payloads *config.Location

	// Run names the run. Where it is empty the name is the one that the first
	// line gives, else made from the input, else, for a pipe, made at random.
	Run string
	// Model and MaxTokens make jobs of batch records (Model) and prompts (both).
	Model     string
	MaxTokens int

	// Models are those that jobs may ask for. Nil: any.
	Models config.Models
	// AllowEmpty takes an input without a job, which otherwise is an *InputError: it
	// is what a broken export leaves.
	AllowEmpty bool
	// AllErrors tells every line of a file that is wrong, and not just the first.
	AllErrors bool

	Group string        // MessageGroupId: the tenant
	Delay time.Duration // whole seconds, 0 to 15 min, until the jobs can be received

	// DryRun checks the input and calls nobody. It needs no QueueURL.
	DryRun bool

	// Progress, where set, is told how far it has come, from one goroutine at a
	// time.
	Progress func(Progress)
}

// Progress is how far a Run has come, in jobs.
type Progress struct {
	Checked int // found good before the first send; stays where it is while sending
	Total   int // 0 until known; never known of a pipe
	Sent    int
	Skipped int // recorded by an earlier try
}

// Summary is what a Run did.
type Summary struct {
	Run        string `json:"run"`
	QueueURL   string `json:"queue_url,omitempty"`
	Results    string `json:"results,omitempty"`  // the s3:// URI under which the run's results will stand
	Manifest   string `json:"manifest,omitempty"` // the s3:// URI of the manifest's folder
	Lines      int    `json:"lines"`
	Jobs       int    `json:"jobs"`       // different ones
	Duplicates int    `json:"duplicates"` // lines that repeat a job
	Sent       int    `json:"sent"`
	Skipped    int    `json:"skipped"`  // recorded by an earlier try
	Payloads   int    `json:"payloads"` // jobs above job.MaxBody among those sent (or checked, in a dry run)
	Bytes      int64  `json:"bytes"`    // of the bodies of those
	DryRun     bool   `json:"dry_run,omitempty"`
	// Complete says that every job of the input was sent, now or earlier.
	Complete bool `json:"complete"`
}

// InputError is an input, or an option, that is at fault. Trying again does not
// help.
type InputError struct {
	Line int // from 1; 0 where no line is at fault
	Err  error
}

func (e *InputError) Error() string {
	if e.Line == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("line %d: %v", e.Line, e.Err)
}

// Unwrap returns what is wrong with the line, often a *job.FieldError.
func (e *InputError) Unwrap() error { return e.Err }

func inputErrorf(line int, format string, args ...any) *InputError {
	return &InputError{Line: line, Err: fmt.Errorf(format, args...)}
}

var errEmpty = inputErrorf(0, "no job in it: with --allow-empty that is no error")

// Run sends the jobs of the input. It returns what was done also beside an
// error: what was sent by then is recorded, and the same call again resumes.
// When ctx ends, what is being sent is finished and recorded first.
//
// An error of the input is an *InputError, or several joined.
func Run(ctx context.Context, o Options) (Summary, error) {
	if err := o.check(); err != nil {
		return Summary{}, err
	}
	input := input{Model: o.Model, MaxTokens: o.MaxTokens}
	summary := Summary{Run: o.Run, QueueURL: o.QueueURL, DryRun: o.DryRun}
	total := 0
	rewind := rewinder(o.Input)
	if rewind != nil || o.DryRun {
		r := newReader(o, o.Run)
		if err := r.checkAll(ctx, &summary); err != nil {
			return summary, err
		}
		if summary.Jobs == 0 && !o.AllowEmpty {
			return summary, errEmpty
		}
		total = summary.Jobs
		if r.run != unnamed {
			summary.Run = r.run
		}
		if rewind != nil {
			input.SHA256, input.Lines, input.Jobs = r.sum(), summary.Lines, summary.Jobs
			summary.Run = cmp.Or(summary.Run, input.name())
		}
	}
	if o.DryRun {
		return summary, nil
	}
	if rewind != nil {
		if err := rewind(); err != nil {
			return summary, fmt.Errorf("read the input again: %w", err)
		}
	} else if o.Run == "" {
		summary.Run = "run-" + strings.ToLower(rand.Text()[:16])
	}

	s := sender{
		options:  o,
		total:    total,
		outcomes: make(chan outcome),
		summary:  Summary{Run: summary.Run, QueueURL: o.QueueURL},
	}
	if o.Payloads != nil {
		s.payloads = queue.NewPayloads(o.S3, o.Payloads.Bucket, o.Payloads.Prefix)
	}
	if o.Results != nil {
		m, err := openManifest(ctx, o.S3, *o.Results, summary.Run, input)
		if err != nil {
			return s.summary, err
		}
		s.manifest = m
		s.summary.Results, s.summary.Manifest = o.Results.String()+summary.Run+"/", m.uri()
	}
	err := s.run(ctx, newReader(o, summary.Run), input)
	return s.summary, err
}

// unnamed stands for the run's name until the input's hash is known. It has the
// length of the name that replaces it, so that a body has its size already.
const unnamed = "run-................"

// name makes a run's name from the input: a second try finds it again.
func (in input) name() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", in.SHA256, in.Model, in.MaxTokens))
	return fmt.Sprintf("run-%x", sum[:8])
}

func (o *Options) check() error {
	switch {
	case o.Run != "" && !job.ValidName(o.Run):
		return inputErrorf(0, "the run's name must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}")
	case o.MaxTokens < 0:
		return inputErrorf(0, "max tokens must not be negative")
	case o.DryRun && o.QueueURL == "":
		return nil
	case o.QueueURL == "":
		return inputErrorf(0, "a queue URL is missing")
	case o.Delay < 0 || o.Delay > 15*time.Minute || o.Delay%time.Second != 0:
		return inputErrorf(0, "the delay must be whole seconds, at most 15 minutes")
	case !validGroup(o.Group):
		return inputErrorf(0, "the group must be letters, digits and punctuation, at most 128")
	}
	if err := config.CheckQueueURL(o.QueueURL); err != nil {
		return inputErrorf(0, "the queue's URL %w", err)
	}
	return nil
}

// validGroup reports whether SQS takes g as a MessageGroupId, or it is empty.
func validGroup(g string) bool {
	return len(g) <= 128 && !strings.ContainsFunc(g, func(c rune) bool { return c <= ' ' || c > '~' })
}

// rewinder returns what takes the input back to where it stands now, nil where
// it cannot seek.
func rewinder(r io.Reader) func() error {
	s, ok := r.(io.Seeker)
	if !ok {
		return nil
	}
	start, err := s.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil // a pipe is an *os.File too
	}
	return func() error {
		_, err := s.Seek(start, io.SeekStart)
		return err
	}
}

// maxProblems is how many bad lines are told at once: enough to see that they
// are of one kind, few enough to read.
const maxProblems = 10

// checkAll reads the input to its end, counts it and tells its first problems.
func (r *reader) checkAll(ctx context.Context, summary *Summary) error {
	var problems []error
	bad := 0
	for it, err := range r.items() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, ok := errors.AsType[*InputError](err); ok {
			if bad++; bad <= maxProblems || r.options.AllErrors {
				problems = append(problems, err)
			}
			continue
		}
		if err != nil {
			return err
		}
		summary.count(it)
		if r.options.Progress != nil && summary.Jobs%1000 == 0 {
			r.options.Progress(Progress{Checked: summary.Jobs})
		}
	}
	summary.Lines = r.line
	if more := bad - len(problems); more > 0 {
		problems = append(problems, inputErrorf(0, "and %d more: --all-errors tells them", more))
	}
	if len(problems) == 0 && r.options.Progress != nil {
		r.options.Progress(Progress{Checked: summary.Jobs, Total: summary.Jobs})
	}
	return errors.Join(problems...)
}

func (s *Summary) count(it item) {
	s.Lines = it.line
	if it.duplicate {
		s.Duplicates++
		return
	}
	s.Jobs++
	s.Bytes += int64(len(it.body))
	if len(it.body) > job.MaxBody {
		s.Payloads++
	}
}
