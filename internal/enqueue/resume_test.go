package enqueue

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Stopped at any moment, and called again until it is done: each job is on the
// queue once.
func TestStopAndResume(t *testing.T) {
	for _, batches := range []int64{1, 60, 499} {
		t.Run(fmt.Sprint(batches), func(t *testing.T) {
			inCloud(t, func(c *cloud) {
				const n = 6003
				sent := 0
				ctx := c.stopAfter(batches)
				for try := 0; ; try++ {
					s, err := Run(ctx, c.options(native(n)))
					sent += s.Sent
					if ids, lines := c.chunks(s.Run); len(ids) != sent || lines != sent {
						c.Fatalf("%d sent, %d recorded up to line %d", sent, len(ids), lines)
					}
					if err == nil {
						break
					}
					if !errors.Is(err, errStopped) || s.Complete || try > 0 {
						c.Fatalf("try %d ended with %v, %+v", try, err, s)
					}
					if slices.Contains(c.keys("results/"+s.Run+"/_manifest/"), "end.json") {
						c.Fatal("the run was ended after a stop")
					}
					ctx = c.Context()
				}
				ids := c.ids()
				for id, times := range ids {
					if times != 1 {
						c.Errorf("%s was sent %d times", id, times)
					}
				}
				if len(ids) != n {
					c.Errorf("%d jobs arrived, want %d", len(ids), n)
				}
			})
		})
	}
}

// Killed before it could record what was sent: sent again, nothing is missing.
func TestKilledAndResumed(t *testing.T) {
	inCloud(t, func(c *cloud) {
		denied := true
		c.at(put, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if denied && strings.Contains(r.URL.Path, "chunk-000002") {
				w.WriteHeader(http.StatusForbidden)
				return true
			}
			return false
		})
		const n = 6003
		s, err := Run(c.Context(), c.options(native(n)))
		if err == nil || s.Complete {
			c.Fatalf("a chunk that was not written went unnoticed: %+v", s)
		}
		denied = false
		again := c.run(c.options(native(n)))
		if again.Skipped < chunkJobs || again.Skipped+again.Sent != n {
			c.Errorf("first %+v, then %+v", s, again)
		}
		if ids := c.ids(); len(ids) != n {
			c.Errorf("%d jobs arrived, want %d", len(ids), n)
		}
		if ids, _ := c.chunks(s.Run); len(ids) != n {
			c.Errorf("%d jobs are recorded, want %d", len(ids), n)
		}
	})
}

func TestAgainSendsNothing(t *testing.T) {
	inCloud(t, func(c *cloud) {
		o := c.options(native(25))
		c.run(o)
		before := c.aws.Calls()["SQS.SendMessageBatch"]
		o.Input = strings.NewReader(native(25))
		if s := c.run(o); s.Skipped != 25 || s.Sent != 0 || !s.Complete {
			c.Errorf("summary %+v", s)
		}
		if after := c.aws.Calls()["SQS.SendMessageBatch"]; after != before {
			c.Errorf("%d more batches", after-before)
		}
	})
}

