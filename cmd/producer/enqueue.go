package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sluicehq/sluice/internal/config"
	"github.com/sluicehq/sluice/internal/connect"
	"github.com/sluicehq/sluice/internal/enqueue"
)

const formats = `Each line is one of

  {"model": "sonnet", "converse": {...}}      a job; "invoke" takes an InvokeModel body
                                              in place of "converse"; it may have an id,
                                              run, fallback, deadline and metadata
  {"recordId": "...", "modelInput": {...}}    a record of Bedrock's batch inference;
                                              needs --model
  {"prompt": "..."}                           a prompt; needs --model and --max-tokens

Ids that the input lacks are made from the line's number and hash, so that a
second try makes the same ones. A line that repeats a job is sent once.`

func enqueueCommand() *cobra.Command {
	var f command
	cmd := &cobra.Command{
		Use:   "enqueue [flags] FILE|-",
		Short: "Send the jobs of a JSONL file or pipe to a queue",
		Long: `Send the jobs of a JSONL file or pipe ("-") to a queue.

` + formats + `

A file is checked to its end before the first job is sent; a pipe is sent as it
comes. Where --results is given, what was sent is recorded beside the results
(<results>/<run>/_manifest/): the same command again, after an interruption,
sends what is missing and refuses an input that has changed. To resume a pipe,
give it a --run. To try again what failed, send all of it once more, with
--results "" and the same --run if one was given: no success is paid again.

AWS's endpoints, Region and credentials come from the AWS SDK's own environment.
One JSON summary goes to stdout. Exit code: 0 all was sent; 2 bad input or usage,
nothing was sent; 1 anything else: run the same command again.`,
		Example: `  producer enqueue --queue-url URL jobs.jsonl
  generate | producer enqueue --queue-url URL --run nightly-2026-11-22 -
  producer enqueue --queue-url URL --model sonnet --max-tokens 512 prompts.jsonl`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	f.addInput(cmd)
	cmd.Flags().StringVar(&f.QueueURL, "queue-url", "", "URL of the job queue")
	cmd.Flags().StringVar(&f.Group, "group", "", "message group: the tenant, for SQS's fair queues")
	cmd.Flags().DurationVar(&f.Delay, "delay", 0, "time until the jobs can be received: whole seconds, at most 15m")
	cmd.Flags().String("results", "", "where the drainer puts results, s3://bucket/prefix/ (default $SLUICE_RESULTS_S3)")
	cmd.Flags().BoolVar(&f.DryRun, "dry-run", false, "check the input and call nobody")
	return cmd
}

func validateCommand() *cobra.Command {
	f := command{Options: enqueue.Options{DryRun: true}}
	cmd := &cobra.Command{
		Use:   "validate [flags] FILE|-",
		Short: "Check the jobs of a JSONL file or pipe without calling AWS",
		Long: `Check the jobs of a JSONL file or pipe ("-") without calling AWS.

` + formats + `

One JSON summary goes to stdout, the first bad lines to stderr. Exit code: 0 all
lines are good; 2 some are not, or there is none.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	f.addInput(cmd)
	return cmd
}

// command is what enqueue and validate share.
type command struct {
	enqueue.Options
}

func (c *command) addInput(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.Run, "run", "", "name of the run (default: the first line's, else made from the input; of a pipe, made at random)")
	cmd.Flags().StringVar(&c.Model, "model", "", "model of batch records and prompts")
	cmd.Flags().IntVar(&c.MaxTokens, "max-tokens", 0, "bound on the output of prompts, in tokens")
	cmd.Flags().String("models", "", "the drainer's models file: a job that asks for none of them is bad input")
	cmd.Flags().BoolVar(&c.AllowEmpty, "allow-empty", false, "take an input without a job")
	cmd.Flags().BoolVar(&c.AllErrors, "all-errors", false, "tell every bad line of a file, not the first ten")
	cmd.Flags().String("payloads", "", "where jobs above 1 MiB go, s3://bucket/prefix/ (default $SLUICE_PAYLOADS_S3)")
}

func (c *command) run(cmd *cobra.Command, name string) error {
	ctx, stderr, o := cmd.Context(), cmd.ErrOrStderr(), c.Options
	var err error
	if o.Payloads, err = place(cmd, "payloads", "SLUICE_PAYLOADS_S3"); err != nil {
		return err
	}
	if o.Results, err = place(cmd, "results", "SLUICE_RESULTS_S3"); err != nil {
		return err
	}
	if o.Models, err = models(cmd); err != nil {
		return err
	}
	o.Input = cmd.InOrStdin()
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		o.Input = file
	}
	if !o.DryRun {
		if o.Results == nil {
			fmt.Fprintln(stderr, "producer: without --results there is no manifest, and an interrupted run cannot be resumed")
		}
		ac, err := awsconfig.LoadDefaultConfig(ctx)
		if err != nil {
			return commandError{fmt.Errorf("load the AWS configuration: %w", err), exitError}
		}
		ac = connect.Prepare(ac)
		o.SQS, o.S3 = sqs.NewFromConfig(ac), connect.S3(ac)
	}
	var end func()
	o.Progress, end = progress(stderr)
	summary, err := enqueue.Run(ctx, o)
	end()
	_, bad := errors.AsType[*enqueue.InputError](err)
	if bad && summary.Sent == 0 {
		return commandError{err, exitUsage}
	}
	if summary.Sent > 0 && err != nil && o.Results != nil {
		err = fmt.Errorf("%w\n%d jobs were sent: the same command with --run %s sends the rest", err, summary.Sent, summary.Run)
	}
	if e := json.NewEncoder(cmd.OutOrStdout()).Encode(summary); e != nil {
		err = errors.Join(err, fmt.Errorf("write the summary: %w", e))
	}
	if err != nil {
		return commandError{err, exitError}
	}
	if summary.Skipped > 0 && summary.Sent == 0 {
		fmt.Fprintf(stderr, "producer: run %s has sent all of it before, and nothing was sent now. --results \"\" sends it again: "+
			"what failed is then tried again, what succeeded is not paid again\n", summary.Run)
	}
	return nil
}

// place reads a flag that is a place in S3, or the variable that stands in for
// it.
func place(cmd *cobra.Command, flag, variable string) (*config.Location, error) {
	f := cmd.Flag(flag)
	if f == nil {
		return nil, nil // validate has no use for it
	}
	value, from := f.Value.String(), "--"+flag
	if !f.Changed {
		value, from = os.Getenv(variable), variable
	}
	if value == "" {
		return nil, nil
	}
	l, err := config.ParseLocation(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return &l, nil
}

// models reads the file that --models names.
func models(cmd *cobra.Command) (config.Models, error) {
	name := cmd.Flag("models").Value.String()
	if name == "" {
		return nil, nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	m, err := config.ParseModels(data)
	if err != nil {
		return nil, fmt.Errorf("--models: %w", err)
	}
	return m, nil
}

// progress draws a bar where stderr is a terminal, and nothing elsewhere.
func progress(stderr io.Writer) (show func(enqueue.Progress), end func()) {
	file, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil, func() {}
	}
	bar := progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(stderr), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("jobs"), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(), progressbar.OptionSetDescription("checking"))
	sending := false
	show = func(p enqueue.Progress) {
		done := p.Sent + p.Skipped
		if !sending && (p.Total > 0 || done > 0) {
			sending = true
			bar.Describe("sending")
			if p.Total > 0 {
				bar.ChangeMax(p.Total)
			}
		}
		if !sending {
			done = p.Checked
		}
		_ = bar.Set(done) // a bar that cannot be drawn is not worth an error
	}
	return show, func() { _ = bar.Finish() }
}
