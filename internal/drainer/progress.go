package drainer

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicehq/sluice/worker"
)

const (
	// repaintEvery is how often a terminal is repainted: slower looks stuck,
	// faster flickers over a slow line.
	repaintEvery = 250 * time.Millisecond
	// lineEvery is how often a line is written elsewhere: fewer, and a log of a
	// minute says nothing; more, and it is all that the log says.
	lineEvery = 5 * time.Second
	// barLength is the width of a quota's bar, in columns.
	barLength = 24
)

// Progress shows how far a drainer has come: a few lines in place on a
// terminal, one line every few seconds elsewhere. What else is meant for the
// same terminal, as a log, is written to the Progress, so that the two do not
// mix.
type Progress struct {
	width func() int // columns of the terminal; nil: w is none

	mu    sync.Mutex // guards what follows
	w     io.Writer
	lines []string // on the screen now
}

// NewProgress returns a Progress on w; width, where it is not nil, tells the
// columns of the terminal that w is.
func NewProgress(w io.Writer, width func() int) *Progress {
	return &Progress{w: w, width: width}
}

// Follow shows the drainer's progress until ctx ends, and then takes it off the
// screen.
func (p *Progress) Follow(ctx context.Context, d *Drainer) {
	every := lineEvery
	if p.width != nil {
		every = repaintEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.show(d.outlook())
		case <-ctx.Done():
			p.paint(nil)
			return
		}
	}
}

// Write writes above the progress.
func (p *Progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.width == nil {
		return p.w.Write(b)
	}
	lines := p.lines
	p.repaint(nil)
	n, err := p.w.Write(b)
	p.repaint(lines)
	return n, err
}

func (p *Progress) show(o outlook) {
	if p.width == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		fmt.Fprintln(p.w, o.line())
		return
	}
	p.paint(o.block(p.width()))
}

func (p *Progress) paint(lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.repaint(lines)
}

// repaint puts lines in the place of those shown. One write, so that nothing
// flickers. Caller holds mu.
func (p *Progress) repaint(lines []string) {
	if p.width == nil {
		return
	}
	var b bytes.Buffer
	if n := len(p.lines); n > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r\x1b[J", n) // up, and clear to the end of the screen
	}
	for _, line := range lines {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	p.lines = lines
	p.w.Write(b.Bytes())
}

// outlook is a snapshot with what is known of the queues.
type outlook struct {
	worker.Snapshot
	waiting int           // jobs not started: held, released, and in the queues as far as known
	left    time.Duration // 0: unknown
}

func (d *Drainer) outlook() outlook {
	o := outlook{Snapshot: d.Snapshot()}
	o.waiting = o.Held + o.Released
	if jobs, known := d.depths.total(); known {
		o.waiting = max(jobs-o.InFlight, 0)
	}
	if left, known := d.drainTime(o.Snapshot); known {
		o.left = left
	}
	return o
}

// line is the progress in one line.
func (o outlook) line() string {
	parts := []string{o.summary()}
	for _, q := range quotasOf(o.Snapshot) {
		var uses []string
		for _, u := range q.uses() {
			uses = append(uses, fmt.Sprintf("%s/%s %s", count(u.used), count(u.most), u.unit))
		}
		parts = append(parts, q.name+" "+strings.Join(uses, " "))
	}
	return strings.Join(parts, " | ")
}

// block is the progress in lines of at most width columns.
func (o outlook) block(width int) []string {
	lines := []string{o.summary()}
	quotas := quotasOf(o.Snapshot)
	longest := 0
	for _, q := range quotas {
		longest = max(longest, len(q.name))
	}
	for _, q := range quotas {
		for _, u := range q.uses() {
			full := min(int(u.used/u.most*barLength+0.5), barLength)
			lines = append(lines, fmt.Sprintf("  %-*s %s%s %s of %s %s in the last minute", longest, q.name,
				strings.Repeat("█", full), strings.Repeat("░", barLength-full), count(u.used), count(u.most), u.unit))
		}
	}
	for i, line := range lines {
		if r := []rune(line); len(r) >= width { // a wrapped line would not be cleared
			lines[i] = string(r[:max(width-1, 0)])
		}
	}
	return lines
}

func (o outlook) summary() string {
	t := tally(o.Snapshot)
	s := fmt.Sprintf("%s done, %d in flight, %s waiting, %s 429s",
		count(float64(t.ended())), o.InFlight, count(float64(o.waiting)), count(float64(t.throttles)))
	if o.left > 0 && o.left < 24*time.Hour {
		s += ", about " + short(o.left) + " left"
	}
	if o.NotReadyReason != "" {
		s += "; not ready: " + strings.ReplaceAll(o.NotReadyReason, "\n", "; ")
	}
	return s
}

// quotaView is one ledger and the routes that share it.
type quotaView struct {
	name   string // of the models, and of the Region where the models have several quotas
	models []string
	route  worker.RouteSnapshot // the first: all show the same ledger

	requests, tokens float64 // answered and settled since the start, by all of its routes
}

// use is how much of one dimension was used.
type use struct {
	unit       string
	used, most float64
}

// uses is the last minute's use of each limit that there is.
func (q quotaView) uses() (us []use) {
	l := q.route.Limits
	if l.RPM > 0 {
		us = append(us, use{"requests", q.route.Ledger.Requests, l.RPM})
	}
	if l.TPM > 0 {
		us = append(us, use{"tokens", q.route.Ledger.Tokens, l.TPM})
	}
	return us
}

// quotasOf lists the ledgers in the order of their models.
func quotasOf(s worker.Snapshot) (qs []quotaView) {
	routes := map[string]int{} // of each model
	for _, m := range s.Models {
		for _, r := range m.Routes {
			routes[m.Alias]++
			i := slices.IndexFunc(qs, func(q quotaView) bool {
				return q.route.Region == r.Region && q.route.Quota == r.Quota
			})
			if i < 0 {
				i = len(qs)
				qs = append(qs, quotaView{route: r})
			}
			qs[i].requests += float64(r.Invocations)
			qs[i].tokens += float64(r.Settled)
			if !slices.Contains(qs[i].models, m.Alias) {
				qs[i].models = append(qs[i].models, m.Alias)
			}
		}
	}
	for i := range qs {
		q := &qs[i]
		q.name = strings.Join(q.models, "+")
		if slices.ContainsFunc(q.models, func(m string) bool { return routes[m] > 1 }) {
			q.name += " " + q.route.Region
		}
	}
	slices.SortStableFunc(qs, func(a, b quotaView) int { return cmp.Compare(a.name, b.name) })
	return qs
}
