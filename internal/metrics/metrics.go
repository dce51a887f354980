// Package metrics publishes what the drainer counts: to CloudWatch once a
// period, and to whoever scrapes /metrics. Table says what there is. The package
// counts nothing itself and knows no worker: it is fed samples by a Source, which
// internal/drainer makes of the worker's snapshot. It may import the AWS SDK and
// the Prometheus client.
package metrics

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Kind is what a metric's value means.
type Kind string

// The kinds.
const (
	// Counter grows from the start of the process; CloudWatch gets what a period
	// added.
	Counter Kind = "counter"
	// Gauge is a value of now.
	Gauge Kind = "gauge"
	// Distribution is how often each value occurred since the start of the
	// process; CloudWatch gets the values of a period, so that its percentiles
	// work.
	Distribution Kind = "distribution"
	// Rate is a gauge that the publisher makes of a period's counts. It is not
	// fed, and absent from /metrics, where a query makes it.
	Rate Kind = "rate"
)

// Scope is what a metric is counted by. CloudWatch gets the sum over the routes
// of a model.
type Scope int

// The scopes, each within the one before.
const (
	Service Scope = iota
	Model
	Route
)

// Definition is one metric.
type Definition struct {
	Name string // CloudWatch's
	Unit string // CloudWatch's: Count, Seconds, Percent or None
	Help string
	Kind Kind
	Per  Scope
	// Label names what tells a metric's samples apart beside model and route, ""
	// for nothing. CloudWatch gets the sum.
	Label string
	// Detail keeps the metric from CloudWatch unless detail is asked for: every
	// series there is paid for.
	Detail bool
	// Bounds are the upper bounds of a Distribution's buckets on /metrics.
	Bounds []float64
}

// seconds bounds waits and latencies: an embedding takes 0.1 s, a long answer
// minutes, and a job can wait for half a day.
var seconds = []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 12 * 3600}

// The names of the publisher's rate, and of what it is made of.
const (
	throttleRate = "ThrottleRate"
	invocations  = "Invocations"
	throttles    = "Throttles"
)

// Table is every metric, as docs/metrics.md shows it.
//
//go:generate go test -run TestDocs . -update
var Table = [...]Definition{
	{Name: invocations, Unit: "Count", Kind: Counter, Per: Route, Help: "Requests that the model answered."},
	{Name: throttles, Unit: "Count", Kind: Counter, Per: Route, Label: "cause", Help: "Requests refused with a 429 because of our quota; the cause is `requests`, `tokens`, `day` or empty. Some are the price of learning the limiter's shape."},
	{Name: throttleRate, Unit: "Percent", Kind: Rate, Per: Route, Help: "Throttles / (Invocations + Throttles) of the period. Absent without traffic."},
	{Name: "CapacityErrors", Unit: "Count", Kind: Counter, Per: Route, Help: "Requests that failed for Bedrock's reasons: 503, 500, 424, 408, network, time-out. More quota does not help; another Region does."},
	{Name: "Closed", Unit: "Count", Kind: Gauge, Per: Route, Label: "cause", Help: "1 while the route is tried with single probes only: `broken` (the breaker), `parked` (the quota of the day is gone) or `stopped` (access refused); else 0. By model: how many of its routes are."},
	{Name: "QuotaTokens", Unit: "Count", Kind: Counter, Per: Route, Help: "Tokens that were settled: input + cache writes + output x burndown."},
	{Name: "QuotaUse", Unit: "Percent", Kind: Gauge, Per: Model, Help: "The last minute's part of the configured quota, of requests or of tokens, whichever is larger."},
	{Name: "QuotaBoundSeconds", Unit: "Seconds", Kind: Counter, Per: Model, Help: "How long there was backlog and the quota, not we, was the limit. Some of every hour: bursts, smoothed. All of it: ask for more quota."},
	{Name: "Succeeded", Unit: "Count", Kind: Counter, Per: Model, Help: "Jobs that ended with an answer."},
	{Name: "Failed", Unit: "Count", Kind: Counter, Per: Model, Label: "reason", Help: "Jobs that ended without an answer, by reason."},
	{Name: "QueueWait", Unit: "Seconds", Kind: Distribution, Per: Model, Bounds: seconds, Help: "From a job's submission to the start of its invocation."},
	{Name: "InvokeLatency", Unit: "Seconds", Kind: Distribution, Per: Route, Bounds: seconds, Help: "From the start of an invocation to its answer."},

	{Name: "InFlight", Unit: "Count", Kind: Gauge, Per: Service, Help: "Invocations under way."},
	{Name: "SlotBoundSeconds", Unit: "Seconds", Kind: Counter, Per: Service, Help: "How long SLUICE_MAX_IN_FLIGHT, not the quota, was the limit: raise it."},
	{Name: "OldestJobAge", Unit: "Seconds", Kind: Gauge, Per: Service, Help: "Age of the oldest job held, or released and not yet due. SQS's own age does not see what was received three times."},
	{Name: "DrainSeconds", Unit: "Seconds", Kind: Gauge, Per: Service, Help: "Estimated time until the backlog is drained at the present pace."},
	{Name: "Buried", Unit: "Count", Kind: Counter, Per: Service, Label: "reason", Help: "Jobs moved to the dead-letter queue, by reason. Any is worth a look."},
	{Name: "ResultErrors", Unit: "Count", Kind: Counter, Per: Service, Help: "Results, or copies of them, that could not be stored at the first try."},
	{Name: "CopiesLost", Unit: "Count", Kind: Counter, Per: Service, Help: "Copies of results that could not be sent before SQS dropped their jobs, or that fit no message of the results queue. The results stand in S3."},
	{Name: "PaidTwice", Unit: "Count", Kind: Counter, Per: Service, Help: "Answers that found a successful result of the same job already there."},
	{Name: "Unbounded", Unit: "Count", Kind: Counter, Per: Service, Help: "Jobs without max_tokens that ended: each reserves the model's default, which can be most of a minute's quota."},

	{Name: "ReservedTokens", Unit: "Count", Kind: Counter, Per: Route, Detail: true, Help: "Tokens that were reserved: input + max_tokens. Far above QuotaTokens: lower max_tokens."},
	{Name: "Share", Unit: "Percent", Kind: Gauge, Per: Route, Detail: true, Help: "The part of the quota that throttles have left us; above 100 while exploring."},
	{Name: "Shape", Unit: "Seconds", Kind: Gauge, Per: Route, Label: "limit", Detail: true, Help: "What the quota's limiter is believed to hold, in seconds of the quota: `bucket`, and beside it a `minute`, rolling or by the clock, which is 0 once it is disproved."},
	{Name: "Level", Unit: "None", Kind: Gauge, Per: Route, Label: "unit", Detail: true, Help: "The `requests` and `tokens` that could start at once; below 0, what must be earned first: a job waits for that. Absent where they are not limited."},
	{Name: "Margin", Unit: "Seconds", Kind: Gauge, Per: Route, Detail: true, Help: "Seconds of the quota that are kept unused for the network's jitter."},
	{Name: "Fallbacks", Unit: "Count", Kind: Counter, Per: Model, Detail: true, Help: "Jobs that asked for this model and went on to a fallback."},
	{Name: "Expired", Unit: "Count", Kind: Counter, Per: Model, Detail: true, Help: "Jobs whose deadline passed before their start."},
	{Name: "Cancelled", Unit: "Count", Kind: Counter, Per: Service, Detail: true, Help: "Invocations that a stop cancelled at the end of its grace: paid for, and to be paid again."},
	{Name: "Releases", Unit: "Count", Kind: Counter, Per: Service, Detail: true, Help: "Deliveries given back to their queue with a delay."},
	{Name: "Renewals", Unit: "Count", Kind: Counter, Per: Service, Detail: true, Help: "Jobs sent again as fresh messages in place of a release."},
	{Name: "ReceivesPerJob", Unit: "Count", Kind: Distribution, Per: Service, Detail: true, Bounds: []float64{1, 2, 3, 5, 10, 20, 50}, Help: "How often a job had been received when it ended."},
}

