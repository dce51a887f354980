// Package drainer plugs the adapters into a worker: from a configuration and
// AWS clients it makes the service that cmd/drainer runs, the demo shows and the
// benchmarks measure. It holds no rule of its own; it is the one place that
// knows every adapter. cmd/*, bench/ and tests import it.
package drainer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/sluicehq/sluice/internal/bedrock"
	"github.com/sluicehq/sluice/internal/config"
	"github.com/sluicehq/sluice/internal/connect"
	"github.com/sluicehq/sluice/internal/metrics"
	"github.com/sluicehq/sluice/internal/queue"
	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/pacing"
	"github.com/sluicehq/sluice/results"
	"github.com/sluicehq/sluice/worker"
)

// Drainer is one deployment's service.
type Drainer struct {
	// Version is what log and status say is running; to be set before Run.
	Version string

	cfg      config.Config
	log      *slog.Logger
	sqs      *sqs.Client
	s3       *s3.Client
	cw       *cloudwatch.Client
	model    *bedrock.Client
	sources  []*queue.Queue
	dead     *queue.Queue
	copies   *queue.Queue    // nil: none
	payloads *queue.Payloads // nil: no prefix
	sink     *results.Sink

	worker atomic.Pointer[worker.Worker] // nil until the preflight has passed
	waits  atomic.Pointer[error]         // why it has not, by its last try
	depths depths
}

// New makes a drainer of a valid configuration. It does no I/O.
func New(cfg config.Config, ac aws.Config, log *slog.Logger) (*Drainer, error) {
	if err := cfg.ForRun(); err != nil {
		return nil, err
	}
	ac = connect.Prepare(ac)
	d := &Drainer{
		cfg: cfg, log: log,
		sqs: sqs.NewFromConfig(ac),
		s3:  connect.S3(ac),
		cw:  cloudwatch.NewFromConfig(ac),
	}
	var err error
	if d.model, err = bedrock.New(ac, bedrock.Options{MaxInFlight: cfg.MaxInFlight}); err != nil {
		return nil, err
	}
	if p := cfg.Payloads; p != nil {
		d.payloads = queue.NewPayloads(d.s3, p.Bucket, p.Prefix)
	}
	for _, url := range cfg.QueueURLs {
		d.sources = append(d.sources, queue.New(d.sqs, url, queue.Options{Payloads: d.payloads, Log: log}))
	}
	d.dead = queue.New(d.sqs, cfg.DLQURL, queue.Options{Payloads: d.payloads, Log: log})
	sink := results.Options{S3: d.s3, Bucket: cfg.Results.Bucket, Prefix: cfg.Results.Prefix}
	if cfg.ResultsQueueURL != "" {
		// Without payloads: a copy that is too large names its object instead.
		d.copies = queue.New(d.sqs, cfg.ResultsQueueURL, queue.Options{Log: log, Linger: copyLinger})
		sink.Copies = d.copies
	}
	d.sink = results.New(sink)
	return d, nil
}

const (
	// preflightLimit is how long a start waits for what it needs. Longer, and a
	// wrong name looks like a slow start; shorter, and one blip ends the task.
	preflightLimit = time.Minute
	// flushLimit bounds the last publication of metrics: what is left of the
	// grace, and flushLeast in any case.
	flushLimit = 3 * time.Second
	flushLeast = time.Second
)

// copyLinger lets copies share their calls: at 100 results a second it is a tenth
// of the calls, and a result takes seconds anyway.
const copyLinger = 100 * time.Millisecond

