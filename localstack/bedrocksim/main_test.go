package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// log is a writer that tells where the server listens.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
	url chan string // the first URL written
}

var listening = regexp.MustCompile(`url=(\S+)`)

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := listening.FindSubmatch(p); m != nil {
		select {
		case l.url <- string(m[1]):
		default:
		}
	}
	return l.buf.Write(p)
}

// serve starts the server and returns its URL and what ends it.
func serve(t *testing.T, args ...string) (url string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stderr := &log{url: make(chan string, 1)}
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), func(string) string { return "" }, io.Discard, stderr)
	}()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { stop() })
	select {
	case url = <-stderr.url:
	case err := <-done:
		t.Fatalf("did not serve: %v", err)
	}
	return url, stop
}

func TestServesCountsAndStops(t *testing.T) {
	t.Parallel()
	models := filepath.Join(t.TempDir(), "models.json")
	if err := os.WriteFile(models, []byte(`{"amazon.nova-lite-v1:0": {"rpm": 1}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	url, stop := serve(t, "-models", models)
	post := func(prompt string) int {
		body := `{"messages":[{"role":"user","content":[{"text":"` + prompt + `"}]}]}`
		res, err := http.Post(url+"/model/amazon.nova-lite-v1%3A0/converse", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if a, b := post("x"), post("x"); a != http.StatusOK || b != http.StatusTooManyRequests {
		t.Errorf("statuses %d, %d; want 200, 429", a, b)
	}
	for path, want := range map[string]string{"/_healthz": "ok\n", "/_sim/stats": ""} {
		res, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			t.Errorf("%s: %d, %v", path, res.StatusCode, err)
		}
		if want != "" && string(body) != want {
			t.Errorf("%s = %q", path, body)
		}
		if path == "/_sim/stats" {
			var stats map[string]struct {
				Accepted  int64            `json:"accepted"`
				Throttled map[string]int64 `json:"throttled"`
			}
			if err := json.Unmarshal(body, &stats); err != nil {
				t.Fatal(err)
			}
			if s := stats["us-east-1/amazon.nova-lite-v1:0"]; s.Accepted != 1 || s.Throttled["requests"] != 1 {
				t.Errorf("stats = %s", body)
			}
		}
	}
	if err := stop(); err != nil {
		t.Errorf("stopped with %v", err)
	}
}

// TestAHangingRequestDoesNotHoldUpTheEnd, and its client is not told that all
// is well.
func TestAHangingRequestDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	// With keep-alives a connection that was dialed and not needed may stay open, and
	// the server waits for those.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	url, stop := serve(t)
	status := make(chan int, 1)
	go func() {
		res, err := client.Post(url+"/model/amazon.nova-lite-v1%3A0/converse", "application/json",
			strings.NewReader(`{"messages":[{"role":"user","content":[{"text":"[[sim:hang]]"}]}]}`))
		if err != nil {
			status <- 0
			return
		}
		res.Body.Close()
		status <- res.StatusCode
	}()
	for inFlight := false; !inFlight; time.Sleep(time.Millisecond) {
		res, err := client.Get(url + "/_sim/stats")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		inFlight = bytes.Contains(body, []byte(`"in_flight":1`))
	}
	if err := stop(); err != nil {
		t.Errorf("stopped with %v", err)
	}
	if got := <-status; got == http.StatusOK {
		t.Error("the hanging request was answered with 200")
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte(`{"m": {"rmp": 1}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	none := func(string) string { return "" }
	for _, args := range [][]string{{"-nope"}, {"extra"}, {"-seed", "x"}, {"-models", "/absent.json"}, {"-models", bad}} {
		err := run(t.Context(), args, none, io.Discard, io.Discard)
		if _, ok := errors.AsType[usageError](err); !ok {
			t.Errorf("%q: %v, want a usage error", args, err)
		}
	}
	env := func(name string) string {
		if name == "BEDROCKSIM_SEED" {
			return "x"
		}
		return ""
	}
	if err := run(t.Context(), nil, env, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "BEDROCKSIM_SEED") {
		t.Errorf("bad variable: %v", err)
	}
	var help bytes.Buffer
	if err := run(t.Context(), []string{"-h"}, none, &help, io.Discard); err != nil {
		t.Errorf("-h: %v", err)
	}
	for _, want := range []string{"-addr", "-models", "-seed", "BEDROCKSIM_ADDR", "/_sim/stats", "/_healthz"} {
		if !strings.Contains(help.String(), want) {
			t.Errorf("the help lacks %s", want)
		}
	}
}
