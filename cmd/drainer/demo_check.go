package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/sluicehq/sluice/internal/config"
	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/worker"
)

// foundThings are what the demo's jobs have become.
type foundThings struct {
	results map[string][]byte // by key below the results prefix
	dead    []deadLetter
}

// deadLetter is a message on the dead-letter queue.
type deadLetter struct {
	Trail job.Trail `json:"sluice"`
	Body  string    `json:"body"`
}

// collect reads the results and the dead letters, as their users would.
func (w *demoWorld) collect(ctx context.Context) error {
	w.found.results = map[string][]byte{}
	at := config.Location{Bucket: w.cfg.Results.Bucket, Prefix: w.cfg.Results.Prefix}
	pages := s3.NewListObjectsV2Paginator(w.s3, &s3.ListObjectsV2Input{Bucket: &at.Bucket, Prefix: &at.Prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list results: %w", err)
		}
		for _, o := range page.Contents {
			key := strings.TrimPrefix(*o.Key, at.Prefix)
			if strings.Contains(key, "/_") || strings.HasPrefix(key, "_") && !strings.HasPrefix(key, "_/") {
				continue // the manifest, the preflight's object: no id begins with "_"
			}
			object, err := w.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &at.Bucket, Key: o.Key})
			if err != nil {
				return fmt.Errorf("get %s: %w", key, err)
			}
			body, err := io.ReadAll(object.Body)
			object.Body.Close()
			if err != nil {
				return fmt.Errorf("get %s: %w", key, err)
			}
			w.found.results[key] = body
		}
	}
	for {
		out, err := w.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: aws.String(w.cfg.DLQURL), MaxNumberOfMessages: 10, MessageAttributeNames: []string{"sluice"},
		})
		if err != nil {
			return fmt.Errorf("receive dead letters: %w", err)
		}
		if len(out.Messages) == 0 {
			return nil
		}
		for _, m := range out.Messages {
			d := deadLetter{Body: *m.Body}
			if a, ok := m.MessageAttributes["sluice"]; ok {
				if err := json.Unmarshal([]byte(*a.StringValue), &d.Trail); err != nil {
					return fmt.Errorf("read a dead letter: %w", err)
				}
			}
			w.found.dead = append(w.found.dead, d)
		}
	}
}

// write puts what was collected into plain files below the folder.
func (w *demoWorld) write(out string) error {
	files := map[string][]byte{}
	for key, body := range w.found.results {
		files[filepath.Join("results", filepath.FromSlash(key))] = body
	}
	for _, d := range w.found.dead {
		body, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			return err
		}
		files[filepath.Join("dead-letters", d.Trail.ID+".json")] = body
	}
	for name, body := range files {
		name = filepath.Join(out, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, body, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// verify holds what became of the jobs against what had to, and the drainer's
// figures against Bedrock's. It returns how many checks failed.
func (w *demoWorld) verify(out io.Writer, s worker.Snapshot) (wrong int) {
	check := func(what string, differences []string) {
		if len(differences) == 0 {
			fmt.Fprintf(out, "  ok     %s\n", what)
			return
		}
		wrong++
		fmt.Fprintf(out, "  WRONG  %s\n", what)
		for i, d := range differences {
			if i == 5 {
				fmt.Fprintf(out, "           and %d more\n", len(differences)-i)
				break
			}
			fmt.Fprintf(out, "           %s\n", d)
		}
	}
	same := func(what string, got, want int64) []string {
		if got == want {
			return nil
		}
		return []string{fmt.Sprintf("%d %s, not %d", got, what, want)}
	}

	fmt.Fprintf(out, "\nChecked\n")
	results, differences := w.results()
	check(fmt.Sprintf("every job ended as it had to, and left exactly one result: %d of %d jobs (one has no id that could be read)",
		len(w.found.results), len(w.jobs)), differences)
	check(fmt.Sprintf("what can never succeed is on the dead-letter queue, with its reason: %d jobs", len(w.found.dead)), w.burials())

	var fellBack, succeeded int64
	for id, r := range results {
		if r.Status == job.Succeeded {
			succeeded++
			if strings.HasPrefix(id, "nova-") && r.Model == "sonnet" {
				fellBack++
			}
		}
	}
	differences = nil
	if fellBack == 0 {
		differences = []string{"nova's tokens of the day have not run out"}
	}
	check(fmt.Sprintf("when nova's tokens of the day had run out, sonnet answered its jobs: %d", fellBack), differences)

	var answered, repeats, throttled, counted int64
	for _, st := range w.aws.Bedrock().Stats() {
		answered += st.Answered
		repeats += st.Repeats
		for _, n := range st.Throttled {
			throttled += n
		}
	}
	for _, m := range s.Models {
		counted += m.Throttles
	}
	check(fmt.Sprintf("nothing was paid twice: Bedrock gave %d answers to %d jobs that succeeded", answered, succeeded),
		append(same("answers", answered, succeeded), same("answers to a job that had one", repeats, 0)...))
	check(fmt.Sprintf("Bedrock refused what the drainer counted as 429s: %d", throttled), same("429s counted", counted, throttled))
	return wrong
}

// results holds each job's result against what it had to be, and returns them
// by id.
func (w *demoWorld) results() (found map[string]job.Result, differences []string) {
	found = map[string]job.Result{}
	left := map[string]bool{}
	for key := range w.found.results {
		left[key] = true
	}
	for _, j := range w.jobs {
		key := job.Identity{Run: demoRun, ID: j.id}.Key()
		body, there := w.found.results[key]
		delete(left, key)
		if !there {
			if j.want.status != "" {
				differences = append(differences, j.id+": no result")
			}
			continue
		}
		r, err := job.DecodeResult(body)
		if err != nil {
			differences = append(differences, fmt.Sprintf("%s: %v", j.id, err))
			continue
		}
		found[j.id] = r
		var reason job.Reason
		if r.Error != nil {
			reason = r.Error.Reason
		}
		if r.Status != j.want.status || reason != j.want.reason {
			differences = append(differences, fmt.Sprintf("%s: %s %s, not %s %s", j.id, r.Status, reason, j.want.status, j.want.reason))
		}
	}
	for key := range left {
		differences = append(differences, key+": nobody's result")
	}
	return found, differences
}

// burials holds the dead letters against the jobs that had to be buried.
func (w *demoWorld) burials() (differences []string) {
	left := map[string]job.Reason{} // by body
	for _, j := range w.jobs {
		if j.want.buried {
			left[string(j.body)] = j.want.reason
		}
	}
	for _, d := range w.found.dead {
		want, ok := left[d.Body]
		delete(left, d.Body)
		switch {
		case !ok:
			differences = append(differences, fmt.Sprintf("%s: buried as %s", d.Trail.ID, d.Trail.Reason))
		case want != d.Trail.Reason:
			differences = append(differences, fmt.Sprintf("%s: buried as %s, not %s", d.Trail.ID, d.Trail.Reason, want))
		}
	}
	for body, reason := range left {
		differences = append(differences, fmt.Sprintf("not buried as %s: %s", reason, body))
	}
	return differences
}
