package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/spf13/cobra"

	"github.com/sluicehq/sluice/cmd/internal/version"
	"github.com/sluicehq/sluice/internal/config"
	"github.com/sluicehq/sluice/internal/drainer"
	"github.com/sluicehq/sluice/worker"
)

// How long queues must have shown nothing before they count as empty. SQS's
// counts take up to a minute to settle on AWS and none on an emulator; too short,
// and a job whose release is not yet counted is left behind.
const (
	quietOnAWS     = 30 * time.Second
	quietElsewhere = 3 * time.Second
)

func runCommand() *cobra.Command {
	var untilEmpty bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Drain the queues until told to stop (the default)",
		Long: `Drain the queues that SLUICE_QUEUE_URLS names until told to stop.

The configuration is read from the environment: "drainer config" shows what holds,
docs/configuration.md has the list. AWS's endpoints, Region and credentials come
from the AWS SDK's own environment.

SIGTERM or SIGINT: nothing new is received or started, invocations may finish,
and what has not started is given back, all within SLUICE_GRACE. A second signal
ends the process at once.

Exit code: 0 after a clean stop; 2 usage or configuration; 1 anything else.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), untilEmpty, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().BoolVar(&untilEmpty, "until-empty", false, "stop when the queues have been empty for a while, and print a report")
	return cmd
}

func run(ctx context.Context, untilEmpty bool, stdout, stderr io.Writer) error {
	cfg, ac, err := load(ctx, os.Environ())
	if err != nil {
		return failure{err, exitUsage}
	}
	s := service{cfg: cfg, aws: ac, log: logger(cfg, stderr, stderr)}
	if !untilEmpty {
		_, err := s.drain(ctx)
		return err
	}
	s.quiet = quietOnAWS
	if sqs.NewFromConfig(ac).Options().BaseEndpoint != nil {
		s.quiet = quietElsewhere
	}
	if width := terminal(stderr); width != nil { // elsewhere a log stays a log
		s.progress = drainer.NewProgress(stderr, width)
		s.log = logger(cfg, s.progress, stderr)
	}
	done, err := s.drain(ctx)
	if err != nil {
		return err
	}
	if err := drainer.Report(stdout, done.Snapshot, done.took, cfg.Results.String()); err != nil {
		return failure{fmt.Errorf("write the report: %w", err), exitError}
	}
	if !done.empty {
		return failure{fmt.Errorf("stopped before the queues were empty: %w", context.Cause(ctx)), exitError}
	}
	return nil
}

// load reads Sluice's configuration from environ and the SDK's from wherever it
// looks, with the problems of both at once.
func load(ctx context.Context, environ []string) (config.Config, aws.Config, error) {
	cfg, problems := config.LoadForRun(environ)
	ac, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		err = fmt.Errorf("load the AWS configuration: %w", err)
	} else {
		err = cfg.CheckRegion(ac.Region)
	}
	return cfg, ac, errors.Join(problems, err)
}

// logger writes to w as is configured for stderr.
func logger(cfg config.Config, w, stderr io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: cfg.LogLevel, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration { // in JSON it would be a number of nanoseconds
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}}
	if cfg.LogFormat == "text" || cfg.LogFormat == "auto" && terminal(stderr) != nil {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}

// service is a drainer with its admin listener.
type service struct {
	cfg config.Config
	aws aws.Config
	log *slog.Logger
	// quiet is how long the queues must have been empty for the service to end
	// by itself; 0: it does not.
	quiet    time.Duration
	progress *drainer.Progress // nil: none is shown
}

// drained is what a service has done.
type drained struct {
	worker.Snapshot
	took  time.Duration // until the queues were empty, or it was told to stop
	empty bool          // it ended by itself
}

var errEmpty = errors.New("the queues are empty")

// drain runs the service until ctx ends or the queues are empty. The admin
// listener is up before the preflight begins and until the last job is settled.
func (s service) drain(ctx context.Context) (drained, error) {
	d, err := drainer.New(s.cfg, s.aws, s.log)
	if err != nil {
		return drained{}, failure{err, exitUsage}
	}
	d.Version = version.String()
	listener, err := net.Listen("tcp", s.cfg.AdminAddr)
	if err != nil {
		return drained{}, failure{fmt.Errorf("admin listener: %w", err), exitError}
	}
	admin := &http.Server{
		Handler: d.Handler(), ReadHeaderTimeout: 5 * time.Second,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	go func() {
		if err := admin.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("admin listener ended", "error", err)
		}
	}()
	defer admin.Close()
	s.log.Info("admin listener", "addr", listener.Addr().String())

	began, took := time.Now(), time.Duration(0)
	stop, end := context.WithCancelCause(ctx)
	defer end(nil)
	var company sync.WaitGroup
	company.Go(func() {
		<-stop.Done() // winding up is not counted: it waits for an open long poll
		took = time.Since(began)
	})
	if s.quiet > 0 {
		company.Go(func() {
			if d.Empty(stop, s.quiet) == nil {
				end(errEmpty)
			}
		})
	}
	following, unfollow := context.WithCancel(context.WithoutCancel(ctx))
	defer unfollow()
	if s.progress != nil {
		company.Go(func() { s.progress.Follow(following, d) })
	}

	err = d.Run(stop)
	end(nil)
	unfollow()
	company.Wait()
	if err != nil {
		return drained{}, failure{err, exitError}
	}
	empty := context.Cause(stop) == errEmpty
	if empty {
		took -= s.quiet
	}
	return drained{d.Snapshot(), took, empty}, nil
}