// find returns the definition of a name, nil where Table has none.
func find(name string) *Definition {
	for i := range Table {
		if Table[i].Name == name {
			return &Table[i]
		}
	}
	return nil
}

// Sample is the state of one series: of a metric, for one model, route and value
// of its label, each empty where its Definition has none.
type Sample struct {
	Name, Model, Route, Label string
	Value                     float64  // Counter: since the start; Gauge: now
	Buckets                   []Bucket // Distribution: since the start
}

// Bucket is how often a value occurred. Whoever observes rounds, so that there
// are some dozens of values and not one for each observation.
type Bucket struct {
	Value float64
	Count uint64
}

// Source returns the state of every series. It is called once a period and once
// a scrape, at times together.
type Source func() []Sample

// Check reports what a Source gets wrong: samples that Table does not define or
// defines otherwise, and metrics of Table that it leaves out. At run time such
// samples are not published; a Source's test calls Check.
func Check(samples []Sample) error {
	var errs []error
	seen := make(map[string]bool)
	series := make(map[key]bool)
	for _, s := range samples {
		seen[s.Name] = true
		if err := s.check(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.Name, err))
		}
		if series[s.key()] {
			errs = append(errs, fmt.Errorf("%s: two samples of one series", s.Name))
		}
		series[s.key()] = true
	}
	for _, d := range Table {
		if d.Kind != Rate && !seen[d.Name] {
			errs = append(errs, fmt.Errorf("%s: no sample", d.Name))
		}
	}
	return errors.Join(errs...)
}

func (s Sample) check() error {
	d := find(s.Name)
	switch {
	case d == nil:
		return errors.New("not in the table")
	case d.Kind == Rate:
		return errors.New("made by the publisher")
	case (s.Model != "") != (d.Per >= Model):
		return fmt.Errorf("model %q", s.Model)
	case (s.Route != "") != (d.Per >= Route):
		return fmt.Errorf("route %q", s.Route)
	case s.Label != "" && d.Label == "":
		return fmt.Errorf("label %q", s.Label)
	case d.Kind != Distribution && s.Buckets != nil, d.Kind == Distribution && s.Value != 0:
		return fmt.Errorf("not the form of a %s", d.Kind)
	}
	return nil
}

// key is what tells series apart.
type key struct{ name, model, route, label string }

func (s Sample) key() key { return key{s.Name, s.Model, s.Route, s.Label} }

// buckets returns the counts in order of their values.
func buckets(counts map[float64]uint64) []Bucket {
	var all []Bucket
	for _, value := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, Bucket{value, counts[value]})
	}
	return all
}