func TestChangedInputIsRefused(t *testing.T) {
	prompts := func(n int) string { return strings.Repeat(`{"prompt":"a"}`+"\n", n) }
	pipe := func(s string) func(o *Options) {
		return func(o *Options) { o.Input = io.MultiReader(strings.NewReader(s)) }
	}
	for name, tt := range map[string]struct {
		first, second func(*Options)
		want          string
	}{
		"file":          {func(o *Options) {}, func(o *Options) { o.Input = strings.NewReader(prompts(4)) }, "run r was begun with another input"},
		"model":         {func(o *Options) {}, func(o *Options) { o.Model = "n" }, "run r was begun with another input"},
		"bound":         {func(o *Options) {}, func(o *Options) { o.MaxTokens = 6 }, "run r was begun with another input"},
		"file, pipe":    {func(o *Options) {}, pipe(prompts(3)), "run r was begun with another input"},
		"pipe, file":    {pipe(prompts(3)), func(o *Options) {}, "run r was begun with another input"},
		"longer pipe":   {pipe(prompts(3)), pipe(prompts(4)), "line 4: job 0000004-732acbb3 was not here before"},
		"shorter pipe":  {pipe(prompts(3)), pipe(prompts(2)), "the input ends at line 2, and 3 were there before"},
		"another line":  {pipe(prompts(3)), pipe(prompts(2) + `{"prompt":"b"}`), "line 3: job 0000003-8e71c43d was not here before"},
		"another job":   {pipe(native(3)), pipe(`{"id":"j00000","model":"m","converse":{"n":7}}`), "line 1: job j00000 was sent with another request"},
		"another order": {pipe(native(3)), pipe("\n" + native(3) + `{"prompt":"b"}`), "line 5: job 0000005-8e71c43d was not here before"},
	} {
		t.Run(name, func(t *testing.T) {
			inCloud(t, func(c *cloud) {
				options := func(change func(*Options)) Options {
					o := c.options(prompts(3))
					o.Run, o.Model, o.MaxTokens = "r", "m", 5
					change(&o)
					return o
				}
				c.run(options(tt.first))
				s, err := Run(c.Context(), options(tt.second))
				if _, ok := errors.AsType[*InputError](err); !ok || !strings.Contains(err.Error(), tt.want) {
					c.Errorf("error %v, want %q", err, tt.want)
				}
				if s.Sent > 0 || s.Complete {
					c.Errorf("summary %+v", s)
				}
			})
		})
	}
}

// A line that changed among those that were recorded is found though the run
// was never completed.
func TestChangedPipeIsRefusedBeforeItsEnd(t *testing.T) {
	inCloud(t, func(c *cloud) {
		o := c.options("")
		o.Run, o.Input = "r", io.MultiReader(strings.NewReader(native(12)+"oops"))
		if _, err := Run(c.Context(), o); err == nil {
			c.Fatal("no error")
		}
		o.Input = io.MultiReader(strings.NewReader(`{"model":"m","converse":{}}` + "\n" + native(20)))
		s, err := Run(c.Context(), o)
		if e, ok := errors.AsType[*InputError](err); !ok || e.Line != 1 || s.Sent > 0 {
			c.Errorf("error %v, %+v", err, s)
		}
	})
}

// changing is a file that somebody writes to between the two passes.
type changing struct{ *strings.Reader }

func (c changing) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekStart {
		c.Reset(native(20) + `{"model":"m","converse":{}}`)
	}
	return c.Reader.Seek(offset, whence)
}

func TestFileChangesUnderWay(t *testing.T) {
	inCloud(t, func(c *cloud) {
		o := c.options("")
		o.Input = changing{strings.NewReader(native(20))}
		s, err := Run(c.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "the file changed") || s.Complete {
			c.Errorf("error %v, %+v", err, s)
		}
		if slices.Contains(c.keys("results/"+s.Run+"/_manifest/"), "end.json") {
			c.Error("the run was ended")
		}
	})
}

// The answer to a conditional put is lost: the second try meets what the first
// one wrote, and must not take it for somebody else's.
func TestLostAnswersToManifestPuts(t *testing.T) {
	for _, name := range []string{"run.json", "chunk-000001.json", "end.json"} {
		t.Run(name, func(t *testing.T) {
			inCloud(t, func(c *cloud) {
				f := times(1, lost)
				c.at(put, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
					return strings.HasSuffix(r.URL.Path, name) && f(w, r, next)
				})
				if s := c.run(c.options(native(25))); s.Sent != 25 || !s.Complete {
					c.Errorf("summary %+v", s)
				}
			})
		})
	}
}

// Two enqueue the same at once: all jobs are sent, and one of the two may be
// told to try again.
func TestTwoAtOnce(t *testing.T) {
	inCloud(t, func(c *cloud) {
		const n = 6003
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if _, err := Run(c.Context(), c.options(native(n))); err != nil && !strings.Contains(err.Error(), "somebody else") {
					c.Error(err)
				}
			})
		}
		wg.Wait()
		s := c.run(c.options(native(n)))
		if s.Skipped+s.Sent != n || !s.Complete {
			c.Errorf("summary %+v", s)
		}
		if ids := c.ids(); len(ids) != n {
			c.Errorf("%d jobs arrived, want %d", len(ids), n)
		}
	})
}
