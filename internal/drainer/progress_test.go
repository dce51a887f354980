package drainer

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestProgressLine(t *testing.T) {
	t.Parallel()
	o := outlook{Snapshot: snapshot(), waiting: 1043, left: 95 * time.Second}
	want := "1,309 done, 7 in flight, 1,043 waiting, 2 429s, about 1m35s left | embed 998/2,000 requests | " +
		"haiku 44,900/50,000 tokens | sonnet us-east-1 149/300 requests 151,000/200,000 tokens | " +
		"sonnet us-west-2 48/300 requests 40,500/200,000 tokens"
	if diff := cmp.Diff(want, o.line()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	o.left, o.NotReadyReason = 30*24*time.Hour, "results: away\nno route is usable"
	want = "1,309 done, 7 in flight, 1,043 waiting, 2 429s; not ready: results: away; no route is usable"
	if got := o.summary(); got != want {
		t.Errorf("summary = %q, want %q", got, want)
	}
}

func TestProgressBlockFitsTheTerminal(t *testing.T) {
	t.Parallel()
	o := outlook{Snapshot: snapshot(), waiting: 1043}
	lines := o.block(100)
	want := "  embed            ████████████░░░░░░░░░░░░ 998 of 2,000 requests in the last minute"
	if len(lines) != 7 || lines[1] != want {
		t.Errorf("%d lines, the second %q; want 7, %q", len(lines), lines[1], want)
	}
	for _, line := range o.block(40) {
		if n := len([]rune(line)); n >= 40 {
			t.Errorf("%d columns of 40 wrap: %q", n, line)
		}
	}
}

// screen is what a terminal of the Progress's few commands shows.
func screen(written string) string {
	var lines []string
	for i, part := range strings.Split(written, "\x1b[") {
		if i > 0 && strings.HasSuffix(part, "A\r") {
			var up int
			for _, digit := range strings.TrimSuffix(part, "A\r") {
				up = 10*up + int(digit-'0')
			}
			lines = lines[:len(lines)-up]
			continue
		}
		part = strings.TrimPrefix(part, "J")
		if part != "" {
			lines = append(lines, strings.Split(strings.TrimSuffix(part, "\n"), "\n")...)
		}
	}
	return strings.Join(lines, "\n")
}

func TestProgressAndLogShareTheTerminal(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := NewProgress(&out, func() int { return 100 })
	p.show(outlook{Snapshot: snapshot()})
	if _, err := p.Write([]byte("a line of the log\n")); err != nil {
		t.Fatal(err)
	}
	o := outlook{Snapshot: snapshot()}
	p.show(o)
	if diff := cmp.Diff("a line of the log\n"+strings.Join(o.block(100), "\n"), screen(out.String())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	p.paint(nil)
	if got := screen(out.String()); got != "a line of the log" {
		t.Errorf("in the end the screen shows %q", got)
	}
}

func TestProgressElsewhere(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := NewProgress(&out, nil)
	o := outlook{Snapshot: snapshot()}
	p.show(o)
	p.Write([]byte("log\n"))
	p.paint(nil)
	if want := o.line() + "\nlog\n"; out.String() != want {
		t.Errorf("wrote %q, want %q", out.String(), want)
	}
}

func TestShortAndCount(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", 84 * time.Millisecond: "80ms", 2345 * time.Millisecond: "2.3s",
		59700 * time.Millisecond: "1m0s", 3725 * time.Second: "1h2m5s",
	} {
		if got := short(d); got != want {
			t.Errorf("short(%v) = %s, want %s", d, got, want)
		}
	}
	for n, want := range map[float64]string{0: "0", 999.6: "1,000", 12: "12", 123456: "123,456", 1234567: "1,234,567"} {
		if got := count(n); got != want {
			t.Errorf("count(%v) = %s, want %s", n, got, want)
		}
	}
}
