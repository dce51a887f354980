package drainer

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/worker"
)

// Report writes what a drainer did in the time that it took: how the jobs
// ended, how long they took, and what the quota had to do with it. results says
// where the results are.
func Report(w io.Writer, s worker.Snapshot, took time.Duration, results string) error {
	t := tally(s)
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight) // two spaces before each cell
	fmt.Fprintf(out, "%s jobs ended in %s\n\n", count(float64(t.ended())), short(took))
	fmt.Fprintf(out, "Jobs\n  succeeded %s", count(float64(t.succeeded)))
	if t.fallbacks > 0 {
		fmt.Fprintf(out, " (%s by a fallback)", count(float64(t.fallbacks)))
	}
	fmt.Fprintf(out, "\n  failed %s\n  expired %s\n  buried %s\n",
		byReason(t.failed), count(float64(t.expired)), byReason(s.Buried))
	if s.PaidTwice > 0 {
		fmt.Fprintf(out, "  paid twice %s: another drainer answered the same job at the same moment\n", count(float64(s.PaidTwice)))
	} else {
		fmt.Fprintf(out, "  paid twice 0\n")
	}

	name := 0 // the width of the first column
	quotas := quotasOf(s)
	for _, m := range s.Models {
		name = max(name, len(m.Alias))
	}
	for _, q := range quotas {
		name = max(name, len(q.name))
	}

	fmt.Fprintf(out, "\nModels\n%*s\tanswered\t429s\trate\t5xx\tlatency p50\tp90\tp99\tqueue wait p50\tp90\tp99\t\n", name, "")
	for _, m := range s.Models {
		fmt.Fprintf(out, "%-*s\t%s\t%s\t%s\t%s\t", name, m.Alias, count(float64(m.Invocations)),
			count(float64(m.Throttles)), percent(float64(m.Throttles), float64(m.Invocations+m.Throttles)), count(float64(m.Capacity)))
		for _, h := range []worker.Histogram{m.Latency, m.QueueWait} {
			for _, q := range []float64{0.5, 0.9, 0.99} {
				cell := "-"
				if h.N > 0 {
					cell = short(time.Duration(h.Quantile(q) * float64(time.Second)))
				}
				fmt.Fprintf(out, "%s\t", cell)
			}
		}
		fmt.Fprintln(out)
	}

	fmt.Fprintf(out, "\nUsed of the quotas, a minute on average\n")
	for _, q := range quotas {
		for _, u := range q.average(took) {
			fmt.Fprintf(out, "%-*s\t%s\tof %s %s\t%s\t\n", name, q.name, count(u.used), count(u.most), u.unit, percent(u.used, u.most))
		}
	}

	fmt.Fprintf(out, "\nQuota-bound: jobs were waiting, and the quota was the limit\n")
	for _, m := range s.Models {
		part := float64(m.QuotaBound) / float64(max(took, 1))
		fmt.Fprintf(out, "%-*s\t%s\t%s\t  %s\n", name, m.Alias, short(m.QuotaBound), percent(part, 1), meaning(part))
	}
	if s.SlotBound > took/100 {
		fmt.Fprintf(out, "  SLUICE_MAX_IN_FLIGHT, and no quota, was the limit for %s: raise it.\n", short(s.SlotBound))
	}
	fmt.Fprintf(out, "\nResults: %s\n", results)
	return out.Flush()
}

// average is the quota's use a minute over the time.
func (q quotaView) average(took time.Duration) []use {
	us := q.uses()
	for i := range us {
		switch us[i].unit {
		case "requests":
			us[i].used = q.requests / took.Minutes()
		case "tokens":
			us[i].used = q.tokens / took.Minutes()
		}
	}
	return us
}

const (
	// hardlyBound is the part of the time below which a quota was no limit worth
	// a thought, and mostlyBound the part from which on it was the limit as such:
	// work comes in faster than the quota lets it out, and pauses are too few to
	// catch up.
	hardlyBound = 0.02
	mostlyBound = 0.7
)

// meaning says what it means to whoever could raise a quota that it was the
// limit for this part of the time.
func meaning(part float64) string {
	switch {
	case part < hardlyBound:
		return "there was room for more"
	case part < mostlyBound:
		return "bursts, smoothed by the queue: raise the quota only if the waits are too long"
	default:
		return "demand: raise the quota, add a route, or move what can wait to Batch"
	}
}

// totals are sums over all models.
type totals struct {
	succeeded, expired, fallbacks, throttles, buried int64
	failed                                           map[job.Reason]int64
}

func tally(s worker.Snapshot) totals {
	t := totals{failed: map[job.Reason]int64{}}
	for _, m := range s.Models {
		t.succeeded += m.Succeeded
		t.expired += m.Expired
		t.fallbacks += m.Fallbacks
		t.throttles += m.Throttles
		for r, n := range m.Failed {
			t.failed[r] += n
		}
	}
	t.buried = sum(s.Buried)
	return t
}

func (t totals) ended() int64 { return t.succeeded + t.expired + sum(t.failed) + t.buried }

func sum(m map[job.Reason]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// byReason is a number with its parts, the largest first: "4 (3 rejected, 1 oversize)".
func byReason(m map[job.Reason]int64) string {
	reasons := slices.SortedFunc(maps.Keys(m), func(a, b job.Reason) int {
		return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b))
	})
	var parts []string
	for _, r := range reasons {
		parts = append(parts, count(float64(m[r]))+" "+string(r))
	}
	if parts == nil {
		return "0"
	}
	return count(float64(sum(m))) + " (" + strings.Join(parts, ", ") + ")"
}

// count writes a number in whole ones, with commas.
func count(n float64) string {
	s := strconv.FormatInt(int64(math.Round(n)), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func percent(part, whole float64) string {
	if whole == 0 {
		return "-"
	}
	p := 100 * part / whole
	if p > 0 && p < 10 {
		return strconv.FormatFloat(p, 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(p, 'f', 0, 64) + " %"
}

// short rounds a duration to what a person wants to know of it.
func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
