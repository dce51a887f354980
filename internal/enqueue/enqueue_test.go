package enqueue

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluicehq/sluice/job"
)

// native returns n lines of native jobs.
func native(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"id":"j%05d","model":"m","converse":{"n": %d}}`+"\n", i, i)
	}
	return b.String()
}

func TestFormats(t *testing.T) {
	inCloud(t, func(c *cloud) {
		o := c.options("\uFEFF" + `{"id":"native","model":"m","converse":{ "a": "<&>" },"fallback":[],"metadata":{"k":"v"}}` + "\r\n" +
			"\n" +
			`{"recordId":"REC1","modelInput":{ "max_tokens": 5 }}` + "\n" +
			` {"modelInput":{}} ` + "\n" +
			`{"prompt":"Say \"hi\"\u0021"}` + "\n" +
			`{"id":"p","prompt":"hi"}` + "\n" +
			`{"payload":"s3://bucket/payloads/x","id":"pointer"}`) // no newline at the end
		o.Run, o.Model, o.MaxTokens = "r", "sonnet", 64
		s := c.run(o)
		prompt := func(p string) json.RawMessage {
			return json.RawMessage(`{"messages":[{"role":"user","content":[{"text":` + p + `}]}],"inferenceConfig":{"maxTokens":64}}`)
		}
		want := []job.Job{
			{ID: "0000004-97a524fd", Run: "r", Model: "sonnet", Kind: job.Invoke, Request: json.RawMessage(`{}`)},
			{ID: "0000005-65f0995d", Run: "r", Model: "sonnet", Kind: job.Converse, Request: prompt(`"Say \"hi\"\u0021"`)},
			{ID: "REC1", Run: "r", Model: "sonnet", Kind: job.Invoke, Request: json.RawMessage(`{ "max_tokens": 5 }`)},
			{ID: "native", Run: "r", Model: "m", Kind: job.Converse, Request: json.RawMessage(`{ "a": "<&>" }`), Fallback: []string{}, Metadata: map[string]string{"k": "v"}},
			{ID: "p", Run: "r", Model: "sonnet", Kind: job.Converse, Request: prompt(`"hi"`)},
			{ID: "pointer", Run: "r", Payload: "s3://bucket/payloads/x"},
		}
		if diff := cmp.Diff(want, c.jobs()); diff != "" {
			c.Errorf("jobs (-want +got):\n%s", diff)
		}
		wantSummary := Summary{
			Run: "r", QueueURL: c.url, Results: "s3://bucket/results/r/", Manifest: "s3://bucket/results/r/_manifest/",
			Lines: 7, Jobs: 6, Sent: 6, Complete: true,
		}
		if diff := cmp.Diff(wantSummary, s, cmpopts.IgnoreFields(Summary{}, "Bytes")); diff != "" {
			c.Errorf("summary (-want +got):\n%s", diff)
		}
		if ids, lines := c.chunks("r"); len(ids) != 6 || lines != 7 {
			c.Errorf("the manifest has %v up to line %d", ids, lines)
		}
		if diff := cmp.Diff([]string{"chunk-000001.json", "end.json", "run.json"}, c.keys("results/r/_manifest/")); diff != "" {
			c.Errorf("manifest (-want +got):\n%s", diff)
		}
	})
}

func TestRefusesBeforeTheFirstSend(t *testing.T) {
	large := `{"id":"l","run":"r","model":"m","invoke":{"a":"` + strings.Repeat("a", job.MaxBody) + `"}}`
	for name, tt := range map[string]struct {
		input  string
		change func(*Options)
		want   string
	}{
		"bad line":           {`{"model":"m","converse":{},"fallback":[7]}`, nil, "line 2: fallback[0]: must be a string, is a number"},
		"unknown field":      {`{"modle":"m"}`, nil, "line 2: modle: unknown field"},
		"record no model":    {`{"modelInput":{}}`, nil, "line 2: modelInput: a batch record names no model: one must be given beside the input"},
		"record bad id":      {`{"recordId":"a b","modelInput":{}}`, model, "line 2: recordId: must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}"},
		"record id null":     {`{"recordId":null,"modelInput":{}}`, model, "line 2: recordId: must be a string"},
		"record no input":    {`{"recordId":"a"}`, model, "line 2: modelInput: not JSON: ends too early"},
		"record text":        {`{"modelInput":"{}"}`, model, "line 2: modelInput: must be an object, is a string"},
		"record and more":    {`{"recordId":"a","modelInput":{},"model":"m"}`, model, "line 2: model: unknown field beside modelInput"},
		"record cut off":     {`{"recordId":"a"`, model, "line 2: not JSON: unexpected end of JSON input"},
		"prompt no model":    {`{"prompt":"a"}`, nil, "line 2: prompt: a prompt names no model and no bound: model and max tokens must be given beside the input"},
		"prompt no bound":    {`{"prompt":"a"}`, model, "line 2: prompt: a prompt names no model and no bound: model and max tokens must be given beside the input"},
		"prompt empty":       {`{"prompt":""}`, bound, "line 2: prompt: is empty"},
		"prompt an object":   {`{"prompt":{}}`, bound, "line 2: prompt: must be a string"},
		"prompt and request": {`{"model":"m","converse":{},"prompt":""}`, bound, "unknown field beside prompt"},
		"prompt for XML":     {"{\"prompt\":\"\uFFFF\"}", bound, `line 2: prompt: holds a character that SQS refuses: escape it as \uffff`},
		"id twice":           {`{"id":"first","model":"m","converse":{"a":1}}`, nil, "line 2: id: stands on an earlier line with another request"},
		"record id twice":    {`{"recordId":"first","modelInput":{}}`, model, "line 2: recordId: stands on an earlier line with another request"},
		"other run":          {`{"run":"s","model":"m","converse":{}}`, func(o *Options) { o.Run = "r" }, "line 2: run: one input is one run, and this one's is r"},
		"run on some lines":  {`{"run":"s","model":"m","converse":{}}`, nil, "line 2: run: one input is one run, and its first line names none"},
		"no payload prefix":  {large, func(o *Options) { o.Run, o.Payloads = "r", nil }, "line 2: 1048626 bytes, of which a message takes 1048576: --payloads or SLUICE_PAYLOADS_S3 must say where it can go"},
		"too long":           {strings.Repeat("x", maxLine), nil, "line 2: longer than 26279936 bytes"},
		"many":               {strings.Repeat("x\n", 12), nil, "line 11: not a JSON object\nand 2 more: --all-errors tells them"},
		"bad run":            {"", func(o *Options) { o.Run = "_" }, "the run's name must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}"},
		"bad max tokens":     {"", func(o *Options) { o.MaxTokens = -1 }, "max tokens must not be negative"},
		"no queue":           {"", func(o *Options) { o.QueueURL = "" }, "a queue URL is missing"},
		"FIFO":               {"", func(o *Options) { o.QueueURL += ".fifo" }, "the queue's URL must be a standard queue: a FIFO queue keeps the order of a group, pacing lets whoever fits go first, and the two fight"},
		"no URL":             {"", func(o *Options) { o.QueueURL = "jobs" }, "the queue's URL must be a queue URL such as https://sqs.us-east-1.amazonaws.com/123456789012/jobs"},
		"long delay":         {"", func(o *Options) { o.Delay = 901 * time.Second }, "the delay must be whole seconds, at most 15 minutes"},
		"broken delay":       {"", func(o *Options) { o.Delay = time.Millisecond }, "the delay must be whole seconds, at most 15 minutes"},
		"bad group":          {"", func(o *Options) { o.Group = "a b" }, "the group must be letters, digits and punctuation, at most 128"},
	} {
		t.Run(name, func(t *testing.T) {
			inCloud(t, func(c *cloud) {
				o := c.options(`{"id":"first","model":"m","converse":{}}` + "\n" + tt.input)
				if tt.change != nil {
					tt.change(&o)
				}
				s, err := Run(c.Context(), o)
				if _, ok := errors.AsType[*InputError](err); !ok || !strings.HasSuffix(err.Error(), tt.want) {
					c.Errorf("error %v, want %q", err, tt.want)
				}
				if calls := c.aws.Calls(); len(calls) > 0 || s.Sent > 0 {
					c.Errorf("AWS was called: %v", calls)
				}
			})
		})
	}
}

func model(o *Options) { o.Model = "m" }
func bound(o *Options) { o.Model, o.MaxTokens = "m", 5 }

func TestDryRunCallsNobody(t *testing.T) {
	t.Parallel()
	for _, pipe := range []bool{false, true} {
		o := Options{Input: strings.NewReader(native(3) + native(1)), DryRun: true}
		if pipe {
			o.Input = io.MultiReader(o.Input)
		}
		s, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		want := Summary{Lines: 4, Jobs: 3, Duplicates: 1, Bytes: s.Bytes, DryRun: true}
		if !pipe {
			want.Run = "run-e9b23aef12c81418"
		}
		if diff := cmp.Diff(want, s); diff != "" {
			t.Errorf("pipe %t: summary (-want +got):\n%s", pipe, diff)
		}
		if s.Bytes == 0 {
			t.Error("no bytes were counted")
		}
	}
}

func TestRunName(t *testing.T) {
	inCloud(t, func(c *cloud) {
		name := func(input string, change func(*Options)) string {
			o := c.options(input)
			o.Results = nil
			if change != nil {
				change(&o)
			}
			s := c.run(o)
			for _, j := range c.jobs() {
				if j.Run != s.Run {
					c.Errorf("a job of run %s in run %s", j.Run, s.Run)
				}
			}
			return s.Run
		}
		const prompt = `{"prompt":"a"}`
		first := name(prompt, bound)
		if again := name(prompt, bound); again != first {
			c.Errorf("the same input makes %s, then %s", first, again)
		}
		for what, other := range map[string]string{
			"another input": name(prompt+"\n", bound),
			"another model": name(prompt, func(o *Options) { o.Model, o.MaxTokens = "n", 5 }),
			"another bound": name(prompt, func(o *Options) { o.Model, o.MaxTokens = "m", 6 }),
			"a pipe":        name(prompt, func(o *Options) { bound(o); o.Input = io.MultiReader(o.Input) }),
		} {
			if other == first {
				c.Errorf("%s has the same run", what)
			}
		}
		if got := name(prompt, func(o *Options) { bound(o); o.Run = "mine" }); got != "mine" {
			c.Errorf("run %s, want the one that was given", got)
		}
		if got := name(`{"run":"theirs","model":"m","converse":{}}`+"\n"+`{"model":"m","converse":{}}`, nil); got != "theirs" {
			c.Errorf("run %s, want the one that the first line gives", got)
		}
	})
}

func TestDuplicatesAreSentOnce(t *testing.T) {
	inCloud(t, func(c *cloud) {
		s := c.run(c.options(native(25) + `{"id":"j00003","model":"m","converse": {"n":3} }` + "\n" + native(25)))
		if s.Jobs != 25 || s.Sent != 25 || s.Duplicates != 26 {
			c.Errorf("summary %+v", s)
		}
		for id, n := range c.ids() {
			if n != 1 {
				c.Errorf("%s was sent %d times", id, n)
			}
		}
	})
}

func TestGroupAndDelay(t *testing.T) {
	inCloud(t, func(c *cloud) {
		o := c.options(native(1))
		o.Group, o.Delay = "tenant-1", time.Minute
		c.run(o)
		if early := c.received(); len(early) > 0 {
			c.Errorf("%d messages before the delay", len(early))
		}
		time.Sleep(time.Minute)
		messages := c.received()
		if len(messages) != 1 || messages[0].Attributes["MessageGroupId"] != "tenant-1" {
			c.Errorf("messages %+v", messages)
		}
	})
}

// A batch is bounded by the sum of its bodies (taskq #36): the embedded AWS
// refuses a larger one.
func TestBatchesBySize(t *testing.T) {
	inCloud(t, func(c *cloud) {
		var b strings.Builder
		for i := range 12 {
			fmt.Fprintf(&b, `{"id":"j%d","model":"m","converse":{"a":"%s"}}`+"\n", i, strings.Repeat("a", 300<<10))
		}
		c.run(c.options(b.String()))
		if n := c.aws.Calls()["SQS.SendMessageBatch"]; n != 4 {
			c.Errorf("%d batches, want 4 of three", n)
		}
		if ids := c.ids(); len(ids) != 12 {
			c.Errorf("received %v", ids)
		}
	})
}

func TestLargeJobsTravelAsPointers(t *testing.T) {
	inCloud(t, func(c *cloud) {
		line := func(id string, n int) string {
			return fmt.Sprintf(`{"id":"%s","model":"m","invoke":{"a":"%s"}}`, id, strings.Repeat("a", n))
		}
		fits := job.MaxBody - len(line("fits", 0)) - len(`"run":"r",`)
		o := c.options(line("fits", fits) + "\n" + line("over", fits+1) + "\n" + line("huge", 5<<20))
		o.Run = "r"
		s := c.run(o)
		if s.Payloads != 2 {
			c.Errorf("%d payloads, want 2", s.Payloads)
		}
		for _, j := range c.jobs() {
			if j.ID == "fits" {
				if j.Payload != "" {
					c.Error("a job that fits a message travels as a pointer")
				}
				continue
			}
			key, ok := strings.CutPrefix(j.Payload, "s3://bucket/")
			if !ok || !strings.HasPrefix(key, "payloads/") {
				c.Fatalf("pointer %+v", j)
			}
			whole, err := j.Resolve(c.object(key))
			if err != nil || whole.Model != "m" || whole.Run != "r" {
				c.Errorf("%s resolves to %.100v, %v", j.ID, whole, err)
			}
		}
	})
}

func TestNoManifestWithoutResults(t *testing.T) {
	inCloud(t, func(c *cloud) {
		o := c.options(native(3))
		o.Results = nil
		if s := c.run(o); s.Manifest != "" || s.Results != "" || !s.Complete {
			c.Errorf("summary %+v", s)
		}
		if keys := c.keys(""); len(keys) > 0 {
			c.Errorf("objects %v", keys)
		}
	})
}

func TestProgress(t *testing.T) {
	inCloud(t, func(c *cloud) {
		o := c.options(native(2500))
		var last Progress
		o.Progress = func(p Progress) {
			if p.Checked < last.Checked || p.Total < last.Total || p.Sent < last.Sent {
				c.Errorf("progress went from %+v to %+v", last, p)
			}
			last = p
		}
		c.run(o)
		if want := (Progress{Checked: 2500, Total: 2500, Sent: 2500}); last != want {
			c.Errorf("progress ended at %+v, want %+v", last, want)
		}
	})
}

// Only what SQS did not take is sent again (sqs-consumer #193, airflow PR
// 73423), and a throttle is no fault of ours whatever SenderFault says.
func TestFailedEntriesAreSentAgain(t *testing.T) {
	for code, senderFault := range map[string]bool{"InternalError": false, "RequestThrottled": true, "KmsThrottled": true} {
		t.Run(code, func(t *testing.T) {
			inCloud(t, func(c *cloud) {
				c.at(send, times(5, refuse(code, senderFault)))
				if s := c.run(c.options(native(30))); s.Sent != 30 {
					c.Errorf("%d sent, want 30", s.Sent)
				}
				ids := c.ids()
				for id, n := range ids {
					if n != 1 {
						c.Errorf("%s was sent %d times", id, n)
					}
				}
				if len(ids) != 30 {
					c.Errorf("%d jobs arrived, want 30", len(ids))
				}
			})
		})
	}
}

func TestHopelessEntryLeavesTheRestRecorded(t *testing.T) {
	inCloud(t, func(c *cloud) {
		c.at(send, times(1, refuse("InvalidMessageContents", true)))
		s, err := Run(c.Context(), c.options(native(30)))
		if err == nil || !strings.Contains(err.Error(), "InvalidMessageContents") || s.Complete {
			c.Fatalf("error %v, summary %+v", err, s)
		}
		if _, ok := errors.AsType[*InputError](err); ok {
			c.Error("what SQS refuses is told as an error of the input")
		}
		ids, _ := c.chunks(s.Run)
		if len(ids) != s.Sent || s.Sent == 0 {
			c.Errorf("%d sent, %d recorded", s.Sent, len(ids))
		}
		again := c.run(c.options(native(30)))
		if again.Skipped != s.Sent || again.Sent != 30-s.Sent || !again.Complete {
			c.Errorf("first %+v, then %+v", s, again)
		}
		for id, n := range c.ids() {
			if n != 1 {
				c.Errorf("%s was sent %d times", id, n)
			}
		}
	})
}

// A queue that is away costs time and nothing else; one that is missing ends
// the try at once.
func TestQueueAway(t *testing.T) {
	inCloud(t, func(c *cloud) {
		start := time.Now()
		c.at(send, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
			if time.Since(start) > 30*time.Second {
				return false
			}
			unavailable(w, r, next)
			return true
		})
		if s := c.run(c.options(native(200))); s.Sent != 200 {
			c.Errorf("%d sent, want 200", s.Sent)
		}
	})
}

func TestQueueMissing(t *testing.T) {
	inCloud(t, func(c *cloud) {
		o := c.options(native(200))
		o.QueueURL += "-missing"
		start := time.Now()
		s, err := Run(c.Context(), o)
		if err == nil || s.Sent > 0 {
			c.Errorf("error %v, %d sent", err, s.Sent)
		}
		if took := time.Since(start); took > time.Second {
			c.Errorf("it took %v to say that the queue is missing", took)
		}
	})
}

// The jobs of a slow pipe leave while it is open, and are recorded before long.
func TestPipeStreams(t *testing.T) {
	inCloud(t, func(c *cloud) {
		r, w := io.Pipe()
		o := c.options("")
		o.Input, o.Run = r, "r"
		done := make(chan Summary)
		go func() {
			s, err := Run(c.Context(), o)
			if err != nil {
				c.Error(err)
			}
			done <- s
		}()
		io.WriteString(w, native(3))
		time.Sleep(2 * linger)
		if n := len(c.ids()); n != 3 {
			c.Errorf("%d jobs arrived while the pipe was open, want 3", n)
		}
		time.Sleep(chunkAge)
		if ids, lines := c.chunks("r"); len(ids) != 3 || lines != 3 {
			c.Errorf("%v were recorded up to line %d while the pipe was open", ids, lines)
		}
		w.Close()
		if s := <-done; s.Sent != 3 || !s.Complete {
			c.Errorf("summary %+v", s)
		}
		synctest.Wait()
	})
}

// A pipe is not known beforehand: what precedes a bad line is sent and stays
// recorded.
func TestPipeWithABadLine(t *testing.T) {
	inCloud(t, func(c *cloud) {
		o := c.options("")
		o.Input, o.Run = io.MultiReader(strings.NewReader(native(12)+"oops\n"+native(20))), "r"
		s, err := Run(c.Context(), o)
		if e, ok := errors.AsType[*InputError](err); !ok || e.Line != 13 {
			c.Fatalf("error %v", err)
		}
		if ids, lines := c.chunks("r"); s.Sent != 12 || len(ids) != 12 || lines != 12 || s.Complete {
			c.Errorf("%+v; %d recorded up to line %d", s, len(ids), lines)
		}
		o.Input = io.MultiReader(strings.NewReader(native(20)))
		if s := c.run(o); s.Skipped != 12 || s.Sent != 8 || !s.Complete {
			c.Errorf("after the line was mended: %+v", s)
		}
		if ids := c.ids(); len(ids) != 20 {
			c.Errorf("%d jobs arrived, want 20", len(ids))
		}
	})
}
