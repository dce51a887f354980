package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/spf13/cobra"

	"github.com/sluicehq/sluice/internal/config"
	"github.com/sluicehq/sluice/internal/drainer"
	"github.com/sluicehq/sluice/internal/enqueue"
	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
)

// The demo's models, each with a limit of another kind.
const (
	sonnetID = "us.anthropic.claude-sonnet-4-5-20250929-v1:0" // tokens a minute
	novaID   = "us.amazon.nova-lite-v1:0"                     // requests a minute, and tokens a day: they run out
	embedID  = "amazon.titan-embed-text-v2:0"                 // requests a minute

	// demoBurndown is what sonnet's output tokens cost the quota, and demoOutput
	// how much of its max_tokens a request uses on average.
	demoBurndown = 5
	demoOutput   = 0.5
)

// demo is what the flags say.
type demo struct {
	jobs      int
	rpm, tpm  float64
	shape     bedrocksim.Shape
	neighbour float64
	seed      uint64
	length    time.Duration
	out       string
}

func demoCommand() *cobra.Command {
	var d demo
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Drain a few hundred jobs against an AWS in this process",
		Long: `Drain a few hundred jobs against an AWS in this process: SQS, S3, CloudWatch and a
Bedrock that keeps small quotas, on a loopback port. Nothing else is called, and
neither the AWS nor the SLUICE variables of the environment play a part.

The jobs are Converse and InvokeModel requests to two models and an embedding
model. One model's tokens of the day run out half-way, and its jobs go to the
other. Some jobs are on the queue twice; some can't succeed: malformed, rejected,
expired. In the end every one of them is checked.

Exit code: 0 every job ended as it should; 2 usage; 1 anything else.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := d.check(); err != nil {
				return failure{err, exitUsage}
			}
			forgetAWS()
			if err := d.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr()); err != nil {
				return failure{err, exitError}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&d.jobs, "jobs", 400, "jobs that can be answered; a few that can't come on top")
	f.DurationVar(&d.length, "length", 90*time.Second, "how long it should take: decides quotas that are not given")
	f.Float64Var(&d.tpm, "tpm", 0, "sonnet's tokens a minute (default: by --length)")
	f.Float64Var(&d.rpm, "rpm", 0, "nova's requests a minute; embed has twice as many (default: by --length)")
	f.TextVar(&d.shape, "shape", bedrocksim.Bucket(10*time.Second), "how Bedrock remembers a minute: rolling, calendar, bucket:10s, or several joined by +")
	f.Float64Var(&d.neighbour, "neighbour", 0, "the part of each quota that somebody else takes in the middle third of the time")
	f.Uint64Var(&d.seed, "seed", 1, "decides jobs and answers")
	f.StringVar(&d.out, "out", "", "folder for the results; must not exist or be empty (default sluice-demo/<time>)")
	return cmd
}

// forgetAWS takes AWS's variables out of the environment: the SDK reads some of
// them, as AWS_BEARER_TOKEN_BEDROCK, whatever its configuration says.
func forgetAWS() {
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "AWS_") {
			os.Unsetenv(name) // fails for names that no environment has
		}
	}
}

func (d *demo) check() error {
	switch {
	case d.jobs < 20:
		return errors.New("--jobs: at least 20, or some kind is missing")
	case d.length < time.Second:
		return errors.New("--length: at least 1s")
	case d.rpm < 0, d.tpm < 0:
		return errors.New("--rpm, --tpm: must not be negative")
	case d.neighbour < 0, d.neighbour >= 1:
		return errors.New("--neighbour: at least 0 and below 1")
	}
	return nil
}

func (d *demo) run(ctx context.Context, stdout, stderr io.Writer) error {
	out, err := d.folder()
	if err != nil {
		return err
	}
	logFile, err := os.Create(filepath.Join(out, "drainer.log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	log := slog.New(slog.NewTextHandler(logFile, nil))

	jobs := demoJobs(d.jobs, d.seed)
	models, length := d.models(jobs)
	w, err := newDemoWorld(jobs, bedrocksim.Options{Models: models, Seed: d.seed}, log)
	if err != nil {
		return err
	}
	defer w.aws.Close()
	shape, err := d.shape.MarshalText()
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "An AWS of its own on %s, with a Bedrock whose limiter (%s) allows\n", w.url, shape)
	fmt.Fprintf(stdout, "  sonnet  %.0f tokens a minute\n", models[sonnetID].TPM)
	fmt.Fprintf(stdout, "  nova    %.0f requests a minute, and %d tokens today: then its jobs fall back to sonnet\n", models[novaID].RPM, models[novaID].TPD)
	fmt.Fprintf(stdout, "  embed   %.0f requests a minute\n", models[embedID].RPM)
	if err := w.enqueue(ctx); err != nil {
		return fmt.Errorf("enqueue: %w", err)
	}
	fmt.Fprintf(stdout, "%d jobs are on the queue, work for about %v. Results, log and report go to %s\n\n", len(jobs), length, out)

	limited, cancel := context.WithTimeoutCause(ctx, 4*length+time.Minute, errors.New("the jobs took four times as long as they should"))
	defer cancel()
	defer d.neighbourhood(w.aws.Bedrock(), length)()
	s := service{
		cfg: w.cfg, aws: w.config, log: log, quiet: quietElsewhere,
		progress: drainer.NewProgress(stderr, terminal(stderr)),
	}
	done, err := s.drain(limited)
	if err != nil {
		return err
	}
	if err := w.collect(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if err := w.write(out); err != nil {
		return err
	}
	var report bytes.Buffer
	if err := drainer.Report(&report, done.Snapshot, done.took, filepath.Join(out, "results")); err != nil {
		return err
	}
	wrong := 0
	if done.empty {
		wrong = w.verify(&report, done.Snapshot)
	}
	if err := os.WriteFile(filepath.Join(out, "report.txt"), report.Bytes(), 0o644); err != nil {
		return err
	}
	if _, err := report.WriteTo(stdout); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	switch {
	case !done.empty:
		return fmt.Errorf("stopped before the end: %w", context.Cause(limited))
	case wrong > 0:
		return fmt.Errorf("%d of the checks failed", wrong)
	}
	return nil
}

// folder makes the folder for the results. It takes none that has something in
// it.
func (d *demo) folder() (string, error) {
	out := d.out
	if out == "" {
		out = filepath.Join("sluice-demo", time.Now().Format("2006-01-02T15-04-05"))
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return "", err
	}
	there, err := os.ReadDir(out)
	if err != nil {
		return "", err
	}
	if len(there) > 0 {
		return "", fmt.Errorf("%s is not empty", out)
	}
	return out, nil
}

// models gives Bedrock's models the quotas that make the jobs take about as long
// as they should, and tells how long they will.
func (d *demo) models(jobs []demoJob) (models map[string]bedrocksim.Model, length time.Duration) {
	requests, tokens := map[string]float64{}, map[string]float64{}
	for _, j := range jobs {
		requests[j.model]++
		tokens[j.model] += j.tokens
	}
	const novaPart = 0.6 // of nova's jobs are answered before its tokens run out
	// What falls back to sonnet costs more there.
	tokens["sonnet"] += (1 - novaPart) * tokens["nova"] * demoBurndown
	requests["nova"] *= novaPart
	tpm, rpm := d.tpm, d.rpm
	if tpm == 0 {
		tpm = math.Ceil(tokens["sonnet"]/d.length.Minutes()/100) * 100
	}
	if rpm == 0 {
		rpm = math.Ceil(2 * requests["nova"] / d.length.Minutes()) // in half of the time
	}
	minutes := max(tokens["sonnet"]/tpm, requests["nova"]/rpm, requests["embed"]/(2*rpm))
	length = time.Duration(minutes * float64(time.Minute)).Round(time.Second)

	output := bedrocksim.Range{Min: 0.2, Max: 2*demoOutput - 0.2}
	models = map[string]bedrocksim.Model{
		sonnetID: {
			TPM: tpm, Shape: d.shape, OutputPart: output, Burndown: demoBurndown,
			Latency: bedrocksim.Latency{Base: 400 * time.Millisecond, PerToken: 6 * time.Millisecond, Jitter: 0.3},
			// As on every day, a few requests meet a server that is busy.
			Faults: []bedrocksim.Fault{{Kind: bedrocksim.Unavailable, Rate: 0.02}},
		},
		novaID: {
			RPM: rpm, TPD: int64(novaPart * tokens["nova"]), Shape: d.shape, OutputPart: output,
			Latency: bedrocksim.Latency{Base: 300 * time.Millisecond, PerToken: 4 * time.Millisecond, Jitter: 0.3},
		},
		embedID: {
			RPM: 2 * rpm, Shape: d.shape,
			Latency: bedrocksim.Latency{Base: 80 * time.Millisecond, Jitter: 0.3},
		},
	}
	return models, length
}

// demoEnvironment is what an operator would set.
func demoEnvironment(server *localaws.Server, models map[string]bedrocksim.Model) []string {
	return []string{
		"SLUICE_NAME=demo",
		"SLUICE_QUEUE_URLS=" + server.CreateQueue("jobs", nil),
		"SLUICE_DLQ_URL=" + server.CreateQueue("dead-letters", nil),
		"SLUICE_RESULTS_S3=s3://sluice-demo/results/",
		"SLUICE_PAYLOADS_S3=s3://sluice-demo/payloads/",
		"SLUICE_ADMIN_ADDR=127.0.0.1:0",
		"SLUICE_METRICS_PERIOD=5s",
		"SLUICE_GRACE=10s",
		fmt.Sprintf(`SLUICE_MODELS={
			"sonnet": {"routes": [{"model_id": %q, "region": "us-east-1", "tpm": %v}]},
			"nova":   {"routes": [{"model_id": %q, "region": "us-east-1", "rpm": %v}], "fallback": ["sonnet"]},
			"embed":  {"routes": [{"model_id": %q, "region": "us-east-1", "rpm": %v}]}
		}`, sonnetID, models[sonnetID].TPM, novaID, models[novaID].RPM, embedID, models[embedID].RPM),
	}
}

// neighbourhood lets somebody else use the quotas in the middle third of the
// length. The function that it returns ends that.
func (d *demo) neighbourhood(sim *bedrocksim.Simulator, length time.Duration) (end func()) {
	if d.neighbour == 0 {
		return func() {}
	}
	set := func(fraction float64) func() {
		return func() {
			for _, id := range []string{sonnetID, novaID, embedID} {
				sim.Set(id, func(m *bedrocksim.Model) { m.Neighbour = bedrocksim.Neighbour{Fraction: fraction} })
			}
		}
	}
	come := time.AfterFunc(length/3, set(d.neighbour))
	leave := time.AfterFunc(2*length/3, set(0))
	return func() {
		come.Stop()
		leave.Stop()
	}
}

// demoWorld is the demo's AWS, as its users see it.
type demoWorld struct {
	aws    *localaws.Server
	url    string
	config aws.Config
	sqs    *sqs.Client
	s3     *s3.Client
	cfg    config.Config
	jobs   []demoJob

	found foundThings
}

// newDemoWorld starts an AWS with an empty queue.
func newDemoWorld(jobs []demoJob, bedrock bedrocksim.Options, log *slog.Logger) (*demoWorld, error) {
	server := localaws.New(localaws.Options{Bedrock: bedrock, Log: log})
	url, err := server.Listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server.CreateBucket("sluice-demo")
	cfg, err := config.LoadForRun(demoEnvironment(server, bedrock.Models))
	if err != nil {
		server.Close()
		return nil, err
	}
	ac := server.Config(awshttp.NewBuildableClient())
	return &demoWorld{
		aws: server, url: url, config: ac, cfg: cfg, jobs: jobs,
		sqs: sqs.NewFromConfig(ac), s3: s3.NewFromConfig(ac),
	}, nil
}

// enqueue sends the jobs: those that are jobs as "producer enqueue" does, the
// others as whoever knows nothing of Sluice.
func (w *demoWorld) enqueue(ctx context.Context) error {
	var lines bytes.Buffer
	for _, j := range w.jobs {
		if !j.direct {
			lines.Write(j.body)
			lines.WriteByte('\n')
			continue
		}
		if err := w.send(ctx, j); err != nil {
			return err
		}
	}
	_, err := enqueue.Run(ctx, enqueue.Options{
		Input: strings.NewReader(lines.String()), Run: demoRun,
		SQS: w.sqs, QueueURL: w.cfg.QueueURLs[0],
		S3: w.s3, Results: &w.cfg.Results, Payloads: w.cfg.Payloads,
	})
	if err != nil {
		return err
	}
	for _, j := range w.jobs {
		if j.twice {
			if err := w.send(ctx, j); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *demoWorld) send(ctx context.Context, j demoJob) error {
	_, err := w.sqs.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &w.cfg.QueueURLs[0], MessageBody: aws.String(string(j.body))})
	return err
}