// Run drains until ctx is done, then winds up within the grace. Its error is
// that the preflight did not pass, or that there is no place for a trace.
func (d *Drainer) Run(ctx context.Context) error {
	for _, text := range d.cfg.Models.Warnings(d.cfg.QuotaFraction) {
		d.log.Warn("configuration", "warning", text)
	}
	sources, err := d.preflight(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	o := d.options(sources)
	if d.cfg.PacingTrace != "" {
		t, err := openTrace(d.cfg.PacingTrace, traceMost, d.log)
		if err != nil {
			return err
		}
		defer t.close()
		o.Trace = t.record
	}
	w := worker.New(o)
	d.worker.Store(w)
	d.log.Info("draining", "version", d.Version, "queues", names(d.sources), "models", len(d.cfg.Models), "results", d.cfg.Results.String())

	background, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	go d.watchDepths(background)
	if d.cfg.MetricsNamespace == "" {
		w.Run(ctx)
		return nil
	}
	publisher := metrics.NewPublisher(d.cw, metrics.Options{
		Namespace: d.cfg.MetricsNamespace, Service: d.cfg.Name, Period: d.cfg.MetricsPeriod,
		Detail: d.cfg.MetricsDetail == "route", Source: d.samples, Log: d.log,
	})
	go publisher.Run(background)
	stopped := make(chan time.Time, 1)
	context.AfterFunc(ctx, func() { stopped <- time.Now() })
	w.Run(ctx)
	left := time.Until((<-stopped).Add(d.cfg.Grace))
	flush, cancel := context.WithTimeout(background, min(max(left, flushLeast), flushLimit))
	defer cancel()
	publisher.Flush(flush)
	return nil
}

// preflight proves that the queues are there and standard, and that an answer
// could be kept, before the first job is received.
func (d *Drainer) preflight(ctx context.Context) ([]worker.Source, error) {
	began := time.Now()
	for n := 0; ; n++ {
		sources, err := d.check(ctx)
		if err == nil || ctx.Err() != nil {
			return sources, nil
		}
		if errors.Is(err, errFIFO) || time.Since(began) > preflightLimit {
			return nil, fmt.Errorf("preflight: %w", err)
		}
		d.waits.Store(&err)
		if n == 0 {
			d.log.Warn("preflight not passed yet", "error", err, "limit", preflightLimit)
		}
		select {
		case <-time.After(pacing.Backoff(n, time.Second, 10*time.Second, 1)):
		case <-ctx.Done():
		}
	}
}

var errFIFO = errors.New("a FIFO queue: order and pacing fight; use a standard queue, with MessageGroupId for tenants")

func (d *Drainer) check(ctx context.Context) (sources []worker.Source, err error) {
	describe := func(variable string, q *queue.Queue) queue.Attributes {
		a, e := q.Describe(ctx)
		if e == nil && a.FIFO {
			e = fmt.Errorf("%s: %w", name(q), errFIFO)
		}
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", variable, e))
		}
		return a
	}
	largest := 0
	for i, q := range d.sources {
		a := describe(fmt.Sprintf("SLUICE_QUEUE_URLS[%d]", i), q)
		largest = max(largest, a.MaxMessageBytes)
		sources = append(sources, worker.Source{Queue: q, Name: name(q), Retention: a.Retention, Offset: q.Offset})
	}
	if a := describe("SLUICE_DLQ_URL", d.dead); err == nil && d.payloads == nil && a.MaxMessageBytes < largest {
		err = fmt.Errorf("SLUICE_DLQ_URL: %s: its MaximumMessageSize is %d, that of a job queue %d: it could not take what must be buried; raise it, or set SLUICE_PAYLOADS_S3",
			name(d.dead), a.MaxMessageBytes, largest)
	}
	if d.copies != nil {
		describe("SLUICE_RESULTS_QUEUE_URL", d.copies)
	}
	if d.payloads != nil {
		if e := d.payloads.Preflight(ctx); e != nil {
			err = errors.Join(err, fmt.Errorf("SLUICE_PAYLOADS_S3 (%s): %w", d.cfg.Payloads, e))
		}
	}
	if e := d.sink.Preflight(ctx); e != nil {
		err = errors.Join(err, fmt.Errorf("SLUICE_RESULTS_S3 (%s): %w", d.cfg.Results, e))
	}
	return sources, err
}

// options is the worker's configuration.
func (d *Drainer) options(sources []worker.Source) worker.Options {
	c := d.cfg
	o := worker.Options{
		Sources: sources, Dead: d.dead, Model: d.model, Sink: d.sink,
		Measure: func(r job.Route, k job.Kind, request []byte) job.Size { return bedrock.Measure(r.ModelID, k, request) },
		Resolve: c.Models.Resolve, Log: d.log,
		MaxInFlight: c.MaxInFlight, MaxInFlightBytes: c.MaxInFlightBytes,
		Visibility: c.Visibility, Hold: c.Hold, MaxReceives: c.MaxReceives, Grace: c.Grace,
	}
	if d.copies != nil {
		o.Copier = d.sink
	}
	if d.payloads != nil {
		o.Payloads = d.payloads
	}
	for _, alias := range slices.Sorted(maps.Keys(c.Models)) {
		m := c.Models[alias]
		mo := worker.ModelOptions{
			Alias: alias, Burndown: m.Burndown, MaxTokens: m.DefaultMaxTokens,
			MaxInFlight: m.MaxInFlight, Timeout: m.Timeout, Fallback: m.Fallback,
			FallbackAfter: m.FallbackAfter, Family: m.Family,
		}
		if mo.MaxInFlight == 0 {
			mo.MaxInFlight = c.MaxInFlight
		}
		for _, r := range m.Routes {
			mo.Routes = append(mo.Routes, worker.RouteOptions{
				Route: r.Route, Quota: r.Quota, Undivided: r.TPM,
				Limits: pacing.Limits{RPM: r.RPM * c.QuotaFraction, TPM: r.TPM * c.QuotaFraction, Firm: c.QuotaFraction < 1},
			})
		}
		o.Models = append(o.Models, mo)
	}
	return o
}

// Snapshot returns what the drainer has done and is doing; before the preflight
// has passed, nothing.
func (d *Drainer) Snapshot() worker.Snapshot {
	if w := d.worker.Load(); w != nil {
		return w.Snapshot()
	}
	reason := "the preflight has not passed"
	if err := d.waits.Load(); err != nil {
		reason += ": " + (*err).Error()
	}
	return worker.Snapshot{At: time.Now(), NotReadyReason: reason}
}

func name(q *queue.Queue) string {
	url := q.URL()
	return url[strings.LastIndexByte(url, '/')+1:]
}

func names(qs []*queue.Queue) (ns []string) {
	for _, q := range qs {
		ns = append(ns, name(q))
	}
	return ns
}
